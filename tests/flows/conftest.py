"""Stores of the sample corpus, judged queries on it, and a server in a thread; nobody changes the stores."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from flows.guard import HEADERS, url_of
from flows.local import local_refresh
from schemas.settings import Settings
from tests.conftest import CORPUS

QUERIES = {
    "tls": "how do we rotate TLS certificates automatically?",
    "ecs": "why did our ECS service stop scaling?",
    "vector": "which vector store does not need a separate server?",
}
ANSWERS = {
    "tls": "rotate-certificates-automatically.md",
    "ecs": "ecs-service-auto-scaling",  # without its extension
    "vector": "corpus/embedded-vector-store.md",  # the end of its path
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary Prefect server, for as long as one file's tests: to others an API would seem configured."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    storage = tmp_path_factory.mktemp("results")
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOCAL_STORAGE_PATH: storage}),
    ):
        yield


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("evaluate")
    settings = Settings(store=root / "store", cache=model_cache)
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


@pytest.fixture
def judged_files(tmp_path: Path) -> list[str]:
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": i, "text": text}) + "\n" for i, text in QUERIES.items()))
    qrels.write_text("".join(f"{i}\t0\t{name}\t1\n" for i, name in ANSWERS.items()) + "tls\t0\tnot/there.md\t1\n")
    return ["--queries", str(queries), "--qrels", str(qrels)]


ATTACK = "</p><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
HOSTILE = f"""# `<img src=x onerror=window.pwned=1>` & "quotes"

## `{{{{constructor}}}}` 🙂🙂 `<b onclick=alert(1)>` pelican

A pelican 🙂 says `{ATTACK}` and pelicans agree: `javascript:alert(1)`,
`<svg/onload=window.pwned=1>`, \u202egnirts\u202c.
"""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory, built: Settings) -> Settings:
    """The sample corpus, a document that attacks whoever shows it, and a file that cannot be parsed."""
    root = tmp_path_factory.mktemp("hostile")
    settings = built.model_copy(update={"store": Path(shutil.copytree(built.store, root / "store"))})
    docs = root / "docs"
    docs.mkdir()
    (docs / "<img src=x onerror=window.pwned=1>.md").write_text(HOSTILE)
    (docs / "empty<script>.md").touch()
    local_refresh([str(docs)], settings, lambda *_: None)
    return settings


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """`app` on a free port, in a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", headers=list(HEADERS)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield url_of(listening)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def wait_for_url() -> Callable[[subprocess.Popen[str]], str]:
    """Reads a server's standard error until it says where it serves."""

    def wait(server: subprocess.Popen[str]) -> str:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.match(r"(http://\S+) serves ", line):
                return found[1]
        raise AssertionError("".join(said))

    return wait
