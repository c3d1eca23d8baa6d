"""What a refresh did, in one line and as a Markdown table."""

from __future__ import annotations

from schemas.records import Published, RefreshSummary

DOCUMENT_COUNTS = ("added", "changed", "renamed", "copied", "deleted", "quarantined", "unchanged")


def one_line(summary: RefreshSummary) -> str:
    """For example: `generation 3: 2 added, 1 deleted · 40 chunks, 12 embedded, 28 reused · 1.2 s`."""
    documents = ", ".join(f"{getattr(summary, name):,} {name}" for name in DOCUMENT_COUNTS if getattr(summary, name))
    head = (
        f"generation {summary.generation}"
        if summary.published
        else f"nothing new, generation {summary.generation} stays"
    )
    chunks = f"{summary.chunks:,} chunks, {summary.embedded:,} embedded, {summary.reused:,} reused"
    return f"{head}: {documents or 'no documents'} · {chunks} · {summary.elapsed:,.1f} s"


def watch_line(published: Published) -> str:
    """For example: `generation 7: 1 changed, 1 deleted · 3 chunks, 1 embedded · searchable after 1.6 s`."""
    summary = published.summary
    names = (name for name in DOCUMENT_COUNTS if name not in {"unchanged", "quarantined"})
    counts = ", ".join(f"{getattr(summary, name):,} {name}" for name in names if getattr(summary, name))
    in_quarantine = f" · {published.quarantined:,} files in quarantine" if published.quarantined else ""
    return (
        f"generation {summary.generation}: {counts or 'quarantine'} · {summary.chunks:,} chunks, "
        f"{summary.embedded:,} embedded · searchable after {published.seconds:,.1f} s{in_quarantine}"
    )


def stage_seconds(summary: RefreshSummary) -> str:
    """For example: `scan 0.1 s · parse 2.0 s`; the stages overlap, so they may add up to more than the elapsed time."""
    return " · ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in summary.seconds.items())


def summary_markdown(summary: RefreshSummary) -> str:
    """The summary as the Markdown of a Prefect artifact."""
    rows = [
        (name, getattr(summary, name))
        for name in (*DOCUMENT_COUNTS, "still_quarantined", "chunks", "embedded", "reused")
    ]
    table = "\n".join(f"| {name.replace('_', ' ')} | {value:,} |" for name, value in rows)
    return (
        f"# {one_line(summary)}\n\nStore `{summary.store}`.\n\n| | |\n|---|---:|\n{table}\n\n"
        f"Work a stage (stages overlap): {stage_seconds(summary)}.\n"
        + (f"\nThrough the gate: {summary.gate}.\n" if summary.gate else "")
    )


def throughput(summary: RefreshSummary) -> list[dict[str, str]]:
    """A row a stage: its work, and how fast that was; then the whole run, by the clock."""
    documents = summary.added + summary.changed
    rows = [*summary.seconds.items(), ("run", summary.elapsed)]
    return [
        {
            "stage": stage,
            "seconds": f"{seconds:,.2f}",
            "documents a second": f"{documents / seconds:,.1f}" if seconds else "",
            "chunks a second": f"{summary.chunks / seconds:,.1f}" if seconds else "",
        }
        for stage, seconds in rows
    ]
