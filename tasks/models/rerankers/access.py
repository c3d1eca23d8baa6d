"""Where a server is, and the key to it: as the settings say, else as the vendor's own variables do.

Settings name no key, only the Prefect Secret block that holds it: nothing which shows or keeps settings has one.
"""

from __future__ import annotations

import os
from typing import Any

from schemas.errors import ApiUnreachable, MissingRequirement
from schemas.reranking import assigned
from schemas.settings import Settings

# Variables of the environment, the first that is set; Amazon's chain of credentials is its package's own.
VARIABLES = {
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "voyage": ("VOYAGE_API_KEY",),
    "jina": ("JINA_API_KEY",),
    "llm": ("OPENAI_API_KEY",),
}

# Variables of base URLs that the vendors' packages know; the others have none, or read it themselves.
URLS = {"cohere": "CO_API_URL", "llm": "OPENAI_BASE_URL"}


def url_of(kind: str, settings: Settings) -> str | None:
    """The base URL in place of the vendor's own, where there is one."""
    return assigned(settings.rerank_urls).get(kind) or os.environ.get(URLS.get(kind, "")) or None


def whereabouts(kind: str, settings: Settings) -> str | None:
    """Where the key of `kind` is to be found, in words; None where there is none. Looks into no block."""
    if block := assigned(settings.rerank_secrets).get(kind):
        return f"Prefect Secret block {block}"
    return next((name for name in VARIABLES[kind] if os.environ.get(name, "").strip()), None)


def key_of(kind: str, settings: Settings) -> str | None:
    """The key of `kind`, or None. Raises MissingRequirement where a named block is not there, and ApiUnreachable."""
    if block := assigned(settings.rerank_secrets).get(kind):
        return _of_block(block)
    name = whereabouts(kind, settings)
    return os.environ[name].strip() if name else None


def required_key(kind: str, settings: Settings) -> str:
    """The key of `kind`. Raises MissingRequirement where there is none."""
    key = key_of(kind, settings)
    if key is None:
        raise MissingRequirement(
            f"there is no key for rerankers of the kind {kind}: set {' or '.join(VARIABLES[kind])}, or name a Prefect "
            f"Secret block with --set rerank_secrets={kind}=BLOCK"
        )
    return key


def _of_block(block: str) -> str:
    from prefect.blocks.system import Secret

    try:
        load: Any = Secret.load  # types leave out how it is told that nobody awaits it
        return str(load(block, _sync=True).get()).strip()
    except ValueError as error:
        raise MissingRequirement(
            f"there is no Prefect Secret block {block}; create it, or set rerank_secrets to another"
        ) from error
    except Exception as error:  # whatever Prefect's client raises where its API does not answer
        raise ApiUnreachable(f"the Prefect Secret block {block} cannot be read: {type(error).__name__}") from error
