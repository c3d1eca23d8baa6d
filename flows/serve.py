"""`headrace serve`: the flows as deployments of a Prefect server, run by this one process, without a work pool."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from flows.options import SetOption, StoreOption, err, pair, settings_of
from schemas.errors import TerminalError


def serve(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="What refresh ingests and watch follows: folders, files, quoted globs, URLs.", metavar="SOURCE..."
        ),
    ],
    store: StoreOption = None,
    cron: Annotated[
        str, typer.Option(metavar="CRON", help="When refresh runs: minute, hour, day, month, weekday. Empty for never.")
    ] = "0 2 * * *",
    compact_cron: Annotated[
        str,
        typer.Option(
            metavar="CRON", help="When compact runs; needed with --set compact=apart, a refresh does it by itself."
        ),
    ] = "",
    golden: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Judged queries for evaluate, queries.jsonl and qrels.tsv; and its report."
        ),
    ] = None,
    evaluate_cron: Annotated[
        str, typer.Option(metavar="CRON", help="When evaluate runs, where there is --golden.")
    ] = "0 5 * * *",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of the crons, such as Europe/Vienna.")] = "UTC",
    set_: SetOption = None,
) -> None:
    """Serve the flows refresh, watch, compact, evaluate and query as deployments, until Ctrl-C or SIGTERM.

    They run on schedule, from Prefect's interface, by `prefect deployment run refresh/refresh`, and by
    run_deployment("query/query", …) of other flows; each in a process of its own. Of each but query one run at a time,
    others wait. Runs have the settings of --store and --set, and else those of headrace.toml and the
    environment here. What was due while this command was off runs once it is back.

    It needs a Prefect server: prefect server start, then prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api

    Example: headrace serve ~/docs --store ./index --cron "*/15 * * * *"
    """
    from flows.tracking import api_configured, require_api

    flags = {name for name, _ in (pair("--set", entry) for entry in set_ or ())} | {"store"}
    settings = settings_of(store, set_, {})
    absolute = settings.model_copy(update={"store": settings.store.absolute()})
    if not api_configured():
        raise TerminalError(
            "no Prefect API is configured, and schedules need one; start it with: prefect server start, and name it "
            "with: prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    err.print("[dim]connecting to Prefect …[/dim]")
    url = require_api()
    from prefect.runner import Runner

    from flows.deployments import served

    deployments = [
        one.deployment(timezone)
        for one in served(
            [_absolute(source) for source in sources],
            absolute.model_dump(mode="json", include=flags, exclude={"http_token"}),
            golden_files(golden) if golden else {},
            cron=cron,
            compact_cron=compact_cron,
            evaluate_cron=evaluate_cron if golden else "",
        )
    ]
    # Prefect's own way to end on SIGTERM: it stops its runs all the same, and would print this
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
    runner = Runner(pause_on_shutdown=False)
    for deployment in deployments:
        runner.add_deployment(deployment)
    names = ", ".join(one.full_name for one in deployments)
    err.print(f"{url} has {names}; Ctrl-C stops", highlight=False, markup=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(runner.start())
    err.print("stopped")


def _absolute(source: str) -> str:
    """A source that means the same in every folder: runs have one of their own."""
    from tasks.sources import source_name

    return f"@{Path(source[1:]).absolute()}" if source.startswith("@") else source_name(source)


def golden_files(folder: Path) -> dict[str, str]:
    """The parameters of evaluate that a folder of judged queries gives; its best run and its report stay there too."""
    names = {
        "queries": "queries.jsonl",
        "qrels": "qrels.tsv",
        "baseline": "baseline.json",
        "report": "report.html",
    }
    return {parameter: str(folder.absolute() / name) for parameter, name in names.items()}
