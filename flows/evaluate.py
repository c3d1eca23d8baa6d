"""`headrace evaluate`: how good is the search, stage by stage, on judged queries?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.options import JsonOption, SetOption, StoreOption, err, out, print_json, settings_of
from flows.printing import ProgressBars
from tasks.evaluate.judged import Judged, read_judged
from tasks.evaluate.metrics import Difference, Score, compare, measure
from tasks.evaluate.runs import STAGES, Runs, ask

Scores = dict[str, dict[str, Score]]  # stage → metric → score

# A drop is a regression where chance would give one as large less often than this.
SIGNIFICANT = 0.05
HEADLINE = "nDCG@10"


def evaluate(
    queries: Annotated[
        Path, typer.Option("--queries", "-q", help="Queries: BEIR's jsonl, TREC topics, or id<TAB>text.")
    ],
    qrels: Annotated[Path, typer.Option("--qrels", "-r", help="Judgements: TREC qrels or BEIR's TSV.")],
    store: StoreOption = None,
    generation: Annotated[int | None, typer.Option(help="Evaluate an older generation.")] = None,
    baseline: Annotated[
        int | None, typer.Option(help="Compare with this generation; exit with 1 where it is significantly worse.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", metavar="NAME=VALUE", help="Compare with the same store under this setting. Repeatable."
        ),
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure nDCG@10, MRR@10, P@5 and recall of BM25, vectors, fusion and the reranker on judged queries.

    Documents are judged by URI, path, end of path or file name; sections as name#heading; chunks by chunk_id. A stage's
    chunks count for their document or section, at the place of its best chunk.

    Example: headrace evaluate --queries queries.jsonl --qrels qrels.tsv --store ./index
    """
    judged = read_judged(queries, qrels)
    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        runs = ask(judged, settings, generation=generation, report=lambda done, n: bars.report("evaluate", done, n))
        other = None
        if baseline is not None or against:
            changed = settings_of(store, [*(set_ or []), *(against or [])], {})
            other = ask(judged, changed, generation=baseline, report=lambda done, n: bars.report("baseline", done, n))
    scores = scores_of(judged, runs)
    before = scores_of(judged, other) if other else None
    if as_json:
        print_json(
            {
                "queries": len(judged.queries),
                "generation": runs.generation,
                "reranker": runs.reranker,
                "missing": runs.missing,
                "stages": {s: {m: asdict(score) for m, score in by.items()} for s, by in scores.items()},
                "baseline": before and {s: {m: asdict(score) for m, score in by.items()} for s, by in before.items()},
            }
        )
    else:
        print_scores(out, judged, runs, scores)
        if before:
            print_comparison(out, judged, before, scores)
    if before:
        change = compare(before["rerank"][HEADLINE], scores["rerank"][HEADLINE])
        if change.mean < 0 and change.p < SIGNIFICANT:
            err.print(f"[red]regression:[/red] {HEADLINE} {change.mean:+.3f}, p = {change.p:.3f}", highlight=False)
            raise typer.Exit(1)


def scores_of(judged: Judged, runs: Runs) -> Scores:
    """Every stage's metrics."""
    return {stage: measure(judged, runs.stages[stage]) for stage in STAGES}


def print_scores(console: Console, judged: Judged, runs: Runs, scores: Scores) -> None:
    """A row a stage, and what each stage adds to the one before."""
    table = Table(*_columns(scores), box=None, pad_edge=False)
    for stage, by_metric in scores.items():
        headline = by_metric[HEADLINE]
        cells = [f"{headline.mean:.3f} [{headline.low:.3f}, {headline.high:.3f}]"]
        cells += [f"{score.mean:.3f}" for name, score in by_metric.items() if name != HEADLINE]
        table.add_row(stage, *cells)
    console.print(table, highlight=False)
    for first, second in (("bm25", "fusion"), ("vectors", "fusion"), ("fusion", "rerank")):
        console.print(
            f"{second} over {first}: {_said(compare(scores[first][HEADLINE], scores[second][HEADLINE]))}",
            highlight=False,
        )
    took = ", ".join(f"{step} {seconds * 1000:.0f}" for step, seconds in runs.seconds.items())
    console.print(
        f"{len(judged.queries)} queries, generation {runs.generation}, order by {escape(runs.reranker)}; "
        f"ms a query: {took}",
        highlight=False,
    )
    if runs.missing:
        share = len(runs.missing) / len(judged.names)
        console.print(
            f"[yellow]{len(runs.missing)} of {len(judged.names)} judged names ({share:.0%}) are not in the "
            f"store[/yellow], such as {escape(runs.missing[0])}",
            highlight=False,
        )


def print_comparison(console: Console, judged: Judged, before: Scores, after: Scores) -> None:
    """The stages side by side, and the queries that changed most."""
    table = Table(HEADLINE, "baseline", "now", "difference", box=None, pad_edge=False)
    for stage in after:
        old, new = before[stage][HEADLINE], after[stage][HEADLINE]
        table.add_row(stage, f"{old.mean:.3f}", f"{new.mean:.3f}", _said(compare(old, new)))
    console.print(table, highlight=False)
    was, now = before["rerank"][HEADLINE].values, after["rerank"][HEADLINE].values
    ordered = sorted(judged.queries, key=lambda query: now[query] - was[query])
    worst = [query for query in ordered[:10] if now[query] < was[query]]
    best = [query for query in ordered[::-1][:10] if now[query] > was[query]]
    for title, changed in (("worse", worst), ("better", best)):
        for query in changed:
            console.print(
                f"{title}  {was[query]:.2f} → {now[query]:.2f}  {escape(judged.queries[query])}", highlight=False
            )


def _columns(scores: Scores) -> list[str]:
    metrics = [name for name in next(iter(scores.values())) if name != HEADLINE]
    return ["stage", f"{HEADLINE} [95 % interval]", *metrics]


def _said(change: Difference) -> str:
    weight = "" if change.p < SIGNIFICANT else ", may be chance"
    return f"{change.mean:+.3f} (p = {change.p:.3f}{weight})"
