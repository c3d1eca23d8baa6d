"""Files made to hurt: each costs at most its own time and memory, and says truly what is wrong with it."""

from __future__ import annotations

import gzip
import io
import os
import resource
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import ParseFailed
from schemas.records import ParsedDocument
from schemas.settings import Settings
from tasks.parsing.pool import Outcome, ParserPool
from tests.conftest import CORPUS

MEGABYTE = 1_000_000
LIMIT_S = 20.0


@pytest.fixture(scope="module")
def strict() -> Iterator[ParserPool]:
    with ParserPool(Settings(parse_timeout_s=LIMIT_S, parse_memory_mb=512, max_file_mb=300)) as pool:
        yield pool


def zipped(parts: dict[str, bytes], base: str | None = None) -> bytes:
    """A zip file of `parts`, which replace those of the sample document `base`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if base is not None:
            with zipfile.ZipFile(CORPUS / base) as real:
                parts = {name: real.read(name) for name in real.namelist()} | parts
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def word_bomb() -> bytes:
    paragraph = b"<w:p><w:r><w:t>" + b"A" * (900 * MEGABYTE) + b"</w:t></w:r></w:p>"
    start = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    return zipped({"word/document.xml": start + paragraph + b"</w:body></w:document>"}, "api-rate-limiting.docx")


def book_bomb() -> bytes:
    container = b'<container><rootfiles><rootfile full-path="a.opf"/></rootfiles></container>'
    package = b'<package><manifest><item id="a" href="a.html"/></manifest><spine><itemref idref="a"/></spine></package>'
    return zipped(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": container,
            "a.opf": package,
            "a.html": b"<p>" + b"A" * (400 * MEGABYTE),
        }
    )


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    return f'<!DOCTYPE r [<!ENTITY l0 "ha">{entities}]><r>&l11;</r>'.encode()


# name → content, and the kinds that are true of it; "ok" where it can be read after all
HOSTILE: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "bomb.docx": (word_bomb, {"memory", "malformed", "too-large"}),
    "bomb.epub": (book_bomb, {"too-large"}),
    "laughs.xml": (laughs, {"malformed"}),
    "deep.html": (lambda: b"<div>" * 200_000 + b"text", {"malformed", "ok"}),
    "deep.xml": (lambda: b"<a>" * 200_000 + b"text" + b"</a>" * 200_000, {"malformed"}),
    "deep.json": (lambda: b"[" * 500_000, {"malformed"}),
    "deep.md": (lambda: b"> " * 100_000 + b"text", {"malformed", "ok"}),
    "deep.rtf": (lambda: b"{\\rtf1 " + b"{" * 300_000, {"malformed", "memory", "ok", "timeout", "empty"}),
    "deep.eml": (
        lambda: b"Content-Type: message/rfc822\n\n" * 3_000 + b"Subject: a\n\nb",
        {"malformed", "ok", "unsupported", "empty"},
    ),
    "brackets.md": (lambda: b"[" * MEGABYTE, {"ok"}),
    "emphasis.md": (lambda: b"*a _b " * 200_000, {"ok"}),
    "backticks.md": (lambda: b"".join(b"e" + b"`" * i for i in range(3_000)), {"ok"}),
    "nested.rst": (
        lambda: b"".join(b" " * i + b"* x\n\n" for i in range(2_000)),
        {"malformed", "ok", "timeout", "crashed"},
    ),
    "large.txt": (lambda: b"a line of words that goes on\n" * 7_000_000, {"too-large", "memory"}),
    "line.csv": (lambda: b'"' + b"x" * (20 * MEGABYTE), {"ok"}),
    # some 16 s of the 20 on a quiet machine
    "columns.csv": (lambda: b"," * (20 * MEGABYTE), {"ok", "empty", "memory", "timeout"}),
    "binary.txt": (lambda: bytes(range(256)) * 1_000, {"malformed"}),
    "zeros.txt": (lambda: bytes(MEGABYTE), {"malformed", "empty"}),
    "picture.md": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(1_000), {"unsupported"}),
    "really-a-pdf.md": ((CORPUS / "dns-failover-runbook.pdf").read_bytes, {"ok"}),
    "really-a-docx.txt": ((CORPUS / "api-rate-limiting.docx").read_bytes, {"ok"}),
    "really-html.doc": (lambda: b"<html><body><h1>Report</h1><p>exported</p></body></html>", {"ok"}),
    "not.docx": (lambda: b"plain words", {"malformed"}),
    "not.pdf": (lambda: b"plain words", {"malformed"}),
    "archive.docx": (lambda: zipped({"a.txt": b"words"}), {"malformed"}),
    "packed.txt": (lambda: gzip.compress(b"words"), {"unsupported"}),
    "cut.pdf": (lambda: (CORPUS / "dns-failover-runbook.pdf").read_bytes()[:3_000], {"malformed", "no-text"}),
    "cut.docx": (lambda: (CORPUS / "api-rate-limiting.docx").read_bytes()[:9_000], {"malformed"}),
    "not.ipynb": (lambda: b'{"cells": 3}', {"malformed"}),
    "not.json": (lambda: b'{"a": ', {"malformed"}),
    "not.ndjson": (lambda: b'{"a": 1}\n{', {"malformed"}),
    "link.docx": (
        lambda: zipped(
            {"word/document.xml": b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>'},
            "api-rate-limiting.docx",
        ),
        {"malformed", "empty"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_costs_only_itself(strict: ParserPool, tmp_path: Path, name: str) -> None:
    make, kinds = HOSTILE[name]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "good.md").write_text("# Good\n\ntext")
    start = time.monotonic()
    outcome, good = strict.parse_many([tmp_path / name, tmp_path / "good.md"])
    assert time.monotonic() - start < LIMIT_S + 10
    assert _kind(outcome) in kinds, outcome
    assert isinstance(good, ParsedDocument)
    assert "root:" not in str(outcome)


def test_real_text_under_a_wrong_name_is_read_as_what_it_is(pool: ParserPool, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_bytes((CORPUS / "dns-failover-runbook.pdf").read_bytes())
    (outcome,) = pool.parse_many([tmp_path / "notes.md"])
    assert isinstance(outcome, ParsedDocument)
    assert outcome.title == "DNS failover runbook"


def test_file_that_vanishes_or_changes_between_scan_and_parse(pool: ParserPool, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Old")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "loop.md").symlink_to("loop.md")
    names = ["a.md", "gone.md", "pipe.md", "folder.md", "loop.md"]
    (tmp_path / "a.md").write_text("# New")
    assert [_kind(outcome) for outcome in pool.parse_many([tmp_path / name for name in names])] == [
        "ok",
        "vanished",
        "unreadable",
        "unreadable",
        "unreadable",
    ]


def test_worker_that_dies_is_replaced_and_costs_one_file(pool: ParserPool, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# Good\n\ntext")
    for _ in range(2):
        (outcome,) = pool.parse_many([tmp_path / "good.md"])
        assert isinstance(outcome, ParsedDocument)
        for child in _children(os.getpid()):
            if "spawn_main" in child.joinpath("cmdline").read_text():
                os.kill(int(child.name), 9)
        (outcome,) = pool.parse_many([tmp_path / "good.md"])
        assert isinstance(outcome, ParsedDocument)


def test_memory_verdict_is_that_of_a_fresh_worker(pool: ParserPool, tmp_path: Path) -> None:
    """What a parser has left in its worker, and cannot be given back, is not the next file's fault."""
    for name in ("good.txt", "more.txt"):
        (tmp_path / name).write_bytes(b"a line of words\n" * 500_000)
    (outcome,) = pool.parse_many([tmp_path / "good.txt"])
    assert isinstance(outcome, ParsedDocument)
    for worker in _children(os.getpid()):
        if "spawn_main" in worker.joinpath("cmdline").read_text():  # as if it had kept everything
            resource.prlimit(int(worker.name), resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
    outcomes = pool.parse_many([tmp_path / "good.txt", tmp_path / "more.txt"])
    assert [_kind(outcome) for outcome in outcomes] == ["ok", "ok"]


def _children(parent: int) -> list[Path]:
    return [
        process
        for process in Path("/proc").glob("[0-9]*")
        if process.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(parent)
    ]


def _kind(outcome: Outcome) -> str:
    return outcome.kind if isinstance(outcome, ParseFailed) else "ok"
