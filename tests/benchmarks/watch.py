"""From the save of a page to the first query that finds it: `python -m tests.benchmarks.watch FOLDER...`.

Over a copy of each FOLDER: a small and a large one show whether a cost grows with the corpus. A `headrace watch`
follows the copy; a warm process beside it edits one Markdown page after the other, closes it, and asks for what it
wrote until it is among the hits.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.search import search
from tasks.store.reader import newest

# A watch that has not published by then has failed.
PATIENCE_S = 120.0


def searchable_after(page: Path, settings: Settings) -> float:
    """Seconds from the close of an edited page to the end of the first query that finds the edit."""
    word = f"PROBE_{random.getrandbits(48):X}"  # an identifier, which comes first
    before = newest(settings.store).generation.number
    text = f"{page.read_text(encoding='utf-8')}\n\n## Probe\n\nThe word {word} marks this edit.\n"
    page.write_text(text, encoding="utf-8")
    closed = time.perf_counter()
    while time.perf_counter() - closed < PATIENCE_S:
        published = newest(settings.store).generation.number != before
        if published and any(word in hit.text for hit in search(word, settings).hits):
            return time.perf_counter() - closed
        time.sleep(0.005)
    raise SystemExit(f"{page} was not found {PATIENCE_S:.0f} s after its edit")


def processor_seconds(pid: int) -> float:
    """What a process and its children have used of the processor, user and system."""
    process = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


def measured(folder: Path, store: Path, debounce_s: float, edits: int) -> tuple[int, list[float], float]:
    """Documents of a store of `folder`, and seconds until each of some edits of its Markdown pages was searchable.

    Also the processor's seconds that the watch took an edit, which other work on the machine changes little.
    """
    settings = Settings(store=store, debounce_s=debounce_s)
    local_refresh([str(folder)], settings, lambda *_: None)
    pages = random.Random(1).choices(sorted(folder.rglob("*.md")), k=edits + 1)
    command = ["watch", str(folder), "--store", str(store), "--debounce", str(debounce_s)]
    watch = subprocess.Popen(
        [sys.executable, "-m", "flows", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        searchable_after(pages[0], settings)  # it has started
        before = processor_seconds(watch.pid)
        seconds = [searchable_after(page, settings) for page in pages[1:]]
        processor = (processor_seconds(watch.pid) - before) / edits
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.wait()
    return newest(store).generation.documents, seconds, processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--debounce", type=float, default=Settings().debounce_s)
    parser.add_argument("--vectors", type=Path, help="a store of the same documents: no vector is computed again")
    arguments = parser.parse_args()
    table = Table("documents", "edits", "best", "median", "worst", "less debounce", "processor", "load")
    with tempfile.TemporaryDirectory() as aside:
        for number, original in enumerate(arguments.folders):
            folder = Path(shutil.copytree(original, Path(aside, f"docs{number}")))
            store = Path(aside, f"store{number}")
            if arguments.vectors:
                shutil.copytree(arguments.vectors / "embeddings", store / "embeddings")
            documents, seconds, processor = measured(folder, store, arguments.debounce, arguments.edits)
            median = statistics.median(seconds)
            shown = (min(seconds), median, max(seconds), median - arguments.debounce, processor)
            figures = (f"{s:.2f} s" for s in shown)
            table.add_row(f"{documents:,}", f"{len(seconds)}", *figures, f"{os.getloadavg()[0]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
