"""Bytes to text to paragraphs: whatever the encoding, and no binary data taken for text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import ParseFailed
from schemas.records import Element

_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
# enough to tell an encoding by; all of a large file would take minutes
SAMPLE_BYTES = 64_000
# text has tabs, form feeds and escape sequences, but few
CONTROL_SHARE = 0.02

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")
_SINGLE_HIGH_BYTE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# where a line may be broken, or a file begins; they would cut a word in two. A zero-width space stays where it parts
# the words of a script without spaces.
_INVISIBLE = re.compile(r"[\u00ad\u2060\ufeff]|(?<=[!-~])\u200b+(?=[!-~])")
_PARAGRAPH = re.compile(r"\n[ \t\f\v\u3000]*\n\s*")
_BULLET = re.compile(r"([•‣▪◦●○·*+\u2013-]|\(?(\d{1,3}|[a-zA-Z])[.)])[ \t]+(?=\S)")


def read_text(path: Path, declared: str | None = None) -> str:
    """The text of a file, lines ended by a newline. Raises ParseFailed (`malformed`) where it is no text.

    `declared`: the encoding that the file names, tried before others are guessed.
    """
    return decode(path.read_bytes(), declared)


def decode(data: bytes, declared: str | None = None) -> str:
    """Like read_text, of bytes."""
    for encoding in (_marked_encoding(data), declared, "utf-8"):
        if encoding:
            try:
                text = data.decode(encoding)
                break
            except (UnicodeError, LookupError):
                continue
    else:
        text = data.decode(_guessed_encoding(data), errors="replace")
    if len(_CONTROL.findall(text[:SAMPLE_BYTES])) > CONTROL_SHARE * len(text[:SAMPLE_BYTES]):
        raise ParseFailed("malformed", "the name says text, the bytes are not")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def _marked_encoding(data: bytes) -> str | None:
    """The encoding that a byte order mark names, or that zero bytes at every other place give away."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    sample = data[:SAMPLE_BYTES]
    if marked or b"\x00" not in sample:
        return marked
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < 0.3 * len(sample) / 2 or min(even, odd) > 0.05 * len(sample) / 2:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _guessed_encoding(data: bytes) -> str:
    from charset_normalizer import from_bytes

    sample = data[:SAMPLE_BYTES]
    sample = sample[: sample.rfind(b"\n") + 1] or sample  # not within a character of several bytes
    accents = len(_SINGLE_HIGH_BYTE.findall(sample))
    if accents * 2 > sum(byte >= 0x80 for byte in sample) and not _NOT_CP1252.search(sample):
        return "cp1252"  # accents among ASCII letters: Western text, for which guesses go astray
    best = from_bytes(sample).best()
    return best.encoding if best else "cp1252"


def without_invisible(text: str) -> str:
    """`text` without soft hyphens and other characters that no reader sees."""
    return _INVISIBLE.sub("", text)


def text_elements(text: str) -> list[Element]:
    """The paragraphs and list items of plain text. Headings cannot be told there; a wrong one misleads every chunk."""
    return [element for paragraph in _PARAGRAPH.split(text) for element in _paragraph(paragraph)]


def _paragraph(paragraph: str) -> Iterator[Element]:
    """One element a list item, else one with its lines: they may be verse, an address or a log."""
    lines = [line.rstrip() for line in paragraph.strip("\n").split("\n")]
    if not _BULLET.match(lines[0].lstrip()):
        if text := "\n".join(lines).strip():
            yield Element(text, "NarrativeText")
        return
    items: list[list[str]] = []
    for line in map(str.strip, lines):
        if _BULLET.match(line):
            items.append([_BULLET.sub("", line, count=1) if not line[0].isalnum() else line])
        else:
            items[-1].append(line)
    for item in items:
        yield Element(" ".join(item), "ListItem")
