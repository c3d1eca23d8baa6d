"""Cascades of rerankers: the form of the setting, the order, failures, deadlines, and what a search shows of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from typer.testing import CliRunner

import tasks.rerank
from flows.cli import app
from flows.local import local_refresh
from flows.serving import warm
from schemas.errors import BadEvaluation, RerankerFailed
from schemas.reranking import RERANKER, StageName, assigned, stage_names
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.evaluate.candidates import ask, asked_once, read, write
from tasks.evaluate.judged import Judged
from tasks.evaluate.sweep import sweep
from tasks.explain import why
from tasks.models.rerankers.remote import Remote
from tasks.models.speed import Reranker
from tasks.rerank import Stage, rerank
from tasks.search import rank, search
from tests.conftest import CORPUS
from tests.models.rerankers import servers
from tests.models.rerankers.servers import Answer, Server, serving

QUESTION = "which vector store does not need a separate server?"


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("auto", [(RERANKER, None)]),
        ("./my models/ce", [("./my models/ce", None)]),
        ("C:\\models\\ce", [("C:\\models\\ce", None)]),
        ("cohere:rerank-v3.5@20", [("cohere:rerank-v3.5", 20)]),
        ("bedrock:amazon.rerank-v1:0", [("bedrock:amazon.rerank-v1:0", None)]),
        ("llm:claude-3-5-sonnet@20240620", [("llm:claude-3-5-sonnet@20240620", None)]),
        ("llm:claude-3-5-sonnet@20240620@20", [("llm:claude-3-5-sonnet@20240620", 20)]),
        ("models/ce@main", [("models/ce@main", None)]),
        ("auto@200 > cohere:rerank-v3.5@20", [(RERANKER, 200), ("cohere:rerank-v3.5", 20)]),
        ("fusion@200>a/b@50>llm:gpt-4o@10", [("fusion", 200), ("a/b", 50), ("llm:gpt-4o", 10)]),
        ("auto > llm:gpt-4o", [(RERANKER, None), ("llm:gpt-4o", None)]),
        ("auto @20", [(RERANKER, 20)]),
    ],
)
def test_setting_names_stages_and_their_pools(setting: str, stages: list[tuple[str, int | None]]) -> None:
    assert stage_names(Settings(reranker=setting).reranker) == tuple(StageName(*stage) for stage in stages)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("", "a stage has no name"),
        ("auto >", "a stage has no name"),
        ("@20", "a stage has no name"),
        ("auto@0", "reads no candidate"),
        ("cohre:rerank-v3.5", "no kind of reranker named cohre; there are colbert, monot5, cohere"),
        ("cohere:", "names no model; write cohere:MODEL"),
        ("auto@20 > llm:gpt-4o@50", "would read more than the 20"),
        ("auto@20 > fusion", "only be the first stage"),
    ],
)
def test_setting_that_is_no_cascade_is_refused_in_words(setting: str, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Settings(reranker=setting)


def test_what_kinds_are_given_is_read_and_a_wrong_form_refused() -> None:
    assert assigned(Settings(rerank_urls=" llm=http://host:1/v1 ,cohere=https://proxy").rerank_urls) == {
        "llm": "http://host:1/v1",
        "cohere": "https://proxy",
    }
    assert assigned(Settings(rerank_secrets="voyage=my-block").rerank_secrets) == {"voyage": "my-block"}
    for wrong in (
        "http://host",
        "llm=host",
        "llm=http://me:password@host",
        "nobody=http://host",
        "colbert=http://host",
    ):
        with pytest.raises(pydantic.ValidationError):
            Settings(rerank_urls=wrong)
    with pytest.raises(pydantic.ValidationError):
        Settings(rerank_secrets="bedrock=block")


def test_key_where_a_blocks_name_belongs_is_in_no_message() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(rerank_secrets="cohere=SK_live_9f31")
    assert "SK_live" not in str(caught.value)


class Fixed:
    """Scores texts, which are numbers, by a table; counts what it read."""

    blend = Blend()

    def __init__(self, name: str, table: Sequence[float]) -> None:
        self.name = self.fingerprint = name
        self.table = table
        self.read: list[int] = []

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.read = [int(text) for text in texts]
        return np.array([self.table[i] for i in self.read], dtype=np.float32)


class Failing(Remote):
    """A server that fails after some seconds."""

    def __init__(self, settings: Settings, after: float = 0.0) -> None:
        super().__init__("llm:broken", settings, None)
        self.after = after

    def scores(self, query: str, texts: Sequence[str], ends: float) -> np.ndarray:
        time.sleep(self.after)
        raise RerankerFailed("llm:broken answered 500")

    def refusal(self, error: Exception) -> None:
        return None


def cascade_of(stages: Sequence[tuple[Reranker | None, int]]) -> list[Stage]:
    return [Stage(reranker, pool) for reranker, pool in stages]


def run(
    stages: Sequence[Stage], count: int, settings: Settings, fused: Sequence[float] = (), least: int = 1
) -> tasks.rerank.Reranked:
    return rerank(
        stages,
        "query",
        settings,
        count=count,
        read=lambda places: [str(place) for place in places],
        fused=lambda: np.array(fused or [-place for place in range(count)], dtype=np.float32),
        alike=lambda places: np.eye(len(places), dtype=np.float32),
        least=least,
        started=time.perf_counter(),
    )


@examples(deadline=None)
@given(data=st.data(), count=st.integers(1, 40))
def test_each_stage_reorders_the_first_of_the_one_before(data: st.DataObject, count: int) -> None:
    scores = st.lists(st.integers(-3, 3).map(float), min_size=count, max_size=count)
    pools = sorted(data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=4)), reverse=True)
    tables = [data.draw(scores) for _ in pools]
    rerankers = [Fixed(f"r{number}", table) for number, table in enumerate(tables)]
    found = run(cascade_of(list(zip(rerankers, pools, strict=True))), count, Settings())

    read = min(count, pools[0])
    expected = [*sorted(range(read), key=lambda place: -tables[0][place]), *range(read, count)]
    last = {place: tables[0][place] if place < read else -place for place in expected}  # as fusion has it
    assert len(pools) > 1 or rerankers[0].read == list(range(read))
    for reranker, pool in zip(rerankers[1:], pools[1:], strict=True):
        head = expected[:pool]
        assert reranker.read == head
        expected = sorted(head, key=lambda place: -reranker.table[place]) + expected[pool:]
        last |= {place: reranker.table[place] for place in head}
    assert found.orders["rerank"] == [(place, last[place]) for place in expected]
    assert list(found.orders) == [f"rerank {n}" for n in range(1, len(pools))] + ["rerank"]
    for n, (table, pool) in enumerate(zip(tables[:-1], pools[:-1], strict=True), start=1):
        order = found.orders[f"rerank {n}"]
        assert len(order) == min(pool, count)
        assert [score for _, score in order] == sorted((table[place] for place, _ in order), reverse=True)
    names = [f"{reranker.name}@{pool}" for reranker, pool in zip(rerankers, pools, strict=True)]
    assert (found.reranker, found.fallback) == (" > ".join(names) if len(names) > 1 else "r0", None)


def test_stage_that_fails_leaves_the_order_before_it_and_is_named(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    cheap, failing = Fixed("cheap", [1, 3, 2, 0]), Failing(settings)
    after = run(cascade_of([(cheap, 4), (failing, 2)]), 4, settings)
    assert [place for place, _ in after.orders["rerank"]] == [1, 2, 0, 3]
    assert (after.reranker, after.fallback) == ("cheap", "llm:broken answered 500")
    first = run(cascade_of([(failing, 4), (cheap, 2)]), 4, settings, fused=[0, 1, 2, 3])
    assert [place for place, _ in first.orders["rerank 1"]] == [3, 2, 1, 0]  # fusion's
    assert [place for place, _ in first.orders["rerank"]] == [2, 3, 1, 0]
    assert (first.reranker, first.fallback) == ("fusion@4 > cheap@2", "llm:broken answered 500")
    alone = run(cascade_of([(failing, 4)]), 4, settings, fused=[0, 1, 2, 3])
    assert [place for place, _ in alone.orders["rerank"]] == [3, 2, 1, 0]
    assert (alone.reranker, alone.fallback) == ("fusion", "llm:broken answered 500")
    between = run(cascade_of([(cheap, 4), (failing, 3), (Fixed("strong", [9, 0, 8, 7]), 2)]), 4, settings)
    assert [place for place, _ in between.orders["rerank"]] == [2, 1, 0, 3]
    assert between.reranker == "cheap@4 > strong@2"


def test_fusion_can_be_the_first_of_a_cascade(make_settings: Callable[..., Settings]) -> None:
    found = run([Stage(None, 4), Stage(Fixed("strong", [9, 0, 8, 7]), 2)], 4, make_settings(), fused=[0, 1, 2, 3])
    assert [place for place, _ in found.orders["rerank"]] == [2, 3, 1, 0]
    assert (found.reranker, found.fallback) == ("fusion@4 > strong@2", None)


def test_server_that_is_too_slow_for_the_deadline_leaves_the_order_before_it(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings(deadline_ms=400, rerank_timeout_s=60)
    started = time.perf_counter()
    found = run(cascade_of([(Failing(settings, after=20), 4)]), 4, settings, fused=[0, 1, 2, 3])
    assert time.perf_counter() - started < 15
    assert [place for place, _ in found.orders["rerank"]] == [3, 2, 1, 0]
    assert found.reranker == "fusion"
    assert found.fallback is not None
    assert found.fallback.startswith("llm:broken did not answer within 0.3")


def test_stages_share_a_deadline(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(tasks.rerank.time, "perf_counter", lambda: now)
    ends: list[float | None] = []

    def spied(reranker: Reranker, query: str, texts: Sequence[str], *_: object, **said: float | None) -> object:
        nonlocal now
        ends.append(said["ends"])
        now += 0.1
        return reranker.score(query, texts), None

    monkeypatch.setattr(tasks.rerank, "score_pool", spied)
    stages = cascade_of([(Fixed(f"r{n}", [1, 2, 3]), 3) for n in range(3)])
    run(stages, 3, make_settings(deadline_ms=1000))
    spent = 1.0 * tasks.rerank.SPENT
    assert ends == pytest.approx([100 + spent / 3, 100.1 + (spent - 0.1) / 2, 100 + spent])
    run(stages, 3, make_settings())
    assert ends[3:] == [None, None, None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("cascade")
    settings = Settings(store=root / "store", cache=model_cache)
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:  # type: ignore[misc]
    monkeypatch.setenv("COHERE_API_KEY", "vk-3f9a5c1e77d2")
    tasks.rerank._reranker.cache_clear()
    with serving(servers.cohere) as server:
        yield server


def with_cohere(store: Settings, server: Server, **values: object) -> Settings:
    said = {"rerank_urls": f"cohere={server.url}", "reranker": "fusion@30 > cohere:rerank-v3.5@5", **values}
    return Settings(**{**store.model_dump(), **said})


def test_hits_of_a_cascade_show_each_stage(store: Settings, server: Server) -> None:
    settings = with_cohere(store, server)
    result = search(QUESTION, settings, k=8)
    (request,) = server.requests
    assert len(request.body["documents"]) == 5
    assert (result.reranker, result.fallback, result.pool) == ("fusion@30 > cohere:rerank-v3.5@5", None, 30)
    for hit in result.hits:
        assert (hit.rank, hit.score) == (hit.stages["rerank"].rank, hit.stages["rerank"].score)
        assert (hit.stages["rerank 1"].rank <= 5) == (hit.rank <= 5)
        if hit.rank > 5:  # as the stage before had it
            assert hit.stages["rerank"] == hit.stages["rerank 1"]
    assert {hit.chunk_id for hit in result.hits[:5]} == {
        hit.chunk_id for hit in search(QUESTION, replace_reranker(store, "fusion@30"), k=5).hits
    }


def replace_reranker(settings: Settings, reranker: str) -> Settings:
    return settings.model_copy(update={"reranker": reranker})


def test_run_of_a_cascade_is_kept_and_read(store: Settings, server: Server, tmp_path: Path) -> None:
    settings = with_cohere(store, server)
    ranking = rank(QUESTION, settings)
    write(tmp_path / "run.parquet", asked_once(QUESTION, ranking, settings))
    kept = pq.read_table(tmp_path / "run.parquet").to_pylist()
    order = [row["chunk_id"] for row in sorted((r for r in kept if r["rerank_rank"]), key=lambda r: r["rerank_rank"])]
    assert len(order) == 30
    assert order[:8] == [hit.chunk_id for hit in search(QUESTION, settings, k=8).hits]
    assert read(tmp_path / "run.parquet").origin.reranker == "fusion@30 > cohere:rerank-v3.5@5"
    first = sorted(kept, key=lambda row: row["rerank_1_rank"] or len(kept))
    assert [row["rerank_1_score"] for row in first[5:30]] == [row["rerank_score"] for row in first[5:30]]
    assert [row["chunk_id"] for row in first[:5]] != order[:5]
    assert {row["chunk_id"] for row in first[:5]} == set(order[:5])


def test_evaluation_says_for_how_many_queries_a_server_failed(store: Settings, server: Server) -> None:
    settings = with_cohere(store, server, reranker="cohere:rerank-v3.5@5")
    queries = {str(n): f"{QUESTION} {n}" for n in range(3)}
    server.faults = [Answer(401, {"message": "invalid api token"})]
    asked = ask(Judged(queries, {query: {"embedded-vector-store.md": 1} for query in queries}), settings)
    assert asked.origin.reranker == "cohere:rerank-v3.5 (2 queries), fusion (1 queries)"
    assert asked.origin.conditions["reranker"] == asked.origin.reranker
    ((reason, failed),) = asked.origin.fallbacks.items()
    assert ("answered 401" in reason, failed) == (True, 1)


def test_sweep_of_pools_refuses_a_cascade_whose_pools_are_fixed(store: Settings) -> None:
    judged = Judged({"q": QUESTION}, {"q": {"embedded-vector-store.md": 1}})
    for reranker in ("fusion@30 > auto@5", "auto@30"):
        with pytest.raises(BadEvaluation, match="a sweep tries pools"):
            sweep(judged, replace_reranker(store, reranker))


def test_a_server_warms_every_stage_and_measures_what_a_deadline_leaves_it(store: Settings, tmp_path: Path) -> None:
    settings = store.model_copy(update={"reranker": "fusion@30 > auto@5", "cache": tmp_path})
    warm(settings)
    assert RERANKER in (tmp_path / "rerank-speed.json").read_text()


def test_why_asks_a_server_once(store: Settings, server: Server) -> None:
    assert "by fusion@30 > cohere" in why("dns-failover-runbook.pdf", QUESTION, with_cohere(store, server), k=2).verdict
    assert len(server.requests) == 1


def test_command_line_names_the_rerankers_and_any_fallback(store: Settings, server: Server) -> None:
    where = ["--store", str(store.store), "--set", f"cache={store.cache}", "--set", f"rerank_urls=cohere={server.url}"]
    ask = ["query", QUESTION, *where, "--reranker", "fusion@30 > cohere:rerank-v3.5@5", "-k", "6"]
    shown = CliRunner().invoke(app, [*ask, "--explain"]).stdout
    assert "order by fusion@30 > cohere:rerank-v3.5@5 over 30 candidates ·" in shown.splitlines()[-1]
    assert " · fusion #" in shown
    assert " · rerank 1 #" in shown
    server.faults = [Answer(401, {"message": "invalid api token"})]
    failed = CliRunner().invoke(app, ask).stdout
    assert "order by fusion over 30 candidates; cohere:rerank-v3.5 answered 401" in failed.splitlines()[-1]
    server.faults = [Answer(401, {"message": "invalid api token"})]
    plain = json.loads(CliRunner().invoke(app, [*ask, "--json"]).stdout)
    assert (plain["reranker"], "401" in plain["fallback"], "rerank 1" in plain["hits"][0]["stages"]) == (
        "fusion",
        True,
        False,
    )
    server.faults = [Answer(401, {"message": "invalid api token"})]
    context = CliRunner().invoke(app, ["context", *ask[1:-2]])
    assert "order by fusion; cohere:rerank-v3.5 answered 401" in context.stderr
    wrong = CliRunner().invoke(app, [*ask[:-3], "cohere:rerank-v3.5 >", "-k", "6"])
    assert wrong.exit_code == 2
    assert "a stage has no name" in wrong.stderr


def test_query_path_imports_no_vendor_unless_it_is_named() -> None:
    code = (
        "import sys, tasks.search, flows.cli; "
        "print({'prefect', 'torch', 'cohere', 'voyageai', 'openai', 'boto3', 'stamina'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
