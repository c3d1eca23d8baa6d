"""Metadata filters: which live chunks belong to documents that a query asks for.

In: a Filter. Out: the matching chunks' places, read from the documents tables alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas.errors import BadFilter
from schemas.records import Filter
from tasks.store.reader import ChunkRef, Reader


@dataclass(frozen=True)
class Matching:
    """The chunks that a query may answer with; all are live."""

    rows: pa.Table  # segment int32, row int64
    counts: dict[int, int]  # rows a segment

    @classmethod
    def of_chunks(cls, refs: Sequence[ChunkRef]) -> Matching:
        """Just `refs`."""
        rows = pa.table({"segment": [r.segment for r in refs], "row": [r.row for r in refs]}, schema=_ROWS)
        counts: dict[int, int] = {}
        for ref in refs:
            counts[ref.segment] = counts.get(ref.segment, 0) + 1
        return cls(rows, counts)

    def count(self, segment: int) -> int:
        """How many of a segment's chunks match."""
        return self.counts.get(segment, 0)


_ROWS = pa.schema([("segment", pa.int32()), ("row", pa.int64())])


def matching_chunks(reader: Reader, wanted: Filter) -> Matching:
    """The live chunks of the documents that `wanted` describes. Raises BadFilter."""
    condition, parameters = _condition(wanted)
    parts = [
        f"SELECT {i}::INTEGER AS segment, unnest(range(first_chunk, first_chunk + chunk_count)) AS row "
        f"FROM {reader.alias(i)}.documents WHERE chunk_count > 0 AND {condition} "
        f"AND doc_id NOT IN (SELECT doc_id FROM {reader.dead_documents} WHERE segment = {i})"
        for i, segment in enumerate(reader.generation.segments)
        if segment.live_chunks
    ]
    if not parts:
        return Matching.of_chunks([])
    rows = reader.cursor().execute(" UNION ALL ".join(parts), parameters).to_arrow_table()
    counts = rows.group_by("segment").aggregate([([], "count_all")]).to_pylist()
    return Matching(rows, {count["segment"]: count["count_all"] for count in counts})


def _condition(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """SQL over `documents` and its parameters."""
    conditions, parameters = ["true"], dict[str, Any]()
    after, before = wanted.modified_after, wanted.modified_before
    if wanted.sources:
        conditions.append("list_contains($sources, source)")
        parameters["sources"] = list(wanted.sources)
    if wanted.paths:
        matches = (f"regexp_full_match(path, $path{n}, 's')" for n in range(len(wanted.paths)))
        conditions.append(f"({' OR '.join(matches)})")
        parameters |= {f"path{n}": _pattern(glob) for n, glob in enumerate(wanted.paths)}
    if wanted.file_types:
        conditions.append("list_contains($file_types, file_type)")
        parameters["file_types"] = [name.lower().removeprefix(".") for name in wanted.file_types]
    for name, operator, moment in (("after", ">=", after), ("before", "<", before)):
        if moment is not None:
            conditions.append(f"mtime_ns {operator} ${name}")
            parameters[name] = _nanoseconds(moment)
    if after is not None and before is not None and parameters["after"] >= parameters["before"]:
        raise BadFilter(f"no file was modified at {after} or later and before {before}; exchange the two")
    for n, (key, value) in enumerate(sorted(wanted.metadata.items())):
        conditions.append(f"json_extract_string(metadata, $key{n}) = $value{n}")
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")  # JSON Pointer, RFC 6901
        parameters |= {f"key{n}": pointer, f"value{n}": value}
    return " AND ".join(conditions), parameters


# Any run of characters, any character, one of some (!: none of them), a character taken literally, any other.
_GLOB = re.compile(r"(\*+)|(\?)|\[(!?)(\][^\]]*|[^\]]+)\]|\\(.)|(.)", re.DOTALL)

# In a set of characters.
_SPECIAL, _ESCAPED = re.compile(r"[\\^\[\]]"), r"\\\g<0>"


def _pattern(glob: str) -> str:
    """A glob as a regular expression, a relative one for below any folder.

    RE2 takes time linear in the path; DuckDB's own GLOB, with four `*` over a long path, takes minutes.
    """
    anchored = glob if glob.startswith(("/", "*")) else f"*/{glob}"
    pattern = _GLOB.sub(_translated, anchored)
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadFilter(f"path {glob}: {error.msg}") from None
    return pattern


def _translated(part: re.Match[str]) -> str:
    run, single, negated, members, literal, other = part.groups()
    if run or single:
        return ".*" if run else "."
    if members:
        return f"[{'^' if negated else ''}{_SPECIAL.sub(_ESCAPED, members)}]"
    return re.escape(literal or other)


def _nanoseconds(moment: datetime) -> int:
    try:
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    except (ValueError, OverflowError) as error:  # of the first and last years, in local time
        raise BadFilter(f"{moment} cannot be compared with the times of files: {error}") from error
