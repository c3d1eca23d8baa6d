"""SIGKILL at random instants: what was published stays, what was not is finished by the next run, nothing is left over.

`KILLS=300 pytest tests/faults` kills as often as that.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.search import search
from tasks.store.generation import exists, read
from tasks.store.reader import Reader
from tasks.store.verify import verify
from tests.conftest import CORPUS
from tests.faults.writer import expected
from tests.store.parts import Corpus, neighbours, scores, state

KILLS = int(os.environ.pop("KILLS", "24"))
ROOT = Path(__file__).parents[2]


def run_and_kill(command: list[str], after_s: float, environment: dict[str, str] | None = None) -> list[str]:
    """Start `command`, SIGKILL it `after_s` seconds after its first line of output, and return its lines."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    return [first.strip(), *rest]


@pytest.mark.slow
def test_store_survives_a_writer_killed_at_any_instant(tmp_path: Path) -> None:
    store, chance, done = tmp_path / "store", random.Random(1), 0
    for _ in range(KILLS):
        lines = run_and_kill(["-m", "tests.faults.writer", str(store), str(done), "100000"], chance.uniform(0, 1.0))
        acknowledged = int(lines[-1]) + 1
        # the step under way may have been published without being acknowledged
        (done,) = (n for n in (acknowledged, acknowledged + 1) if state(store) == expected(n))
        generation = read(store)
        assert generation.chunks == sum(map(len, expected(done).values()))
        assert verify(store) == []

    finish = [sys.executable, "-m", "tests.faults.writer", str(store), str(done), str(done + 2)]
    subprocess.run(finish, check=True, cwd=ROOT)
    fresh = Corpus(tmp_path / "fresh")
    fresh.publish(expected(done + 2))
    assert state(store) == state(fresh.store) == expected(done + 2)
    with Reader.open(store) as ours, Reader.open(fresh.store) as theirs:
        assert scores(ours, "certificate part 2") == pytest.approx(scores(theirs, "certificate part 2"), abs=1e-9)
        assert neighbours(ours, "step") == neighbours(theirs, "step")
    named = {segment.name for number in (-2, -1) for segment in _kept(store)[number].segments}
    assert {path.name.partition(".")[0] for path in (store / "segments").iterdir()} == named
    assert not list((store / "building").iterdir())
    assert not list((store / "compacting").iterdir())


def _kept(store: Path) -> list:  # type: ignore[type-arg]
    from tasks.store.generation import kept_generations

    return list(kept_generations(store))


@pytest.mark.slow
def test_ingest_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, make_settings: Callable[..., Settings], model_cache: Path
) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(CORPUS, docs)
    settings = make_settings(batch_documents=2, publish_chunks=8)
    chance = random.Random(2)
    command = ["ingest", str(docs), "--store", str(settings.store)]
    limits = ["--set", "batch_documents=2", "--set", "publish_chunks=8"]
    for _ in range(max(KILLS // 4, 4)):
        script = "import sys; print('started', flush=True); from flows.cli import main; main()"
        run_and_kill(["-c", script, *command, *limits], chance.uniform(1.0, 5.0), {"HEADRACE_CACHE": str(model_cache)})
        if exists(settings.store):
            assert verify(settings.store) == []
    summary = local_refresh([str(docs)], settings, lambda *_: None)
    again = local_refresh([str(docs)], settings, lambda *_: None)
    assert (again.published, again.embedded) == (0, 0)
    fresh = make_settings(store=tmp_path / "fresh")
    whole = local_refresh([str(docs)], fresh, lambda *_: None)
    assert read(settings.store).chunks == whole.chunks
    assert summary.embedded <= whole.embedded
    for question in ("rotate certificates automatically", "X-RateLimit-Remaining", "why did scaling stop"):
        ours, theirs = (search(question, s, k=10).hits for s in (settings, fresh))
        assert [(hit.chunk_id, hit.text) for hit in ours] == [(hit.chunk_id, hit.text) for hit in theirs]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-6)
