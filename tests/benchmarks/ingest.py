"""What an ingest costs, beside what embedding alone costs: `python -m tests.benchmarks.ingest FOLDER`.

One run, one machine: a cold ingest of FOLDER in a process of its own, the same with nothing changed, then the store's
unique chunks, or a sample of them, embedded in this process: by sentence-transformers as its users do (torch, fp32,
batches of 32), by the ONNX backend in fp32 and in int8.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.models import load_encoder
from tasks.models.resolve import resolve
from tasks.store import connect

Encode = Callable[[Sequence[str]], np.ndarray]


def ingest(folder: Path, store: Path) -> tuple[float, float, float]:
    """Seconds, peak MB of the main process, and seconds until the first generation, of an ingest."""
    command = [sys.executable, "-m", "flows", "ingest", str(folder), "--store", str(store)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak, searchable = 0, 0.0

    def watch() -> None:
        nonlocal peak, searchable
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                return
            if not searchable and (store / "CURRENT").exists():
                searchable = time.perf_counter() - started
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    watcher.join()
    return time.perf_counter() - started, peak / 1e6, searchable


def unique_texts(store: Path) -> list[str]:
    """What was embedded, each text once, in random order."""
    with connect(store) as con:
        rows = con.sql(
            "SELECT any_value(title), any_value(headings), any_value(text) FROM chunks "
            "GROUP BY chunk_hash ORDER BY hash(chunk_hash)"
        ).fetchall()
    return [embedded_text(*row) for row in rows]


def sentence_transformers(settings: Settings) -> Encode:
    """As its documentation says: encode(), batch_size=32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve(settings.embedder, settings)), device="cpu", local_files_only=True)
    model.max_seq_length = 256  # the published model's
    return lambda texts: np.asarray(model.encode(list(texts), batch_size=32, normalize_embeddings=True))


def timed(encode: Encode, texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """The vectors, and texts a second."""
    encode(texts[:32])
    started = time.perf_counter()
    vectors = encode(texts)
    return vectors, len(texts) / (time.perf_counter() - started)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, help="keep the store here; it must not exist")
    parser.add_argument("--sample", type=int, default=1_000, help="texts that each backend embeds")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as aside:
        store = arguments.store or Path(aside, "store")
        cold, peak, searchable = ingest(arguments.folder, store)
        again, _, _ = ingest(arguments.folder, store)
        texts = unique_texts(store)
    settings = Settings()
    sample = texts[: arguments.sample]
    backends: dict[str, Encode] = {
        "sentence-transformers, torch fp32, batches of 32": sentence_transformers(settings),
        "ONNX fp32": load_encoder(settings.model_copy(update={"embed_precision": "fp32"})).encode,
        "ONNX int8": load_encoder(settings.model_copy(update={"embed_precision": "int8"})).encode,
    }
    results = {name: timed(encode, sample) for name, encode in backends.items()}
    exact, slowest = next(iter(results.values()))
    table = Table("embedding alone", "chunks/s", "", "cosine to the first, mean and least")
    for name, (vectors, speed) in results.items():
        cosines = (vectors * exact).sum(1)
        table.add_row(
            name, f"{speed:.1f}", f"{speed / slowest:.1f} times", f"{cosines.mean():.4f}, {cosines.min():.4f}"
        )
    console.print(table)

    used = load_encoder(settings)
    alone = len(texts) / next(speed for name, (_, speed) in results.items() if used.fingerprint[-4:] in name[-4:])
    table = Table("ingest", f"{len(texts):,} unique chunks")
    table.add_row("cold, whole command", f"{cold:.0f} s")
    table.add_row(
        "embedding its chunks alone, at the speed above", f"{alone:.0f} s, the ingest takes {cold / alone:.2f} times"
    )
    table.add_row("first generation searchable after", f"{searchable:.0f} s")
    table.add_row("peak memory of the main process", f"{peak:.0f} MB")
    table.add_row("again, nothing changed, whole command", f"{again:.1f} s")
    console.print(table)


if __name__ == "__main__":
    main()
