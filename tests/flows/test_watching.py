"""`headrace watch` as a user meets it: its lines, its end, its restart after SIGKILL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.store.verify import verify
from tests.flows.test_refresh import rows
from tests.watch.test_loop import watching
from tests.watch.test_observers import eventually

ROOT = Path(__file__).parents[2]


def pages(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("one", "two", "three", "four"):
        (docs / f"{name}.md").write_text(f"# {name}\n\nText {name}.\n")
    return docs


def watch_process(docs: Path, store: Path, cache: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "flows", "watch", str(docs), "--store", str(store), "--debounce", "0.2", *options],
            env={**os.environ, "HEADRACE_CACHE": str(cache)},
            cwd=ROOT,
            stdout=lines,
            stderr=subprocess.PIPE,
        )


def test_watch_prints_a_line_a_publish_and_ends_when_it_is_terminated(tmp_path: Path, model_cache: Path) -> None:
    docs, output = pages(tmp_path), tmp_path / "output"
    process = watch_process(docs, tmp_path / "store", model_cache, output)
    try:
        eventually(lambda: process.poll() is not None or len(output.read_text().splitlines()) == 1)
        more = tmp_path / "more"
        more.mkdir()
        (more / "five.md").write_text("# five\n\nText five.\n")
        (more / "empty.md").touch()
        more.rename(docs / "more")  # both at once
        eventually(lambda: process.poll() is not None or len(output.read_text().splitlines()) == 2)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children  # its parser stays warm
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert not psutil.wait_procs(children, timeout=60)[1]
    first, second = output.read_text().splitlines()
    assert re.fullmatch(r"[\d:]{8} generation 1: 4 added · 4 chunks, 4 embedded · searchable after [\d.]+ s", first)
    assert re.fullmatch(
        r"[\d:]{8} generation 2: 2 added · 1 chunks, 1 embedded · searchable after [\d.]+ s · "
        r"1 files in quarantine",
        second,
    )
    said = stderr.decode()
    assert f"watching {docs}" in said
    assert "stopped." in said
    assert "Traceback" not in said


def test_watching_imports_no_prefect() -> None:
    code = "import sys, flows.cli, flows.local, tasks.watch.loop; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_watch_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, make_settings: Callable[..., Settings], model_cache: Path
) -> None:
    docs, settings = pages(tmp_path), make_settings(debounce_s=0.2)
    local_refresh([str(docs)], settings, lambda *_: None)
    process = watch_process(docs, settings.store, model_cache, tmp_path / "output", "--set", "batch_documents=2")
    try:
        assert process.stderr is not None
        assert b"watching" in process.stderr.readline()
        for number in range(20):
            (docs / f"new{number}.md").write_text(f"# New {number}\n\nNumber {number} is new.\n")
        (docs / "one.md").unlink()
        eventually(lambda: process.poll() is not None or any(settings.store.glob("staging/*/*.staged.parquet")))
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert verify(settings.store) == []
    fresh = make_settings(store=tmp_path / "fresh")
    local_refresh([str(docs)], fresh, lambda *_: None)
    with watching(docs, settings=settings) as running:
        eventually(lambda: running.error or rows(settings.store) == rows(fresh.store))
        assert running.error is None
    assert verify(settings.store) == []
