"""The vendors' rerankers against servers that speak as theirs do: requests, answers and failures."""

from __future__ import annotations

import logging
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from schemas.errors import MissingRequirement, RerankerFailed
from schemas.settings import Settings
from tasks.models.rerankers import load
from tasks.models.rerankers.remote import ATTEMPTS, TALKATIVE, Remote, aligned
from tests.models.rerankers import servers
from tests.models.rerankers.servers import Answer, Fault, Json, Request, Server, serving

MakeSettings = Callable[..., Settings]

KEY = "vk-3f9a5c1e77d2"
QUERY = "how do we rotate certificates"
TEXTS = ["Wheels turn.", "We rotate certificates by hand.", "How do we rotate certificates? Like this.", "rotate"]


@dataclass(frozen=True)
class Vendor:
    """One kind of reranker, and what is particular to its server."""

    kind: str
    model: str
    package: str
    environment: dict[str, str]  # what has to be set
    reply: Callable[[Request], Json]
    path: str
    asked: Callable[[Sequence[str]], Json]  # the body of a request
    said: Callable[[str], Json]  # the body of an error
    base: str = ""  # path of the base URL
    names: dict[str, str] = field(default_factory=dict)  # index and score, where they are called otherwise
    entries: str = "results"


def _documents(model: str, **more: Any) -> Callable[[Sequence[str]], Json]:
    return lambda texts: {"model": model, "query": QUERY, "documents": list(texts), **more}


VENDORS = [
    Vendor(
        kind="cohere",
        model="rerank-v3.5",
        package="cohere",
        environment={"COHERE_API_KEY": KEY},
        reply=servers.cohere,
        path="/v2/rerank",
        asked=_documents("rerank-v3.5", top_n=len(TEXTS)),
        said=lambda message: {"id": "7f0b", "message": message},
    ),
    Vendor(
        kind="jina",
        model="jina-reranker-v2-base-multilingual",
        package="cohere",
        environment={"JINA_API_KEY": KEY},
        reply=servers.jina,
        path="/v1/rerank",
        asked=_documents("jina-reranker-v2-base-multilingual", top_n=len(TEXTS), return_documents=False),
        said=lambda message: {"detail": message},
    ),
    Vendor(
        kind="voyage",
        model="rerank-2.5",
        package="voyageai",
        environment={"VOYAGE_API_KEY": KEY},
        reply=servers.voyage,
        path="/v1/rerank",
        asked=_documents("rerank-2.5", top_k=len(TEXTS), truncation=True),
        said=lambda message: {"detail": message},
        base="/v1",
        entries="data",
    ),
    Vendor(
        kind="bedrock",
        model="cohere.rerank-v3-5:0",
        package="boto3",
        environment={
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
        reply=servers.bedrock,
        path="/rerank",
        asked=lambda texts: {
            "queries": [{"type": "TEXT", "textQuery": {"text": QUERY}}],
            "sources": [
                {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}}}
                for text in texts
            ],
            "rerankingConfiguration": {
                "type": "BEDROCK_RERANKING_MODEL",
                "bedrockRerankingConfiguration": {
                    "numberOfResults": len(TEXTS),
                    "modelConfiguration": {
                        "modelArn": "arn:aws:bedrock:eu-central-1::foundation-model/cohere.rerank-v3-5:0"
                    },
                },
            },
        },
        said=lambda message: {"message": message},
        names={"relevance_score": "relevanceScore"},
    ),
    Vendor(
        kind="llm",
        model="judge",
        package="openai",
        environment={"OPENAI_API_KEY": KEY},
        reply=servers.judge,
        path="/v1/chat/completions",
        asked=lambda _: {},  # see test_llm.py
        said=lambda message: {"error": {"message": message, "type": "error", "param": None, "code": None}},
        base="/v1",
    ),
]
HOSTED = VENDORS[:-1]


