"""The command line: `headrace ingest | query | status | settings | demo`."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import signal
import sys
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import pydantic
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.printing import ProgressBars, print_hits, print_status, print_summary
from schemas.errors import HeadraceError
from schemas.settings import Settings

app = typer.Typer(
    help="Keep a corpus of documents searchable: a local index, queried by BM25, vectors and a reranker.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXIT_INTERRUPTED = 130  # 128 + SIGINT

out = Console()
err = Console(stderr=True)

StoreOption = Annotated[
    Path | None, typer.Option("--store", "-s", help=str(Settings.model_fields["store"].description))
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; `headrace settings` lists them. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def ingest(
    sources: Annotated[list[str], typer.Argument(help="Folders, files or quoted globs.", metavar="SOURCE...")],
    store: StoreOption = None,
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
    settings = _settings(store, set_, {"max_delete_share": 1.0} if allow_deletes else {})
    _ingest(sources, settings, track=track, as_json=as_json)


@app.command()
def query(
    text: Annotated[str, typer.Argument(help="The question.", metavar="QUESTION")],
    store: StoreOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 8,
    reranker: Annotated[str | None, typer.Option(help=str(Settings.model_fields["reranker"].description))] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show each hit's rank and score at every stage.")] = False,
) -> None:
    """Search a store: BM25 and vectors, fused and reranked.

    Example: headrace query "how do we rotate TLS certificates automatically?" --store ./index -k 8
    """
    from tasks.search import search

    settings = _settings(store, set_, {"reranker": reranker} if reranker else {})
    result = search(text, settings, k=k)
    if as_json:
        _print_json(asdict(result))
    else:
        print_hits(out, result, explain=explain)


@app.command()
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what a store holds: generation, documents, chunks, size and the files in quarantine."""
    from tasks.status import store_status

    report = store_status(_settings(store, None, {}).store)
    if as_json:
        _print_json(asdict(report))
    else:
        print_status(out, report)


@app.command("settings")
def settings_command() -> None:
    """List every setting with its value here, from headrace.toml, HEADRACE_… variables, or the default."""
    table = Table("setting", "value", "what it is", box=None, pad_edge=False)
    values = _settings(None, None, {})
    for name, described in Settings.model_fields.items():
        table.add_row(name, escape(str(getattr(values, name))), escape(described.description or ""))
    out.print(table)


@app.command()
def demo(
    store: Annotated[Path, typer.Option("--store", "-s", help="Folder for the demo's store.")] = Path("headrace-demo"),
) -> None:
    """Ingest the sample corpus that comes with Headrace and answer three questions."""
    from tasks.search import search

    settings = _settings(store, None, {})
    _ingest([str(_sample_corpus())], settings, track=False, as_json=False)
    for question in (
        "how do we rotate TLS certificates automatically?",
        "why did our ECS service stop scaling?",
        "which vector store does not need a separate server?",
    ):
        out.print(f"\n[bold]{question}[/bold]")
        print_hits(out, search(question, settings, k=3))
    out.print(f'\nAsk your own: headrace query "…" --store {store}')


def _version(value: bool) -> None:
    if value:
        out.print(f"headrace {importlib.metadata.version('headrace')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
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
        if app(standalone_mode=False) == EXIT_INTERRUPTED:  # typer catches KeyboardInterrupt itself
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
    except KeyboardInterrupt:
        err.print("[yellow]stopped.[/yellow] What was published stays; run the same command again to go on.")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's
            error.show()
            sys.exit(error.exit_code)
        raise
    sys.exit(0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ingest(sources: list[str], settings: Settings, *, track: bool, as_json: bool) -> None:
    from flows.tracking import api_configured

    with ProgressBars(err) as bars:
        if track or api_configured():
            bars.say("connecting to Prefect")
            from flows.tracking import tracked_refresh as run
        else:
            from flows.local import local_refresh as run
        bars.say("loading the embedder and scanning")
        summary = run(sources, settings, bars.report)
    if as_json:
        _print_json(asdict(summary))
    else:
        print_summary(out, summary)


def _settings(store: Path | None, assignments: list[str] | None, flags: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {**flags}
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not equals or name not in Settings.model_fields:
            raise typer.BadParameter(
                f"--set {assignment}: expected NAME=VALUE with a NAME that `headrace settings` lists"
            )
        values[name] = value
    if store is not None:
        values["store"] = store
    try:
        settings = Settings(**values)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise typer.BadParameter(f"settings: {problems}") from None
    return settings


def _sample_corpus() -> Path:
    packaged = Path(str(files("flows") / "sample_corpus"))
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "tests" / "corpus"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str, ensure_ascii=False))
