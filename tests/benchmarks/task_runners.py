"""One refresh on each task runner: `python -m tests.benchmarks.task_runners FOLDER --pages 300`.

Against one Prefect server, which is started first, so that its start counts for none. Each runner has a store of its
own; each of `--workers` workers embeds in one thread, the threads of one process in as many.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.store import connect

RUN = """
import sys
from schemas.settings import Settings
from flows.tracking import tracked_refresh

if __name__ == "__main__":
    settings = Settings(
        store=sys.argv[2], task_runner=sys.argv[3], task_workers=int(sys.argv[4]), batch_documents=16,
        embed_threads=int(sys.argv[4]) if sys.argv[3] == "threads" else 1,
    )
    summary = tracked_refresh([sys.argv[1]], settings, lambda *_: None)
    print("summary", summary.elapsed, summary.chunks)
"""


def refresh(docs: Path, store: Path, runner: str, workers: int) -> tuple[float, float, float, int]:
    """Seconds of the whole command, of its refresh, and of processors that all its processes used; its chunks."""
    script = store.with_name(f"run_{runner}.py")  # dask.py would be taken for Dask
    script.write_text(RUN)
    started, before = time.perf_counter(), _processors()
    command = [sys.executable, str(script), str(docs), str(store), runner, str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - started
    said = re.search(r"^summary (\S+) (\d+)$", done.stdout, re.MULTILINE)
    if said is None:
        raise SystemExit(f"{runner}: {done.stderr[-2_000:]}")
    return whole, float(said[1]), _processors() - before, int(said[2])


def _processors() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def same(one: Path, other: Path) -> bool:
    """Whether two stores hold the same chunks."""
    texts = []
    for store in (one, other):
        with connect(store) as con:
            texts.append(con.sql("SELECT chunk_id, headings, text FROM chunks ORDER BY ALL").fetchall())
    return texts[0] == texts[1]


def measure(docs: Path, aside: Path, runners: list[str], workers: int) -> Table:
    """A row a runner; ratios are to the first."""
    # before Prefect is imported: a database of its own
    os.environ.update(
        PREFECT_HOME=str(aside / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="300",
        DO_NOT_TRACK="1",
    )
    from prefect.server.api.server import SubprocessASGIServer

    table = Table("task_runner", "whole command", "", "its refresh", "", "processors", "", "same store")
    server = SubprocessASGIServer()
    server.start()
    try:
        os.environ["PREFECT_API_URL"] = server.api_url
        first: tuple[float, ...] = ()
        for runner in runners:
            *seconds, chunks = refresh(docs, aside / runner, runner, workers)
            first = first or tuple(seconds)
            ratios = [f"{now / then:.2f} times" for now, then in zip(seconds, first, strict=True)]
            cells = [cell for s, ratio in zip(seconds, ratios, strict=True) for cell in (f"{s:.0f} s", ratio)]
            table.add_row(runner, *cells, "yes" if same(aside / runners[0], aside / runner) else "NO")
            print(runner, *cells, flush=True)
    finally:
        server.stop()
    table.title = f"{len(list(docs.iterdir()))} pages, {chunks:,} chunks, {workers} workers"
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runner", action="append", help="besides threads: processes and dask, or ray too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        docs = Path(aside, "docs")
        docs.mkdir()
        for n, page in enumerate(itertools.islice(sorted(arguments.folder.rglob("*.md")), arguments.pages)):
            shutil.copy(page, docs / f"{n:04d}.md")
        runners = ["threads", *(arguments.runner or ["processes", "dask"])]
        Console().print(measure(docs, Path(aside), runners, arguments.workers))


if __name__ == "__main__":
    main()