def by_kind(vendors: Sequence[Vendor]) -> Any:
    return pytest.mark.parametrize("vendor", vendors, ids=lambda vendor: vendor.kind)


@pytest.fixture
def server(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in vendor.environment.items():
        monkeypatch.setenv(name, value)
    with serving(vendor.reply) as server:
        yield server


def reranker_at(url: str, vendor: Vendor, make_settings: MakeSettings, **values: object) -> Remote:
    settings = make_settings(rerank_urls=f"{vendor.kind}={url}{vendor.base}", **{"rerank_timeout_s": 120.0, **values})
    reranker = load(vendor.kind, vendor.model, settings)
    assert isinstance(reranker, Remote)
    return reranker


@by_kind(HOSTED)
def test_request_is_the_documented_one_and_scores_come_in_the_order_of_texts(
    vendor: Vendor, server: Server, make_settings: MakeSettings
) -> None:
    reranker = reranker_at(server.url, vendor, make_settings)
    scores = reranker.score(QUERY, TEXTS)
    assert reranker.name == f"{vendor.kind}:{vendor.model}"
    assert scores.dtype == np.float32
    assert scores == pytest.approx([servers.relevance(QUERY, text) for text in TEXTS])
    (request,) = server.requests
    assert (request.path, request.body) == (vendor.path, vendor.asked(TEXTS))
    if vendor.kind == "bedrock":
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    else:
        assert request.headers["authorization"] == f"Bearer {KEY}"
    assert reranker.score(QUERY, []).shape == (0,)
    assert len(server.requests) == 1


PASSING: dict[str, Callable[[Vendor], Fault]] = {
    "429": lambda vendor: Answer(429, vendor.said("too many requests"), {"Retry-After": "0"}),
    "500": lambda vendor: Answer(500, vendor.said("internal error")),
    "503 that is no JSON": lambda _: Answer(503, b"<html>busy</html>", {"Content-Type": "text/html"}),
    "connection dropped": lambda _: "drop",
    "no JSON": lambda _: Answer(200, b"<html>hello</html>"),
    "another JSON": lambda _: Answer(200, {"hello": [1]}),
}


@by_kind(VENDORS)
@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_asked_again(vendor: Vendor, fault: str, server: Server, make_settings: MakeSettings) -> None:
    server.faults = [PASSING[fault](vendor)]
    scores = reranker_at(server.url, vendor, make_settings).score(QUERY, TEXTS)
    assert np.argmax(scores) == 2
    assert len(server.requests) == 2


LASTING: dict[str, tuple[Callable[[Vendor], Fault], int, str]] = {
    "429": (PASSING["429"], ATTEMPTS, "answered 429 Too Many Requests: too many requests"),
    "500": (PASSING["500"], ATTEMPTS, "answered 500 Internal Server Error"),
    "connection dropped": (PASSING["connection dropped"], ATTEMPTS, "cannot be reached"),
    "no JSON": (PASSING["no JSON"], ATTEMPTS, "gave an answer that cannot be used"),
    "another JSON": (PASSING["another JSON"], ATTEMPTS, "gave an answer that cannot be used"),
    "401": (
        lambda vendor: Answer(401, vendor.said(f"Incorrect API key provided: {KEY[:5]}****{KEY[-4:]}, {KEY}")),
        1,
        "answered 401 Unauthorized: its key or its rights are refused",
    ),
    "403": (
        lambda vendor: Answer(403, vendor.said(f"{KEY} may not")),
        1,
        "answered 403 Forbidden: its key or its rights are refused",
    ),
    "400 that quotes the key": (
        lambda vendor: Answer(400, vendor.said(f"no such\n\x1b[31mmodel for Bearer {KEY}")),
        1,
        "answered 400 Bad Request: no such [31mmodel for Bearer …",
    ),
}


@pytest.mark.parametrize(
    ("vendor", "fault"),
    [
        pytest.param(vendor, fault, id=f"{vendor.kind}, {fault}")
        for vendor in VENDORS
        for fault in LASTING
        if vendor.kind != "bedrock" or "quotes" not in fault  # requests to Amazon are signed, and have no key
    ],
)
def test_failure_is_named_and_has_nothing_of_the_key(
    vendor: Vendor,
    fault: str,
    server: Server,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in TALKATIVE:
        monkeypatch.setattr(logging.getLogger(package), "level", logging.NOTSET)
    make, requests, message = LASTING[fault]
    server.faults = [make(vendor)] * ATTEMPTS
    reranker = reranker_at(server.url, vendor, make_settings)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RerankerFailed) as raised:
        reranker.score(QUERY, TEXTS)
    logging.getLogger("test").error("failed", exc_info=raised.value)
    told = str(raised.value)
    if vendor.kind == "voyage" and fault == "500":  # its package keeps the text of the others
        message = "answered 500"
    assert told.startswith(f"{vendor.kind}:{vendor.model} {message}")
    assert told.isprintable()
    assert len(server.requests) == requests
    said = "\n".join([told, repr(raised.value), *traceback.format_exception(raised.value), caplog.text])
    assert KEY not in said
    assert KEY[-4:] not in said


@by_kind(VENDORS)
def test_server_that_is_not_there_is_named(
    vendor: Vendor, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in vendor.environment.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RerankerFailed, match="cannot be reached"):
            reranker_at(url, vendor, make_settings).score(QUERY, TEXTS)


@by_kind(VENDORS)
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_answer_is_waited_for_no_longer_than_said(
    vendor: Vendor, fault: Fault, server: Server, make_settings: MakeSettings
) -> None:
    server.faults = [fault]
    reranker = reranker_at(server.url, vendor, make_settings, rerank_timeout_s=0.3)
    with pytest.raises(RerankerFailed, match=r"did not answer within 0\.3 s"):
        reranker.score(QUERY, TEXTS)
    server.faults = ["hang"]
    with pytest.raises(RerankerFailed, match=r"did not answer within 0\.1 s"):
        reranker.score_within(0.1, QUERY, TEXTS)
    asked = len(server.requests)
    with pytest.raises(RerankerFailed, match="no time was left"):
        reranker.score_within(0.0, QUERY, TEXTS)
    assert len(server.requests) == asked


@by_kind(VENDORS[:1])
def test_pause_that_the_server_wants_is_not_waited_for_where_there_is_no_time(
    vendor: Vendor, server: Server, make_settings: MakeSettings
) -> None:
    server.faults = [Answer(429, vendor.said("slow down"), {"Retry-After": "600"})]
    with pytest.raises(RerankerFailed, match="429 Too Many Requests: slow down"):
        reranker_at(server.url, vendor, make_settings).score(QUERY, TEXTS)
    assert len(server.requests) == 1


def changed(reply: Callable[[Request], Json], vendor: Vendor, change: Callable[[list[Json]], list[Json]]) -> Any:
    return lambda request: {**(answer := reply(request)), vendor.entries: change(answer[vendor.entries])}


@by_kind([vendor for vendor in HOSTED if vendor.kind in {"cohere", "voyage"}])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda found: found[1:], id="one missing"),
        pytest.param(lambda found: [*found, found[0]], id="one twice"),
        pytest.param(lambda found: [*found[1:], found[0] | {"index": 99}], id="one that was not sent"),
        pytest.param(lambda found: [*found[1:], found[0] | {"index": -1}], id="before the first"),
        pytest.param(lambda _: [], id="none"),
        pytest.param(lambda _: None, id="null"),
        pytest.param(lambda found: [{} for _ in found], id="empty entries"),
        pytest.param(lambda _: [7], id="no entries"),
    ],
)
def test_answer_that_is_no_score_a_text_is_refused(
    vendor: Vendor, change: Callable[[list[Json]], Any], server: Server, make_settings: MakeSettings
) -> None:
    server.reply = changed(vendor.reply, vendor, change)
    with pytest.raises(RerankerFailed, match="gave an answer that cannot be used"):
        reranker_at(server.url, vendor, make_settings).score(QUERY, TEXTS)


