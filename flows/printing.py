"""What the command line shows: progress, summaries, hits, status."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flows.summary import one_line, stage_seconds
from schemas.records import Context, Hit, RefreshSummary, SearchResult, Whereabouts
from tasks.doctor.finding import Finding
from tasks.prompt import place
from tasks.status import StoreStatus
from tasks.store.generation import Generation

SNIPPET_CHARACTERS = 300
LOG_EVERY_S = 10.0

VERDICT_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}

UNITS = {
    "scan": "files",
    "parse": "documents",
    "embed": "chunks",
    "publish": "generations",
    "verify": "files",
    "rebuild": "segments",
    "evaluate": "queries",
    "baseline": "queries",
    "sweep": "queries",
    "gate": "queries",
    "answer": "questions",
    "mine": "queries",
    "train": "steps",
    "weigh": "queries",
    "warm": "passages",
    "before": "queries",
    "after": "queries",
}


class ProgressBars:
    """A bar a stage on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._last_line = float("-inf")

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def pause(self) -> None:
        """Make way for a question."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Tell what is going on before there is anything to count."""
        self._console.print(f"[dim]{text} …[/dim]")

    def report(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` are through `stage`."""
        if self._console.is_terminal:
            if stage not in self._bars:
                self._bars[stage] = self._progress.add_task(f"{stage} {UNITS[stage]}", total=total)
            self._progress.update(self._bars[stage], completed=done, total=total)
        elif time.monotonic() - self._last_line > LOG_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(f"{stage} {done:,} of {total:,} {UNITS[stage]}", highlight=False)


def print_summary(console: Console, summary: RefreshSummary) -> None:
    """The one-line summary, seconds a stage, and a pointer to the quarantine."""
    console.print(escape(one_line(summary)), highlight=False)
    if summary.published:
        console.print(f"[dim]{stage_seconds(summary)} of work; stages overlap[/dim]", highlight=False)
    if summary.gate:
        console.print(f"through the gate: {summary.gate}", highlight=False)
    in_quarantine = summary.quarantined + summary.still_quarantined
    if in_quarantine:
        console.print(
            f"[yellow]{in_quarantine:,} files are in quarantine; "
            f"reasons: headrace status --store {escape(summary.store)}[/yellow]",
            highlight=False,
            soft_wrap=True,
        )


def print_hits(console: Console, result: SearchResult, *, explain: bool = False) -> None:
    """Each hit with its place and a piece of its text, then what ordered them; `explain` adds every stage's verdict."""
    if not result.hits:
        console.print("no hits")
    for hit in result.hits:
        console.print(f"[bold]{hit.rank}. {escape(_place(hit))}[/bold]  [dim]{hit.score:.3f}[/dim]", highlight=False)
        console.print(f"   [cyan]{escape(_file(hit))}[/cyan]", highlight=False, soft_wrap=True)
        if explain:
            console.print(f"   {_verdicts(hit)}", highlight=False)
            console.print(f"   {escape(_parts(hit.terms))}", highlight=False)
        console.print(Padding(escape(_snippet(hit.text)), (0, 0, 0, 3)), highlight=False)
    if explain:
        console.print(" · ".join(f"{stage} {ms:.0f} ms" for stage, ms in result.timings_ms.items()), highlight=False)
    total = sum(result.timings_ms.values())
    console.print(
        f"[dim]generation {result.generation} · order by {escape(result.reranker)} over {result.pool} candidates"
        f"{escape(_fallback(result.fallback))} · {total:.0f} ms[/dim]",
        highlight=False,
        soft_wrap=True,
    )


def print_context(console: Console, context: Context) -> None:
    """What the prompt took, and what it had no room for; the prompt itself goes to standard output as it is."""
    said = [
        f"{context.tokens:,} of {context.budget:,} tokens by {context.tokenizer}, an estimate for other models",
        f"{len(context.blocks)} blocks",
        f"{context.left_out} hits left out, {context.repeated} repeat a better one",
        f"generation {context.generation}, order by {context.reranker}{_fallback(context.fallback)}",
    ]
    console.print(f"[dim]{escape(' · '.join(said))}[/dim]", highlight=False, soft_wrap=True)


def print_whereabouts(console: Console, found: Whereabouts) -> None:
    """The verdict, then the document's place at each stage and its matched terms."""
    console.print(f"[cyan]{escape(found.path)}[/cyan]: {escape(found.verdict)}", highlight=False, soft_wrap=True)
    if found.ranks:
        places = (f"{stage} {'not found' if place is None else f'#{place}'}" for stage, place in found.ranks.items())
        console.print(f"   {' · '.join(places)}", highlight=False)
        console.print(f"   {escape(_parts(found.terms))}", highlight=False)


def print_status(console: Console, status: StoreStatus) -> None:
    """The store in figures, then its quarantine."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("store", escape(status.store))
    table.add_row("generation", f"{status.generation}, published {status.created}")
    table.add_row("documents", f"{status.documents:,}")
    table.add_row("chunks", f"{status.chunks:,}")
    table.add_row("segments", f"{status.segments:,}, {status.hnsw_segments:,} with an HNSW index")
    table.add_row("embedder", f"{escape(status.embedder)}, {status.dim} dimensions")
    table.add_row("size", f"{status.bytes / 1e6:,.1f} MB")
    for source, documents in status.sources.items():
        table.add_row("source", f"{escape(source)}: {documents:,} documents")
    table.add_row("quarantine", f"{len(status.quarantine):,} files")
    console.print(table, highlight=False)
    if status.quarantine:
        rejects = Table("file", "reason", "detail")
        for entry in status.quarantine:
            rejects.add_row(escape(entry.path), entry.kind, escape(entry.reason))
        console.print(rejects)


def print_generations(console: Console, kept: Sequence[Generation], current: int) -> None:
    """One line a generation."""
    table = Table("generation", "published", "by", "documents", "chunks", "segments", box=None, pad_edge=False)
    for generation in kept:
        table.add_row(
            f"{generation.number}{' (current)' if generation.number == current else ''}",
            generation.created,
            generation.event,
            f"{generation.documents:,}",
            f"{generation.chunks:,}",
            f"{len(generation.segments)}",
        )
    console.print(table, highlight=False)


def print_findings(console: Console, findings: Mapping[str, Finding]) -> None:
    """A row a check, with what to do below what was found; then the verdicts counted."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, finding in findings.items():
        text = Text(finding.detail)
        for line in finding.advice.splitlines():
            text.append(f"\n→ {line}", "dim" if finding.verdict == "ok" else "")
        table.add_row(Text(finding.verdict, VERDICT_STYLES[finding.verdict]), name, text)
    console.print(table, highlight=False)
    counts = Counter(finding.verdict for finding in findings.values())
    console.print(
        f"\n{counts['ok']} ok · {counts['warning']} with a warning · {counts['failed']} failed", highlight=False
    )


def _parts(terms: Mapping[str, float]) -> str:
    """The terms that matched, stemmed as the index has them, the weightiest first."""
    if not terms:
        return "no term of the query in it"
    ordered = sorted(terms.items(), key=lambda item: -item[1])
    return "terms " + ", ".join(f"{term} {part:.2f}" for term, part in ordered)


def _fallback(reason: str | None) -> str:
    return f"; {reason}" if reason else ""


def _place(hit: Hit) -> str:
    return place(hit.title or hit.path.rsplit("/", 1)[-1], hit.headings)


def _file(hit: Hit) -> str:
    return f"{hit.path}{f', page {hit.page}' if hit.page else ''}"


def _verdicts(hit: Hit) -> str:
    """For example: `bm25 #1 (4.192) · vectors #3 (0.690) · fusion #2 (0.032) · rerank #1 (0.879)`."""
    cascade = sorted(stage for stage in hit.stages if stage.startswith("rerank "))
    verdicts = ((stage, hit.stages.get(stage)) for stage in ("bm25", "vectors", "fusion", *cascade, "rerank"))
    return " · ".join(f"{stage} #{v.rank} ({v.score:.3f})" if v else f"{stage} not found" for stage, v in verdicts)


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SNIPPET_CHARACTERS else f"{line[:SNIPPET_CHARACTERS].rsplit(' ', 1)[0]} …"
