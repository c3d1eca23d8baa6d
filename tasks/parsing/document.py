"""Parse one file into elements. Runs in a worker process; the only importer of unstructured."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from schemas.errors import ParseFailed
from schemas.records import Element, ParsedDocument
from tasks.parsing.tables import table_lines

# what stands on every page, or is not text
NOISE = {"PageBreak", "Header", "Footer", "PageNumber", "Image"}
# metadata that a reranker or a filter can use
KEPT_METADATA = ("subject", "sent_from", "sent_to", "page_name")
NEEDS_LIBREOFFICE = {".doc", ".ppt"}
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".webp", ".ico"}

# Words of parsers' errors, by the kind that they mean.
_KINDS = {
    "encrypted": ("password", "encrypt", "decrypt"),
    "needs-converter": ("soffice", "libreoffice", "pandoc"),
    "unsupported": ("not supported", "unsupported", "filetype.unk", "speechtotext"),
    "empty": ("file is empty", "empty file", "no data", "document is empty", "no columns to parse"),
}


def parse_file(path: Path, languages: str) -> ParsedDocument:
    """The elements of a file, its title and what it says of itself. Raises ParseFailed, with a true kind."""
    suffix = path.suffix.lower()
    metadata: dict[str, str] = {}
    try:
        if path.stat().st_size == 0:
            raise ParseFailed("empty", "the file has no bytes")
        if suffix in IMAGES:
            raise ParseFailed("unsupported", "images need OCR, which Headrace does not do; convert them to text first")
        if suffix == ".pdf":
            from tasks.parsing.pdf import pdf_elements

            elements = pdf_elements(path)
        else:
            elements, metadata = _partition(path, languages)
    except ParseFailed:
        raise
    except FileNotFoundError as error:
        if suffix in NEEDS_LIBREOFFICE and path.exists():
            raise ParseFailed("needs-converter", f"{suffix} files need LibreOffice's soffice on the PATH") from error
        raise ParseFailed("vanished", "the file was deleted while it was read") from error
    except PermissionError as error:
        raise ParseFailed("unreadable", _line(error)) from error
    except MemoryError as error:
        raise ParseFailed(
            "memory", "parsing needs more memory than the limit; see the setting parse_memory_mb"
        ) from error
    except Exception as error:  # a parser may raise anything on a hostile file; it costs this file only
        raise ParseFailed(_kind(error), _line(error)) from error
    if not elements:
        raise ParseFailed("empty", "the file holds no text")
    title = metadata.get("subject") or next((e.text for e in elements if e.depth == 0), "")
    return ParsedDocument(tuple(elements), " ".join(title.split())[:200], suffix.removeprefix("."), metadata)


def _partition(path: Path, languages: str) -> tuple[list[Element], dict[str, str]]:
    from unstructured.partition.auto import partition

    found = partition(str(path), strategy="fast", languages=languages.split(","))
    elements = [e for e in (_element(raw, path.suffix.lower()) for raw in found if raw.category not in NOISE) if e.text]
    metadata: dict[str, str] = {}
    for raw in found[:1]:
        for name in KEPT_METADATA:
            value = getattr(raw.metadata, name, None)
            if value:
                metadata[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return elements, metadata


def _element(raw: Any, suffix: str) -> Element:
    text = raw.text.strip().replace("\x00", "")
    html = raw.metadata.text_as_html
    if raw.category == "Table" and html:
        text = table_lines(html) or text
    depth = raw.metadata.category_depth if raw.category == "Title" else None
    if suffix == ".pptx" and depth:
        depth = None  # a short bullet below a slide's title, no heading
    return Element(text, raw.category, depth, raw.metadata.page_number)


def _kind(error: Exception) -> str:
    if isinstance(error, zipfile.BadZipFile | UnicodeDecodeError | RecursionError):
        return "malformed"
    said = f"{type(error).__name__} {error}".lower()
    return next((kind for kind, words in _KINDS.items() if any(word in said for word in words)), "malformed")


def _line(error: Exception) -> str:
    said = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {said}"[:300]
