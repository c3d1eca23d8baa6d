"""`headrace init`: a headrace.toml that lists every setting, so that one is found and changed by removing a `#`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.markup import escape

from flows.options import out
from schemas.settings import Settings

HEADER = """\
# Settings of Headrace, read from the folder that a command runs in. Each is shown with its default: remove the # before
# one to change it. Environment variables (HEADRACE_POOL=20) are stronger, and options of the command line strongest.
"""


def init(
    path: Annotated[Path, typer.Argument(help="File to write.", metavar="FILE")] = Path("headrace.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a headrace.toml with every setting, its default and what it is for, all commented out.

    Example: headrace init
    """
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} is there already; --force replaces it")
    path.write_text(template(), encoding="utf-8")
    out.print(f"{escape(str(path))} lists {len(Settings.model_fields)} settings", highlight=False)


def template() -> str:
    """The file's text."""
    parts = [HEADER]
    for name, field in Settings.model_fields.items():
        about = textwrap.wrap(str(field.description), width=118)
        parts.append("\n".join([*(f"# {line}" for line in about), f"# {name} = {_toml(field.get_default())}"]) + "\n")
    return "\n".join(parts)


def _toml(value: Any) -> str:
    if value is None or isinstance(value, SecretStr):
        return '""'
    if isinstance(value, tuple):
        return json.dumps(list(value))
    # JSON writes strings, numbers and booleans as TOML does
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
