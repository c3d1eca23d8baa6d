"""What HTTP adds to a query, and how many queries a server answers: `python -m tests.benchmarks.http_server --store S`.

One run, one machine. First one client: the plain function in this process and the warm server in another, by turns, so
that a busy moment falls on all of them. Then several clients at once, against servers that run one, two or four queries
at the same time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from flows.serving import warm
from schemas.settings import Settings
from tasks.search import search

QUESTIONS = (
    "how do we rotate TLS certificates automatically?",
    "why did our ECS service stop scaling?",
    "rds.force_ssl",
    "what raises the latency of a query?",
    "how is a domain transferred to another registrar?",
)
K = 8


@contextmanager
def served(store: Path, *, at_once: int) -> Iterator[str]:
    """The URL of a warm server in a process of its own."""
    command = [sys.executable, "-m", "flows", "serve-http", "--store", str(store), "--port", "0"]
    command += ["--set", f"queries_at_once={at_once}", "--set", "query_wait_s=60"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        yield next(found[1] for line in server.stderr if (found := re.match(r"(http://\S+) serves ", line)))
    finally:
        server.terminate()
        server.wait()


def milliseconds(ask: Callable[[str], object], question: str) -> float:
    """What one question takes."""
    started = time.perf_counter()
    ask(question)
    return (time.perf_counter() - started) * 1000


def percentile(times: Sequence[float], share: float) -> float:
    """The time that `share` of them do not pass."""
    return sorted(times)[min(int(share * len(times)), len(times) - 1)]


def ask_over(client: httpx.Client, **options: object) -> Callable[[str], object]:
    """A function that asks a server and reads the whole answer."""

    def ask(question: str) -> object:
        return client.get("/query", params={"query": question, "k": K, **options}).raise_for_status().json()  # type: ignore[arg-type]

    return ask


def ask_anew(url: str) -> Callable[[str], object]:
    """The same, by a connection of its own each time, as curl does."""

    def ask(question: str) -> object:
        with httpx.Client(base_url=url, verify=False) as client:  # without TLS, nothing to verify; loading that is slow
            return ask_over(client)(question)

    return ask


def one_client(store: Path, rounds: int) -> Table:
    """Time of a query by each way."""
    settings = Settings(store=store, reranker="fusion")
    warm(settings)
    with served(store, at_once=1) as url, httpx.Client(base_url=url) as client:
        ways: dict[str, Callable[[str], object]] = {
            "plain function": lambda question: search(question, settings, k=K),
            "GET /query, connection kept": ask_over(client),
            "GET /query, a connection each": ask_anew(url),
            "GET /query, words marked": ask_over(client, highlight=True),
            "GET /query, words marked, terms explained": ask_over(client, highlight=True, explain=True),
            "GET /healthz": lambda _: client.get("/healthz").raise_for_status(),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for question in QUESTIONS:
                for name, ask in ways.items():
                    spent = milliseconds(ask, question)
                    if turn:  # the first round warms up
                        took[name].append(spent)
    table = Table("one client", "ms, median", "95 %", "least")
    for name, times in took.items():
        table.add_row(name, f"{statistics.median(times):.1f}", f"{percentile(times, 0.95):.1f}", f"{min(times):.1f}")
    return table


def many_clients(store: Path, queries: int) -> Table:
    """Queries a second, and how long each waits, by the number of clients and of queries that run at once."""
    table = Table("queries_at_once", "clients", "queries/s", "ms, median", "95 %")
    for at_once in (1, 2, 4):
        with served(store, at_once=at_once) as url, httpx.Client(base_url=url, timeout=120) as client:
            ask = ask_over(client)
            for question in QUESTIONS:
                ask(question)
            for clients in (1, 4, 16):
                asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(queries)]
                started = time.perf_counter()
                with ThreadPoolExecutor(clients) as threads:
                    times = list(threads.map(milliseconds, [ask] * queries, asked))
                rate = queries / (time.perf_counter() - started)
                table.add_row(
                    f"{at_once}",
                    f"{clients}",
                    f"{rate:.1f}",
                    f"{statistics.median(times):.0f}",
                    f"{percentile(times, 0.95):.0f}",
                )
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, required=True, help="an ingested store")
    parser.add_argument("--rounds", type=int, default=20, help="times that each way asks all questions")
    parser.add_argument("--queries", type=int, default=80, help="queries a number of clients")
    arguments = parser.parse_args()
    console = Console()
    console.print(one_client(arguments.store, arguments.rounds))
    console.print(many_clients(arguments.store, arguments.queries))


if __name__ == "__main__":
    main()
