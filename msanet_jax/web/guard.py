"""Who may talk to the page: holders of the token in its address, by its own host name, from its own pages."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_ANYWHERE = ("127.0.0.1", "localhost")
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses everything but requests of the page itself; one line says why.

    - The path begins with the token, compared in constant time; else 404, whatever the rest is.
    - `Host` is 127.0.0.1 or localhost with the port, so that a name that another site points here leads nowhere.
    - `Origin`, where a browser sends it, is one of these hosts; so are `Sec-Fetch-Site` and its like.

    Args:
      app: what is guarded.
      token: first part of every path.
      port: of the server.
      proxies: ends of host names that may lead here too, as `.googleusercontent.com` of a notebook; they may frame it.
        An empty one stands for any name, where a hub checks who asks.
    """

    def __init__(self, app: Application, *, token: str, port: int, proxies: tuple[str, ...] = ()) -> None:
        self._app, self._token, self._proxies = app, token, proxies
        self._hosts = {f"{name}:{port}" for name in _ANYWHERE}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        if refusal := self._refusal(scope):
            await refusal(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if not self._proxies:
                    headers["X-Frame-Options"] = "DENY"
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Message) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if not self._knows(headers.get("host", "")):
            return PlainTextResponse("Open the address that msanet serve printed.\n", 403)
        given = scope["path"].lstrip("/").partition("/")[0]
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            return PlainTextResponse("Open the whole address that msanet serve printed, with its key.\n", 404)
        origin = headers.get("origin")
        if origin is not None and not self._knows(_host(origin)):
            return PlainTextResponse("Another page must not use this one.\n", 403)
        if not self._proxies and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return PlainTextResponse("Type the address; a link of another page does not open it.\n", 403)
        return None

    def _knows(self, host: str) -> bool:
        return host in self._hosts or any(host.partition(":")[0].endswith(end) for end in self._proxies)


def _host(origin: str) -> str:
    """Host and port of an origin; empty where it has none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # half an IPv6 address
        return ""
