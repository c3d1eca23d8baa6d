"""The command `headrace watch`: a store that follows its sources, one line a publish."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from flows.options import (
    ExcludeOption,
    GateOption,
    IncludeOption,
    SetOption,
    StoreOption,
    described,
    err,
    out,
    settings_of,
)


def watch(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, files, quoted globs; URLs are looked at from time to time.", metavar="SOURCE..."),
    ],
    store: StoreOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    debounce: Annotated[
        float | None, typer.Option("--debounce", metavar="SECONDS", help=described("debounce_s"))
    ] = None,
    poll: Annotated[float | None, typer.Option("--poll", metavar="SECONDS", help=described("poll_s"))] = None,
    gate: GateOption = None,
    set_: SetOption = None,
) -> None:
    """Keep a store up to date while its sources change, and print a line a publish.

    It begins with what happened while it was off, and ends with Ctrl-C or SIGTERM; what was not published then, the
    next start finds. A source that is not there, such as a disk that is not mounted, keeps its documents and is waited
    for.

    Example: headrace watch ~/docs --store ./index
    """
    from flows.local import stage_threads
    from flows.summary import watch_line
    from schemas.records import Published
    from tasks.watch.loop import Watch

    flags = {
        "include": tuple(include or ()),
        "exclude": tuple(exclude or ()),
        "gate": gate,
        "debounce_s": debounce,
        "poll_s": poll,
    }
    settings = settings_of(store, set_, {name: value for name, value in flags.items() if value not in (None, ())})

    def published(done: Published) -> None:
        out.print(f"{_time()} {escape(watch_line(done))}", highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        err.print(f"[dim]{_time()} {escape(text)}[/dim]", highlight=False, soft_wrap=True)

    with stage_threads() as submit:
        Watch(sources, settings, submit, published, say).run()


def _time() -> str:
    return datetime.now().strftime("%H:%M:%S")
