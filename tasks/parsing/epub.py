"""EPUB: the chapters in the order of the book's spine, each read as the XHTML that it is."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.html import html_elements
from tasks.parsing.reading import Reading
from tasks.parsing.text import decode

# more than any book's chapter; what is larger is a bomb
PART_BYTES = 64 * 1024**2
_ENCRYPTION = "META-INF/encryption.xml"


def read_epub(path: Path) -> Reading:
    """Raises ParseFailed (`encrypted`, `malformed`)."""
    with zipfile.ZipFile(path) as archive:
        container = _xml(archive, "META-INF/container.xml")
        package_name = container.find(".//{*}rootfile").get("full-path")
        package = _xml(archive, package_name)
        locked = _locked(archive)
        files = {item.get("id"): item.get("href", "") for item in package.iterfind(".//{*}manifest/{*}item")}
        elements: list[Element] = []
        for entry in package.iterfind(".//{*}spine/{*}itemref"):
            href = unquote(files.get(entry.get("idref"), "").partition("#")[0])
            name = posixpath.normpath(posixpath.join(posixpath.dirname(package_name), href))
            if name in locked:
                raise ParseFailed("encrypted", "the book is protected (DRM)")
            if name in archive.NameToInfo:
                elements += html_elements(decode(_part(archive, name)))[0]
    metadata = {"author": package.findtext(".//{*}metadata/{*}creator") or ""}
    return Reading(elements, package.findtext(".//{*}metadata/{*}title") or "", titled=True, metadata=metadata)


def _locked(archive: zipfile.ZipFile) -> set[str]:
    """Names of the encrypted parts; fonts often are in books that anybody may read."""
    if _ENCRYPTION not in archive.NameToInfo:
        return set()
    references = _xml(archive, _ENCRYPTION).iterfind(".//{*}CipherReference")
    return {unquote(reference.get("URI", "")) for reference in references}


def _xml(archive: zipfile.ZipFile, name: str) -> etree._Element:
    return etree.fromstring(_part(archive, name), etree.XMLParser(resolve_entities=False, no_network=True))


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as part:
        data = part.read(PART_BYTES + 1)
    if len(data) > PART_BYTES:
        raise ParseFailed("too-large", f"{name} in it unpacks to more than {PART_BYTES // 1024**2} MiB")
    return data
