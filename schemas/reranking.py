"""The form of the setting `reranker`: one reranker, or a cascade of them, `auto@200 > cohere:rerank-v3.5@20`.

A name with one of KINDS before a colon is a reranker of that kind, any other a model by folder or
name; `@20` is how many candidates a stage reads, and `@20240620` a model's date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

# Each has a module of its name in tasks/models/rerankers, and an extra of its name in pyproject.toml.
KINDS = ("colbert", "monot5", "cohere", "voyage", "jina", "bedrock", "llm")
REMOTE = frozenset(KINDS) - {"colbert", "monot5"}

# The one that comes with Headrace, which `auto` stands for: its README.md says of what it was made and how it orders.
RERANKER = "headrace-reranker"

# Longer numbers are dates, as in the names that Google gives Anthropic's models.
POOL_DIGITS = 6

# a kind has two letters at least: `C:\model` is a folder
_KIND = re.compile(r"([a-z][a-z0-9]+):(.*)")


@dataclass(frozen=True)
class StageName:
    """One stage of a cascade as the setting names it."""

    name: str
    pool: int | None  # candidates that it reads; None for the setting `pool`, or for all of the stage before


def stage_names(setting: str) -> tuple[StageName, ...]:
    """The stages of a cascade, in order. Raises ValueError, which says what is wrong."""
    stages = tuple(_stage_name(part.strip()) for part in setting.split(">"))
    for before, stage in pairwise(stages):
        if stage.name == "fusion":
            raise ValueError("fusion orders what no reranker has read: it can only be the first stage of a cascade")
        if before.pool and stage.pool and stage.pool > before.pool:
            raise ValueError(
                f"{stage.name}@{stage.pool} would read more than the {before.pool} that {before.name} gives it; "
                "give each stage of a cascade at most as many as the one before"
            )
    return stages


def kind_of(name: str) -> str | None:
    """The kind of reranker that a name says; None for a model that ONNX Runtime runs."""
    said = _KIND.fullmatch(name)
    return said[1] if said and said[1] in KINDS else None


def assigned(setting: str) -> dict[str, str]:
    """What `cohere=one, llm=other` gives each kind, the form checked before."""
    pairs = (part.partition("=") for part in setting.split(",") if part.strip())
    return {kind.strip(): value.strip() for kind, _, value in pairs}


def _stage_name(text: str) -> StageName:
    name, at, pool = text.rpartition("@")
    if not (at and pool.isdecimal() and len(pool) <= POOL_DIGITS):
        name, pool = text, ""
    name = name.strip()
    if not name:
        raise ValueError("a stage has no name; write NAME, or NAME@POOL > NAME@POOL such as auto@200 > llm:gpt-4o@20")
    if pool and not int(pool):
        raise ValueError(f"{text} reads no candidate; give it one at least")
    if (said := _KIND.fullmatch(name)) and said[1] not in KINDS:
        raise ValueError(f"there is no kind of reranker named {said[1]}; there are {', '.join(KINDS)}")
    if said and not said[2].strip():
        raise ValueError(f"{name} names no model; write {said[1]}:MODEL")
    return StageName(RERANKER if name == "auto" else name, int(pool) if pool else None)
