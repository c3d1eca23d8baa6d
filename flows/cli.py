"""The command line: ingest, query, status, settings and demo; other commands are in flows.upkeep and flows.doctor."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from flows import golden, upkeep
from flows.batch import query_batch
from flows.context import context
from flows.doctor import doctor
from flows.evaluate import evaluate, sweep
from flows.http_server import serve_http
from flows.init import init
from flows.mcp_server import mcp
from flows.options import (
    AfterOption,
    BeforeOption,
    DeadlineOption,
    ExcludeOption,
    GateOption,
    GenerationOption,
    IncludeOption,
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
    sample_corpus,
    settings_of,
    version,
)
from flows.printing import ProgressBars, print_hits, print_status, print_summary, print_whereabouts
from flows.query_worker import query_worker
from flows.serve import serve
from flows.training import train_reranker
from flows.watching import watch
from schemas.errors import HeadraceError, is_interrupt
from schemas.settings import Settings

app = typer.Typer(
    help="Keep a corpus of documents searchable: a local index, queried by BM25, vectors and a reranker.\n\n"
    "To see it work: headrace demo. With documents of your own: headrace ingest ~/docs, then headrace query "
    '"a question".',
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXIT_INTERRUPTED = 130  # 128 + SIGINT

# Headings of `headrace --help`, below the everyday commands.
SERVERS = "For other programs"
QUALITY = "How good are the answers?"
STORE = "The store"


@app.command()
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, files, quoted globs; URLs (s3://, gs://, az://, sftp://, https://, a sitemap); "
            "@FILE for those that it lists, one a line.",
            metavar="SOURCE...",
        ),
    ],
    store: StoreOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    gate: GateOption = None,
    set_: SetOption = None,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Delete however many documents are gone from the source.")
    ] = False,
    track: Annotated[
        bool,
        typer.Option(
            "--track", help="Run as a Prefect flow run, on a temporary API where none is configured (10 to 20 s)."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a store up to date with its sources: new, edited, renamed and deleted documents.

    Run it again after a crash or Ctrl-C: it goes on where it stopped. Files that cannot be parsed are quarantined and
    listed by `headrace status`; they do not fail the run.

    Example: headrace ingest ~/docs --store ./index
    """
    flags = {"include": tuple(include or ()), "exclude": tuple(exclude or ()), "gate": gate}
    settings = settings_of(
        store, set_, {k: v for k, v in flags.items() if v} | ({"max_delete_share": 1.0} if allow_deletes else {})
    )
    _ingest(sources, settings, track=track, as_json=as_json)


@app.command()
def query(
    text: Annotated[str, typer.Argument(help="The question.", metavar="QUESTION")],
    store: StoreOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 8,
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each hit's rank and score at every stage, and its matched terms.")
    ] = False,
    why: Annotated[
        str | None, typer.Option("--why", metavar="PATH", help="Say where this document is, or why it is not a hit.")
    ] = None,
    save_run: Annotated[
        Path | None,
        typer.Option(
            "--save-run",
            metavar="FILE.parquet",
            help="Keep every candidate with its rank and score at each stage, as Parquet; `headrace evaluate` has "
            "the same for many questions.",
        ),
    ] = None,
) -> None:
    """Search a store: BM25 and vectors, fused and reranked.

    Example: headrace query "how do we rotate TLS certificates automatically?" --store ./index -k 8
    """
    from tasks.search import rank, result_of
    from tasks.store.reader import Reader

    flags = {"reranker": reranker, "deadline_ms": deadline_ms}
    settings = settings_of(store, set_, {name: value for name, value in flags.items() if value})
    wanted = filter_of(source, path, file_type, after, before, meta)
    if why is not None:
        if save_run is not None:
            raise typer.BadParameter("give --save-run or --why: the one keeps every candidate, the other follows one")
        from tasks.explain import why as explain_document

        found = explain_document(why, text, settings, k=k, wanted=wanted, generation=generation)
        if as_json:
            print_json(asdict(found))
        else:
            print_whereabouts(out, found)
        return
    older = None if generation is None else Reader.open(settings.store, generation)
    ranking = rank(text, settings, k=k, wanted=wanted, reader=older)
    if save_run is not None:
        from tasks.evaluate.candidates import asked_once, write

        write(save_run, asked_once(text, ranking, settings))
    result = result_of(text, ranking, settings, k=k, explain=explain)
    if as_json:
        print_json(asdict(result))
    else:
        print_hits(out, result, explain=explain)


