"""Rerankers of other kinds than a cross-encoder: a module a kind, named as in schemas.reranking.KINDS.

Each has `load(model, settings)`, which gives a tasks.models.speed.Reranker and raises MissingRequirement, ModelNotFound
or ModelMismatch. A kind's package is imported when it is loaded: nobody pays for what is not named.

Whence: late interaction is sentence-transformers' MultiVectorEncoder, monoT5 a plain transformers model, and the hosted
ones their vendors' own packages. The package `rerankers`, which has all of them, sends requests without a time limit,
reads an error's body as an answer, and cuts monoT5's prompt off a long passage; `pylate` pins an older torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import MissingRequirement
from schemas.settings import Settings
from tasks.models.speed import Reranker

# The package that a kind needs, by the name under which it is installed.
PACKAGES = {
    "colbert": "sentence-transformers",
    "monot5": "transformers",
    "cohere": "cohere",
    "voyage": "voyageai",
    "jina": "cohere",
    "bedrock": "boto3",
    "llm": "openai",
}


def load(kind: str, model: str, settings: Settings) -> Reranker:
    """The reranker `kind:model`. Raises MissingRequirement, ModelNotFound, ModelMismatch."""
    reranker: Reranker = importlib.import_module(f"{__name__}.{kind}").load(model, settings)
    return reranker


@contextmanager
def required(kind: str) -> Iterator[None]:
    """Around imports of what a kind needs. Raises MissingRequirement, which says what to install."""
    try:
        yield
    except ImportError as error:
        raise MissingRequirement(
            f"rerankers of the kind {kind} need a package that is not here ({error}); run, in Headrace's folder: "
            f"pip install '.[{kind}]'"
        ) from error
