"""`headrace train-reranker`: a reranker of one's own, from judged queries or clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.options import SetOption, StoreOption, err, out, settings_of
from flows.printing import ProgressBars


def train_reranker(
    into: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the model; one there is replaced where the new one wins.")
    ],
    queries: Annotated[
        Path | None, typer.Option("--queries", "-q", help="Queries: BEIR's jsonl, TREC topics, or id<TAB>text.")
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", "-r", help="Judgements of them: TREC qrels or BEIR's TSV.")
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(metavar="FILE.tsv", help="In their place: a line query<TAB>document for each click on a hit."),
    ] = None,
    store: StoreOption = None,
    base: Annotated[
        str, typer.Option(help="Model to start from: an encoder or a one-logit cross-encoder, by folder or name.")
    ] = "headrace-reranker",
    lists: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.parquet", help="Train on these mined lists too, of another store. Repeatable."),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="How often each query is learned from.")] = 2.0,
    negatives: Annotated[int, typer.Option(min=1, help="Passages a query that are found and not relevant.")] = 7,
    tokens: Annotated[int, typer.Option(min=16, max=512, help="Most tokens of a (query, passage) pair.")] = 192,
    learning_rate: Annotated[float, typer.Option(min=1e-7, help="Of AdamW, at its greatest.")] = 5e-5,
    set_: SetOption = None,
) -> None:
    """Fine-tune a cross-encoder on your corpus and judged queries, and keep it where it wins on queries held out.

    Seven tenths of the queries are learned from, one finds what the order takes of fusion's score and of passages that
    are alike, two decide. Some 10 pairs a second on two cores, minutes on a GPU; a run that was stopped goes on from
    its last checkpoint. Needs the extra train: pip install '.[train]'.

    Example: headrace train-reranker --queries queries.jsonl --qrels qrels.tsv --into ./my-reranker --store ./index
    """
    from tasks.evaluate.judged import read_clicks, read_judged
    from tasks.training.fine_tune import Plan, fine_tune

    if (clicks is None) == (queries is None or qrels is None):
        raise typer.BadParameter("give --queries and --qrels, or --clicks")
    judged = read_clicks(clicks) if clicks else read_judged(queries, qrels)
    plan = Plan(base, tuple(lists or ()), negatives, tokens, epochs, learning_rate)
    with ProgressBars(err) as bars:
        outcome = fine_tune(judged, into, settings_of(store, set_, {}), plan, bars.report)
    out.print(escape(outcome.verdict), highlight=False, soft_wrap=True)
    if outcome.folder is None:
        raise typer.Exit(1)
    out.print(f"use it: headrace query … --reranker {escape(str(outcome.folder))}", highlight=False, soft_wrap=True)