@pytest.mark.parametrize(
    "ranked",
    [
        pytest.param([(0, 0.5), (1, float("nan"))], id="NaN"),
        pytest.param([(0, 0.5), (1, float("inf"))], id="infinite"),
        pytest.param([(0, 0.5), (1, "0.7")], id="text"),
        pytest.param([(0, 0.5), (1, None)], id="null"),
        pytest.param([(0, 0.5), (1, True)], id="a boolean score"),
        pytest.param([(0, 0.5), (True, 0.7)], id="a boolean index"),
        pytest.param([(0, 0.5), ("1", 0.7)], id="a text for an index"),
        pytest.param([(0, 0.5), (1.0, 0.7)], id="a float for an index"),
    ],
)
def test_scores_are_finite_numbers_at_whole_places(ranked: list[tuple[Any, Any]]) -> None:
    with pytest.raises(ValueError, match=r"a score is no number|numbers a passage"):
        aligned(ranked, 2)
    assert aligned([(1, 2), (0, 0.5)], 2).tolist() == [0.5, 2.0]


def test_answer_of_bedrock_in_several_pages_is_read_whole(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paged(request: Request) -> Json:
        found = servers.bedrock(request)["results"]
        more = "nextToken" in request.body
        return {"results": found[2:]} if more else {"results": found[:2], "nextToken": "more"}

    vendor = next(vendor for vendor in VENDORS if vendor.kind == "bedrock")
    for name, value in vendor.environment.items():
        monkeypatch.setenv(name, value)
    with serving(paged) as server:
        scores = reranker_at(server.url, vendor, make_settings).score(QUERY, TEXTS)
    assert scores == pytest.approx([servers.relevance(QUERY, text) for text in TEXTS])


@pytest.mark.parametrize(
    ("model", "arn"),
    [
        ("amazon.rerank-v1:0", "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.rerank-v1:0"),
        (
            "arn:aws:bedrock:us-west-2::foundation-model/amazon.rerank-v1:0",
            "arn:aws:bedrock:us-west-2::foundation-model/amazon.rerank-v1:0",
        ),
    ],
)
def test_bedrock_takes_a_model_of_the_region_or_an_arn_with_its_own(
    model: str, arn: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    with serving(servers.bedrock) as server:
        load("bedrock", model, make_settings(rerank_urls=f"bedrock={server.url}")).score(QUERY, TEXTS)
    (request,) = server.requests
    configuration = request.body["rerankingConfiguration"]["bedrockRerankingConfiguration"]
    assert configuration["modelConfiguration"]["modelArn"] == arn
    assert f"/{arn.split(':')[3]}/bedrock/" in request.headers["authorization"]


@pytest.mark.parametrize(("region", "url"), [("us-est1", ""), ("us-east-1", "bedrock=http://[bad")])
def test_bedrock_says_what_of_its_configuration_is_wrong(
    region: str, url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with pytest.raises(MissingRequirement, match="cannot be set up"):
        load("bedrock", "amazon.rerank-v1:0", make_settings(rerank_urls=url))


@by_kind(VENDORS)
def test_package_that_is_not_there_is_named_with_what_installs_it(
    vendor: Vendor, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, vendor.package, None)
    with pytest.raises(MissingRequirement, match=rf"pip install '\.\[{vendor.kind}\]'"):
        load(vendor.kind, vendor.model, make_settings())


@by_kind(VENDORS)
def test_what_is_not_set_in_the_environment_is_named(
    vendor: Vendor, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in reversed(vendor.environment):  # the region before the credentials
        with pytest.raises(MissingRequirement, match=name):
            load(vendor.kind, vendor.model, make_settings())
        monkeypatch.setenv(name, vendor.environment[name])
    load(vendor.kind, vendor.model, make_settings())
