"""The server of the pages: on this machine alone, for whoever has the address, of one run folder.

An address holds a token of 192 bits; every other one is answered alike, with 404. The `Host` of a request is
checked, so that no name of a stranger's that leads to this machine (DNS rebinding) opens it. No file of the
folder is handed out as it is: pages are made of it, and jinja2 escapes all of it.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from protocols.language.errors import KeyholeError
from scenarios.viewer.pages import Pages

LOOPBACK = "127.0.0.1"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src data:; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",  # the address holds the token
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Guard:
    """Lets a request through that names the right host and the token, and takes the token off its path."""

    def __init__(self, inside: Any, token: str, hosts: frozenset[str]) -> None:
        self._inside, self._token, self._hosts = inside, token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        inside = self._inside if self._admits(scope) else PlainTextResponse("Not found", 404)
        await inside(scope, receive, _with_headers(send))

    def _admits(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        _, _, path = str(scope["path"]).partition("/")
        token, slash, rest = path.partition("/")
        told = hmac.compare_digest(token.encode("utf-8", "replace"), self._token)
        if not told or not slash or len(hosts) != 1 or hosts[0].decode("latin-1") not in self._hosts:
            return False
        scope["path"], scope["raw_path"] = f"/{rest}", f"/{rest}".encode()
        return True


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            named = {name for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *(each for each in more if each[0] not in named)]
        await send(message)

    return sent


def application(pages: Pages, token: str, port: int) -> Guard:
    """The pages of a run as an ASGI application, at `/TOKEN/`."""

    def page(made: Callable[[Request], str]) -> Callable[[Request], Response]:
        def answered(request: Request) -> Response:
            try:
                return HTMLResponse(made(request))
            except KeyholeError as fault:
                return HTMLResponse(pages.fault(str(fault)), 404)

        return answered

    def entry(request: Request) -> str:
        return pages.entry(request.path_params["file"], request.path_params["id"], request.query_params)

    def style(request: Request) -> Response:
        return Response(pages.style, media_type="text/css")

    def missing(request: Request, fault: Exception) -> Response:
        status = fault.status_code if isinstance(fault, HTTPException) else 500
        return HTMLResponse(pages.fault("There is no such page."), status)

    def broken(request: Request, fault: Exception) -> Response:
        return HTMLResponse(pages.fault(f"internal error: {type(fault).__name__}"), 500)

    routes = [
        Route("/", page(lambda request: pages.entries(request.query_params)), methods=["GET"]),
        Route("/entry/{file:int}/{id:int}", page(entry), methods=["GET"]),
        Route("/figure", page(lambda request: pages.figure()), methods=["GET"]),
        Route("/follow", page(lambda request: pages.follow(request.query_params)), methods=["GET"]),
        Route("/style.css", style, methods=["GET"]),
    ]
    inside = Starlette(routes=routes, exception_handlers={HTTPException: missing, Exception: broken})
    inside.router.redirect_slashes = False
    return Guard(inside, token, frozenset(f"{name}:{port}" for name in (LOOPBACK, "localhost")))


class Viewer:
    """A server that listens on the loopback interface; `url` opens it."""

    def __init__(self, pages: Callable[[str], Pages], port: int = 0) -> None:
        """`pages`: made when the token is known; `port` 0: a free one. Raises `OSError` where it is taken."""
        token = secrets.token_urlsafe(24)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port))
            self._socket.listen(64)  # whoever is told the address is not refused
        except OSError:
            self._socket.close()
            raise
        self.port = self._socket.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}/{token}/"
        self._pages = pages(f"/{token}")
        config = uvicorn.Config(
            application(self._pages, token, self.port),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    def serve(self) -> None:
        """Answer until Ctrl-C, or `stop` from another thread."""
        threading.Thread(target=self._pages.warm, daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):
                self._server.run(sockets=[self._socket])
        finally:
            self._pages.close()
            self._socket.close()

    def stop(self) -> None:
        """End `serve`."""
        self._server.should_exit = True
