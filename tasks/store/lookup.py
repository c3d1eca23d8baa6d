"""Find the few document rows that a change may concern, without reading every row of the store into Python."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from tasks.store.connection import literals
from tasks.store.reader import Reader

# Up to so many places one pass over the paths tests each; sorting all paths once is faster from there.
FEW = 32

# A row lies at or below the greatest place that sorts no later than it, or at none: a slash behind both sees to that.
BELOW = """
    SELECT live.* FROM (FROM live WHERE path BETWEEN $first AND $last || '\U0010ffff') live
    ASOF JOIN (SELECT unnest($places) || '/' AS place) ON live.path || '/' >= place
    WHERE starts_with(live.path || '/', place)
"""


def documents_near(reader: Reader, places: Collection[str], content_hashes: Collection[str], columns: str) -> pa.Table:
    """Live rows whose path is one of `places` or below one, and those with one of `content_hashes`.

    No place lies below another. Path and content_hash are among the `columns`.
    """
    if not reader.generation.segments:
        return reader.documents()
    parameters: dict[str, object] = {"hashes": list(content_hashes)}
    below = "SELECT * FROM live WHERE false"
    if 0 < len(places) <= FEW:
        tests = (f"path = {literals([place])} OR starts_with(path, {literals([f'{place}/'])})" for place in places)
        below = f"SELECT * FROM live WHERE {' OR '.join(tests)}"
    elif places:
        below = BELOW
        # by the slash too: of /a and /a-b the rows below /a come last
        parameters |= {"places": list(places), "first": min(places), "last": max(f"{place}/" for place in places)}
    return (
        reader.cursor()
        .execute(
            f"WITH live AS ({reader.live_documents(columns)}) "
            f"SELECT * FROM live WHERE content_hash IN (SELECT unnest($hashes)) UNION {below}",
            parameters,
        )
        .to_arrow_table()
    )


def count_documents(reader: Reader, source: str) -> int:
    """Live documents of a source, and those below it that another source brought; quarantined ones too."""
    if not reader.generation.segments:
        return 0
    row = (
        reader.cursor()
        .execute(
            f"SELECT count(DISTINCT uri) FROM ({reader.live_documents('uri, source, path')}) "
            "WHERE source = $source OR starts_with(path, $below)",
            {"source": source, "below": f"{source.rstrip('/')}/"},
        )
        .fetchone()
    )
    assert row is not None  # an aggregate always has a row
    return int(row[0])
