"""`headrace query-batch`: a file of questions answered into a file of hits."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.options import (
    AfterOption,
    BeforeOption,
    DeadlineOption,
    GenerationOption,
    JsonOption,
    MetaOption,
    PathOption,
    RerankerOption,
    SetOption,
    SourceOption,
    StoreOption,
    TypeOption,
    err,
    filter_of,
    out,
    print_json,
    settings_of,
)
from flows.printing import ProgressBars


def query_batch(
    questions: Annotated[
        Path,
        typer.Argument(
            help='A line {"query": …, "id": …} each, or Parquet with these columns; the id may be left out.',
            metavar="QUESTIONS.jsonl|.parquet",
        ),
    ],
    hits: Annotated[Path, typer.Option("--out", "-o", metavar="HITS.parquet", help="File to write, a row a hit.")],
    store: StoreOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits a question.")] = 8,
    reranker: RerankerOption = None,
    deadline_ms: DeadlineOption = None,
    source: SourceOption = None,
    path: PathOption = None,
    file_type: TypeOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    meta: MetaOption = None,
    generation: GenerationOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer many questions: a JSONL or Parquet file in, their hits as Parquet out.

    Run it again after a crash or Ctrl-C: it goes on where it stopped. All questions are answered from one generation,
    queries_at_once at a time. A bad line fails before the first is answered.

    Example: headrace query-batch questions.jsonl --out hits.parquet --store ./index
    """
    from tasks.query_batch import answer, join, prepared

    flags = {"reranker": reranker, "deadline_ms": deadline_ms}
    settings = settings_of(store, set_, {name: value for name, value in flags.items() if value})
    wanted = filter_of(source, path, file_type, after, before, meta)
    with (
        ProgressBars(err) as bars,
        prepared(questions, hits, settings, k=k, wanted=wanted, generation=generation) as batch,
    ):
        done = itertools.count(batch.answered + 1)

        def report() -> None:
            bars.report("answer", next(done), batch.questions)

        for part in batch.todo:
            answer(part, settings, generation=batch.generation, k=k, wanted=wanted, report=report)
        summary = join(batch)
    if as_json:
        print_json(asdict(summary))
    else:
        out.print(escape(str(summary)), highlight=False, soft_wrap=True)
