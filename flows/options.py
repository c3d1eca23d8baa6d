"""What the commands share: consoles, options, settings made of them, and the sample corpus."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer
from rich.console import Console

from schemas.records import Filter
from schemas.settings import Settings
from tasks.sources import source_name

out = Console()
err = Console(stderr=True)


def described(setting: str) -> str:
    """A setting's description as a flag's help, without how headrace.toml unsets it."""
    return str(Settings.model_fields[setting].description).removesuffix(" Empty for none.")


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", "-s", help=f"{described('store')} ./{Settings.model_fields['store'].default} where none is named."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting; `headrace settings` lists them. Repeatable."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="GLOB", help="Only files like this, as in .gitignore: '*.md'. Repeatable."),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="GLOB", help="No files like this. Repeatable.")
]
GateOption = Annotated[
    Path | None,
    typer.Option("--gate", metavar="FOLDER", help=f"{described('gate')} For none where one is set: --set gate="),
]
RerankerOption = Annotated[str | None, typer.Option("--reranker", metavar="MODEL", help=described("reranker"))]
DeadlineOption = Annotated[
    int | None,
    typer.Option("--deadline-ms", min=1, metavar="MS", help=described("deadline_ms")),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="SOURCE", help="Only documents of this source, as ingested. Repeatable."),
]
PathOption = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="GLOB", help="Only documents whose path matches, such as 'ecs/*.md'. Repeatable."),
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="EXTENSION", help="Only documents of this type, such as md. Repeatable."),
]
AfterOption = Annotated[
    datetime | None,
    typer.Option(
        "--after", metavar="TIME", help="Only files modified at this time or later: 2026-01-31 or 2026-01-31T12:00:00."
    ),
]
BeforeOption = Annotated[
    datetime | None, typer.Option("--before", metavar="TIME", help="Only files modified before this time.")
]
MetaOption = Annotated[
    list[str] | None,
    typer.Option("--meta", metavar="KEY=VALUE", help="Only documents with this metadata. Repeatable."),
]
GenerationOption = Annotated[
    int | None,
    typer.Option("--generation", metavar="N", help="Search an older generation; `headrace generations` lists them."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def settings_of(store: Path | None, assignments: list[str] | None, flags: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {**flags}
    for assignment in assignments or []:
        name, value = pair("--set", assignment)
        if name not in Settings.model_fields:
            raise typer.BadParameter(f"--set {assignment}: `headrace settings` lists the names")
        values[name] = value
    if store is not None:
        values["store"] = store
    try:
        settings = Settings(**values)
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise typer.BadParameter(f"settings: {problems}") from None
    return settings


def filter_of(
    sources: list[str] | None,
    paths: list[str] | None,
    file_types: list[str] | None,
    after: datetime | None,
    before: datetime | None,
    meta: list[str] | None,
) -> Filter | None:
    """What the options ask for; None where they ask for nothing."""
    wanted = Filter(
        sources=tuple(map(source_name, sources or ())),
        paths=tuple(paths or ()),
        file_types=tuple(file_types or ()),
        modified_after=after,
        modified_before=before,
        metadata=dict(pair("--meta", entry) for entry in meta or ()),
    )
    return None if wanted == Filter() else wanted


def pair(option: str, entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals:
        raise typer.BadParameter(f"{option} {entry}: expected NAME=VALUE")
    return name, value


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str, ensure_ascii=False))


def version() -> str:
    """Of the installed Headrace; a checkout that is not installed has none."""
    try:
        return importlib.metadata.version("headrace")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def sample_corpus() -> Path:
    """The documents that come with Headrace: in the package, or in the checkout."""
    packaged = Path(str(files("flows") / "sample_corpus"))
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "tests" / "corpus"
