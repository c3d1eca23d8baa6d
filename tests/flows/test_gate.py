"""Publishing through a gate: what answers judged queries significantly worse is never seen by a reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.local import local_refresh
from schemas.errors import BadJudgements, ModelMismatch, Regression
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.migrate import migrate
from tasks.models import load_encoder
from tasks.parsing.pool import ParserPool
from tasks.search import search
from tasks.store.compaction import compact
from tasks.store.generation import current_number, kept_generations, numbers, read
from tasks.store.retention import collect, rollback
from tasks.store.verify import verify
from tasks.store.writer import committing
from tests.conftest import CORPUS
from tests.models.tiny import make_tiny_encoder

MakeSettings = Callable[..., Settings]
ROOT = Path(__file__).parents[2]
QUESTION = "how do I calibrate the copper gauge?"
# pages and questions that share no word: whoever answers these has vectors that mean something
PARAPHRASED = {
    "physician": ("A physician examines patients and prescribes medicine.", "seeing doctors when ill"),
    "ocean": ("Waves roll over the deep ocean towards the shore.", "sea water"),
    "automobile": ("The automobile has four wheels and an engine.", "which vehicles can I drive as cars?"),
    "canine": ("A puppy barks and wags its tail.", "dogs as pets"),
    "blizzard": ("Snow fell all night and the roads froze.", "cold winter weather"),
    "orchestra": ("Violins and cellos played the symphony.", "classical music concert"),
    "bakery": ("Loaves come out of the oven at dawn.", "fresh bread"),
    "astronaut": ("The rocket left Earth for orbit.", "space travel"),
    "attorney": ("The attorney argued before the judge.", "lawyers in court trials"),
    "volcano": ("Lava erupted out of the crater.", "mountains that spit fire"),
}
METALS = ("copper", "iron", "silver", "tin", "zinc", "nickel", "cobalt", "lead", "titanium", "chromium")


def quiet(*_: object) -> None:
    """Report to nobody."""


def ingest(docs: Path, settings: Settings, report: Callable[[str, int, int], None] = quiet) -> RefreshSummary:
    return local_refresh([str(docs)], settings, report)


def judge(folder: Path, metals: tuple[str, ...] = METALS, copies: int = 1) -> Path:
    """A question a page of generated ones, in a folder as `headrace golden` keeps it."""
    folder.mkdir()
    names = [(f"{metal}{i}", metal) for metal in metals for i in range(copies)]
    (folder / "queries.tsv").write_text("".join(f"{q}\thow do I calibrate the {m} gauge?\n" for q, m in names))
    (folder / "qrels.tsv").write_text("".join(f"{q}\t0\t{m}-gauge.md\t1\n" for q, m in names))
    return folder


def ruin(docs: Path) -> None:
    """Leave nothing of the pages that answer."""
    for n, page in enumerate(sorted(docs.glob("*-gauge.md"))):
        page.write_text(f"# Notice {n}\n\nThis page has moved, see entry {n}.\n")


def _fail(*_: object) -> None:
    raise AssertionError("parsed again")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    """Generated pages beside the sample corpus, a gate that asks for them, and a store of them all."""
    root = tmp_path_factory.mktemp("gated")
    shutil.copytree(CORPUS, root / "docs")
    for n, metal in enumerate(METALS):
        page = f"# The {metal} gauge\n\nTurn the {metal} screw {n + 2} times to calibrate the {metal} gauge.\n"
        (root / "docs" / f"{metal}-gauge.md").write_text(page)
    for name, (text, _) in PARAPHRASED.items():
        (root / "docs" / f"{name}.md").write_text(text)
    settings = Settings(store=root / "store", cache=model_cache, gate=judge(root / "golden"), embed_precision="fp32")
    early = settings.model_copy(update={"batch_documents": 2, "publish_chunks": 8})
    first = ingest(root / "docs", early)
    assert (first.published > 1, first.gate) == (True, "")  # nothing to be worse than: it publishes as it goes
    return root


@pytest.fixture
def gated(ingested: Path, tmp_path: Path, make_settings: MakeSettings) -> Iterator[tuple[Path, Settings]]:
    """The folder, to be changed and put back, and settings of a copy of its store, which would publish every batch."""
    shutil.copytree(ingested / "store", tmp_path / "store")
    shutil.copytree(ingested / "docs", tmp_path / "good")
    yield (
        ingested / "docs",
        make_settings(gate=ingested / "golden", batch_documents=2, publish_chunks=1, publish_seconds=0.01),
    )
    shutil.rmtree(ingested / "docs")
    shutil.copytree(tmp_path / "good", ingested / "docs")


def files(store: Path) -> set[Path]:
    """What a reader or a listing could meet."""
    return {path for folder in ("manifests", "segments") for path in (store / folder).iterdir()} | {store / "CURRENT"}


def test_what_passes_is_published_once_with_what_was_measured(gated: tuple[Path, Settings]) -> None:
    docs, settings = gated
    before = current_number(settings.store)
    for name in METALS[:5]:
        page = docs / f"{name}-gauge.md"
        page.write_text(page.read_text() + "\n## Care\n\nKeep it dry.\n")
    summary = ingest(docs, settings)
    assert (summary.changed, summary.published) == (5, 1)
    assert read(settings.store, before + 1).event == f"ingest, {summary.gate}"  # a compaction may have followed
    assert summary.gate.startswith("nDCG@10 1.000 → ")
    assert summary.seconds["gate"] > 0
    again = ingest(docs, settings)
    assert (again.published, again.gate) == (0, "")  # nothing new, nothing asked


def test_what_is_worse_is_never_seen_and_costs_no_second_parse_or_embedding(
    gated: tuple[Path, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = gated
    before, published = current_number(settings.store), files(settings.store)
    ruin(docs)
    seen: list[int] = []

    def reader_beside(stage: str, done: int, total: int) -> None:
        if stage == "gate":
            assert (current_number(settings.store), numbers(settings.store)[-1]) == (before, before)
            assert files(settings.store) > published  # the candidate's segment, which nothing names
            seen.append(search(QUESTION, settings).generation)

    for _ in range(2):  # the second run takes up what the first one staged
        with pytest.raises(Regression, match=r"nDCG@10 1\.000 → 0\.\d+ over 10 judged queries") as refused:
            ingest(docs, settings, reader_beside)
        assert f"headrace rollback {before}" in str(refused.value)
        assert f"→ 0.00  {QUESTION}" in str(refused.value)
        assert set(seen) == {before}
        assert len(seen) >= 2 * len(METALS)
        assert files(settings.store) == published
        assert verify(settings.store) == []
        monkeypatch.setattr(ParserPool, "parse_many", _fail)
    assert Path(search(QUESTION, settings, k=1).hits[0].path).name == "copper-gauge.md"

    summary = ingest(docs, settings.model_copy(update={"gate": None}))
    assert (summary.changed, summary.embedded) == (len(METALS), 0)
    assert verify(settings.store) == []
    assert list((settings.store / "staging").iterdir()) == []
    assert "copper" not in search(QUESTION, settings, k=1).hits[0].text


def test_repaired_source_passes_after_a_refusal_and_nothing_piles_up(gated: tuple[Path, Settings]) -> None:
    docs, settings = gated
    good = {page: page.read_text() for page in docs.glob("*-gauge.md")}
    for word in ("moved", "gone"):
        for n, page in enumerate(good):
            page.write_text(f"# Notice {n}\n\nThis page is {word}, see entry {n}.\n")
        with pytest.raises(Regression):
            ingest(docs, settings)
    staged = [
        row for path in settings.store.rglob("*.staged.parquet") for row in pq.read_table(path)["path"].to_pylist()
    ]
    assert sorted(staged) == sorted(map(str, good))  # of the second run only
    for page, text in good.items():
        page.write_text(text + "\nKeep it dry.\n")
    assert ingest(docs, settings).published == 1
    assert list((settings.store / "staging").iterdir()) == []


def test_other_writers_meet_no_candidate(gated: tuple[Path, Settings]) -> None:
    """A compaction, a rollback and a collection wait for the verdict, and find what they would have found without."""
    docs, settings = gated
    store, before = settings.store, current_number(settings.store)
    ruin(docs)
    waiting: list[threading.Thread] = []

    def collect_all() -> None:
        with committing(store):
            collect(store, keep=1, keep_hours=0)

    def roll_back() -> None:
        with committing(store):
            rollback(store, before)

    def meanwhile(stage: str, done: int, total: int) -> None:
        if stage == "gate" and not waiting:
            waiting.extend(threading.Thread(target=work) for work in (collect_all, roll_back))
            for thread in waiting:
                thread.start()
        assert stage != "gate" or current_number(store) == before

    with pytest.raises(Regression):
        ingest(docs, settings, meanwhile)
    for thread in waiting:
        thread.join(60)
    compact(store, full=True, hnsw_min_rows=settings.hnsw_min_rows, memory_mb=settings.memory_mb)
    assert [read(store, n).event for n in numbers(store)][-2:] == [f"rollback to {before}", "compact"]
    assert verify(store) == []
    assert Path(search(QUESTION, settings, k=1).hits[0].path).name == "copper-gauge.md"
    with pytest.raises(Regression):
        ingest(docs, settings)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_gate_that_is_stopped_leaves_the_base_live(gated: tuple[Path, Settings], tmp_path: Path, stop: int) -> None:
    docs, settings = gated
    store, before, published = settings.store, current_number(settings.store), files(settings.store)
    page = docs / "copper-gauge.md"
    page.write_text(page.read_text() + "\n## Care\n\nKeep it dry.\n")
    slow = judge(tmp_path / "slow", copies=400)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "ingest", str(docs), "--store", str(store), "--gate", str(slow)],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_CACHE": str(settings.cache)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while len(files(store)) < len(published) + 4:  # a segment's files
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1.0)
    asked = time.monotonic()
    process.send_signal(stop)
    process.communicate(timeout=60)
    assert time.monotonic() - asked < 15
    assert process.returncode == (130 if stop == signal.SIGINT else -stop)
    assert current_number(store) == before
    assert verify(store) == []
    summary = ingest(docs, settings)
    assert (summary.published, summary.embedded) == (1, 0)
    named = {segment.name for generation in kept_generations(store) for segment in generation.segments}
    assert {
        path.name.partition(".")[0] for path in (store / "segments").iterdir()
    } == named  # what was stopped is swept
    assert verify(store) == []


@pytest.mark.slow
def test_migration_to_a_model_that_answers_worse_is_refused(
    gated: tuple[Path, Settings], tmp_path: Path, make_settings: MakeSettings
) -> None:
    _, settings = gated
    base, published = read(settings.store), files(settings.store)
    (folder := tmp_path / "paraphrased").mkdir()
    asked = "".join(f"{name}\t{question}\n" for name, (_, question) in PARAPHRASED.items())
    (folder / "queries.tsv").write_text(asked)
    (folder / "qrels.tsv").write_text("".join(f"{name}\t0\t{name}.md\t1\n" for name in PARAPHRASED))
    tiny = str(make_tiny_encoder(tmp_path / "tiny"))
    target = make_settings(embedder=tiny, embed_precision="fp32", gate=folder)
    seen: list[int] = []

    def reader_beside(stage: str, *_: int) -> None:
        if stage == "gate":
            seen.append(search(QUESTION, settings).generation)

    with pytest.raises(Regression, match="worse, nDCG@10"):
        migrate(target, settings, reader_beside, lambda _: True)
    assert set(seen) == {base.number}
    assert (read(settings.store), files(settings.store)) == (base, published)
    assert verify(settings.store) == []
    ledger = settings.store / "embeddings" / load_encoder(target).fingerprint
    parts = sorted(ledger.iterdir())
    after = migrate(target.model_copy(update={"gate": None}), settings, quiet, lambda _: True)
    assert (after.event, sorted(ledger.iterdir())) == ("migrate", parts)  # not embedded again
    assert search(QUESTION, target).generation == after.number


@pytest.mark.slow
def test_migration_to_another_precision_passes(gated: tuple[Path, Settings]) -> None:
    _, settings = gated
    after = migrate(settings.model_copy(update={"embed_precision": "int8"}), settings, quiet, lambda _: True)
    assert after.embedder.endswith("-int8")
    assert after.event.startswith("migrate, nDCG@10 1.000 → ")


def test_gate_that_could_not_decide_fails_before_anything_is_embedded(
    gated: tuple[Path, Settings], tmp_path: Path, make_settings: MakeSettings
) -> None:
    docs, settings = gated
    ruin(docs)

    def gate(folder: Path) -> Settings:
        return settings.model_copy(update={"gate": folder})

    def untouched(stage: str, *_: int) -> None:
        assert stage == "scan"

    with pytest.raises(BadJudgements, match=r"nowhere holds 0 files queries"):
        ingest(docs, gate(tmp_path / "nowhere"), untouched)
    with pytest.raises(BadJudgements, match="judges 5 queries; a gate needs 6"):
        ingest(docs, gate(judge(tmp_path / "few", METALS[:5])), untouched)
    tiny = make_settings(embedder=str(make_tiny_encoder(tmp_path / "tiny")), embed_precision="fp32", gate=settings.gate)
    with pytest.raises(ModelMismatch, match="settings ask for tiny"):  # the old vectors' model is not known
        migrate(tiny, tiny, untouched, lambda _: True)
    with pytest.raises(BadJudgements, match="is it of another corpus"):
        ingest(docs, gate(judge(tmp_path / "other", ("tea", "milk", "oil", "wine", "salt", "rice"))))


def test_command_line_gates_and_publishes_without_the_gate_when_told(
    gated: tuple[Path, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = gated
    monkeypatch.setenv("HEADRACE_CACHE", str(settings.cache))
    monkeypatch.setenv("HEADRACE_GATE", str(settings.gate))
    ruin(docs)
    command = ["ingest", str(docs), "--store", str(settings.store)]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, Regression)
    assert CliRunner().invoke(app, [*command, "--set", "gate="]).exit_code == 0
