"""The flows under a real Prefect server: deployed and started twice at once, killed and gone on with, their events."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import psutil
import pytest
import yaml

from flows.published import EVENT, resource_id
from flows.serve import serve
from schemas.errors import TerminalError
from schemas.settings import Settings
from tasks.search import search
from tasks.store.generation import current_number
from tests.conftest import CORPUS

ROOT = Path(__file__).parents[2]
DOCUMENTS = len(list(CORPUS.iterdir()))
PATIENCE_S = 240.0  # of what takes seconds on a machine that has nothing else to do


NEEDED = {
    "query.query_flow": {"text": "?"},
    "query_batch.query_batch_flow": {"questions": "q.txt", "hits": "hits.parquet"},
    "refresh.refresh_flow": {"sources": ["docs"]},
    "watch.watch_flow": {"sources": ["docs"]},
    "compact.compact_flow": {},
    "evaluation.evaluate_flow": {"queries": "q.tsv", "qrels": "qrels.tsv", "baseline": "kept", "report": "r.html"},
    "train_reranker.train_reranker_flow": {"into": "mine"},
}


@pytest.mark.parametrize("name", NEEDED)
def test_flow_that_serve_pickles_understands_its_parameters(name: str) -> None:
    module, flow = name.split(".")
    pickled = subprocess.run(
        [sys.executable, "-c", f"import cloudpickle, flows.{module} as m; print(cloudpickle.dumps(m.{flow}).hex())"],
        capture_output=True, check=True, cwd=ROOT, text=True,
    ).stdout.strip()  # fmt: skip
    cloudpickle.loads(bytes.fromhex(pickled)).validate_parameters(NEEDED[name])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server with a database of its own; gives the environment of its clients."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",  # the worst case for stale results
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (tmp_path_factory.mktemp("log") / "server").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=environment["PREFECT_API_URL"]) as client:
                until(lambda: _answers(client))
            yield environment
        finally:
            process.terminate()
            process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


class Api:
    """Prefect's REST API, as its interface uses it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str, **body: Any) -> Any:
        return self._asked("POST", path, json=body)

    def get(self, path: str) -> Any:
        return self._asked("GET", path)

    def _asked(self, method: str, path: str, **body: Any) -> Any:
        def answer() -> httpx.Response | None:
            try:
                given = self._client.request(method, path, **body)
            except httpx.TimeoutException:
                return None
            return None if given.status_code == 503 else given  # SQLite's lock was not to be had in time

        return until(answer).raise_for_status().json()

    def start(self, deployment: str, **parameters: Any) -> str:
        found = self.get(f"/deployments/name/{deployment}")
        return str(self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"])

    def state(self, run: str) -> str:
        return str(self.get(f"/flow_runs/{run}")["state_name"])

    def task_runs(self, run: str) -> list[dict[str, Any]]:
        return list(self.post("/task_runs/filter", flow_runs={"id": {"any_": [run]}}))

    def generations(self, store: Path) -> list[int]:
        """Of the events about a store."""
        asked = {"event": {"name": [EVENT]}, "resource": {"id": [resource_id(store)]}, "order": "ASC"}
        return [event["payload"]["generation"] for event in self.post("/events/filter", filter=asked)["events"]]


@pytest.fixture
def api(server: dict[str, str]) -> Api:
    return Api(server["PREFECT_API_URL"])


def in_process(server: dict[str, str], code: str, *arguments: str) -> str:
    """Standard output of Python code that has the server as its API."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | server,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_prefect_yaml_and_serve_deploy_the_same_flows_and_writers_wait_for_each_other() -> None:
    from prefect.flows import load_flow_from_entrypoint

    from flows.deployments import served

    described = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())["deployments"]
    flows = {entry["name"]: load_flow_from_entrypoint(entry["entrypoint"]) for entry in described}
    for entry in described:
        flow = flows[entry["name"]]
        asked = {"text": "x"} if flow.name == "query" else {}
        flow.validate_parameters(
            {**entry["parameters"], **asked, **({"generation": 3} if entry.get("triggers") else {})}
        )
        assert all(parameter.get("description") for parameter in flow.parameters.properties.values())
    in_process = {
        one.flow.name: one.deployment("UTC")
        for one in served(["/srv/docs"], {}, {}, cron="0 2 * * *", compact_cron=None, evaluate_cron=None)
    }
    assert set(in_process) < set(flows)
    limits = {entry["name"]: entry.get("concurrency_limit") for entry in described}
    one = {"limit": 1, "collision_strategy": "ENQUEUE"}
    for name, deployment in in_process.items():
        assert limits[name] == (one if deployment.concurrency_limit else None)
        assert deployment.entrypoint == next(entry["entrypoint"] for entry in described if entry["name"] == name)
    assert [name for name, limit in limits.items() if limit != one] == ["query", "standing-questions"]


def test_serve_without_a_prefect_server_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(TerminalError, match="prefect server start"):
        serve([str(CORPUS)], store=tmp_path)


FLAKY = """
import sys
from functools import wraps
from pathlib import Path
import tasks.embed
embed, failures = tasks.embed.embed_batch, [OSError(5, "injected"), TimeoutError("injected")]
@wraps(embed)
def flaky(batch, settings):
    if failures:
        raise failures.pop()
    return embed(batch, settings)
tasks.embed.embed_batch = flaky
from flows.refresh import refresh_flow
from schemas.settings import Settings
docs, store, cache = map(Path, sys.argv[1:])
settings = Settings(store=store, cache=cache, batch_documents=8, publish_seconds=1000)
for text in ("# Pelican\\n\\nA pelican wrote this.", "# Heron\\n\\nA heron wrote this."):
    (docs / "page.md").write_text(text)
    state = refresh_flow([str(docs)], settings, return_state=True)
    print(state.state_details.flow_run_id)
"""


def test_transient_failure_is_retried_and_a_changed_file_is_never_answered_from_a_cache(
    server: dict[str, str], api: Api, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    """Also: what tasks are called, what they hand each other, artifacts, and an event a generation."""
    docs, settings = tmp_path / "docs", make_settings()
    shutil.copytree(CORPUS, docs)
    (docs / "empty <b>.md").touch()
    runs = in_process(server, FLAKY, str(docs), str(settings.store), str(settings.cache)).split()
    assert [api.state(run) for run in runs] == ["Completed", "Completed"]
    assert search("who wrote this?", settings, k=1).hits[0].text == "A heron wrote this."

    tasks = until(lambda: (found := api.task_runs(runs[0])) and all(t["end_time"] for t in found) and found)
    assert {t["name"] for t in tasks} >= {"parse 000000: 8 files", "chunk 000001: 7 documents"}
    assert sum(t["name"].startswith("merge ") for t in tasks) == 1
    assert sum(t["run_count"] - 1 for t in tasks if t["name"].startswith("embed ")) == 2
    assert {t["run_count"] for t in tasks if not t["name"].startswith("embed ")} == {1}

    assert until(lambda: len(found := api.generations(settings.store)) == 2 and found) == [1, 2]
    kept = api.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [runs[0]]}})
    data = {artifact["key"]: (artifact["type"], artifact["data"]) for artifact in kept if artifact["key"]}
    assert data.keys() == {f"refresh-{part}" for part in ("summary", "throughput", "timings", "quarantine", "progress")}
    assert data["refresh-progress"] == ("progress", 100.0)
    assert data["refresh-timings"][1].startswith("data:image/svg+xml;base64,")
    (quarantined,) = json.loads(data["refresh-quarantine"][1])
    assert quarantined["path"] == f"`{docs / 'empty <b>.md'}`"  # as code, not as HTML
    assert quarantined["reason"].startswith("`")
    log = api.post("/logs/filter", logs={"flow_run_id": {"any_": [runs[0]]}})
    assert sum("refreshed store=" in line["message"] for line in log) == 1


@pytest.fixture
def served(
    server: dict[str, str], tmp_path: Path, make_settings: Callable[..., Settings]
) -> Iterator[tuple[Settings, subprocess.Popen[str]]]:
    """`headrace serve` of the sample corpus, batches of one document."""
    settings = make_settings(batch_documents=1, publish_chunks=8)
    command = ["serve", str(CORPUS), "--store", str(settings.store), "--cron", "", "--set", "batch_documents=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *command, "--set", "publish_chunks=8"],
        env=os.environ | server | {"HEADRACE_CACHE": str(settings.cache)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    while "refresh/refresh" not in (line := process.stderr.readline()):
        assert line
    try:
        yield settings, process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_second_run_waits_goes_on_where_a_killed_one_stopped_and_triggers_what_follows(
    served: tuple[Settings, subprocess.Popen[str]], api: Api
) -> None:
    settings, process = served
    query = api.get("/deployments/name/query/query")["id"]
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": [EVENT],
        "match": {"prefect.resource.id": resource_id(settings.store)},
        "threshold": 1,
        "within": 0,
    }
    parameters = {"text": "after generation {{ event.payload.generation }}"}
    action = {"type": "run-deployment", "source": "selected", "deployment_id": query, "parameters": parameters}
    api.post("/automations/", name="asks", trigger=trigger, actions=[action])

    first = api.start("refresh/refresh")
    until(lambda: api.state(first) == "Running")
    second, third = api.start("refresh/refresh"), api.start("refresh/refresh")
    until(lambda: api.state(second) == "AwaitingConcurrencySlot")
    api.post(f"/flow_runs/{third}/set_state", state={"type": "CANCELLING"})
    until((settings.store / "CURRENT").exists)
    (run,) = [child for child in psutil.Process(process.pid).children() if "prefect" in " ".join(child.cmdline())]
    run.kill()
    until(lambda: api.state(first) == "Crashed")
    ended = [task["name"] for task in api.task_runs(first) if task["state_name"] == "Completed"]
    assert (staged := sum(name.startswith("chunk ") for name in ended))
    until(lambda: api.state(second) == "Completed")
    again = [task for task in api.task_runs(second) if task["name"].startswith("parse ")]
    assert len(again) <= DOCUMENTS - staged
    assert api.state(third) == "Cancelled"

    until(lambda: api.generations(settings.store)[-1:] == [current_number(settings.store)])
    heard = api.generations(settings.store)
    assert len(heard) >= 2
    asked = until(lambda: api.post("/flow_runs/filter", deployments={"id": {"any_": [query]}}))
    assert {run["parameters"]["text"] for run in asked} <= {f"after generation {n}" for n in heard}
