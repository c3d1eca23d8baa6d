"""DuckDB connections: extensions from PyPI packages, nothing from the network, attached segments read only."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import duckdb

from schemas.errors import TerminalError

# DuckDB's default is 256 KB a block and some blocks a table, so that the smallest segment would take 2 MB.
SMALL_BLOCK = 16_384
LARGE_BLOCK = 262_144


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


def connect(
    path: Path | None = None, *, vectors: bool = True, block_size: int = LARGE_BLOCK
) -> duckdb.DuckDBPyConnection:
    """A connection to `path`, or to memory, with fts loaded and, for HNSW (`vectors`), vss, which takes 40 ms."""
    con = duckdb.connect(
        str(path) if path else ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "default_block_size": str(block_size),
        },
    )
    for name in ("fts", "vss") if vectors else ("fts",):
        con.execute(f"LOAD '{quoted(extension_path(name))}'")
    # DuckDB draws it on standard output, where --json prints
    con.execute("SET enable_progress_bar = false")
    # it turns an HNSW top-k into an index scan + semi join + sequential scan
    con.execute("SET disabled_optimizers = 'late_materialization'")
    # rows that a query names are fetched through the index on them, however many they are
    con.execute("SET index_scan_max_count = 1_000_000")
    con.execute("SET index_scan_percentage = 1.0")
    return con


def build_in(path: Path, *, rows: int, memory_mb: int, vectors: bool) -> duckdb.DuckDBPyConnection:
    """A connection that writes a new segment of `rows` chunks to `path`, in bounded memory."""
    small = rows < 2_000 and not vectors  # an HNSW index needs large blocks
    con = connect(path, vectors=vectors, block_size=SMALL_BLOCK if small else LARGE_BLOCK)
    con.execute(f"SET memory_limit = '{memory_mb}MiB'")
    con.execute(f"SET temp_directory = '{quoted(path.with_suffix('.spill'))}'")
    return con


def attach(con: duckdb.DuckDBPyConnection, path: Path, alias: str) -> None:
    """Attach a published segment READ_ONLY: any number of processes may."""
    con.execute(f"ATTACH '{quoted(path)}' AS {alias} (READ_ONLY)")


def scalar(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The one number that `sql` gives."""
    row = con.execute(sql).fetchone()
    assert row is not None  # an aggregate always has a row
    return int(row[0])


def literals(values: Iterable[str]) -> str:
    """The values for an IN list; other than parameters or a subquery, literals are looked up in an index."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def quoted(path: Path) -> str:
    """`path` for use between single quotes."""
    return str(path).replace("'", "''")