@app.command()
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what a store holds: generation, documents, chunks, size and the files in quarantine."""
    from tasks.status import store_status

    report = store_status(settings_of(store, None, {}).store)
    if as_json:
        print_json(asdict(report))
    else:
        print_status(out, report)


@app.command("settings")
def settings_command() -> None:
    """List every setting with its value here, from headrace.toml, HEADRACE_… variables, or the default."""
    table = Table("setting", "value", "what it is", box=None, pad_edge=False)
    values = settings_of(None, None, {})
    for name, described in Settings.model_fields.items():
        table.add_row(name, escape(str(getattr(values, name))), escape(described.description or ""))
    out.print(table)


@app.command()
def demo(
    store: Annotated[Path, typer.Option("--store", "-s", help="Folder for the demo's store.")] = Path("headrace-demo"),
) -> None:
    """Ingest the sample corpus that comes with Headrace and answer three questions."""
    from tasks.search import search

    settings = settings_of(store, None, {})
    _ingest([str(sample_corpus())], settings, track=False, as_json=False)
    for question in (
        "how do we rotate TLS certificates automatically?",
        "why did our ECS service stop scaling?",
        "which vector store does not need a separate server?",
    ):
        out.print(f"\n[bold]{question}[/bold]")
        print_hits(out, search(question, settings, k=3))
    out.print(f'\nAsk your own: headrace query "…" --store {store}')


ELSEWHERE: dict[str | None, tuple[Callable[..., None], ...]] = {
    None: (query_batch, context, watch, doctor, init),
    SERVERS: (serve_http, mcp, serve, query_worker),
    QUALITY: (evaluate, sweep, train_reranker),
    STORE: (
        upkeep.generations,
        upkeep.rollback,
        upkeep.compact,
        upkeep.warm,
        upkeep.export,
        upkeep.sql,
        upkeep.verify,
        upkeep.rebuild,
        upkeep.migrate,
        upkeep.gc,
    ),
}
app.add_typer(golden.app, name="golden", rich_help_panel=QUALITY)
for panel, commands in ELSEWHERE.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def _version(value: bool) -> None:
    if value:
        out.print(f"headrace {version()}")
        raise typer.Exit


@app.callback()
def options(
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")] = False,
) -> None:
    """Options of every command."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s %(message)s")


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)  # a command that raises typer.Exit gives its code
        if code == EXIT_INTERRUPTED:  # typer catches KeyboardInterrupt itself
            raise KeyboardInterrupt
    except HeadraceError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:  # disk full, no permission: the message names the file
        err.print(
            f"[red]error:[/red] {escape(str(error))}; nothing that was published is lost",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if is_interrupt(error):
            _stopped()
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's
            error.show()
            sys.exit(error.exit_code)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _stopped() -> NoReturn:
    err.print("[yellow]stopped.[/yellow] What was published stays; run the same command again to go on.")
    sys.exit(EXIT_INTERRUPTED)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ingest(sources: list[str], settings: Settings, *, track: bool, as_json: bool) -> None:
    from flows.tracking import api_configured

    with ProgressBars(err) as bars:
        if track or api_configured() or settings.task_runner != "threads":
            bars.say("connecting to Prefect")
            from flows.tracking import tracked_refresh as run
        else:
            from flows.local import local_refresh as run
        bars.say("loading the embedder and scanning")
        summary = run(sources, settings, bars.report)
    if as_json:
        print_json(asdict(summary))
    else:
        print_summary(out, summary)
