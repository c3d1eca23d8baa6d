"""fsspec filesystems and pages of the web: listed here, downloaded by whoever parses them.

A remote file is known by its version token: its ETag, or its size and time of change. So a listing is enough to tell
what has changed, and nothing is downloaded twice. Credentials come from the environment or fsspec's configuration
(https://filesystem-spec.readthedocs.io), never from a URL, which is stored.
"""

from __future__ import annotations

import email.utils
import gzip
import io
import mimetypes
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qsl, urlsplit

import fsspec
import stamina
from lxml import etree

from schemas.errors import BadSource, HeadraceError, ParseFailed, SourceUnreachable
from schemas.settings import Settings
from tasks.sources.found import Found, Selection, hidden

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "sftp": "sftp", "http": "web", "https": "web"}
TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20

# A sitemap, unpacked, and how deep indexes of sitemaps may go: https://www.sitemaps.org/protocol.html
SITEMAP_BYTES = 50_000_000
SITEMAP_LEVELS = 2

_SECRET = re.compile(r"signature|token|secret|password|credential|^sig$|^key$", re.IGNORECASE)


class RemoteSource:
    """What is listed only as a whole."""

    places: frozenset[str] | None = None

    def __init__(self, name: str) -> None:
        self.name, self.unread = name, list[str]()

    def changed(self, paths: Collection[str]) -> Self | None:
        """Itself where its name is among `paths`."""
        return self if self.name in paths else None


class FilesystemSource(RemoteSource):
    """A folder, file or glob of an fsspec filesystem."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises BadSource."""
        super().__init__(name.rstrip("/"))
        self._fs, self._root = _filesystem(name)
        self._selection = Selection(settings)

    def files(self) -> Iterator[Found]:
        """Raises BadSource where there is nothing, SourceUnreachable where it cannot be listed: nothing is deleted."""
        root = self._root.rstrip("/")
        with _reaching(self.name):
            if any(c in root for c in "*?["):
                entries = self._fs.glob(root, detail=True)
                root = root[: re.search(r"[*?\[]", root).start()].rpartition("/")[0]  # type: ignore[union-attr]
            else:
                entries = self._fs.find(root, detail=True)
        if not entries:
            raise BadSource(f"{self.name} holds no files; check the URL")
        for path, info in sorted(entries.items()):
            relative = path.removeprefix(root).lstrip("/") or path.rpartition("/")[2]
            if info["type"] == "file" and not hidden(relative) and self._selection.wants(relative):
                yield _found(self._fs.unstrip_protocol(path), info)


class PageSource(RemoteSource):
    """One page of the web."""

    def __init__(self, name: str) -> None:
        """Raises BadSource."""
        super().__init__(name)
        self._fs, _ = _filesystem(name)

    def files(self) -> Iterator[Found]:
        """Raises SourceUnreachable."""
        with _reaching(self.name):
            info = self._fs.info(self.name)
        yield _found(self.name, info)


class SitemapSource(RemoteSource):
    """The pages of a sitemap, on its own host."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises BadSource."""
        super().__init__(name)
        self._fs, _ = _filesystem(name)
        self._selection = Selection(settings)

    def files(self) -> Iterator[Found]:
        """Raises BadSource where it is no sitemap, SourceUnreachable."""
        host = urlsplit(self.name).netloc
        for url, lastmod in self._pages(self.name, SITEMAP_LEVELS):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or parts.netloc != host:  # as the protocol demands
                continue
            if self._selection.wants(parts.path.lstrip("/") or "index.html"):
                if lastmod:
                    yield Found(url, url, -1, 0, lastmod)
                else:
                    yield from PageSource(url).files()

    def _pages(self, url: str, levels: int) -> Iterator[tuple[str, str]]:
        with _reaching(url):
            packed = io.BytesIO()
            _copy(self._fs, url, packed, SITEMAP_BYTES)
        packed.seek(0)
        data = packed.read(2)
        packed.seek(0)
        try:
            text = gzip.GzipFile(fileobj=packed).read(SITEMAP_BYTES) if data == b"\x1f\x8b" else packed.read()
            root = etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
        except (etree.XMLSyntaxError, OSError, EOFError) as error:
            raise BadSource(f"{url} is no sitemap: {error}") from error
        for entry in root.iterfind("{*}sitemap"):
            if levels > 1 and (location := (entry.findtext("{*}loc") or "").strip()):
                yield from self._pages(location, levels - 1)
        for entry in root.iterfind("{*}url"):
            if location := (entry.findtext("{*}loc") or "").strip():
                yield location, (entry.findtext("{*}lastmod") or "").strip()


