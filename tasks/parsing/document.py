"""Parse one file into elements: by the reader that its format has, or with a true reason why not.

Runs in a worker process. Readers are imported when a file needs them, so that a worker that meets only Markdown starts
in a fraction of a second.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from schemas.errors import ParseFailed
from schemas.records import ParsedDocument
from tasks.parsing import text
from tasks.parsing.code import CONFIGURATION, LANGUAGES
from tasks.parsing.offline import NetworkForbidden
from tasks.parsing.reading import Reading
from tasks.parsing.sniff import true_suffix

READERS = {
    ".md": "markdown:read_markdown",
    ".html": "html:read_html",
    ".rst": "restructured:read_rst",
    ".org": "converters:read_org",
    ".rtf": "converters:read_rtf",
    ".odt": "converters:read_odt",
    ".pdf": "pdf:read_pdf",
    ".epub": "epub:read_epub",
    ".csv": "sheets:read_delimited",
    ".tsv": "sheets:read_delimited",
    ".xlsx": "sheets:read_xlsx",
    ".xls": "sheets:read_xls",
    ".json": "data:read_json",
    ".ndjson": "data:read_ndjson",
    ".ipynb": "data:read_notebook",
    ".xml": "markup:read_xml",
    **dict.fromkeys(LANGUAGES, "code:read_code"),
    **dict.fromkeys(CONFIGURATION, "code:read_configuration"),
}
OFFICE = {".docx", ".pptx", ".doc", ".ppt"}
MAIL = {".eml", ".msg"}
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".webp", ".ico"}
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
MEDIA = {".mp3", ".wav", ".ogg", ".flac", ".m4a", ".mp4", ".mov", ".avi", ".mkv", ".webm"}
UNSUPPORTED = {
    **dict.fromkeys(IMAGES, "images need OCR, which Headrace does not do; convert them to text first"),
    **dict.fromkeys(ARCHIVES, "archives are not searched; unpack them into the source"),
    **dict.fromkeys(MEDIA, "sound and film need a transcript, which Headrace does not make"),
}
# A shelf of books. What comes back has to fit into the parent's memory, which no limit protects.
TEXT_CHARACTERS = 50_000_000

# Words of parsers' errors, by the kind that they mean.
_KINDS = {
    "memory": ("out of memory", "memory allocation", "allocate memory", "failed to map segment"),
    "encrypted": ("password", "encrypt", "decrypt"),
    "unsupported": ("not supported", "unsupported"),
    "empty": ("file is empty", "empty file", "no data", "document is empty"),
}


def parse_file(path: Path, *, languages: str = "eng") -> ParsedDocument:
    """The elements of a file, its title and what it says of itself. Raises ParseFailed, with a true kind.

    `languages`: ISO 639-3 codes, comma separated.
    """
    try:
        reading = _read(path, languages)
    except ParseFailed:
        raise
    except Exception as error:  # a parser may raise anything on a hostile file; it costs this file only
        raise _failure(path, error) from error
    visible = (replace(element, text=text.without_invisible(element.text)) for element in reading.elements)
    elements = tuple(element for element in visible if element.text.strip())
    if not elements:
        raise ParseFailed("empty", "the file holds no text")
    characters = sum(len(element.text) for element in elements)
    if characters > TEXT_CHARACTERS:
        raise ParseFailed(
            "too-large", f"it holds {characters:,} characters of text; at most {TEXT_CHARACTERS:,} are read"
        )
    metadata = {name: value for name, value in reading.metadata.items() if value}
    return ParsedDocument(elements, _title(reading), path.suffix.lower().removeprefix("."), metadata)


def _title(reading: Reading) -> str:
    """The first heading of the highest level, else the title that the file gives itself, else a heading at its top."""
    highest = next((element.text for element in reading.elements if element.depth == 0), "")
    top = reading.elements[0].text if reading.elements[0].depth is not None else ""
    title = reading.title if reading.titled else highest or reading.title or top
    return " ".join(text.without_invisible(title).split())[:200]


def _read(path: Path, languages: str, nesting: int = 0) -> Reading:
    if path.stat().st_size == 0:
        raise ParseFailed("empty", "the file has no bytes")
    suffix = true_suffix(path)
    if suffix in UNSUPPORTED:
        raise ParseFailed("unsupported", UNSUPPORTED[suffix])
    if suffix in READERS:
        module, _, function = READERS[suffix].partition(":")
        reading: Reading = getattr(import_module(f"tasks.parsing.{module}"), function)(path)
        return reading
    if suffix in OFFICE:
        from tasks.parsing.office import read_office

        return read_office(path, suffix, languages)
    if suffix in MAIL:
        from tasks.parsing.mail import read_mail

        return read_mail(path, suffix, lambda below, depth: _read(below, languages, depth), nesting)
    return _read_unknown(path, suffix)


def _read_unknown(path: Path, suffix: str) -> Reading:
    """Text, if the bytes are: README, LICENSE and .adoc are worth finding."""
    try:
        return Reading(text.text_elements(text.read_text(path)))
    except ParseFailed:
        if suffix in {"", ".txt", ".text"}:
            raise
        raise ParseFailed("unsupported", f"no reader for {suffix} files, and it is no text") from None


def _failure(path: Path, error: Exception) -> ParseFailed:
    if isinstance(error, NetworkForbidden):
        return ParseFailed("unsupported", "the document can be read only with the network, which parsing never opens")
    if isinstance(error, RecursionError):
        return ParseFailed("malformed", "what it holds is nested too deeply")
    if not path.exists():
        return ParseFailed("vanished", "the file was deleted while it was read")
    if isinstance(error, PermissionError):
        return ParseFailed("unreadable", _line(error))
    if (kind := _kind(error)) == "memory":
        return ParseFailed(kind, "parsing needs more memory than the limit; see the setting parse_memory_mb")
    return ParseFailed(kind, _line(error))


def _kind(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, zipfile.BadZipFile | UnicodeDecodeError):
        return "malformed"
    said = f"{type(error).__name__} {error}".lower()
    return next((kind for kind, words in _KINDS.items() if any(word in said for word in words)), "malformed")


def _line(error: Exception) -> str:
    said = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {said}"[:299]
