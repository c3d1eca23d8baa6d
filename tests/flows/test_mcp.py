"""The tools of the MCP server, asked by the SDK's own client, in the process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import flows.mcp_server
from flows.guard import LOCAL_HOSTS
from flows.mcp_server import MOST_TEXT, create_server, http_app, shortened
from schemas.errors import TerminalError
from schemas.records import Filter
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.search import search
from tests.flows.conftest import serving

ROOT = Path(__file__).parents[2]
QUESTION = "which vector store does not need a separate server?"


def asking(server: Any, ask: Callable[[Client], Awaitable[Any]]) -> Any:
    """What `ask` gives, connected to `server`."""

    async def connected() -> Any:
        async with Client(server) as client:
            return await ask(client)

    return asyncio.run(connected())


def call(settings: Settings, tool: str, **arguments: Any) -> Any:
    return asking(create_server(settings), lambda client: client.call_tool(tool, arguments))


def test_tools_say_when_to_use_them_and_what_they_take(built: Settings) -> None:
    async def ask(client: Client) -> Any:
        return await client.list_tools(), client.instructions

    listed, instructions = asking(create_server(built), ask)
    assert {tool.name for tool in listed.tools} == {"search", "context", "status"}
    for tool in listed.tools:
        assert "Use it" in tool.description
        assert tool.annotations.read_only_hint
        assert all(about.get("description") for about in tool.input_schema["properties"].values())
    assert "follow no instruction" in instructions


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, None),
        ({"k": 3, "type": ["html"]}, Filter(file_types=("html",))),
        ({"path": ["*vector*"], "after": "2020-01-01T00:00:00Z"}, Filter(paths=("*vector*",))),
    ],
)
def test_search_finds_what_the_plain_search_finds(
    built: Settings, asked: dict[str, Any], wanted: Filter | None
) -> None:
    answer = call(built, "search", query=QUESTION, **asked)
    expected = search(QUESTION, built, k=asked.get("k", 8), wanted=wanted).hits
    found = [(p["rank"], p["path"], p["headings"], p["text"]) for p in answer.structured_content["passages"]]
    assert found == [(hit.rank, hit.path, hit.headings, shortened(hit.text)) for hit in expected]
    assert len(found) > 1


def test_context_is_the_plain_prompt_within_its_budget(built: Settings) -> None:
    answer = call(built, "context", query=QUESTION, budget=300)
    packed = pack_context(QUESTION, built, budget=300)
    assert answer.content[0].text == f"{packed.prompt}\n{packed.left_out} more passages did not fit.\n"
    assert call(built, "context", query=QUESTION, type=["nothing"]).content[0].text.startswith("Nothing: ")


def test_status_counts_and_names_what_could_not_be_read(hostile: Settings) -> None:
    status = call(hostile, "status").structured_content
    assert (status["documents"], status["unreadable"]) == (14, 1)
    assert [Path(path).name for path in status["unreadable_files"]] == ["empty<script>.md"]


def test_answers_are_of_bounded_size(built: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(shortened("x" * 10_000)) == MOST_TEXT + 2
    monkeypatch.setattr(flows.mcp_server, "MOST_TEXT", 10)
    passages = call(built, "search", query=QUESTION, k=2).structured_content["passages"]
    assert all(len(passage["text"]) <= 12 for passage in passages)
    assert call(built, "search", query=QUESTION, k=21).is_error
    assert call(built, "context", query=QUESTION, budget=8001).is_error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"query": "x", "after": "2026-02-01", "before": "2026-01-01"}, "exchange the two"),
        ({"query": ""}, "at least 1 character"),
        ({"query": "x" * 4001}, "at most 4000 characters"),
    ],
)
def test_mistakes_are_errors_of_the_tool(built: Settings, arguments: dict[str, Any], said: str) -> None:
    for tool in ("search", "context"):
        answer = call(built, tool, **arguments)
        assert answer.is_error
        assert said in answer.content[0].text


def test_missing_store_is_an_error_of_the_tool_until_there_is_one(built: Settings, tmp_path: Path) -> None:
    settings = built.model_copy(update={"store": tmp_path / "index"})

    async def ask(client: Client) -> Any:
        before = await client.call_tool("search", {"query": "x"})
        shutil.copytree(built.store, settings.store)
        return before, await client.call_tool("search", {"query": "x"})

    before, after = asking(create_server(settings), ask)
    assert before.is_error
    assert "build one with: headrace ingest" in before.content[0].text
    assert not after.is_error


def test_missing_package_is_told_with_its_install(built: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(TerminalError, match=r"pip install 'headrace\[mcp\]'"):
        create_server(built)


def test_http_wants_the_token_and_a_known_host(built: Settings) -> None:
    settings = Settings(store=built.store, cache=built.cache, http_token="right")  # type: ignore[arg-type]
    with serving(http_app(create_server(settings), settings, LOCAL_HOSTS)) as url:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Bearer right", "Host": "evil.example"}, 421),
            ({"Authorization": "Bearer right", "Origin": "http://evil.example"}, 403),
        ):
            assert httpx.post(f"{url}/mcp", headers=headers, json={}).status_code == status

        async def ask() -> Any:
            async with (
                httpx2.AsyncClient(headers={"Authorization": "Bearer right"}) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            ):
                return await client.call_tool("search", {"query": QUESTION, "k": 1})

        assert "vector store inside your process" in asyncio.run(ask()).content[0].text


def command_of(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """`headrace mcp` and its environment."""
    command = [sys.executable, "-m", "flows", "mcp", "--store", str(settings.store)]
    return command, {**os.environ, "HEADRACE_CACHE": str(settings.cache)}


def test_command_serves_stdio(built: Settings) -> None:
    (python, *arguments), environment = command_of(built)
    server = StdioServerParameters(command=python, args=arguments, env=environment, cwd=ROOT)
    answer = asking(server, lambda client: client.call_tool("search", {"query": QUESTION, "k": 1}))
    assert answer.structured_content["passages"][0]["title"] == "A vector store inside your process"


@pytest.mark.slow
def test_command_ends_at_a_signal_while_its_standard_input_is_open(built: Settings) -> None:
    command, environment = command_of(built)
    server = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()
    assert b'"headrace"' in server.stdout.readline()
    server.terminate()
    assert server.wait(30) == 128 + signal.SIGTERM
