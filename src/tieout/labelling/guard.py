"""Refuse requests that are not of this page: another host name, another origin, no token, a body too large.

A site that the browser visits can send requests to 127.0.0.1, and by DNS rebinding even read the answers. So the Host
must be this machine's own name with this port, a request that writes must come from this origin, and every request
carries a cookie that only the printed address sets.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1_000_000
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Wraps an ASGI application; `GET /?token=...` alone needs no cookie."""

    def __init__(self, app: App, token: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token, f"tieout_{port}"
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 4xx, or pass the request on."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused:
            status, reason = refused
            await send(
                {"type": "http.response.start", "status": status, "headers": _headers("application/json")}
            )
            await send({"type": "http.response.body", "body": json.dumps({"error": reason}).encode()})
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_headers()]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if host not in self.hosts:
            return 403, f"this page is not served as {host!r}"
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin") != f"http://{host}":
                return 403, "the request does not come from this page"
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return 415, "expected JSON"
            length = headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MAX_BODY:
                return 413, f"a request has at most {MAX_BODY} bytes"
        if scope["path"] == "/" and b"token=" in scope["query_string"]:
            return None  # compared there
        if not self.knows(self._cookie(headers.get("cookie", ""))):
            return 403, "open the address that `tieout label` printed; it has the token of this page"
        return None

    def knows(self, token: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def _cookie(self, header: str) -> str:
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""


def _headers(content_type: str = "") -> list[tuple[bytes, bytes]]:
    own = {**HEADERS, **({"content-type": content_type} if content_type else {})}
    return [(name.encode(), value.encode()) for name, value in own.items()]
