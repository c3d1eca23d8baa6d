"""Fine-tuning as a user does it: by the command line, on a store and judged queries of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.local import local_refresh
from schemas.errors import BadJudgements, TrainingFailed
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.evaluate.judged import Judged, read_clicks
from tasks.models.folders import describe
from tasks.search import search
from tasks.training import fine_tune
from tasks.training.fine_tune import LEAST, split
from tasks.training.lists import mine

MakeSettings = Callable[..., Settings]
ANIMALS = [
    "otter", "badger", "heron", "lynx", "marten", "beaver", "falcon", "stoat", "weasel", "raven", "plover", "curlew",
    "osprey", "hare", "vole", "shrew", "newt", "toad", "adder", "viper", "salmon", "trout", "perch", "pike", "bream",
    "roach", "tench", "carp", "eel", "lamprey", "gull", "tern", "puffin", "kite", "merlin", "hobby", "swift", "martin",
    "dipper", "wren",
]  # fmt: skip


@pytest.fixture
def reports(tmp_path: Path, make_settings: MakeSettings) -> Settings:
    """Of every animal two reports that differ in a word that no question holds: fusion cannot know which is wanted."""
    folder = tmp_path / "reports"
    folder.mkdir()
    for animal in ANIMALS:
        for word in ("approved", "rejected"):
            said = f"The count of the {animal} was {word} in spring, {word} in summer and {word} in autumn."
            (folder / f"{animal}-{word}.md").write_text(f"# Report on the {animal}\n\n{said}\n")
    settings = make_settings(reranker="fusion")
    local_refresh([str(folder)], settings, lambda *_: None)
    return settings


def run(settings: Settings, *arguments: str) -> tuple[int, str]:
    fixed = [
        "--store",
        str(settings.store),
        "--set",
        f"cache={settings.cache}",
        "--set",
        f"reranker={settings.reranker}",
        "--set",
        "embed_threads=1",
    ]
    result = CliRunner().invoke(app, ["train-reranker", *arguments, *fixed])
    return result.exit_code, f"{result.output}{result.exception!r}"


@pytest.mark.slow
def test_a_model_that_wins_is_kept_and_one_that_does_not_leaves_it(reports: Settings, tmp_path: Path) -> None:
    clicks, model = tmp_path / "clicks.tsv", tmp_path / "mine"
    clicks.write_text("".join(f"what is the count of the {animal}?\t{animal}-rejected.md\n" for animal in ANIMALS))
    start = ["--clicks", str(clicks), "--into", str(model), "--negatives", "2"]
    code, output = run(reports, *start, "--epochs", "5", "--learning-rate", "1e-4")
    assert code == 0, output
    assert "kept in" in output
    assert "| rerank |" in (model / "README.md").read_text()
    config = json.loads((model / "config.json").read_text())
    assert describe(model).blend == Blend(config["headrace_fusion_weight"], config["headrace_neighbour_weight"])
    assert not model.with_name("mine.building").exists()
    trained = reports.model_copy(update={"reranker": str(model)})
    _, _, decisive = split(read_clicks(clicks))  # of which nothing was learned
    best = {query: search(text, trained, k=1) for query, text in decisive.queries.items()}
    assert {result.reranker for result in best.values()} == {"mine"}
    right = [Path(result.hits[0].path).name in decisive.gains[query] for query, result in best.items()]
    assert sum(right) > len(right) / 2
    # what was learned is right already: a model that has learned nothing cannot replace it
    kept = (model / "README.md").read_text()
    code, output = run(trained, *start, "--epochs", "0.01", "--learning-rate", "1e-7")
    assert code == 1, output
    assert "not kept" in output
    assert (model / "README.md").read_text() == kept
    assert {path.name for path in (tmp_path / "mine.building").iterdir()} == {
        "lists.parquet", "model", "recipe.json", "training.log",
    }  # fmt: skip
    assert not list(tmp_path.glob("**/checkpoints"))


@pytest.mark.slow
def test_a_reranker_that_fails_cannot_be_beaten(reports: Settings, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.tsv"
    clicks.write_text("".join(f"what is the count of the {animal}?\t{animal}-rejected.md\n" for animal in ANIMALS))
    silent = reports.model_copy(update={"reranker": "llm:judge"})
    learn = ["--clicks", str(clicks), "--into", str(tmp_path / "mine"), "--epochs", "0.01", "--negatives", "1"]
    nobody = ["--set", "rerank_urls=llm=http://127.0.0.1:9/v1", "--set", "rerank_timeout_s=0.5"]
    code, output = run(silent, *learn, *nobody)
    assert code == 1, output
    assert "the reranker to be beaten failed" in output
    assert "cannot be reached" in output
    assert not (tmp_path / "mine").exists()


def test_what_a_stopped_run_mined_is_taken_up_by_the_same_plan_alone(
    reports: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into, mined = tmp_path / "mine", []

    def stopped(*_: object) -> None:
        mined.append(pq.read_table(tmp_path / "mine.building" / "lists.parquet"))
        raise TrainingFailed("power cut")

    monkeypatch.setattr(fine_tune, "_train", stopped)
    for count, negatives in ((30, 2), (30, 2), (30, 1), (40, 1)):
        queries = {animal: f"what is the count of the {animal}?" for animal in ANIMALS[:count]}
        judged = Judged(queries, {animal: {f"{animal}-rejected.md": 1} for animal in queries})
        with pytest.raises(TrainingFailed):
            fine_tune.fine_tune(judged, into, reports, fine_tune.Plan(negatives=negatives), lambda *_: None)
        if len(mined) == 1:  # the second run must not mine again
            monkeypatch.setattr(fine_tune, "mine", lambda *_, **__: pytest.fail("mined twice"))
        else:
            monkeypatch.setattr(fine_tune, "mine", mine)
    first, again, fewer, more = mined
    assert again == first
    assert max(map(len, fewer["passages"].to_pylist())) < max(map(len, first["passages"].to_pylist()))
    assert more.num_rows > fewer.num_rows


def test_a_folder_that_holds_something_else_is_not_replaced(reports: Settings, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    clicks = tmp_path / "clicks.tsv"
    clicks.write_text("".join(f"what is the count of the {animal}?\t{animal}-rejected.md\n" for animal in ANIMALS))
    result = CliRunner().invoke(app, ["train-reranker", "--clicks", str(clicks), "--into", str(tmp_path / "models")])
    assert isinstance(result.exception, TrainingFailed)
    assert "would be replaced" in str(result.exception)
    assert (tmp_path / "models" / "mine").is_dir()


def test_too_few_judged_queries_are_refused(reports: Settings, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.tsv"
    clicks.write_text("a\tb.md\n" * 50)
    result = CliRunner().invoke(app, ["train-reranker", "--clicks", str(clicks), "--into", str(tmp_path / "mine")])
    assert isinstance(result.exception, BadJudgements)
    assert str(LEAST) in str(result.exception)


def test_a_query_keeps_its_part_when_others_come() -> None:
    few = Judged({str(n): f"question {n}" for n in range(100)}, {str(n): {"a": 1} for n in range(100)})
    many = Judged({str(n): f"question {n}" for n in range(300)}, {str(n): {"a": 1} for n in range(300)})
    for before, after in zip(split(few), split(many), strict=True):
        assert before.queries.items() <= after.queries.items()
    assert sum(len(part.queries) for part in split(many)) == 300
    assert len(split(many)[0].queries) > 180


@pytest.mark.parametrize("line", ["no tab", "\tdocument.md", "query\t "])
def test_a_click_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "clicks.tsv").write_text(f"a question\ta.md\n{line}\n")
    with pytest.raises(BadJudgements, match=r"clicks\.tsv:2"):
        read_clicks(tmp_path / "clicks.tsv")
