"""HTTP client of a server that replies in JSON: retries with growing pauses, gives up on silence."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ...errors import InputError, TieoutError

T = TypeVar("T")
RETRIED = {408, 409, 425, 429}
"""Statuses below 500 that pass with time."""
ALIVE_SECONDS = 10.0
"""For a server to say which models it has, once a request has had no reply in time."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: the key would go along, to whatever host it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())


def check_address(url: str) -> None:
    """InputError: the address holds a password, which would be written into run.json."""
    if "@" in urlsplit(url.strip()).netloc:
        raise InputError(
            "the address of a vLLM server holds a name or password, and it is kept in files: give http://HOST:PORT, "
            "and the key as VLLM_API_KEY"
        )


class ServerDown(TieoutError, RuntimeError):
    """A server gave no reply, or a malformed one, to all attempts."""


class Refused(InputError):
    """A server understood the request and will not do it: another server, or another try, would not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Garbled(ValueError):
    """A malformed reply; the request is retried."""


@dataclass
class Server:
    """One server. It is asked directly, never through a proxy."""

    url: str
    """Such as `http://127.0.0.1:8011`; a path of /v1 at its end is dropped."""
    api_key: str | None = None
    timeout_seconds: float = 600.0
    """For one attempt."""
    max_retries: int = 4
    """Attempts after the first."""
    pause_seconds: float = 0.5
    """Before the first retry; doubled for each further one."""
    down: str = field(default="", init=False)
    """The reason it was given up; empty while it answers."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"server {self.url!r} is no address; expected http://HOST:PORT")
        check_address(self.url)
        self.url = self.url.rstrip("/").removesuffix("/v1")

    def ask(
        self,
        path: str,
        body: Any = None,
        read: Callable[[Any], T] = lambda reply: reply,
        *,
        as_json: bool = True,
        seconds: float | None = None,
    ) -> T:
        """POST `body` (GET if None) and return what `read` makes of the reply.

        Args:
            path: such as /v1/models.
            body: plain values, sent as JSON.
            read: takes the reply apart; Garbled is retried.
            as_json: whether the reply is JSON, or text.
            seconds: for one attempt, where that is less than `timeout_seconds`.

        Raises:
            Refused: a status of 400 to 499 that does not pass with time, with the server's own words.
            ServerDown: all attempts failed; `down` then holds the last reason.
        """
        reason = ""
        for attempt in range(self.max_retries + 1):
            if attempt:
                time.sleep(self._pause(attempt))
            if self.down and attempt:  # another request has found out
                break
            try:
                data = self._send(path, body, min(seconds or self.timeout_seconds, self.timeout_seconds))
                return read(json.loads(data) if as_json else data.decode("utf-8", "replace"))
            except urllib.error.HTTPError as error:
                reason = f"status {error.code}: {_words(error)}"
                if error.code < 500 and error.code not in RETRIED:
                    raise Refused(f"{self.url}{path} refused with {reason}", error.code) from error
                wait = error.headers.get("Retry-After", "")
                if wait.isdigit():
                    time.sleep(min(int(wait), 30))
            except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
                reason = f"{type(error).__name__}: {getattr(error, 'reason', None) or error}"
                late = isinstance(error, TimeoutError) or isinstance(
                    getattr(error, "reason", None), TimeoutError
                )
                if late and not self._lives():
                    self.down = self.down or f"{path}: it hangs: {reason}"
                    break
            except (Garbled, UnicodeDecodeError, json.JSONDecodeError) as error:
                reason = f"its reply is garbled: {error}"
        self.down = self.down or f"{path}: {reason}"
        raise ServerDown(f"{self.url} gave no good reply to {self.max_retries + 1} requests; {self.down}")

    def _send(self, path: str, body: Any, seconds: float) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with _DIRECT.open(request, timeout=seconds) as reply:
            received, ends = bytearray(), time.monotonic() + seconds
            while part := reply.read1(1 << 20):
                received += part
                if len(received) > most_bytes(body):
                    raise Garbled(f"more than {len(received)} bytes")
                if time.monotonic() > ends:  # the time-out of a socket is of each read
                    raise TimeoutError(f"no whole reply within {seconds:g} seconds")
            return bytes(received)

    def _lives(self) -> bool:
        """Whether a server that did not reply in time still says which models it has; it is said in any case."""
        warnings.warn(f"{self.url} gave no reply within {self.timeout_seconds:g} seconds", stacklevel=3)
        try:
            return bool(self._send("/v1/models", None, min(ALIVE_SECONDS, self.timeout_seconds)))
        except (OSError, HTTPException) as error:
            return isinstance(error, urllib.error.HTTPError)

    def _pause(self, attempt: int) -> float:
        """Twice as long each time, and never the same for two requests: they would come back together."""
        longest = min(8.0, self.pause_seconds * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)


def most_bytes(body: Any) -> int:
    """The longest reply to a request: a KiB for each token asked for, and 16 MiB."""
    asked = body if isinstance(body, dict) else {}
    return (16 << 20) + 1024 * int(asked.get("n", 1)) * int(asked.get("max_tokens", 1))


def _words(error: urllib.error.HTTPError) -> str:
    """The message of a server's error."""
    try:
        text = error.read().decode("utf-8", "replace")
    except (OSError, HTTPException):
        return str(error.reason)
    try:
        found = json.loads(text)
        inner = found.get("error", found)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)[:500]
    except (ValueError, AttributeError):
        return text[:200] or str(error.reason)
