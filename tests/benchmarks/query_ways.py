"""What a query takes by each way to it: function, flow, deployment, background worker, HTTP, MCP, batch.

    python -m tests.benchmarks.query_ways --store ./index

Everything is warm: servers and workers have loaded their models, and each way has answered once; then they are asked by
turns, so that a busy machine slows them alike. It starts a Prefect
server, a task worker, a process that serves the deployment, an HTTP server and an MCP server, all on ports that are
free and with a Prefect home of its own, and stops them.
"""

from __future__ import annotations

import argparse
import json
import os
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
from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.table import Table

from flows.serving import warm
from schemas.settings import Settings
from tasks.query_batch import answer, join, prepared
from tasks.search import search
from tests.benchmarks.http_server import QUESTIONS, K, ask_over, milliseconds, served

MAPPED = 20
BATCH = 64
DEPLOYMENT = "import flows.query as f; f.query_flow.serve(name='query')"

Ask = Callable[[str], object]


@contextmanager
def running(command: Sequence[str], said: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is stopped at the end; begun once it has `said` so."""
    output = subprocess.DEVNULL if said is None else subprocess.PIPE
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    try:
        if said is not None and process.stdout is not None:
            next(line for line in process.stdout if said in line)
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


@contextmanager
def mcp_client(store: Path) -> Iterator[Ask]:
    """The tool `search` of a server over stdio."""
    from mcp import Client, StdioServerParameters

    command = ["-m", "flows", "mcp", "--store", str(store)]
    server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:
        yield lambda text: portal.call(client.call_tool, "search", {"query": text, "k": K})


def batched(settings: Settings, home: Path) -> Ask:
    """A file of BATCH questions, by the stages of `headrace query-batch`."""
    file, hits = home / "questions.jsonl", home / "hits.parquet"
    file.write_text("".join(json.dumps({"query": QUESTIONS[n % len(QUESTIONS)]}) + "\n" for n in range(BATCH)))

    def ask(_: str) -> None:
        with prepared(file, hits, settings, k=K) as batch:
            for part in batch.todo:
                answer(part, settings, generation=batch.generation, k=K)
            join(batch)

    return ask


def deployed(text: str) -> object:
    """The deployment's result."""
    from prefect.deployments import run_deployment

    run = run_deployment("query/query", parameters={"text": text, "k": K}, poll_interval=0.2, as_subflow=False)
    return run.state.result()  # type: ignore[union-attr]


def measured(settings: Settings, home: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a question of each way, asked by turns, most of them in one flow run."""
    from prefect import flow

    from tasks.query import query

    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        url = stack.enter_context(served(settings.store, at_once=1))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=120))
        mcp = stack.enter_context(mcp_client(settings.store))
        stack.enter_context(running([sys.executable, "-m", "flows", "query-worker"], "answers tasks of"))
        stack.enter_context(running([sys.executable, "-c", DEPLOYMENT], "Your flow"))
        ways: dict[str, tuple[Ask, int, int]] = {  # how, questions at once, asked every so many turns
            "function: search(…)": (lambda text: search(text, settings, k=K), 1, 1),
            "HTTP: GET /query": (ask_over(client), 1, 1),
            "MCP over stdio: search": (mcp, 1, 1),
            "task in a flow: query(…)": (lambda text: query(text, K), 1, 1),
            f"task in a flow: query.map of {MAPPED}": (
                lambda text: query.map([text] * MAPPED, k=K).result(),
                MAPPED,
                5,
            ),
            f"batch: a file of {BATCH}": (batched(settings, home), BATCH, 5),
        }
        apart: dict[str, tuple[Ask, int, int]] = {  # not in a flow, which `delay` would pickle, closures and all
            "background: query.delay(…)": (lambda text: query.delay(text, K).result(), 1, 1),
            "deployment: run_deployment(…)": (deployed, 1, 5),
        }

        def by_turns(ways: dict[str, tuple[Ask, int, int]]) -> None:
            for turn in range(rounds + 1):
                for way, (ask, at_once, every) in ways.items():
                    if turn % every == 0 or turn == 1:
                        took = milliseconds(ask, QUESTIONS[turn % len(QUESTIONS)]) / at_once
                        if turn:  # the first warms up
                            times.setdefault(way, []).append(took)

        flow(lambda: by_turns(ways), name="ways")()
        by_turns(apart)
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, required=True, help="an ingested store")
    parser.add_argument("--rounds", type=int, default=30, help="questions a way; fewer where a way takes long")
    arguments = parser.parse_args()
    settings = Settings(store=arguments.store.absolute(), reranker="fusion")
    os.environ["HEADRACE_STORE"] = str(settings.store)
    os.environ["HEADRACE_RERANKER"] = settings.reranker  # the same for each way, and the slowest part of all
    with tempfile.TemporaryDirectory() as home, prefect_api(Path(home)):
        warm(settings)
        times = measured(settings, Path(home), arguments.rounds)
    table = Table("way", "ms a question, median", "least", "times")
    for way, taken in times.items():
        table.add_row(way, f"{statistics.median(taken):,.0f}", f"{min(taken):,.0f}", f"{len(taken)}")
    Console().print(table, f"load {os.getloadavg()[1]:.0f}")


if __name__ == "__main__":
    main()
