"""What a file is: by its first bytes where they tell, by its name where they do not. Wrong extensions are common."""

from __future__ import annotations

import zipfile
from pathlib import Path

from schemas.errors import ParseFailed

HEAD_BYTES = 1024
_MAGIC = {
    b"{\\rtf": ".rtf",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"7z\xbc\xaf": ".7z",
    b"Rar!": ".rar",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PARTS = {"word/document.xml": ".docx", "ppt/presentation.xml": ".pptx", "xl/workbook.xml": ".xlsx"}
_MIMETYPES = {b"application/epub+zip": ".epub", b"application/vnd.oasis.opendocument.text": ".odt"}
_STREAMS = {
    "worddocument": ".doc",
    "workbook": ".xls",
    "book": ".xls",
    "powerpoint document": ".ppt",
    "__properties_version1.0": ".msg",
}
# formats whose files always start as above
_BINARY = {".pdf", ".docx", ".pptx", ".xlsx", ".epub", ".odt", ".doc", ".xls", ".ppt", ".msg", ".rtf"}
# the same format under another name
_SAME = {
    ".xlsm": ".xlsx",
    ".xltx": ".xlsx",
    ".markdown": ".md",
    ".htm": ".html",
    ".xhtml": ".html",
    ".jsonl": ".ndjson",
}


def true_suffix(path: Path) -> str:
    """The suffix that `path` should have, lower case. Raises ParseFailed (`encrypted`, `malformed`)."""
    with path.open("rb") as f:
        head = f.read(HEAD_BYTES)
    named = _SAME.get(path.suffix.lower(), path.suffix.lower())
    if head.startswith(_ZIP):
        return _zipped(path, named)
    if head.startswith(_OLE):
        return _compound(path, named)
    if b"%PDF-" in head and named not in {".eml", ".json", ".ipynb"}:
        return ".pdf" if head.lstrip().startswith(b"%PDF-") or named == ".pdf" else named
    magic = next((suffix for start, suffix in _MAGIC.items() if head.startswith(start)), None)
    if magic:
        return magic
    if named in _BINARY:
        if head.lstrip().lower().startswith((b"<html", b"<!doctype html")):
            return ".html"  # what web applications export as .xls and .doc
        raise ParseFailed("malformed", f"the name says {named.removeprefix('.')}, the bytes are something else")
    return named


def _zipped(path: Path, named: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            mimetype = archive.open("mimetype").read(100).strip() if "mimetype" in names else b""
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, KeyError) as error:
        raise ParseFailed("malformed", f"a broken zip container: {error}") from error
    found = _MIMETYPES.get(mimetype) or next((suffix for part, suffix in _PARTS.items() if part in names), None)
    if found:
        return found
    if named in _BINARY:
        raise ParseFailed("malformed", f"a zip container without the parts of a {named.removeprefix('.')} file")
    return ".zip"


def _compound(path: Path, named: str) -> str:
    import olefile

    try:
        with olefile.OleFileIO(path) as compound:
            streams = {entry[0].lower() for entry in compound.listdir()}
    except (OSError, ValueError, IndexError, OverflowError) as error:  # what olefile makes of nonsense
        raise ParseFailed("malformed", "a broken OLE container") from error
    if "encryptedpackage" in streams:
        raise ParseFailed("encrypted", "it is protected by a password; save it without")
    return next((suffix for stream, suffix in _STREAMS.items() if stream in streams), named)
