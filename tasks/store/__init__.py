"""The index: immutable DuckDB segments, JSON manifests, a Parquet ledger of vectors.

Takes Arrow and paths, returns Arrow; knows nothing of Prefect, models or parsing.
"""

from tasks.store.sql import connect

__all__ = ["connect"]
