"""`headrace evaluate` and `headrace sweep`: how good is the search on judged queries, and how good could it be?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOption, SetOption, StoreOption, err, out, print_json, settings_of
from flows.printing import ProgressBars

QueriesOption = Annotated[
    Path, typer.Option("--queries", "-q", help="Queries: BEIR's jsonl, TREC topics, or id<TAB>text.")
]
QrelsOption = Annotated[Path, typer.Option("--qrels", "-r", help="Judgements: TREC qrels or BEIR's TSV.")]


def evaluate(
    queries: QueriesOption,
    qrels: QrelsOption,
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
    from flows import quality
    from tasks.evaluate.judged import read_judged
    from tasks.evaluate.runs import ask

    judged = read_judged(queries, qrels)
    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        runs = ask(judged, settings, generation=generation, report=lambda done, n: bars.report("evaluate", done, n))
        other = None
        if baseline is not None or against:
            changed = settings_of(store, [*(set_ or []), *(against or [])], {})
            other = ask(judged, changed, generation=baseline, report=lambda done, n: bars.report("baseline", done, n))
    scores = quality.scores_of(judged, runs)
    before = quality.scores_of(judged, other) if other else None
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
        quality.print_scores(out, judged, runs, scores)
        if before:
            quality.print_comparison(out, judged, before, scores)
    if before:
        change = quality.regression(before, scores)
        if change is not None:
            err.print(
                f"[red]regression:[/red] {quality.HEADLINE} {change.mean:+.3f}, p = {change.p:.3f}", highlight=False
            )
            raise typer.Exit(1)


def sweep(
    queries: QueriesOption,
    qrels: QrelsOption,
    store: StoreOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw nDCG@10, recall and time by pool size into this PNG or SVG.")
    ] = None,
    set_: SetOption = None,
) -> None:
    """Try fusion methods and pool sizes on judged queries, and say what limits the quality.

    Example: headrace sweep --queries queries.jsonl --qrels qrels.tsv --plot pool.png --store ./index
    """
    from flows import quality
    from tasks.evaluate.judged import read_judged
    from tasks.evaluate.sweep import sweep as run_sweep

    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        found = run_sweep(read_judged(queries, qrels), settings, lambda done, n: bars.report("evaluate", done, n))
    quality.print_sweep(out, found)
    if plot is not None:
        quality.draw(found, plot)
        out.print(f"drawn into {plot}")