def download(uri: str, folder: Path, max_bytes: int) -> Path:
    """A copy of a remote file in the empty folder `folder`, named so that its type shows.

    Tries three times. Raises ParseFailed: `vanished`, `too-large`, `unreachable`.
    """
    fs, path = _filesystem(uri)
    target = folder / f"document{_suffix(fs, uri)}"
    try:
        for attempt in stamina.retry_context(on=_may_pass, attempts=3, wait_initial=0.5, timeout=2 * TIMEOUT_S):
            with attempt, target.open("wb") as f:
                _copy(fs, path, f, max_bytes)
    except ParseFailed:
        raise
    except Exception as error:  # every filesystem has errors of its own
        if _is_gone(error):
            raise ParseFailed("vanished", "the source no longer has it") from error
        raise ParseFailed("unreachable", f"{type(error).__name__}: {error}"[:299]) from error
    return target


def _filesystem(url: str) -> tuple[Any, str]:
    """The filesystem of a URL, and its path there. Raises BadSource."""
    parts = urlsplit(url)
    if parts.password or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
        raise BadSource(
            f"{parts.scheme}://{parts.hostname}… carries a password or token, which would be stored; give credentials "
            "by the environment or fsspec's configuration"
        )
    options: dict[str, Any] = {}
    try:
        if parts.scheme in {"http", "https"}:
            import aiohttp

            options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=TIMEOUT_S)}
        # listings are asked for again by every run
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except ImportError as error:
        extra = EXTRAS.get(parts.scheme)
        advice = f"run: pip install 'headrace[{extra}]'" if extra else f"install what it needs: {error}"
        raise BadSource(f"{parts.scheme}:// needs another package; {advice}") from error
    except ValueError as error:
        raise BadSource(f"{url} is of no known kind: {error}") from error
    return fs, path


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """A filesystem's errors as BadSource or SourceUnreachable."""
    try:
        yield
    except HeadraceError:
        raise
    except Exception as error:  # every filesystem has errors of its own
        if _is_gone(error):
            raise BadSource(f"there is nothing at {name}; check the URL") from error
        raise SourceUnreachable(f"{name} cannot be listed: {type(error).__name__}: {error}") from error


def _is_gone(error: Exception) -> bool:
    """Whether there is no such file; fsspec says so of every failure of a web server, and why in the cause."""
    said = getattr(error.__cause__, "status", None) if _of_web_server(error) else 404
    return isinstance(error, FileNotFoundError) and said in {404, 410}


def _of_web_server(error: Exception) -> bool:
    return type(error.__cause__).__module__.startswith("aiohttp")


def _may_pass(error: Exception) -> bool:
    return not (_is_gone(error) or isinstance(error, PermissionError | ParseFailed))


def _copy(fs: Any, path: str, target: BinaryIO, max_bytes: int) -> None:
    """Raises ParseFailed where the file has more than `max_bytes`."""
    with fs.open(path, "rb", block_size=BLOCK_BYTES) as f:
        while block := f.read(BLOCK_BYTES):
            target.write(block)
            if target.tell() > max_bytes:
                raise ParseFailed("too-large", f"more than {max_bytes / 1024**2:,.0f} MiB, the setting max_file_mb")


def _found(uri: str, info: dict[str, Any]) -> Found:
    size = info.get("size")
    mtime_ns = _mtime_ns(info)
    tag = info.get("ETag") or info.get("etag") or info.get("Content-MD5") or info.get("md5Hash")
    version = str(tag) if tag else f"{size}@{mtime_ns}" if size is not None and mtime_ns else None
    return Found(uri, uri, -1 if size is None else int(size), mtime_ns, version)


def _mtime_ns(info: dict[str, Any]) -> int:
    """The time of change, which every filesystem calls by another name."""
    for name in ("LastModified", "mtime", "last_modified", "updated", "created", "Last-Modified"):
        value = info.get(name)
        if isinstance(value, str):
            value = email.utils.parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = value.timestamp()
        if value:
            return int(float(value) * 1e9)
    return 0


def _suffix(fs: Any, uri: str) -> str:
    """The suffix of a file's name, or of a page's declared type."""
    suffix = Path(urlsplit(uri).path).suffix
    if suffix or not uri.startswith("http"):
        return suffix
    try:
        declared = fs.info(uri).get("mimetype") or ""
    except Exception:  # the download says what is wrong
        return ""
    return mimetypes.guess_extension(declared) or ".html"
