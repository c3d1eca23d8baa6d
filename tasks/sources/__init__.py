"""Where documents come from: local folders, files and globs, fsspec filesystems, pages of the web.

In: a source as the user names it. Out: what it holds, one Found a file; nothing of it is read yet, but for listings.

    docs/  notes.md  'docs/**/*.md'         local; hidden files and what .gitignore names left out
    s3://bucket/docs  memory://docs  …      any fsspec filesystem, folder, file or glob, with its extra installed
    https://site/page                       a page
    https://site/sitemap.xml                the pages of a sitemap, or of an index of sitemaps
    @urls.txt                               the sources that a file lists, one a line
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import BadSource
from schemas.settings import Settings
from tasks.sources.found import Source
from tasks.sources.local import LocalSource

__all__ = ["Source", "each_of", "local_path", "open_source", "open_sources", "source_name"]


def open_sources(names: Sequence[str], settings: Settings) -> list[Source]:
    """The sources that `names` name. Raises BadSource."""
    return [open_source(name, settings) for name in each_of(names)]


def each_of(names: Sequence[str]) -> list[str]:
    """The single sources that `names` name, those that a file lists among them. Raises BadSource."""
    return [each for name in names for each in (_listed(name) if name.startswith("@") else [name])]


def open_source(name: str, settings: Settings) -> Source:
    """A single source. Raises BadSource."""
    if (path := local_path(name)) is not None:
        return LocalSource(path, settings)
    # fsspec takes a quarter of a second to import
    from tasks.sources.remote import FilesystemSource, PageSource, SitemapSource

    parts = urlsplit(name)
    if parts.scheme not in {"http", "https"}:
        return FilesystemSource(name, settings)
    if parts.path.endswith(("sitemap.xml", "sitemap.xml.gz", "sitemap_index.xml")):
        return SitemapSource(name, settings)
    return PageSource(name)


def local_path(name: str) -> str | None:
    """The absolute path of a source of this machine; None for another."""
    if "://" not in name:
        return LocalSource.absolute(name)
    parts = urlsplit(name)
    return parts.path if parts.scheme == "file" else None


def source_name(name: str) -> str:
    """The name under which documents of a source are stored: an absolute path, or the URL."""
    return name if "://" in name else LocalSource.absolute(name)


def _listed(name: str) -> list[str]:
    path = Path(name[1:]).expanduser()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadSource(f"{path} cannot be read as a list of sources: {error}") from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names or any(name.startswith("@") for name in names):
        raise BadSource(f"{path} lists no sources; write one URL or path a line")
    return names
