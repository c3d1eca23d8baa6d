"""The search of a store over HTTP: JSON for programs, a page for people, figures for Prometheus.

The plain functions of the command line answer, in threads (flows.serving); nothing of a request is kept. Documents are
untrusted: JSON is sent as such and never sniffed, and the page may run nothing but its own script and fetch nothing but
this server's answers.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.guard import LOCAL_HOSTS, LimitBody, RequireToken
from flows.http_metrics import CountRequests, Metrics
from flows.http_models import (
    ContextRequest,
    ContextResponse,
    Health,
    Problem,
    QueryRequest,
    QueryResponse,
    StatusResponse,
)
from flows.options import version
from flows.serving import MOST_BYTES, Turns
from schemas.errors import BadFilter, HeadraceError, NoSuchGeneration, StoreNotFound, TransientError, is_transient
from schemas.records import Context, SearchResult
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.highlight import Span, highlights
from tasks.search import rank, result_of
from tasks.status import store_status
from tasks.store.reader import Reader, newest

logger = logging.getLogger(__name__)

MOST_QUARANTINED = 500  # that a status lists
RETRY_AFTER_S = 1
MARKED = ("title", "headings", "text")

# The first that fits says how an error is answered.
STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (BadFilter, 400),
    (StoreNotFound, 404),
    (NoSuchGeneration, 404),
    (TransientError, 503),
    (HeadraceError, 500),
)
WORDS = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

# What holds no document needs no token: the page, which asks for one, and the description of the interface.
OPEN_PATHS = ("/", "/healthz", "/openapi.json")


def create_app(settings: Settings, hosts: list[str] | None = None) -> FastAPI:
    """The server's application; requests must name one of `hosts`, this machine where none are given."""
    turns = Turns(settings)
    metrics = Metrics(settings.store, turns)
    app = FastAPI(
        title="Headrace",
        description="Search a corpus of documents: BM25 and vectors, fused and reranked.",
        version=version(),
        docs_url=None,  # they come from a CDN
        redoc_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.http_token else [],  # for its description
    )
    _answer_errors(app)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 401, 404, 413, 422, 500, 503)
    }

    async def queried(asked: QueryRequest) -> dict[str, Any]:
        result, marks = await turns.run(partial(_query, asked, settings))
        metrics.queried(result)
        answer = asdict(result)
        for hit, places in zip(answer["hits"], marks, strict=True):
            hit["highlights"] = places
        return answer

    async def packed(asked: ContextRequest) -> dict[str, Any]:
        context = await turns.run(partial(_context, asked, settings))
        metrics.ordered(context)
        return asdict(context)

    @app.get("/query", responses=refusals, response_model=QueryResponse, summary="Search the store")
    async def get_query(asked: Annotated[QueryRequest, Query()]) -> dict[str, Any]:
        return await queried(asked)

    @app.post("/query", responses=refusals, response_model=QueryResponse, summary="Search the store")
    async def post_query(asked: QueryRequest) -> dict[str, Any]:
        return await queried(asked)

    @app.get("/context", responses=refusals, response_model=ContextResponse, summary="Pack hits for a prompt")
    async def get_context(asked: Annotated[ContextRequest, Query()]) -> dict[str, Any]:
        return await packed(asked)

    @app.post("/context", responses=refusals, response_model=ContextResponse, summary="Pack hits for a prompt")
    async def post_context(asked: ContextRequest) -> dict[str, Any]:
        return await packed(asked)

    @app.get("/status", responses=refusals, response_model=StatusResponse, summary="What the store holds")
    async def status() -> dict[str, Any]:
        report = asdict(await turns.run(partial(store_status, settings.store)))
        quarantine = report["quarantine"]
        return {**report, "quarantined": len(quarantine), "quarantine": quarantine[:MOST_QUARANTINED]}

    @app.get(
        "/healthz", response_model=Health, responses={503: {"model": Problem}}, summary="Whether the store can be read"
    )
    def healthz() -> Any:
        try:
            return Health(status="ok", generation=newest(settings.store).generation.number)
        except (HeadraceError, OSError) as error:
            return _problem(503, _word(error), str(error))

    @app.get("/metrics", response_class=Response, summary="Figures for Prometheus")
    def metrics_text(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)

    page, policy = _page()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def search_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    paths = {getattr(route, "path", "") for route in app.routes}
    # the last is the outermost
    app.add_middleware(LimitBody, most=MOST_BYTES)
    if settings.http_token:
        app.add_middleware(RequireToken, token=settings.http_token.get_secret_value(), open_paths=OPEN_PATHS)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts or LOCAL_HOSTS, www_redirect=False)
    app.add_middleware(CountRequests, metrics=metrics, paths=paths)
    return app


def _query(asked: QueryRequest, settings: Settings) -> tuple[SearchResult, list[dict[str, list[Span]]]]:
    """The hits, and where they were asked for the places of the question's words in each."""
    settings = asked.over(settings)
    ranking = rank(
        asked.query, settings, k=asked.k, wanted=asked.filter(), reader=_reader(settings.store, asked.generation)
    )
    result = result_of(asked.query, ranking, settings, k=asked.k, explain=asked.explain)
    if not asked.highlight:
        return result, [{} for _ in result.hits]
    texts = [getattr(hit, field) for hit in result.hits for field in MARKED]
    places = iter(highlights(ranking.reader, asked.query, texts))
    return result, [{field: next(places) for field in MARKED} for _ in result.hits]


def _reader(store: Path, generation: int | None) -> Reader | None:
    return None if generation is None else Reader.open(store, generation)


def _context(asked: ContextRequest, settings: Settings) -> Context:
    return pack_context(
        asked.query,
        asked.over(settings),
        budget=asked.budget,
        k=asked.k,
        form=asked.form,
        order=asked.order,
        wanted=asked.filter(),
        generation=asked.generation,
    )


def _answer_errors(app: FastAPI) -> None:
    """Every error as a Problem."""

    @app.exception_handler(HeadraceError)
    async def headrace_error(_: Request, error: HeadraceError) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        if status >= 500:
            logger.error("request failed error=%s detail=%s", type(error).__name__, error)
        return _problem(status, _word(error), str(error))

    @app.exception_handler(OSError)
    async def out_of_something(_: Request, error: OSError) -> JSONResponse:
        if not is_transient(error):
            raise error
        logger.error("request failed error=%s detail=%s", type(error).__name__, error)
        return _problem(503, "unavailable", f"{error}; try again")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(422, "invalid_request", "; ".join(map(_said, error.errors())))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, WORDS.get(error.status_code, "refused"), error.detail, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, "internal_error", "something unexpected happened; the server's log says what")


def _problem(status: int, word: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return JSONResponse({"error": word, "detail": detail}, status, {**(headers or {}), **retry})


def _said(entry: Mapping[str, Any]) -> str:
    """What is wrong with a field of a request, or with its body; not what was sent."""
    source, *field = entry["loc"]
    if source == "body" and (not field or entry["type"] == "json_invalid"):
        return "the body must be a JSON object, sent with Content-Type: application/json"
    return f"{'.'.join(map(str, field))}: {entry['msg']}"


def _word(error: Exception) -> str:
    """For example store_not_found."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _page() -> tuple[str, str]:
    """The search page, and the policy that lets it run its own script and style and nothing else."""
    text = Path(__file__).with_name("search_page.html").read_text(encoding="utf-8")
    script, style = (_digest(re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)) for tag in ("script", "style"))
    return text, (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(elements: list[str]) -> str:
    """The contents of inline elements as sources of a Content-Security-Policy."""
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()}'" for element in elements
    )
