"""A writer to be killed: publishes numbered steps, compacts and collects garbage all the while.

python -m tests.faults.writer STORE FIRST LAST      prints each step that is published
"""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.store import compaction
from tasks.store.retention import collect
from tasks.store.writer import committing
from tests.store.parts import Corpus

DOCUMENTS = 7


def change(step: int) -> tuple[dict[str, list[str]], list[str]]:
    """What step `step` publishes, and deletes."""
    name = f"d{step % DOCUMENTS}"
    texts = [f"step {step} of {name} part {part} rotates certificates" for part in range(1 + step % 4)]
    deleted = [f"d{(step + 3) % DOCUMENTS}"] if step % 5 == 4 else []
    return {name: texts, "always": [f"step {step}"]}, deleted


def expected(steps: int) -> dict[str, list[str]]:
    """The documents after `steps` steps."""
    live: dict[str, list[str]] = {}
    for step in range(steps):
        documents, deleted = change(step)
        live = {name: texts for name, texts in {**live, **documents}.items() if name not in deleted}
    return live


def main(store: Path, first: int, last: int) -> None:
    """Publish steps first to last - 1."""
    compaction.FANOUT = 3
    corpus = Corpus(store)
    for step in range(first, last):
        documents, deleted = change(step)
        corpus.publish(documents, delete=deleted)
        print(step, flush=True)
        corpus.compact()
        with committing(store):
            collect(store, keep=2, keep_hours=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
