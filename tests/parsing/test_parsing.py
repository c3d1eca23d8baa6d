"""Real and hostile files through the worker processes."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from schemas.errors import ParseFailed
from schemas.records import Element, ParsedDocument
from schemas.settings import Settings
from tasks.parsing.pool import ParserPool
from tests.conftest import CORPUS


@pytest.fixture(scope="module")
def parsed(pool: ParserPool) -> dict[str, ParsedDocument]:
    """Every document of the sample corpus."""
    paths = sorted(CORPUS.iterdir())
    outcomes = pool.parse_many(paths)
    assert not [outcome for outcome in outcomes if isinstance(outcome, ParseFailed)]
    return {
        path.name: outcome for path, outcome in zip(paths, outcomes, strict=True) if isinstance(outcome, ParsedDocument)
    }


def headings(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(element.depth, element.text) for element in document.elements if element.depth is not None]


def find(document: ParsedDocument, text: str) -> Element:
    return next(element for element in document.elements if text in element.text)


def test_markdown_keeps_heading_levels_code_and_table_rows(parsed: dict[str, ParsedDocument]) -> None:
    document = parsed["rotate-certificates-automatically.md"]
    assert headings(document)[:2] == [(0, "Rotating TLS certificates automatically"), (1, "On a load balancer")]
    assert find(document, "kind: Certificate").text.startswith("apiVersion: cert-manager.io/v1\nkind: Certificate\n")
    table = find(parsed["ecs-service-auto-scaling.md"], "Target tracking |")
    assert table.text.split("\n")[0] == "Policy | Reacts to | Good for"


def test_html_and_docx_keep_headings_and_tables(parsed: dict[str, ParsedDocument]) -> None:
    assert (1, "Transferring a domain") in headings(parsed["route-53-registrar.html"])
    assert "Hosted zone | a month" in find(parsed["route-53-registrar.html"], "Item | Charged").text
    assert "Token bucket" in [text for _, text in headings(parsed["api-rate-limiting.docx"])]
    assert (
        "X-RateLimit-Remaining | requests left in the window"
        in find(parsed["api-rate-limiting.docx"], "Retry-After").text
    )


def test_slides_have_pages_and_their_titles_are_the_headings(parsed: dict[str, ParsedDocument]) -> None:
    document = parsed["ecs-capacity-review.pptx"]
    assert [text for _, text in headings(document)] == [
        "ECS capacity review",
        "Where capacity comes from",
        "Use by cluster",
        "What went wrong",
        "Decisions",
    ]
    assert find(document, "batch | 6 | 48").page == 3


def test_pdf_has_pages_headings_and_whole_paragraphs(parsed: dict[str, ParsedDocument]) -> None:
    document = parsed["dns-failover-runbook.pdf"]
    assert document.title == "DNS failover runbook"
    assert [text for _, text in headings(document)] == [
        "DNS failover runbook",
        "How failover works",
        "When traffic does not move",
        "Failing over by hand",
        "Going back",
    ]
    assert find(document, "Invert the health check").page == 2
    assert "Checkers in several regions request /healthz every 10 seconds." in find(document, "Two records").text


def test_mail_is_titled_by_its_subject_and_csv_by_nothing(parsed: dict[str, ParsedDocument]) -> None:
    assert parsed["incident-expired-certificate.eml"].title == "Incident review: expired certificate stopped checkout"
    assert "Dana Whitfield" in parsed["incident-expired-certificate.eml"].metadata["sent_from"]
    assert parsed["rate-limit-tiers.csv"].title == ""
    assert "team | 50 | 150 | 500000" in parsed["rate-limit-tiers.csv"].elements[0].text


@pytest.mark.parametrize("suffix", ["md", "html", "txt"])
def test_invisible_characters_do_not_cut_words(pool: ParserPool, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"page.{suffix}"
    path.write_text(
        "\ufeff<p>x-amz-server-side\u200b-encryption\u200b, auto\u00admatic, ภาษา\u200bไทย</p>", encoding="utf-8"
    )
    (document,) = pool.parse_many([path])
    assert isinstance(document, ParsedDocument)
    assert "x-amz-server-side-encryption, automatic, ภาษา\u200bไทย" in document.elements[0].text


def test_failures_are_told_apart_and_cost_only_their_file(pool: ParserPool, tmp_path: Path) -> None:
    files = {
        "empty.md": b"",
        "blank.txt": b" \n\t\n",
        "picture.png": b"\x89PNG",
        "broken.docx": (CORPUS / "api-rate-limiting.docx").read_bytes()[:9000],
        "broken.pdf": b"%PDF-1.7 no",
        "archive.zip": b"PK\x05\x06" + b"\0" * 18,
        "good.md": b"# Good\n\ntext",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.md")
    names = [*files, "pipe.md", "missing.md"]
    outcomes = dict(zip(names, pool.parse_many([tmp_path / name for name in names]), strict=True))
    kinds = {name: outcome.kind if isinstance(outcome, ParseFailed) else "ok" for name, outcome in outcomes.items()}
    assert kinds == {
        "empty.md": "empty",
        "blank.txt": "empty",
        "picture.png": "unsupported",
        "broken.docx": "malformed",
        "broken.pdf": "malformed",
        "archive.zip": "unsupported",
        "good.md": "ok",
        "pipe.md": "unreadable",
        "missing.md": "vanished",
    }
    assert all(len(o.detail) <= 300 for o in outcomes.values() if isinstance(o, ParseFailed))


def test_unreadable_file_says_so(tmp_path: Path, pool: ParserPool) -> None:
    path = tmp_path / "secret.md"
    path.write_text("# Secret")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user, root perhaps, may read everything")
    (outcome,) = pool.parse_many([path])
    assert isinstance(outcome, ParseFailed)
    assert outcome.kind == "unreadable"


def test_file_over_the_size_limit_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "big.txt").open("wb") as f:
        f.truncate(3_000_000)
    pool = ParserPool(Settings(max_file_mb=2))
    (outcome,) = pool.parse_many([tmp_path / "big.txt"])
    pool.close()
    assert isinstance(outcome, ParseFailed)
    assert outcome.kind == "too-large"


def slow_file(path: Path) -> None:
    """A minute of work for a parser: a Word file of 200,000 paragraphs."""
    paragraphs = "".join(f"<w:p><w:r><w:t>Sentence {i} of many.</w:t></w:r></w:p>" for i in range(200_000))
    with zipfile.ZipFile(CORPUS / "api-rate-limiting.docx") as real, zipfile.ZipFile(path, "w") as slow:
        for name in real.namelist():
            part = real.read(name)
            slow.writestr(name, part.replace(b"<w:body>", f"<w:body>{paragraphs}".encode()))


def test_hanging_parser_is_killed_and_the_next_file_parsed(tmp_path: Path) -> None:
    slow_file(tmp_path / "hang.docx")
    (tmp_path / "good.md").write_text("# Good\n\ntext")
    pool = ParserPool(Settings(parse_timeout_s=3.0))
    hung, good = pool.parse_many([tmp_path / "hang.docx", tmp_path / "good.md"])
    pool.close()
    assert isinstance(hung, ParseFailed)
    assert hung.kind == "timeout"
    assert isinstance(good, ParsedDocument)


def test_documents_read_no_other_files(pool: ParserPool, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("TOPSECRET")
    (tmp_path / "a.rst").write_text(
        f"Title\n=====\n\ntext\n\n.. include:: {tmp_path / 'secret.txt'}\n\n.. include:: secret.txt\n"
    )
    (tmp_path / "a.org").write_text(f'* Title\ntext\n#+INCLUDE: "{tmp_path / "secret.txt"}"\n')
    (tmp_path / "a.html").write_text(f"<h1>T</h1><p>text</p><iframe src='file://{tmp_path}/secret.txt'></iframe>")
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE r [<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt">]><r><p>some text &x;</p></r>'
    )
    for path, outcome in zip(sorted(tmp_path.glob("a.*")), pool.parse_many(sorted(tmp_path.glob("a.*"))), strict=True):
        text = str(outcome) if isinstance(outcome, ParseFailed) else " ".join(e.text for e in outcome.elements)
        assert "TOPSECRET" not in text, path


def test_network_is_closed_to_parsers(tmp_path: Path) -> None:
    code = "import socket\nfrom tasks.parsing.offline import forbid_network\nforbid_network()\n"
    from subprocess import run
    from sys import executable

    for attempt in ("socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('example.com', 80)"):
        done = run([executable, "-c", code + attempt], capture_output=True, text=True, check=False)
        assert "parsing opens no network connections" in done.stderr


def test_closing_the_pool_blames_no_file(tmp_path: Path) -> None:
    slow_file(tmp_path / "hang.docx")
    pool = ParserPool(Settings())
    raised: list[BaseException] = []

    def parse(call: Callable[[list[Path]], object]) -> None:
        try:
            call([tmp_path / "hang.docx"])
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=parse, args=(pool.parse_many,), daemon=True)
    thread.start()
    time.sleep(3)
    pool.close()
    thread.join(20)
    assert [type(error) for error in raised] == [CancelledError]
