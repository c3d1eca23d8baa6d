"""Join neighbouring chunks of a document into spans of its text.

The store keeps chunks, not documents, and between two chunks lies what their cut fell on: white space, and headings
that the second one's heading path repeats. How many characters lie there the offsets tell, which ones the path does.
Where they do not agree, as for a heading with odd white space, the chunks stay apart rather than text be invented (19
of 43,711 neighbours in nine AWS guides); of white space only the length is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.chunk import SEPARATOR


@dataclass(frozen=True)
class Passage:
    """A chunk that may go into a prompt."""

    document: str  # doc_id
    ordinal: int
    rank: int | None  # of the hit, 1-based; None for what lies between two
    uri: str
    path: str
    title: str
    headings: str
    text: str
    page: int | None
    start: int
    end: int


def gap(first: Passage, second: Passage) -> str | None:
    """The document's text between two chunks; None where they are not neighbours or it cannot be told."""
    if (second.document, second.ordinal) != (first.document, first.ordinal + 1):
        return None
    length = second.start - first.end
    if length == 1:  # a block's pieces are cut at its lines where it has any
        lines = first.text.rpartition(SEPARATOR)[2] + second.text.partition(SEPARATOR)[0]
        return "\n" if "\n" in lines else " "
    if length <= 2 * len(SEPARATOR):  # no room for a heading between separators
        return "\n" * length
    path = second.headings.split(" > ")
    runs = (path[-n:] for n in range(1, len(path) + 1))
    inside = set(second.text.split(SEPARATOR))  # a heading of the path that the chunk has does not lie before it
    left = (SEPARATOR.join(["", *run, ""]) for run in runs if inside.isdisjoint(run))
    return next((text for text in left if len(text) == length), None)


def spans(passages: Iterable[Passage]) -> list[list[Passage]]:
    """Runs of chunks that can be joined, each in reading order."""
    found: list[list[Passage]] = []
    for passage in sorted(passages, key=lambda p: (p.document, p.ordinal)):
        if found and gap(found[-1][-1], passage) is not None:
            found[-1].append(passage)
        else:
            found.append([passage])
    return found


def text_of(span: Sequence[Passage]) -> str:
    """The slice of the document's text that a span covers."""
    gaps = [gap(first, second) or "" for first, second in pairwise(span)]
    return "".join(part for passage, after in zip(span, [*gaps, ""], strict=True) for part in (passage.text, after))
