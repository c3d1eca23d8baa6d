"""`headrace evaluate` and `headrace sweep`: how good is the search on judged queries, and how good could it be?"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.options import JsonOption, SetOption, StoreOption, err, out, print_json, settings_of
from flows.printing import ProgressBars
from schemas.settings import Settings

if TYPE_CHECKING:  # it brings in the models
    from tasks.evaluate.evaluation import Evaluation
    from tasks.evaluate.judged import Judged

QueriesOption = Annotated[
    Path, typer.Option("--queries", "-q", help="Queries: BEIR's jsonl, TREC topics, or id<TAB>text.")
]
QrelsOption = Annotated[Path, typer.Option("--qrels", "-r", help="Judgements: TREC qrels or BEIR's TSV.")]


def evaluate(
    queries: QueriesOption,
    qrels: QrelsOption,
    store: StoreOption = None,
    generation: Annotated[int | None, typer.Option(metavar="N", help="Evaluate an older generation.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="GENERATION|FILE",
            help="Compare with this generation, or with what --save or --save-run kept; exit with 1 where the answers "
            "are significantly worse.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", metavar="NAME=VALUE", help="Compare with the same store under this setting. Repeatable."
        ),
    ] = None,
    with_sweep: Annotated[
        bool, typer.Option("--sweep", help="Try fusion methods and pool sizes too; takes some times as long.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write tables, plots and the telling queries as a web page."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Keep this evaluation, as a --baseline for later ones.")
    ] = None,
    save_run: Annotated[
        Path | None,
        typer.Option(
            "--save-run",
            metavar="FILE.parquet",
            help="Keep every candidate of every query with its rank and score at each stage, for --run or a debugger.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="FILE.parquet",
            help="Measure a saved run in place of a store, by the judgements given here. A query is known by its text.",
        ),
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure nDCG@10, MRR@10, P@5 and recall of BM25, vectors, fusion and the reranker on judged queries.

    Documents are judged by URI, path, end of path or file name; sections as name#heading; chunks by chunk_id. A stage's
    chunks count for their document or section, at the place of its best chunk.

    Example: headrace evaluate --queries queries.jsonl --qrels qrels.tsv --report report.html --store ./index
    """
    from flows import quality
    from flows.report import write_report
    from tasks.evaluate import candidates, evaluation
    from tasks.evaluate.comparison import compared
    from tasks.evaluate.judged import read_judged
    from tasks.evaluate.sweep import sweep as run_sweep
    from tasks.store.reader import Reader

    of_a_store = store or generation or set_ or against or save_run or with_sweep or (baseline or "").isdigit()
    if run is not None and of_a_store:
        raise typer.BadParameter(f"--run: {run} has a store, a generation and settings of its own, and none is asked")
    judged = read_judged(queries, qrels)
    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        before = _before(judged, baseline, settings_of(store, [*(set_ or []), *(against or [])], {}), against, bars)
        if run is None:
            reader = Reader.open(settings.store, generation)
            asked = candidates.ask(judged, settings, reader=reader, report=partial(bars.report, "evaluate"))
        else:
            asked = candidates.read(run)
        if save_run is not None:
            candidates.write(save_run, asked)
        now = evaluation.measured(judged, asked)
        tried = run_sweep(judged, settings, partial(bars.report, "sweep")) if with_sweep else None
    comparison = None if before is None else compared(before, now)
    if as_json:
        print_json(_plain(now) | {"baseline": before and _plain(before)["stages"], "sweep": tried and asdict(tried)})
    else:
        quality.print_all(out, now, comparison, tried)
    if unasked := len(judged.queries) - len(now.judged.queries):
        err.print(f"[yellow]{escape(str(run))} lacks {unasked} of {len(judged.queries)} judged queries[/yellow]")
    if report is not None:
        write_report(report, now, comparison, tried)
        err.print(f"report in {escape(str(report))}", highlight=False, soft_wrap=True)
    if save is not None:
        evaluation.write(save, now)
    if comparison is not None and comparison.regressed:
        err.print(f"[red]regression:[/red] {quality.verdict(now, comparison)}", highlight=False)
        raise typer.Exit(1)


def _before(
    judged: Judged, baseline: str | None, settings: Settings, against: list[str] | None, bars: ProgressBars
) -> Evaluation | None:
    """What --baseline and --against name: a file, or a generation asked with `settings`, which have --against's."""
    from tasks.evaluate import candidates, evaluation
    from tasks.store.reader import Reader

    if baseline is not None and not baseline.isdigit():
        if against:
            raise typer.BadParameter(f"--against: {baseline} was measured with settings of its own")
        file = Path(baseline)
        if file.suffix == ".parquet":
            return evaluation.measured(judged, candidates.read(file))
        return evaluation.read(file)
    if baseline is None and not against:
        return None
    reader = Reader.open(settings.store, None if baseline is None else int(baseline))
    return evaluation.evaluate(judged, settings, reader=reader, report=partial(bars.report, "baseline"))


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    """The figures without the answers, which --save keeps."""
    return {
        "queries": len(evaluation.judged.queries),
        "generation": evaluation.generation,
        "reranker": evaluation.reranker,
        "missing": evaluation.missing,
        "stages": {s: {m: asdict(score) for m, score in by.items()} for s, by in evaluation.scores.items()},
    }


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
        found = run_sweep(read_judged(queries, qrels), settings, lambda done, n: bars.report("sweep", done, n))
    quality.print_sweep(out, found)
    if plot is not None:
        quality.draw(found, plot)
        out.print(f"drawn into {plot}")
