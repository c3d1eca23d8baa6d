"""Search over HTTP: the answers of the plain functions, one clear refusal for each mistake, nothing for strangers."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import flows.http_app
from flows import http_models
from flows.guard import is_local, known_hosts, listen
from flows.http_app import create_app
from flows.local import local_refresh
from schemas import records
from schemas.errors import CorruptStore, StoreBusy, TerminalError
from schemas.records import Filter
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.search import search
from tasks.status import store_status

ROOT = Path(__file__).parents[2]
QUESTION = "which vector store does not need a separate server?"


def client_of(settings: Settings, **options: Any) -> TestClient:
    return TestClient(create_app(settings), base_url="http://localhost", **options)


@pytest.fixture(scope="module")
def client(hostile: Settings) -> Iterator[TestClient]:
    with client_of(hostile) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "wanted", "changed"),
    [
        pytest.param({"k": 3}, None, {}, id="plain"),
        pytest.param({"k": 40, "pool": 5, "explain": True}, None, {"pool": 5}, id="pool"),
        pytest.param({"type": ["md", ".txt"]}, Filter(file_types=("md", ".txt")), {}, id="types"),
        pytest.param({"path": ["*vector*", "dns*"]}, Filter(paths=("*vector*", "dns*")), {}, id="paths"),
        pytest.param({"source": ["/nowhere"]}, Filter(sources=("/nowhere",)), {}, id="source"),
        pytest.param(
            {"after": "2020-01-01T00:00:00Z", "before": "2100-01-01"},
            Filter(modified_after=datetime(2020, 1, 1, tzinfo=UTC), modified_before=datetime(2100, 1, 1)),
            {},
            id="times",
        ),
        pytest.param({"meta": ["subject=a=b"]}, Filter(metadata={"subject": "a=b"}), {}, id="metadata"),
        pytest.param({"generation": 1}, None, {}, id="generation"),
    ],
)
def test_get_and_post_answer_as_the_plain_search(
    client: TestClient, hostile: Settings, asked: dict[str, Any], wanted: Filter | None, changed: dict[str, Any]
) -> None:
    expected = search(
        QUESTION,
        hostile.model_copy(update=changed),
        k=asked.get("k", 8),
        wanted=wanted,
        generation=asked.get("generation"),
        explain=asked.get("explain", False),
    )
    answers = [
        client.get("/query", params={"query": QUESTION, **asked}),
        client.post("/query", json={"query": QUESTION, **asked}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [hit.pop("highlights") for hit in found["hits"]] == [{}] * len(expected.hits)
        assert found.pop("timings_ms").keys() == expected.timings_ms.keys()
        plain = asdict(expected)
        del plain["timings_ms"]
        assert found == {**plain, "hits": list(plain["hits"])}


def test_context_and_status_answer_as_the_plain_functions(client: TestClient, hostile: Settings) -> None:
    asked = {"query": QUESTION, "budget": 300, "form": "xml", "order": "reading", "k": 5, "path": ["*vector*"]}
    packed = asdict(
        pack_context(
            QUESTION, hostile, budget=300, form="xml", order="reading", k=5, wanted=Filter(paths=("*vector*",))
        )
    )
    blocks = [{**block, "chunk_ids": list(block["chunk_ids"])} for block in packed["blocks"]]
    assert client.post("/context", json=asked).json() == {**packed, "blocks": blocks}
    assert client.get("/context", params=asked).json() == {**packed, "blocks": blocks}

    status = asdict(store_status(hostile.store))
    answer = client.get("/status").json()
    assert answer.pop("quarantined") == len(answer["quarantine"]) == 1
    assert answer == {**status, "quarantine": list(status["quarantine"])}


def test_highlights_are_places_of_the_questions_words(client: TestClient) -> None:
    hits = client.get("/query", params={"query": "pelicans", "highlight": True, "k": 1}).json()["hits"]
    marked = {field: [hits[0][field][a:b] for a, b in spans] for field, spans in hits[0]["highlights"].items()}
    assert marked["text"] == ["pelican", "pelicans"]
    assert "pelican" in marked["headings"]


@pytest.mark.parametrize(
    ("model", "record", "further"),
    [
        (http_models.Hit, records.Hit, {"highlights"}),
        (http_models.QueryResponse, records.SearchResult, set()),
        (http_models.Block, records.Block, set()),
        (http_models.ContextResponse, records.Context, set()),
    ],
)
def test_answers_have_the_fields_of_the_records(model: Any, record: Any, further: set[str]) -> None:
    assert set(model.model_fields) == {field.name for field in dataclasses.fields(record)} | further


def test_description_names_every_field_and_limit(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/query", "/context", "/status", "/healthz", "/metrics"}
    for name, schema in described["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            assert about.get("description"), f"{name}.{field}"
    assert described["components"]["schemas"]["QueryRequest"]["properties"]["k"]["maximum"] == 100


@pytest.mark.parametrize(
    ("path", "asked", "status", "word", "detail"),
    [
        ("/query", {}, 422, "invalid_request", "query: Field required"),
        ("/query", {"query": " \n "}, 422, "invalid_request", "query: "),
        ("/query", {"query": "x" * 4001}, 422, "invalid_request", "query: "),
        ("/query", {"query": "x", "k": 101}, 422, "invalid_request", "k: "),
        ("/query", {"query": "x", "k": 0}, 422, "invalid_request", "k: "),
        ("/query", {"query": "x", "pool": 501}, 422, "invalid_request", "pool: "),
        ("/query", {"query": "x", "deadline_ms": 0}, 422, "invalid_request", "deadline_ms: "),
        ("/query", {"query": "x", "kk": 1}, 422, "invalid_request", "kk: "),
        ("/query", {"query": "x", "after": "soon"}, 422, "invalid_request", "after: "),
        ("/query", {"query": "x", "path": ["*"] * 21}, 422, "invalid_request", "path: "),
        ("/query", {"query": "x", "path": ["*" * 1001]}, 422, "invalid_request", "path.0: "),
        ("/query", {"query": "x", "meta": ["author"]}, 400, "bad_filter", "meta author: expected NAME=VALUE"),
        ("/query", {"query": "x", "after": "2026-02-01", "before": "2026-01-01"}, 400, "bad_filter", "exchange"),
        ("/query", {"query": "x", "after": "0001-01-01"}, 400, "bad_filter", "cannot be compared"),
        ("/query", {"query": "x", "source": ["~nobody-of-that-name/x"]}, 400, "bad_filter", "source "),
        ("/query", {"query": "x", "generation": 99}, 404, "no_such_generation", "no generation 99"),
        ("/context", {"query": "x", "budget": 100_001}, 422, "invalid_request", "budget: "),
        ("/context", {"query": "x", "form": "html"}, 422, "invalid_request", "form: "),
        ("/nothing", {}, 404, "not_found", "Not Found"),
    ],
)
def test_mistake_is_one_clear_refusal(
    client: TestClient, path: str, asked: dict[str, Any], status: int, word: str, detail: str
) -> None:
    for answer in (client.get(path, params=asked), client.post(path, json=asked)):
        assert (answer.status_code, answer.json()["error"]) == (status, word)
        assert detail in answer.json()["detail"]
        assert set(answer.json()) == {"error", "detail"}


@pytest.mark.parametrize("content", [b'{"query": "\\ud800"}', b"{", b"[]", b"\xff\xfe", b'{"query": NaN}', b""])
def test_broken_body_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post("/query", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) in {(422, "invalid_request"), (400, "refused")}


@pytest.mark.parametrize("query", ["\x00", "%_'\"; DROP TABLE chunks --", "🙂", "?", "数据库", "a" * 4000])
def test_any_text_is_a_question(client: TestClient, query: str) -> None:
    answer = client.post("/query", json={"query": query, "explain": True, "highlight": True})
    assert answer.status_code == 200, answer.text


def test_body_without_its_type_is_told_what_is_missing(client: TestClient) -> None:
    answer = client.post(
        "/query", content='{"query": "x"}', headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_large_bodies_are_refused_whether_or_not_they_say_how_large(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000

    headers = {"Content-Type": "application/json"}
    for content in (b" " * 70_000, chunks()):
        answer = client.post("/query", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


def test_missing_store_is_told_until_there_is_one(built: Settings, tmp_path: Path) -> None:
    settings = built.model_copy(update={"store": tmp_path / "index"})
    with client_of(settings) as client:
        assert client.get("/query", params={"query": "x"}).json()["error"] == "store_not_found"
        assert client.get("/query", params={"query": "x"}).status_code == 404
        assert (client.get("/healthz").status_code, client.get("/healthz").headers["Retry-After"]) == (503, "1")
        assert "headrace_store_readable 0.0" in client.get("/metrics").text
        shutil.copytree(built.store, settings.store)
        assert client.get("/healthz").json() == {"status": "ok", "generation": 1}
        assert client.get("/query", params={"query": "x"}).status_code == 200
        (settings.store / "CURRENT").write_text("not a number")
        damaged = client.get("/healthz")
        assert (damaged.status_code, damaged.json()["error"]) == (503, "corrupt_store")


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (StoreBusy("somebody writes"), 503, "store_busy"),
        (CorruptStore("a segment is damaged"), 500, "corrupt_store"),
        (OSError(24, "too many open files"), 503, "unavailable"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_failures_of_the_server_are_told_from_the_callers(
    built: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, word: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(flows.http_app, "rank", fail)
    with client_of(built, raise_server_exceptions=False) as client:
        answer = client.get("/query", params={"query": "x"})
        assert (answer.status_code, answer.json()["error"]) == (status, word)
        assert ("Retry-After" in answer.headers) is (status == 503)
        assert "secret" not in answer.text


def test_only_so_many_queries_run_and_wait(built: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, let_go = threading.Semaphore(0), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        entered.release()
        let_go.wait()
        return really(*arguments, **options)

    really = flows.http_app.rank
    monkeypatch.setattr(flows.http_app, "rank", slow)
    settings = built.model_copy(update={"queries_at_once": 2, "query_wait_s": 0.2, "query_timeout_s": 60.0})
    answers: list[httpx.Response] = []
    with client_of(settings) as client:

        def ask() -> None:
            answers.append(client.get("/query", params={"query": QUESTION}))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
            entered.acquire()
        refused = client.get("/query", params={"query": QUESTION})
        assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert client.get("/healthz").status_code == 200  # needs no turn
        assert "headrace_queries_running 2.0" in client.get("/metrics").text
        let_go.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        ask()
        assert answers[-1].status_code == 200


def test_query_that_takes_too_long_is_given_up_and_keeps_its_turn(
    built: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    really = flows.http_app.rank
    monkeypatch.setattr(flows.http_app, "rank", lambda *a, **o: let_go.wait() and really(*a, **o))
    settings = built.model_copy(update={"queries_at_once": 1, "query_wait_s": 0.1, "query_timeout_s": 0.1})
    with client_of(settings) as client:
        words = [client.get("/query", params={"query": QUESTION}).json()["error"] for _ in range(2)]
        assert words == ["query_timeout", "overloaded"]
        let_go.set()
        settled = time.monotonic() + 30
        while "headrace_queries_running 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < settled


@pytest.fixture
def guarded(built: Settings) -> Iterator[TestClient]:
    with client_of(Settings(store=built.store, cache=built.cache, http_token="söme-token")) as client:  # type: ignore[arg-type]
        yield client


def test_token_opens_what_holds_documents_and_figures(guarded: TestClient) -> None:
    right = {b"Authorization": "Bearer söme-token".encode()}
    guesses = ("Bearer söme-toke", "Bearer söme-token2", "Basic söme-token", "söme-token", "Bearer ")
    for path in ("/query?query=x", "/context?query=x", "/status", "/metrics", "/nothing"):
        for wrong in ({}, *({b"Authorization": guess.encode()} for guess in guesses)):
            answer = guarded.get(path, headers=wrong)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert guarded.get(path, headers=right).status_code == (404 if path == "/nothing" else 200)
    for path in ("/", "/healthz", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    assert "HTTPBearer" in guarded.get("/openapi.json").json()["components"]["securitySchemes"]


def test_token_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HTTP_TOKEN", "very-secret")
    settings = Settings()
    assert settings.http_token is not None
    assert settings.http_token.get_secret_value() == "very-secret"
    assert "very-secret" not in f"{settings!r} {settings.http_token} {settings.model_dump_json()}"
    monkeypatch.setenv("HEADRACE_HTTP_TOKEN", "")
    assert Settings().http_token is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8420", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
    ],
)
def test_requests_must_name_this_machine(client: TestClient, host: str, status: int) -> None:
    assert client.get("/status", headers={"Host": host}).status_code == status


def test_only_a_token_or_a_plain_word_opens_the_server_to_other_machines(built: Settings) -> None:
    with_token = Settings(store=built.store, http_token="t")  # type: ignore[arg-type]
    for host in ("0.0.0.0", "::"):
        with pytest.raises(TerminalError, match="HEADRACE_HTTP_TOKEN"):
            listen(host, 0, built, without_token=False)
    listen("0.0.0.0", 0, with_token, without_token=False).close()
    listen("0.0.0.0", 0, built, without_token=True).close()
    with listen("localhost", 0, built, without_token=False) as listening:
        address, port = listening.getsockname()[:2]
        assert is_local(address)
        with pytest.raises(TerminalError, match="choose another"):
            listen(address, port, built, without_token=False)
    with pytest.raises(TerminalError, match="cannot listen at no such host"):
        listen("no such host", 0, built, without_token=False)
    assert "*" not in known_hosts("127.0.0.1", None)
    assert known_hosts("10.0.0.1", None) == ["*"]
    assert {"search.example", "localhost"} <= set(known_hosts("10.0.0.1", ["search.example"]))


def test_metrics_count_requests_and_describe_the_store_with_few_labels(hostile: Settings) -> None:
    hurried = hostile.model_copy(update={"reranker": "auto", "deadline_ms": 1})
    with client_of(hurried) as client:
        for path in (
            "/query?query=x",
            "/query?query=x",
            "/context?query=x",
            "/query",
            "/status",
            *(f"/{i}/../x?y={i}" for i in range(5)),
        ):
            client.get(path)
        answer = client.get("/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["headrace_http_requests_total", "/query", "200"] == 2
    assert samples["headrace_http_requests_total", "/query", "422"] == 1
    assert samples["headrace_http_requests_total", "other", "404"] == 5
    assert samples["headrace_http_request_seconds_count", "/query"] == 3
    assert samples["headrace_query_stage_seconds_count", "rerank"] == 2
    assert samples["headrace_query_pool_sum",] == 2 * search("x", hurried).pool
    assert samples["headrace_query_fallbacks_total", "none"] == 3
    status = store_status(hostile.store)
    assert samples["headrace_store_generation",] == status.generation
    assert samples["headrace_store_documents",] == status.documents
    assert samples["headrace_store_chunks",] == status.chunks
    assert samples["headrace_store_quarantined_documents",] == 1
    assert samples["headrace_store_generation_published_timestamp_seconds",] == pytest.approx(
        datetime.fromisoformat(status.created).timestamp()
    )
    assert {labels[0] for name, *labels in samples if name == "headrace_http_requests_total"} <= {
        "/query", "/context", "/status", "/healthz", "/metrics", "/openapi.json", "/", "other",
    }  # fmt: skip


def test_page_may_run_its_own_script_and_fetch_nothing_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]+'", policy["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/=]+'", policy["style-src"])
    assert policy["connect-src"] == "'self'"
    outside = {url for url in re.findall(r"https?://[\w.]+", answer.text) if url != "http://www.w3.org"}
    assert outside == set()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=[\"']", answer.text)


def test_commands_import_the_servers_libraries_only_to_serve() -> None:
    code = (
        "import sys, flows.cli; print({'fastapi', 'uvicorn', 'mcp', 'prometheus_client', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_running_server_follows_generations_and_finishes_what_it_began(
    built: Settings, tmp_path: Path, wait_for_url: Callable[[subprocess.Popen[str]], str]
) -> None:
    settings = built.model_copy(update={"store": Path(shutil.copytree(built.store, tmp_path / "store"))})
    server = subprocess.Popen(
        [sys.executable, "-m", "flows", "serve-http", "--store", str(settings.store), "--port", "0"],
        env={**os.environ, "HEADRACE_CACHE": str(settings.cache), "HEADRACE_HTTP_TOKEN": "very-secret"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=wait_for_url(server), headers={"Authorization": "Bearer very-secret"}) as client:
            asked = {"query": "where do axolotls live?", "k": 1}
            first = client.get("/query", params=asked).json()
            assert first["generation"] == 1
            assert client.get("/status").headers["X-Content-Type-Options"] == "nosniff"
            docs = tmp_path / "docs"
            docs.mkdir()
            (docs / "axolotls.md").write_text("# Axolotls\n\nAxolotls live in the lakes of Xochimilco.")
            local_refresh([str(docs)], settings, lambda *_: None)
            second = client.get("/query", params=asked).json()
            assert (second["generation"], second["hits"][0]["title"]) == (2, "Axolotls")

            with client.stream("POST", "/query", content=_slowly(server), headers=_JSON) as last:
                assert last.status_code == 200  # it was told to stop before it had the whole question
                assert last.read()
        stderr = server.communicate(timeout=60)[1]
        assert server.returncode == 0
        assert stderr.rstrip().endswith("stopped")
        assert "very-secret" not in stderr
    finally:
        server.kill()
        server.wait()


_JSON = {"Content-Type": "application/json"}


def _slowly(server: subprocess.Popen[str]) -> Iterator[bytes]:
    """A question whose second half comes when the server has been told to stop."""
    yield b'{"query": '
    time.sleep(0.2)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    yield b'"tls"}'
