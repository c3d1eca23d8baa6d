"""The `compact` flow: merge a store's small segments on a schedule of its own, and remove what expired."""

from __future__ import annotations

from functools import partial

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.artifacts import shown
from flows.log import run_log
from flows.refresh import compact
from schemas.settings import Settings
from tasks.compact import collect_garbage
from tasks.retries import PATIENCE_S, patiently
from tasks.store.generation import read


@flow(name="compact")
def compact_flow(full: bool = False, settings: Settings | None = None, patience_s: float = PATIENCE_S) -> str:
    """Merge small segments of a store. Readers and a running refresh are not disturbed.

    A refresh does it by itself, unless the setting `compact` is `apart`.

    Args:
        full: Merge everything into one plain DuckDB file with FTS and HNSW indexes.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
        patience_s: Seconds to wait for a compaction that is under way, or for what else passes.
    """
    used = settings or Settings()
    with run_log():
        before = read(used.store)
        after = patiently(partial(compact, used, full=full), patience_s)
        patiently(partial(collect_garbage, used), patience_s)
        done = (
            f"generation {after.number}: {len(before.segments)} segments merged into {len(after.segments)}"
            if after.number != before.number
            else f"nothing to merge: {len(before.segments)} segments"
        )
        with shown():
            create_markdown_artifact(f"# {done}\n\nStore `{used.store}`.\n", key="compact-summary", description=done)
    return done
