"""`headrace golden`: build a judged set from one's own corpus, question by question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from flows.options import SetOption, StoreOption, out, settings_of
from schemas.records import Hit
from schemas.settings import Settings

if TYPE_CHECKING:  # it brings in the models
    from tasks.evaluate.golden import Golden, Unit

app = typer.Typer(help="Build a set of judged questions for `headrace evaluate`.", no_args_is_help=True)

FolderOption = Annotated[
    Path,
    typer.Option("--into", metavar="FOLDER", help="Folder of queries.jsonl and qrels.tsv, made where there is none."),
]
ByOption = Annotated[
    Literal["document", "section", "chunk"],
    typer.Option(help="What is judged. Judgements of chunks hold until their document changes."),
]
GAINS = {"0": 0, "1": 1, "2": 2}
HELP = "2 answers it · 1 helps · 0 does not · s skip · q stop"


@app.command()
def add(
    question: Annotated[str, typer.Argument(help="What a user would ask.", metavar="QUESTION")],
    into: FolderOption = Path("golden"),
    by: ByOption = "document",
    store: StoreOption = None,
    set_: SetOption = None,
) -> None:
    """Ask a question and judge what every stage finds; each judgement is kept at once.

    Example: headrace golden add "how do I rotate a certificate?" --into golden --store ./index
    """
    from tasks.evaluate.golden import Golden

    golden = Golden.read(into)
    query = golden.query_id(question)
    _judge(golden, query, into, by, settings_of(store, set_, {}))


@app.command()
def review(
    into: FolderOption = Path("golden"), by: ByOption = "document", store: StoreOption = None, set_: SetOption = None
) -> None:
    """Go through what the stages find now and nobody has judged: after a change of the corpus or the settings."""
    from tasks.evaluate.golden import Golden

    golden, settings = Golden.read(into), settings_of(store, set_, {})
    for query in golden.queries:
        if not _judge(golden, query, into, by, settings):
            break


def _judge(golden: Golden, query: str, into: Path, by: Unit, settings: Settings) -> bool:
    """Show and judge; False where the judge stopped."""
    from tasks.evaluate.golden import to_judge

    gains = golden.gains.setdefault(query, {})
    hits = to_judge(golden.queries[query], settings, by, set(gains))
    out.print(f"[bold]{escape(golden.queries[query])}[/bold]  {len(hits)} to judge; {HELP}", highlight=False)
    for name, hit in hits.items():
        _show(hit)
        answer = typer.prompt("gain", type=str, default="s", show_default=False)
        while answer not in {*GAINS, "s", "q"}:
            answer = typer.prompt(HELP, type=str, default="s", show_default=False)
        if answer == "q":
            return False
        if answer in GAINS:
            gains[name] = GAINS[answer]
            golden.write(into)
    golden.write(into)
    found = sum(gain > 0 for gain in gains.values())
    out.print(f"{query}: {len(gains)} judged, {found} relevant, in {into}", highlight=False)
    return True


def _show(hit: Hit) -> None:
    out.print(f"\n[cyan]{escape(hit.path)}[/cyan]", highlight=False, soft_wrap=True)
    out.print(f"{escape(hit.headings)}\n{escape(hit.text[:600])}", highlight=False)
