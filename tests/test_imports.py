"""The packages depend one way: flows → tasks → schemas; the store knows nothing of Prefect, models or parsing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "schemas": {"flows", "tasks", "prefect", "torch", "duckdb"},
    "tasks": {"flows"},
    "tasks/store": {"prefect", "torch", "unstructured", "onnxruntime", "tasks.models", "tasks.parsing", "tasks.parse"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_only_what_lies_below_it(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = {n for n in imported(path) for f in FORBIDDEN[package] if n == f or n.startswith(f"{f}.")}
        assert not wrong, f"{path} imports {wrong}"


def test_command_line_starts_without_what_only_some_commands_need() -> None:
    code = "import sys, flows.cli; print({'prefect', 'torch', 'tasks.refresh', 'tasks.search'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
