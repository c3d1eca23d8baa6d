"""What a query takes by each way to it: function, flow, deployment, background worker, HTTP, MCP, batch.

    python -m tests.benchmarks.query_ways --store ./index

Everything is warm: servers and workers have loaded their models, and each way has answered once. It starts a Prefect
server, a task worker, a process that serves the deployment, an HTTP server and an MCP server, all on ports that are
free and with a Prefect home of its own, and stops them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from flows.serving import warm
from schemas.settings import Settings
from tasks.query_batch import answer, join, prepared
from tasks.search import search
from tests.benchmarks.http_server import QUESTIONS, K, ask_over, milliseconds, percentile, served

MAPPED = 20
DEPLOYMENT = "import flows.query as f; f.query_flow.serve(name='query')"

class Times(dict[str, list[float]]):
    """Milliseconds a question by way to it; told as they come."""

    def __setitem__(self, way: str, taken: list[float]) -> None:
        Console(stderr=True).print(f"{way}: {statistics.median(taken):,.0f} ms", highlight=False)
        super().__setitem__(way, taken)


@contextmanager
def running(command: Sequence[str], said: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is stopped at the end; begun once it has `said` so on standard error."""
    stderr = subprocess.DEVNULL if said is None else subprocess.PIPE
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)
    try:
        if said is not None and process.stderr is not None:
            next(line for line in process.stderr if re.search(said, line))
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def prefect_api(home: Path) -> Iterator[None]:
    """A Prefect server of the benchmark's own, that this process and those it starts use."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_API_PORT": str(port)}
    with running([sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]):
        while True:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield


def timed(times: Times, way: str, ask: Callable[[str], object], rounds: int) -> None:
    """Ask in turn, once to warm up and then `rounds` times."""
    ask(QUESTIONS[0])
    times[way] = [milliseconds(ask, QUESTIONS[n % len(QUESTIONS)]) for n in range(rounds)]


def in_flows(times: Times, settings: Settings, rounds: int) -> None:
    """The task in a flow of this process, and the flow itself."""
    from prefect import flow

    from flows.query import query_flow
    from tasks.query import query

    @flow
    def downstream() -> None:
        timed(times, "task in a flow: query(…)", lambda text: query(text, K), rounds)
        asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(MAPPED)]
        took = [milliseconds(lambda _: query.map(asked, k=K).result(), "") for _ in range(2)]
        times[f"query.map of {MAPPED}, a question"] = [took[1] / MAPPED]  # the first warms up

    os.environ["HEADRACE_STORE"] = str(settings.store.absolute())
    downstream()
    timed(times, "flow of its own: query_flow(…)", lambda text: query_flow(text, K), max(rounds // 5, 3))


def apart(times: Times, rounds: int) -> None:
    """The worker in the background, and the deployment."""
    from prefect.deployments import run_deployment

    from tasks.query import query

    def deployed(text: str) -> object:
        run = run_deployment("query/query", parameters={"text": text, "k": K}, poll_interval=0.2)
        return run.state.result()  # type: ignore[union-attr]

    with running([sys.executable, "-m", "flows", "query-worker"], "answers tasks of"):
        timed(times, "background: query.delay(…).result()", lambda text: query.delay(text, K).result(), rounds)
    with running([sys.executable, "-c", DEPLOYMENT], "Your flow|prefect.runner"):
        timed(times, "deployment: run_deployment(…)", deployed, max(rounds // 7, 3))


def over_mcp(times: Times, store: Path, rounds: int) -> None:
    """The tool `search` over stdio."""
    from mcp import Client, StdioServerParameters

    async def ask() -> None:
        command = ["-m", "flows", "mcp", "--store", str(store)]
        async with Client(StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))) as client:
            taken = []
            for n in range(rounds + 1):
                started = time.perf_counter()
                await client.call_tool("search", {"query": QUESTIONS[n % len(QUESTIONS)], "k": K})
                taken.append((time.perf_counter() - started) * 1000)
            times["MCP, stdio"] = taken[1:]

    asyncio.run(ask())


def batched(times: Times, settings: Settings, home: Path, rounds: int) -> None:
    """A file of questions, by the stages of `headrace query-batch`."""
    file, hits = home / "questions.jsonl", home / "hits.parquet"
    asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(max(rounds, 64))]
    file.write_text("".join(json.dumps({"query": text}) + "\n" for text in asked))
    started = time.perf_counter()
    with prepared(file, hits, settings, k=K) as batch:
        for part in batch.todo:
            answer(part, settings, generation=batch.generation, k=K)
        join(batch)
    times["batch of a file, a question"] = [(time.perf_counter() - started) * 1000 / len(asked)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, required=True, help="an ingested store")
    parser.add_argument("--rounds", type=int, default=30, help="questions a way; fewer where a way takes seconds")
    arguments = parser.parse_args()
    settings, times = Settings(store=arguments.store), Times()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(prefect_api(home))
        warm(settings)
        timed(times, "function: tasks.search.search(…)", lambda text: search(text, settings, k=K), arguments.rounds)
        batched(times, settings, home, arguments.rounds)
        with served(arguments.store, at_once=1) as url, httpx.Client(base_url=url, timeout=120) as client:
            timed(times, "HTTP: GET /query", ask_over(client), arguments.rounds)
        over_mcp(times, arguments.store, arguments.rounds)
        in_flows(times, settings, arguments.rounds)
        apart(times, arguments.rounds)
    table = Table("way", "ms, median", "95 %", "questions", title=f"load {os.getloadavg()[1]:.1f} of 5 minutes")
    for way, taken in times.items():
        worst = f"{percentile(taken, 0.95):,.0f}" if len(taken) > 1 else ""
        table.add_row(way, f"{statistics.median(taken):,.0f}", worst, f"{len(taken)}" if worst else "")
    Console().print(table)


if __name__ == "__main__":
    main()
