"""DuckDB connections: extensions from PyPI packages, nothing from the network, attached segments read only."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from schemas.errors import TerminalError


def extension_path(name: str) -> Path:
    """Path of the signed extension `name` that the package `duckdb-extension-<name>` carries for this DuckDB."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.is_file():
        raise TerminalError(
            f"DuckDB's {name} extension for version {duckdb.__version__} is not installed; "
            f"run: pip install duckdb=={duckdb.__version__} duckdb-extension-{name}=={duckdb.__version__}"
        )
    return path


def connect(path: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to `path`, or to memory, with fts and vss loaded."""
    con = duckdb.connect(
        str(path) if path else ":memory:",
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
    )
    for name in ("fts", "vss"):
        con.execute(f"LOAD '{_quoted(extension_path(name))}'")
    # it turns an HNSW top-k into an index scan + semi join + sequential scan
    con.execute("SET disabled_optimizers = 'late_materialization'")
    return con


def attach(con: duckdb.DuckDBPyConnection, path: Path, alias: str) -> None:
    """Attach a published segment READ_ONLY: any number of processes may."""
    con.execute(f"ATTACH '{_quoted(path)}' AS {alias} (READ_ONLY)")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
