"""What a reader of one format gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.records import Element


@dataclass(frozen=True)
class Reading:
    """The elements of a file, and what it says of itself."""

    elements: list[Element]
    title: str = ""  # that the file gives itself, apart from its headings
    titled: bool = False  # its headings name parts of it, never the whole: the title stands even where it is empty
    metadata: dict[str, str] = field(default_factory=dict)
