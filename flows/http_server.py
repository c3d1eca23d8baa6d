"""`headrace serve-http`: search a store over HTTP. Not `http.py`: Prefect puts this folder on the module path."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.guard import AllowHostOption, HostOption, WithoutTokenOption, known_hosts, listen, serve, url_of
from flows.options import DeadlineOption, RerankerOption, SetOption, StoreOption, err, settings_of
from flows.serving import warm


def serve_http(
    store: StoreOption = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 for any that is free.")] = 8420,
    allow_host: AllowHostOption = None,
    without_token: WithoutTokenOption = False,
    reranker: RerankerOption = None,
    deadline_ms: DeadlineOption = None,
    set_: SetOption = None,
) -> None:
    """Serve a store over HTTP: a search page at /, /query, /context, /status, /healthz, /metrics and /openapi.json.

    It answers from the newest generation, whoever publishes it, without a restart. Where HEADRACE_HTTP_TOKEN is set,
    requests must bring it (Authorization: Bearer …); the page asks for it.

    Example: headrace serve-http --store ./index, then open http://127.0.0.1:8420
    """
    flags = {"reranker": reranker, "deadline_ms": deadline_ms}
    settings = settings_of(store, set_, {name: value for name, value in flags.items() if value})
    with listen(host, port, settings, without_token=without_token) as listening:
        err.print("[dim]loading models …[/dim]")
        warm(settings)
        from flows.http_app import create_app

        app = create_app(settings, known_hosts(listening.getsockname()[0], allow_host))
        err.print(f"{url_of(listening)} serves {settings.store}; Ctrl-C stops", highlight=False, markup=False)
        serve(app, listening, settings)
    err.print("stopped")
