"""What a reranker reads of a chunk: the fields of the setting rerank_fields, in its order, each within its budget.

In: chunks of a reader. Out: one text each, the same for every reranker. Budgets count the embedder's word pieces, as
chunk_tokens does, so that they need no reranker's tokenizer and mean the same to all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.settings import Settings
from tasks.models import load_tokenizer
from tasks.store.reader import ChunkRef, Reader

METADATA = "metadata."


@dataclass(frozen=True)
class Field:
    """A part of what a reranker reads."""

    name: str  # title, headings, text, metadata.KEY, or metadata.* for all keys
    tokens: int | None  # at most; None for whole


def fields(template: str) -> list[Field]:
    """The fields of a template, whose form the settings have checked: `title:32, headings:48, text`."""
    parts = (part.strip().partition(":") for part in template.split(","))
    return [Field(name, int(tokens) if tokens else None) for name, _, tokens in parts]


def passages(reader: Reader, refs: Sequence[ChunkRef], settings: Settings) -> list[str]:
    """The text of each of `refs`."""
    template = fields(settings.rerank_fields)
    rows = reader.fetch(refs, "doc_id, title, headings, text")
    metadata: dict[str, dict[str, str]] = {}
    if any(field.name.startswith(METADATA) for field in template):
        documents = reader.documents({doc_id for doc_id, *_ in rows.values()}).select(["doc_id", "metadata"])
        metadata = {row["doc_id"]: json.loads(row["metadata"]) for row in documents.to_pylist()}
    texts = []
    for ref in refs:
        doc_id, title, headings, text = rows[ref]
        own = {"title": title, "headings": headings, "text": text}
        about = metadata.get(doc_id, {})
        texts.append(passage([(field, _cut(_value(field, own, about), field.tokens, settings)) for field in template]))
    return texts


def passage(parts: Sequence[tuple[Field, str]]) -> str:
    """One text of the parts, in their order: a title and a heading path on one line, the others on lines of their own.

    A title or heading path that another part holds is not said twice.
    """
    read = before = ""
    for i, (field, value) in enumerate(parts):
        said = value in read or any(value in later for _, later in parts[i + 1 :])
        if value and not (said and _is_place(field.name)):
            joint = " > " if _is_place(field.name) and _is_place(before) else "\n"
            read, before = f"{read}{joint if read else ''}{value}", field.name
    return read


def _is_place(name: str) -> bool:
    return name in {"title", "headings"}


def _value(field: Field, own: Mapping[str, str], metadata: Mapping[str, str]) -> str:
    if not field.name.startswith(METADATA):
        return own[field.name]
    wanted = field.name.removeprefix(METADATA)
    return "\n".join(f"{key}: {value}" for key, value in metadata.items() if wanted in {"*", key})


def _cut(text: str, tokens: int | None, settings: Settings) -> str:
    # a word piece has a character at least
    if tokens is None or len(text) <= tokens:
        return text
    offsets = load_tokenizer(settings).encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]
