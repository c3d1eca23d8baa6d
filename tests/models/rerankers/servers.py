"""Servers on this machine that answer as the vendors' do, and fail as those may.

Forms of requests, answers and errors: docs.cohere.com/reference/rerank, docs.voyageai.com/reference/reranker-api,
api.jina.ai/redoc, Amazon's API_agent-runtime_Rerank, platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a server says instead of what it was asked for."""

    status: int
    body: Json | bytes
    headers: dict[str, str] = field(default_factory=dict)


Fault = Answer | Literal["drop", "hang", "drip"]


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: Json


class Server:
    """Answers by `reply`, once its `faults` are used up, the first first."""

    def __init__(self, reply: Callable[[Request], Json]) -> None:
        self.reply = reply
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.url = ""
        self.ended = threading.Event()


@contextmanager
def serving(reply: Callable[[Request], Json]) -> Iterator[Server]:
    """A server as long as the context lasts."""
    server = Server(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append(Request(self.path, headers, body))
            fault = server.faults.pop(0) if server.faults else Answer(200, server.reply(server.requests[-1]))
            if isinstance(fault, Answer):
                self.answer(fault)
            elif fault == "hang":
                server.ended.wait(20)
            elif fault == "drip":  # a byte now and then: no pause is long enough for a client that minds pauses alone
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                while not server.ended.wait(0.05):
                    self.wfile.write(b" ")
            self.close_connection = True

        def answer(self, answer: Answer) -> None:
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", "Connection": "close", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that has gone is what some tests are about."""

    http = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        http.server_close()
        thread.join()


def relevance(query: str, text: str) -> float:
    """Share of the query's words that a text has."""
    words = set(query.lower().split())
    return len(words & set(text.lower().split())) / len(words)


def ranked(query: str, texts: list[str], index: str, score: str) -> list[Json]:
    """As the vendors answer: the best first."""
    found = [{index: i, score: relevance(query, text)} for i, text in enumerate(texts)]
    return sorted(found, key=lambda entry: -entry[score])


def cohere(request: Request) -> Json:
    results = ranked(request.body["query"], request.body["documents"], "index", "relevance_score")
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return {"id": "07734bd2-2473-4f07-94e1-0d9f0e6843cf", "results": results[: request.body["top_n"]], "meta": meta}


def jina(request: Request) -> Json:
    results = ranked(request.body["query"], request.body["documents"], "index", "relevance_score")
    return {"model": request.body["model"], "usage": {"total_tokens": 12}, "results": results[: request.body["top_n"]]}


def voyage(request: Request) -> Json:
    data = ranked(request.body["query"], request.body["documents"], "index", "relevance_score")
    return {
        "object": "list",
        "data": data[: request.body["top_k"]],
        "model": request.body["model"],
        "usage": {"total_tokens": 12},
    }


def bedrock(request: Request) -> Json:
    texts = [source["inlineDocumentSource"]["textDocument"]["text"] for source in request.body["sources"]]
    results = ranked(request.body["queries"][0]["textQuery"]["text"], texts, "index", "relevanceScore")
    configuration = request.body["rerankingConfiguration"]["bedrockRerankingConfiguration"]
    return {"results": results[: configuration["numberOfResults"]]}


def completion(said: Any, model: str = "judge") -> Json:
    """A chat completion that says `said`, text or JSON."""
    content = said if said is None or isinstance(said, str) else json.dumps(said)
    return {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def judge(request: Request) -> Json:
    """A model that judges by `relevance`, listwise or pointwise as its instruction says."""
    system, user = request.body["messages"]
    asked = json.loads(user["content"])
    scores = {entry["number"]: relevance(asked["query"], entry["text"]) for entry in asked["passages"]}
    if '"grade"' in system["content"]:
        return completion({"grade": round(10 * scores[1])}, request.body["model"])
    return completion({"ranking": sorted(scores, key=lambda number: -scores[number])}, request.body["model"])
