"""What the servers share, over HTTP and MCP: a bounded number of queries at once, models that are loaded beforehand.

A query runs in a thread: the models and DuckDB leave Python's lock while they work. So many at once are let run
(setting queries_at_once); a further one waits for its turn, for query_wait_s at most, and each has query_timeout_s.
Nothing stops a thread, so one that is given up keeps its turn until it is done: a slow query cannot be followed by more
of its kind than there are turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import typer

from flows.options import filter_of
from schemas.errors import BadFilter, Overloaded, QueryTimeout, StoreNotFound
from schemas.records import Filter
from schemas.settings import Settings

T = TypeVar("T")

# What one request may ask for.
MOST_BYTES = 65_536  # of its body
MOST_CHARACTERS = 4_000  # of a question; the embedder reads some 1,000 of them
MOST_HITS = 100
MOST_POOL = 500
MOST_TOKENS = 100_000  # of a context
MOST_VALUES = 20  # of one kind of filter, each of MOST_LENGTH characters
MOST_LENGTH = 1_000


class Turns:
    """Lets a bounded number of queries run at once, in threads; of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.queries_at_once, thread_name_prefix="query")
        self._free = asyncio.Semaphore(settings.queries_at_once)
        self.running = 0
        self.waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives. Raises Overloaded, QueryTimeout, and whatever `work` raises."""
        settings = self._settings
        self.waiting += 1
        try:
            async with asyncio.timeout(settings.query_wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{settings.queries_at_once} queries are running and none ended in {settings.query_wait_s:g} s; try "
                "again soon (settings queries_at_once and query_wait_s)"
            ) from None
        finally:
            self.waiting -= 1
        self.running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        done, _ = await asyncio.wait([future], timeout=settings.query_timeout_s)
        if not done:
            raise QueryTimeout(
                f"the query took more than {settings.query_timeout_s:g} s and was given up; ask for fewer hits or a "
                "smaller pool, set a deadline, or try again when the server is less busy (setting query_timeout_s)"
            )
        return future.result()

    def _done(self, future: asyncio.Future[T]) -> None:
        self.running -= 1
        self._free.release()
        if not future.cancelled():
            future.exception()  # it has been told, or nobody waits for it any more


def warm(settings: Settings) -> None:
    """Load the models, and open the store where there is one yet, so that the first query is as fast as the next.

    Raises what tasks.search.search does, but StoreNotFound.
    """
    from tasks.highlight import highlights
    from tasks.models import load_encoder, load_tokenizer
    from tasks.rerank import load_cascade
    from tasks.search import rank

    try:
        ranking = rank("warm up", settings)
        highlights(ranking.reader, "warm up", ["warm up"])
    except StoreNotFound:
        load_encoder(settings)
    load_cascade(settings.model_copy(update={"deadline_ms": 1000}))  # and measure what a deadline leaves it
    load_tokenizer(settings)  # counts what a context takes


def asked_filter(
    *,
    source: Sequence[str] = (),
    path: Sequence[str] = (),
    file_type: Sequence[str] = (),
    after: datetime | None = None,
    before: datetime | None = None,
    meta: Sequence[str] = (),
) -> Filter | None:
    """What a request asks for; None where it asks for nothing. Raises BadFilter."""
    try:
        return filter_of(list(source), list(path), list(file_type), after, before, list(meta))
    except typer.BadParameter as error:
        raise BadFilter(error.message.replace("--meta", "meta")) from None
    except RuntimeError as error:  # ~nobody
        raise BadFilter(f"source {', '.join(source)}: {error}") from None
