"""Sources beyond this machine, each from a real server on this one: S3 (moto), HTTP, sitemaps, fsspec's memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flows.local import local_refresh
from schemas.errors import BadSource, DeleteGuard, SourceUnreachable
from schemas.records import Filter, RefreshSummary
from schemas.settings import Settings
from tasks.search import search
from tasks.sources import open_sources
from tasks.status import store_status
from tests.conftest import CORPUS

MakeSettings = Callable[..., Settings]
Page = tuple[bytes, dict[str, str]]  # body and headers


def ingest(sources: list[str], settings: Settings) -> RefreshSummary:
    return local_refresh(sources, settings, lambda *_: None)


def changes(summary: RefreshSummary) -> dict[str, int]:
    names = ("added", "changed", "deleted", "unchanged", "still_quarantined", "quarantined", "embedded")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


class Site:
    """Pages that a server on this machine gives, and what was asked of it."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.downloads: list[str] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            if body := self.answer():
                site.downloads.append(self.path)
                self.wfile.write(body)

        def answer(self) -> bytes:
            if self.path not in site.pages:
                self.send_error(503 if self.path.startswith("/broken") else 404)
                return b""
            body, headers = site.pages[self.path]
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return body

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()


def page(text: str, **headers: str) -> Page:
    body = f"<html><head><title>{text}</title></head><body><h1>{text}</h1><p>About {text}.</p></body></html>".encode()
    return body, {"Content-Type": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 bucket with three documents of the sample corpus, on moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3 = fsspec.filesystem("s3", skip_instance_cache=True)
    s3.mkdir("docs")
    for path in sorted(CORPUS.glob("*.md"))[:3]:
        s3.pipe(f"docs/guides/{path.name}", path.read_bytes())
    yield s3
    server.stop()


@pytest.mark.slow
def test_s3_bucket_is_kept_up_to_date(bucket: Any, make_settings: MakeSettings) -> None:
    settings, source = make_settings(), "s3://docs/guides"
    names = [path.name for path in sorted(CORPUS.glob("*.md"))[:3]]
    first = ingest([source], settings)
    assert (first.added, first.embedded) == (3, first.chunks)
    assert changes(ingest([source], settings)) == {"unchanged": 3}

    bucket.pipe(f"docs/guides/{names[0]}", b"# Edited\n\nNow about llamas.")
    bucket.pipe("docs/guides/new.html", page("Alpacas")[0])
    bucket.pipe("docs/guides/.hidden.md", b"no")
    bucket.rm(f"docs/guides/{names[1]}")
    summary = ingest([source], settings.model_copy(update={"max_delete_share": 1.0}))
    assert changes(summary) == {"added": 1, "changed": 1, "deleted": 1, "unchanged": 1, "embedded": 2}

    hit = search("llamas", settings).hits[0]
    assert (hit.uri, hit.path) == (f"s3://docs/guides/{names[0]}",) * 2
    only = search("llamas", settings, wanted=Filter(sources=(source,), paths=("*.html",))).hits
    assert {hit.uri for hit in only} == {"s3://docs/guides/new.html"}
    assert store_status(settings.store).sources == {source: 3}

    for name in bucket.find("docs/guides"):
        if not name.endswith("new.html"):
            bucket.rm(name)
    with pytest.raises(DeleteGuard):
        ingest([source], settings)
    bucket.rm("docs", recursive=True)
    with pytest.raises(BadSource, match=r"nothing at|no files"):
        ingest([source], settings)
    assert store_status(settings.store).documents == 3


def test_pages_are_downloaded_again_only_when_their_version_changes(site: Site, make_settings: MakeSettings) -> None:
    settings = make_settings()
    site.pages = {
        "/a": page("Llamas", ETag='"1"'),
        "/b.md": (b"# Alpacas\n\nWool.", {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        "/c.html": page("Vicunas"),  # tells nothing: has to be looked at each time
    }
    sources = [f"{site.url}{path}" for path in site.pages]
    assert changes(ingest(sources, settings)) == {"added": 3, "embedded": 3}
    site.downloads.clear()
    assert changes(ingest(sources, settings)) == {"unchanged": 3}
    assert site.downloads == ["/c.html"]
    site.pages["/a"] = page("Guanacos", ETag='"2"')
    site.pages["/c.html"] = page("Camels")
    assert changes(ingest(sources, settings)) == {"changed": 2, "unchanged": 1, "embedded": 2}
    assert search("guanacos", settings).hits[0].title == "Guanacos"


def test_list_of_urls_is_a_source(site: Site, make_settings: MakeSettings, tmp_path: Path) -> None:
    site.pages = {"/a": page("Llamas", ETag="1"), "/b": page("Alpacas", ETag="1")}
    (tmp_path / "local.md").write_text("# Local\n\ntext")
    lines = f"# ours\n{site.url}/a\n\n{site.url}/b\n{tmp_path / 'local.md'}\n"
    (tmp_path / "urls.txt").write_text(lines)
    assert ingest([f"@{tmp_path / 'urls.txt'}"], make_settings()).added == 3


def test_sitemap_brings_its_own_pages_only(site: Site, make_settings: MakeSettings) -> None:
    def entries(kind: str, *locations: str) -> bytes:
        inner = "".join(f"<{kind}><loc>{loc}</loc><lastmod>2026-01-01</lastmod></{kind}>" for loc in locations)
        root = "urlset" if kind == "url" else "sitemapindex"
        return f'<{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inner}</{root}>'.encode()

    site.pages = {
        "/sitemap.xml": (entries("sitemap", f"{site.url}/one.xml.gz"), {}),
        "/one.xml.gz": (
            gzip.compress(
                entries("url", f"{site.url}/a", f"{site.url}/b", "http://elsewhere.test/x", "file:///etc/passwd")
            ),
            {},
        ),
        "/a": page("Llamas"),
        "/b": page("Alpacas"),
    }
    settings = make_settings()
    assert changes(ingest([f"{site.url}/sitemap.xml"], settings)) == {"added": 2, "embedded": 2}
    site.downloads.clear()
    assert changes(ingest([f"{site.url}/sitemap.xml"], settings)) == {"unchanged": 2}
    assert set(site.downloads) == {"/sitemap.xml", "/one.xml.gz"}
    site.pages["/sitemap.xml"] = (b"<html>", {})
    with pytest.raises(BadSource, match="no sitemap"):
        ingest([f"{site.url}/sitemap.xml"], settings)


def test_server_that_fails_deletes_nothing_and_a_page_that_fails_costs_itself(
    site: Site, make_settings: MakeSettings
) -> None:
    settings = make_settings(max_file_mb=1)
    entries = "".join(
        f"<url><loc>{site.url}/{name}</loc><lastmod>1</lastmod></url>" for name in ("a", "gone", "broken", "large")
    )
    site.pages = {
        "/sitemap.xml": (f"<urlset>{entries}</urlset>".encode(), {}),
        "/a": page("Llamas"),
        "/large": (b"<p>x</p>" * 200_000, {}),
    }
    assert changes(ingest([f"{site.url}/sitemap.xml"], settings)) == {"added": 4, "quarantined": 3, "embedded": 1}
    kinds = {entry.path.rpartition("/")[2]: entry.kind for entry in store_status(settings.store).quarantine}
    assert kinds == {"gone": "vanished", "broken": "unreachable", "large": "too-large"}

    site.pages["/broken"] = page("Alpacas")  # it comes back: what could not be reached is tried again
    again = ingest([f"{site.url}/sitemap.xml"], settings)
    assert (again.embedded, again.unchanged, again.still_quarantined) == (1, 1, 2)
    with pytest.raises(SourceUnreachable):
        ingest([f"{site.url}/broken-too"], settings)
    with pytest.raises(SourceUnreachable):
        ingest(["http://127.0.0.1:9/page"], settings)
    assert store_status(settings.store).documents == 2


def test_any_fsspec_filesystem_with_globs(make_settings: MakeSettings) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/corpus/a.md": b"# Llamas", "/corpus/sub/b.md": b"# Alpacas", "/corpus/sub/c.log": b"noise"})
    try:
        settings = make_settings(exclude=("*.log",))
        assert changes(ingest(["memory://corpus"], settings)) == {"added": 2, "embedded": 2}
        plans = [
            [found.path for found in source.files()] for source in open_sources(["memory://corpus/**/*.md"], settings)
        ]
        assert plans == [["memory:///corpus/a.md", "memory:///corpus/sub/b.md"]]
    finally:
        memory.rm("/corpus", recursive=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sftp://me:secret@host/docs", "password or token"),
        ("https://host/a.html?X-Amz-Signature=abc", "password or token"),
        ("nosuch://host/docs", "no known kind|needs another package"),
        ("gs://bucket/docs", r"pip install 'headrace\[gs\]'"),
        ("az://container/docs", r"pip install 'headrace\[az\]'"),
        ("@/no/such/list.txt", "list of sources"),
    ],
)
def test_source_that_cannot_be_used_says_what_to_do(source: str, message: str) -> None:
    with pytest.raises(BadSource, match=message) as raised:
        open_sources([source], Settings())
    assert "secret" not in str(raised.value)
