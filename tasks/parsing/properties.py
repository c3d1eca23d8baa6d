"""What an Office document says of itself outside its text: the core properties."""

from __future__ import annotations

import zipfile
from pathlib import Path

from lxml import etree

# what programs write where nobody wrote anything
DEFAULTS = {"PowerPoint Presentation", "Word Document", "Untitled", "python-docx", "Microsoft Office User", "openpyxl"}
CORE_BYTES = 1_000_000

_NAMES = {"title": "{http://purl.org/dc/elements/1.1/}title", "author": "{http://purl.org/dc/elements/1.1/}creator"}


def core_properties(path: Path) -> dict[str, str]:
    """`title` and `author`, where the file has them; an unreadable property is a missing one."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("docProps/core.xml") as part:
            parser = etree.XMLParser(resolve_entities=False, no_network=True)
            core = etree.fromstring(part.read(CORE_BYTES), parser)
    except (zipfile.BadZipFile, KeyError, etree.LxmlError, OSError):
        return {}
    lines = {name: " ".join((core.findtext(tag) or "").split())[:200] for name, tag in _NAMES.items()}
    return {name: line for name, line in lines.items() if line and line not in DEFAULTS}
