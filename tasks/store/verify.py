"""Look for damage: every file against its digest, then every live chunk in each place that should hold it.

In: a store. Out: what is wrong, file by file, and what repairs it. Reads everything; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from schemas.errors import CorruptStore
from tasks.store import generation as generations
from tasks.store.connection import scalar
from tasks.store.files import sha256
from tasks.store.generation import Generation, Segment
from tasks.store.ledger import damaged_parts
from tasks.store.reader import Reader

REBUILD = "headrace rebuild"

Report = Callable[[int, int], None]  # files done, of how many


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was published."""

    where: str  # path below the store
    what: str
    repair: str


def verify(store: Path, report: Report = lambda done, total: None) -> list[Damage]:
    """All damage of a store, its kept older generations included. Raises StoreNotFound, StoreFormat."""
    found: list[Damage] = []
    kept: list[Generation] = []
    current = generations.current_number(store)
    for number in {*generations.numbers(store), current}:
        try:
            kept.append(generations.read(store, number))
        except CorruptStore as error:
            path = generations.manifest_path(store, number)
            found.append(Damage(str(path.relative_to(store)), str(error), "headrace rollback N to a kept generation"))
    segments = {segment.name: segment for generation in kept for segment in generation.segments}
    live = {s.name for g in kept if g.number == current for s in g.segments}
    parts = sorted((store / "embeddings").glob("*/*.parquet"))
    total, done = sum(len(segment.digests) for segment in segments.values()) + len(parts), 0
    broken = set()
    for segment in segments.values():
        for damage in damaged_files(store, segment):
            broken.add(segment.name)
            found.append(
                damage if segment.name in live else replace(damage, repair="headrace gc, when it is not needed")
            )
        done += len(segment.digests)
        report(done, total)
    for folder in sorted({part.parent for part in parts}):
        found += [
            Damage(str(part.relative_to(store)), "its content is not what its name says", REBUILD)
            for part in damaged_parts(folder)
        ]
    report(total, total)
    newest = [g for g in kept if g.number == current]
    if newest and not broken & live and not any(damage.where.startswith("embeddings") for damage in found):
        found += _inconsistencies(store, newest[0])
    return found


def damaged_files(store: Path, segment: Segment) -> Iterator[Damage]:
    """Files of a segment that are missing or differ from their digest."""
    for suffix, digest in segment.digests.items():
        path = segment.path(store, suffix)
        if not path.is_file():
            yield Damage(str(path.relative_to(store)), "it is missing", REBUILD)
        elif sha256(path) != digest:
            yield Damage(str(path.relative_to(store)), "its content is not what was published", REBUILD)


def _inconsistencies(store: Path, generation: Generation) -> Iterator[Damage]:
    """What whole files say differently of the live rows."""
    ledger = sorted((store / "embeddings" / generation.embedder).glob("*.parquet"))
    with Reader(store, generation) as reader:
        for i, segment in enumerate(generation.segments):
            for what, wrong in _checks(reader, i, [str(part) for part in ledger]):
                if wrong:
                    yield Damage(f"segments/{segment.name}.duckdb", f"{wrong} {what}", REBUILD)
            for table in ("documents", "chunks"):
                rows = pq.read_metadata(segment.path(store, f"{table}.parquet")).num_rows
                if rows != getattr(segment, table):
                    yield Damage(f"segments/{segment.name}.{table}.parquet", f"it has {rows} rows", REBUILD)


def _checks(reader: Reader, i: int, ledger: list[str]) -> Iterator[tuple[str, int]]:
    con, alias, segment = reader.cursor(), reader.alias(i), reader.generation.segments[i]
    alive = f"doc_id NOT IN (SELECT doc_id FROM {reader.dead_documents} WHERE segment = {i})"
    yield "chunk rows more or less than the manifest counts", _off(con, f"{alias}.chunks", segment.chunks)
    yield "document rows more or less than the manifest counts", _off(con, f"{alias}.documents", segment.documents)
    yield (
        "live chunks more or less than the manifest counts",
        abs(
            scalar(con, f"SELECT coalesce(sum(chunk_count), 0) FROM {alias}.documents WHERE {alive}")
            - segment.live_chunks
        ),
    )
    yield (
        "chunks lie outside their document's rows",
        scalar(
            con,
            f"SELECT count(*) FROM {alias}.chunks c LEFT JOIN {alias}.documents d ON d.doc_id = c.doc_id "
            f"AND c.docid = d.first_chunk + c.ordinal WHERE d.doc_id IS NULL",
        ),
    )
    yield "chunks have no vector", scalar(con, f"SELECT count(*) FROM {alias}.chunks WHERE embedding IS NULL")
    yield (
        "terms have another document frequency than postings",
        scalar(
            con,
            f"SELECT count(*) FROM {alias}.terms t FULL JOIN (SELECT termid, count(*) AS n FROM {alias}.postings "
            "GROUP BY termid) p USING (termid) WHERE t.df IS DISTINCT FROM p.n",
        ),
    )
    yield (
        "postings belong to no chunk",
        scalar(con, f"SELECT count(*) FROM {alias}.postings WHERE docid NOT BETWEEN 0 AND {segment.chunks - 1}"),
    )
    lengths = f"SELECT docid, any_value(len) AS len FROM {alias}.postings GROUP BY docid"
    yield (
        "terms more or less in the postings than the documents count",
        abs(
            scalar(con, f"SELECT coalesce(sum(len), 0) FROM ({lengths})")
            - scalar(con, f"SELECT coalesce(sum(length), 0) FROM {alias}.documents")
        ),
    )
    missing = f"SELECT count(DISTINCT chunk_hash) FROM {alias}.chunks WHERE {alive}"
    if ledger:
        missing += f" AND chunk_hash NOT IN (SELECT chunk_hash FROM read_parquet({ledger}))"
    yield "texts of live chunks are not in the ledger", scalar(con, missing)


def _off(con: duckdb.DuckDBPyConnection, table: str, expected: int) -> int:
    return abs(scalar(con, f"SELECT count(*) FROM {table}") - expected)
