"""Who may ask a server: the address that it listens at, the Host that a request names, the token that it brings.

By default a server listens on this machine alone. A web page that a browser here shows could still reach it under a
name of its own that it lets point here (DNS rebinding), so requests must name a host that is known. Elsewhere a server
listens only with a token, or where somebody has said plainly that it needs none.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import TerminalError
from schemas.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HostOption = Annotated[str, typer.Option("--host", help="Address to listen at; without a token only this machine's.")]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="A name by which clients reach the server, such as that of a proxy before it. Repeatable. Without it: "
        "localhost and 127.0.0.1, or any where --host is not of this machine.",
    ),
]
WithoutTokenOption = Annotated[
    bool, typer.Option("--without-token", help="Let everybody ask who can reach the server, at any --host.")
]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

# On every answer. Documents are untrusted: what is sent as JSON is never taken for a page, here or in another's frame.
HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)

# Seconds that requests in flight have to end after a server was told to stop, beyond what a query may take.
GRACE_S = 5


def listen(host: str, port: int, settings: Settings, *, without_token: bool) -> socket.socket:
    """A socket that listens at `host` and `port`, 0 for any that is free.

    Raises TerminalError where that is not to be had, or open to others without a token.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not (is_local(str(address[0])) or settings.http_token or without_token):
            raise TerminalError(
                f"{host} can be reached from other machines, and there is no token; set HEADRACE_HTTP_TOKEN to a long "
                "random one, listen at 127.0.0.1 behind a proxy that knows its users, or say --without-token to let "
                "everybody ask"
            )
        listening = socket.create_server(address[:2], family=family, backlog=128)
        # connections take it over; without, the end of an answer waits 40 ms for the client to confirm its head
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise TerminalError(f"cannot listen at {host}, port {port}: {error}; choose another --host or --port") from None


def is_local(address: str) -> bool:
    """Whether an IP address reaches this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def known_hosts(address: str, named: Sequence[str] | None) -> list[str]:
    """The hosts that a request to `address` may name; `*` for any."""
    if named:
        return [*LOCAL_HOSTS, *named]
    return list(LOCAL_HOSTS) if is_local(address) else ["*"]


def url_of(listening: socket.socket) -> str:
    """Where a client on this machine finds the server."""
    address, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: ASGIApp, listening: socket.socket, settings: Settings) -> None:
    """Answer requests until SIGTERM or Ctrl-C; those in flight are answered before it returns."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,  # as the command line logs: errors, and with --verbose every request
        headers=list(HEADERS),
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=int(settings.query_wait_s + settings.query_timeout_s) + GRACE_S,
    )
    with suppress(KeyboardInterrupt):  # the signal that stopped it, raised again after it has
        uvicorn.Server(config).run(sockets=[listening])


class RequireToken:
    """ASGI middleware: 401 for requests without the bearer token, but to paths that are open."""

    def __init__(self, app: ASGIApp, *, token: str, open_paths: Collection[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths or self._known(scope):
            return await self._app(scope, receive, send)
        from starlette.responses import JSONResponse

        wrong = {"error": "unauthorized", "detail": "send the server's token: Authorization: Bearer TOKEN"}
        return await JSONResponse(wrong, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        given: bytes = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        # in constant time: how long it takes does not tell how much of a guess is right
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class LimitBody:
    """ASGI middleware: 413 once a request's body has more bytes than it may."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        from starlette.exceptions import HTTPException

        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413, f"a request may have {self._most:,} bytes")
            return message

        return await self._app(scope, limited, send)
