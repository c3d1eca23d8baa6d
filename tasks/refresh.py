"""Bring a store up to date with its sources: scan → parse → chunk → embed → merge → publish, and at the end warm.

The one implementation behind `headrace ingest` and the Prefect flow; they differ in `submit`, which runs a stage on a
batch and gives a future. Batches stream: while one is embedded the next ones are parsed and chunked, and no more than a
few are under way at once. A generation is published every `publish_chunks` chunks or `publish_seconds`, and at the end;
before a gate all batches wait staged, and are published once, as the one generation that it can judge. The first ingest
of a store has nothing to be worse than, and no gate.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pyarrow.parquet as pq

from schemas.errors import ModelMismatch, ModelNotFound, StoreBusy, StoreNotWritable, is_interrupt
from schemas.records import BatchRef, FileState, RefreshSummary
from schemas.settings import Settings
from tasks.carry import carry_over
from tasks.chunk import chunk_batch, chunker_fingerprint
from tasks.compact import collect_garbage, compact_store, compaction_under_way, stop_compactions
from tasks.embed import Embedding, embed_batch, open_ledger
from tasks.evaluate.judged import Judged, read_folder
from tasks.known import LiveDocuments
from tasks.merge import merge_batches
from tasks.models import decided, load_encoder
from tasks.parse import parse_batch, parser_fingerprint
from tasks.parsing.pool import close_parsers, open_parsers
from tasks.scan import Plan, SeenFiles, Troubles, scan
from tasks.sources import Source, open_sources
from tasks.store.compaction import due
from tasks.store.generation import Analyzer, Generation, exists, read
from tasks.store.reader import reading
from tasks.store.writer import Gate, clear_staging, writing

logger = logging.getLogger(__name__)

# Batches of one stage that wait, beside those at work: no stage idles, and memory stays flat.
WAITING = 1


# What the summary takes over from the plan.
PLANNED = ("files", "unchanged", "still_quarantined", "added", "changed", "renamed", "copied", "deleted")


class Future(Protocol):
    """What `submit` gives: concurrent.futures' and Prefect's futures both do."""

    def result(self) -> Any: ...


Submit = Callable[..., Future]  # submit(stage, *arguments)
# stage, done, total; documents for scan and parse, chunks for embed, queries for gate, passages for warm
Report = Callable[[str, int, int], None]


def refresh(sources: Sequence[str], settings: Settings, submit: Submit, report: Report) -> RefreshSummary:
    """Refresh `settings.store` from `sources`.

    Raises BadSource, SourceUnreachable, DeleteGuard, BadJudgements, Regression, StoreBusy, StoreFormat,
    ModelNotFound, ModelMismatch. Whatever it raises, what was published stays, and staged batches and embeddings are
    taken up by the next run.
    """
    started = time.perf_counter()
    opened = open_sources(sources, settings)  # a misspelt source fails before a store is made for it
    ahead = settings.warm == "after-publish"
    before = read(settings.store).segments if ahead and exists(settings.store) else ()
    with Refresher(settings, submit, report) as refresher:
        summary = refresher.refresh(opened)
        refresher.tidy(summary)
    if summary.published and ahead:
        _warm(settings, frozenset(segment.name for segment in before), summary, report)
    summary.elapsed = time.perf_counter() - started
    logger.info("refreshed store=%s generation=%d", settings.store, summary.generation)
    return summary


class Refresher:
    """Refreshes a store, again and again where wanted: encoder, parsers and ledger are kept open until its end.

    with Refresher(settings, submit, report) as refresher:
        summary = refresher.refresh(sources)
    """

    def __init__(self, settings: Settings, submit: Submit, report: Report) -> None:
        """Raises BadJudgements, ModelNotFound, ModelMismatch."""
        self._judged = None if settings.gate is None else read_folder(settings.gate)
        settings = decided(settings, read(settings.store).embedder if exists(settings.store) else None)
        self._settings, self._submit, self._report = settings, submit, report
        encoder = load_encoder(settings)
        analyzer = Analyzer(settings.tokenizer, settings.stemmer, settings.stopwords)
        self._empty = Generation(0, encoder.fingerprint, encoder.dim, analyzer)
        self._swept = False
        self._compactions: list[Future] = []  # beside the stages

    def __enter__(self) -> Refresher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # Ctrl-C too: what is under way ends at its next step
            stop_compactions()
        close_parsers()
        open_ledger.cache_clear()

    def refresh(self, sources: Sequence[Source], troubles: Troubles | None = None) -> RefreshSummary:
        """Bring the store up to date with `sources`, whole ones or what changed of them.

        Where `troubles` are given, a source that is missing, cannot be listed or lost too many documents is noted
        there and left as it is, and the others go on. Raises as the function of this name.
        """
        started = time.perf_counter()
        settings = self._settings
        with writing(settings.store, self._empty, sweeping=not self._swept) as base:
            self._swept = True
            if base.analyzer != self._empty.analyzer:
                wanted = self._empty.analyzer
                logger.warning("store indexed by %s, settings ask for %s: run headrace rebuild", base.analyzer, wanted)
            # before the stages: two that opened it at once would have two
            ledger = open_ledger(settings.store, base.embedder)
            whole = any(source.places is None for source in sources)
            seen = SeenFiles(settings.store, remembered=whole)
            plan = _plan(sources, settings, base, seen, troubles)
            self._report("scan", plan.files, plan.files)
            judged = None if plan.empty or not base.documents else self._judged
            gate = None if judged is None else _gate(judged, settings, self._report)
            run = _Run(settings, self._submit, self._report, plan, base, gate)
            run.summary.seconds["scan"] = time.perf_counter() - started
            try:
                if not plan.empty:
                    run.publish_all()
                if whole:  # a part has not remembered the rest
                    seen.save()
                clear_staging(settings.store)
                ledger.close()
            except BaseException:  # Ctrl-C too: the stages under way end at their next step
                run.embedding.stop()
                close_parsers()
                open_ledger.cache_clear()
                raise
            finally:
                self._compactions += run.compactions
        run.summary.elapsed = time.perf_counter() - started
        return run.summary

    def warm_up(self) -> None:
        """Load what a refresh needs, so that the first one is as fast as the others."""
        load_encoder(self._settings).encode(["warm"])
        with TemporaryDirectory(prefix="headrace-warm-") as folder:
            page = Path(folder, "page.md")
            page.write_text("# Warm\n\nup\n", encoding="utf-8")
            open_parsers(self._settings).parse_many([page])

    def tidy(self, summary: RefreshSummary) -> None:
        """Wait for the compactions under way, and remove what expired, where the refresh published anything."""
        for compaction in self._compactions:
            try:
                summary.generation = max(summary.generation, compaction.result().number)
            except StoreBusy:
                logger.info("another process compacts store=%s", self._settings.store)
        self._compactions.clear()
        if summary.published:
            collect_garbage(self._settings)


def _warm(settings: Settings, before: frozenset[str], summary: RefreshSummary, report: Report) -> None:
    """Have the reranker read what was published, and what a compaction moved. No ingest fails for its model."""
    from tasks.warm import warm  # brings ONNX Runtime

    started = time.perf_counter()
    try:
        warmed = warm(settings, partial(report, "warm"), but=before)
    except (ModelNotFound, ModelMismatch, StoreNotWritable) as error:
        logger.warning("no passage is read ahead: %s", error)
    else:
        if warmed is not None:
            summary.seconds["warm"] = time.perf_counter() - started


def _gate(judged: Judged, settings: Settings, report: Report) -> Gate:
    from tasks.evaluate.gate import open_gate  # scipy takes a second to import

    return open_gate(judged, settings, settings, report)


def _plan(
    sources: Sequence[Source], settings: Settings, base: Generation, seen: SeenFiles, troubles: Troubles | None
) -> Plan:
    parser = parser_fingerprint(settings)
    with reading(settings.store, base) as reader:
        return scan(
            sources,
            LiveDocuments(reader),
            seen,
            parser=parser,
            fingerprint=f"{parser}+{chunker_fingerprint(settings)}",
            max_delete_share=settings.max_delete_share,
            max_bytes=settings.max_file_mb * 1024**2,
            troubles=troubles,
        )


class _Run:
    """One refresh after its scan: batches stream through the stages, groups of them become generations."""

    def __init__(
        self, settings: Settings, submit: Submit, report: Report, plan: Plan, base: Generation, gate: Gate | None
    ) -> None:
        self.settings, self.submit, self.report, self.plan, self.gate = settings, submit, report, plan, gate
        self.generation = base
        self.parsed = 0  # documents, those that an earlier run staged included
        self.obsolete = plan.obsolete  # buried by the first publish
        self.compactions: list[Future] = []  # beside the other stages
        self.folder = settings.store / "staging" / f"{time.time_ns()}-{os.getpid()}"
        self.embedding = Embedding(open_ledger(settings.store, base.embedder), self.folder, base.embedder)
        counts = {name: getattr(plan, name) for name in PLANNED}
        self.summary = RefreshSummary(store=str(settings.store), generation=base.number, **counts)

    def publish_all(self) -> None:
        """Embed everything and publish it, a generation every `publish_chunks` chunks or `publish_seconds`.

        With a gate it is one generation, at the end.
        """
        group: list[BatchRef] = []
        published = time.monotonic()
        try:
            for batch in self._embedded():
                group.append(batch)
                self._count(batch)
                overdue = time.monotonic() - published >= self.settings.publish_seconds
                enough = overdue or sum(b.chunks for b in group) >= self.settings.publish_chunks
                if enough and self.gate is None:
                    whole, group = group, []  # a publish that is interrupted ends by itself
                    self._publish(whole)
                    published = time.monotonic()
        except (KeyboardInterrupt, RuntimeError) as error:
            if is_interrupt(error) and group and self.gate is None:  # here and now: the stages' workers may be busy
                merge_batches(group, self.generation, self.plan.replaced, self.obsolete, self.settings)
            raise
        if group or self.obsolete:
            self._publish(group)

    def _embedded(self) -> Iterator[BatchRef]:
        """Embedded batches: carried over, left by a run that was killed, and newly parsed."""
        settings, folder = self.settings, self.folder
        folder.mkdir(parents=True)
        self.embedding.take_up()
        adopted, files = _adopt(folder, self.plan.to_parse, settings)
        batches = enumerate(_batches(files, settings))
        parsed = self._pipelined(parse_batch, ((batch, folder, f"{n:06d}", settings) for n, batch in batches))
        chunked = self._pipelined(chunk_batch, ((batch, settings) for batch in parsed))
        ready = itertools.chain(self._carried(folder), self._reported(adopted), self._reported(chunked))
        noted = ((self.embedding.note(batch), settings) for batch in ready)
        yield from map(self.embedding.keep, self._pipelined(embed_batch, noted))

    def _pipelined(self, stage: Callable[..., BatchRef], arguments: Iterable[tuple[Any, ...]]) -> Iterator[BatchRef]:
        """Run `stage` over `arguments`, a few at once; results in order."""
        workers = 1 if self.settings.task_runner == "threads" else self.settings.task_workers
        under_way: deque[Future] = deque()
        for args in arguments:
            under_way.append(self.submit(stage, *args))
            if len(under_way) >= workers + WAITING:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _carried(self, folder: Path) -> Iterator[BatchRef]:
        if self.plan.carried:
            with reading(self.settings.store, self.generation) as reader:
                batch = carry_over(self.plan.carried, reader, folder)
            self.summary.chunks += batch.chunks
            yield batch

    def _reported(self, batches: Iterable[BatchRef]) -> Iterator[BatchRef]:
        for batch in batches:
            self.parsed += batch.documents
            self.summary.chunks += batch.chunks
            self.report("parse", self.parsed, len(self.plan.to_parse))
            yield batch

    def _count(self, batch: BatchRef) -> None:
        summary = self.summary
        summary.embedded += batch.embedded
        summary.reused += batch.reused
        summary.quarantined += batch.quarantined
        for stage, seconds in batch.seconds.items():
            summary.seconds[stage] = summary.seconds.get(stage, 0.0) + seconds
        self.report("embed", summary.embedded + summary.reused, summary.chunks)

    def _publish(self, group: Sequence[BatchRef]) -> None:
        started = time.perf_counter()
        arguments = (group, self.generation, self.plan.replaced, self.obsolete, self.settings)
        if self.gate is None:
            self.generation = self.submit(merge_batches, *arguments).result()
        else:  # in this thread, which Ctrl-C reaches: asking the queries may take minutes
            self.generation = merge_batches(*arguments, gate=self._passed)
        self.obsolete = []
        seconds = self.summary.seconds
        seconds["merge"] = seconds.get("merge", 0.0) + time.perf_counter() - started - seconds.get("gate", 0.0)
        self.summary.published += self.generation.number != self.summary.generation
        self.summary.generation = self.generation.number
        self.report("publish", self.summary.published, self.summary.published)
        settings = self.settings
        wanted = settings.compact == "after-publish" and due(self.generation, memory_mb=settings.memory_mb)
        if wanted and not compaction_under_way(settings.store):  # else the next publish looks again
            self.compactions.append(self.submit(compact_store, settings))

    def _passed(self, base: Generation, candidate: Generation) -> str:
        """The gate's verdict, and its time apart from the merge's."""
        assert self.gate is not None
        started = time.perf_counter()
        self.summary.gate = self.gate(base, candidate)
        self.summary.seconds["gate"] = time.perf_counter() - started
        return self.summary.gate


def _batches(files: Sequence[FileState], settings: Settings) -> Iterator[list[FileState]]:
    batch: list[FileState] = []
    for state in files:
        full = len(batch) >= settings.batch_documents or sum(s.size for s in batch) + state.size > settings.batch_bytes
        if batch and full:
            yield batch
            batch = []
        batch.append(state)
    if batch:
        yield batch


def _adopt(folder: Path, files: Sequence[FileState], settings: Settings) -> tuple[list[BatchRef], list[FileState]]:
    """Batches that a run staged and that are still wanted whole, and the files that they leave to parse.

    The others are removed: a gate may refuse run after run, and only one that ends well clears all of its staging.
    `folder` is this run's own.
    """
    staging = folder.parent
    wanted = {(state.uri, state.content_hash): state for state in files}
    parser = parser_fingerprint(settings)
    current = {parser, f"{parser}+{chunker_fingerprint(settings)}"}
    adopted = []
    for path in sorted(staging.glob("*/*.staged.parquet")):
        rows = pq.read_table(
            path, columns=["uri", "content_hash", "fingerprint", "chunk_count", "error_kind"]
        ).to_pylist()
        keys = [(row["uri"], row["content_hash"]) for row in rows]
        if all(key in wanted for key in keys) and all(row["fingerprint"] in current for row in rows):
            for key in keys:
                del wanted[key]
            batch = BatchRef(path.parent, path.name.removesuffix(".staged.parquet"), documents=len(rows))
            quarantined = sum(row["error_kind"] is not None for row in rows)
            adopted.append(replace(batch, chunks=sum(row["chunk_count"] for row in rows), quarantined=quarantined))
    kept = {batch.part(kind) for batch in adopted for kind in ("staged", "chunks")}
    for path in set(staging.glob("*/*")) - kept:
        path.unlink()
    for other in staging.iterdir():
        if other != folder and not any(other.iterdir()):
            other.rmdir()
    return adopted, list(wanted.values())
