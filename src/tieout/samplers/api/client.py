"""Send one request until it has a reply: deadline, retries, Retry-After, and a record of each attempt.

The openai client sends; retrying is done here, so that each attempt is on record before it is sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from ...errors import TieoutError
from .ledger import Ledger
from .reply import Reply, ReplyError, read_reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LONGEST_PAUSE = 300.0
"""Seconds; a server that asks to wait longer ends the request."""
LARGEST_BYTES = 16 << 20
"""Of a reply, which is text."""
_WAIT = 0.02
"""Seconds between looks for room in the budget."""
_NEW_NAME = "max_completion_tokens"
"""What newer models of OpenAI call max_tokens; they refuse the old name, which all other servers know."""


class RefusedError(TieoutError, RuntimeError):
    """A request has no reply, and will have none."""

    def __init__(self, reason: str, all_others: bool = False, outage: bool = False) -> None:
        super().__init__(reason)
        self.all_others = all_others
        """Whether every other request would be refused too: the key, the model or the endpoint is wrong."""
        self.outage = outage
        """Whether the server failed, not the request."""


@dataclass
class Request:
    """What is asked."""

    key: str
    """Of the ledger."""
    chat: bool
    options: dict[str, Any]
    """Of the openai client's `create`."""
    most_prompt: int
    """Tokens of the prompt, at most."""
    most: int
    """Tokens of the completion, at most."""


class Caller:
    """Sends requests with one openai client."""

    def __init__(
        self, client: AsyncOpenAI, model: str, key: str, ledger: Ledger, max_retries: int, seconds: float
    ) -> None:
        self.client, self.model, self.ledger = client, model, ledger
        self.max_retries, self.seconds, self._key = max_retries, seconds, key
        self._length = "max_tokens"

    async def ask(self, request: Request) -> Reply:
        """The reply, once it is on record. RefusedError, BudgetError: there is none."""
        attempt = 0
        while True:
            while (name := self._send(request)) is None:
                await asyncio.sleep(_WAIT)
            try:
                reply = await self._attempt(request)
            except _Failed as failed:
                self.ledger.settle(name, failed=failed.reason, charged=failed.charged)
                if failed.renamed and self._length != _NEW_NAME:
                    self._length = _NEW_NAME
                    continue
                if failed.again and failed.pause <= LONGEST_PAUSE and attempt < self.max_retries:
                    await asyncio.sleep(failed.pause or min(8.0, 0.5 * 2**attempt) * random.uniform(0.75, 1))
                    attempt += 1
                    continue
                tried = f" ({attempt + 1} attempts)" if attempt else ""
                wait = f"; it asks to wait {failed.pause:.0f} seconds" if failed.pause > LONGEST_PAUSE else ""
                raise RefusedError(f"{failed.reason}{wait}{tried}", failed.all_others, failed.again) from None
            except BaseException:  # interrupted: it may be charged
                self.ledger.settle(name, failed="interrupted", charged=True)
                raise
            self.ledger.settle(name, reply)
            return reply

    def _send(self, request: Request) -> str | None:
        return self.ledger.send(request.key, self.model, request.most_prompt, request.most)

    async def _attempt(self, request: Request) -> Reply:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        endpoint: Any = self.client.chat.completions if request.chat else self.client.completions
        length = self._length if request.chat else "max_tokens"
        options = {length: request.most, **request.options}
        started = perf_counter()
        try:
            async with asyncio.timeout(self.seconds):  # of the whole reply, however slowly it drips in
                async with endpoint.with_streaming_response.create(**options) as reply:
                    data = await _whole(reply.iter_bytes(1 << 20))
            if len(self._key) >= 8 and self._key.encode() in data:
                raise ReplyError("the reply repeats the API key; it is not kept", again=False)
            return read_reply(data, request.chat, perf_counter() - started)
        except TimeoutError:
            raise _Failed(f"no whole reply within {self.seconds:g} seconds", True, charged=True) from None
        except ReplyError as error:
            raise _Failed(self._clean(error), error.again, charged=True) from None
        except APIStatusError as error:
            raise self._refused(error.status_code, error.response.headers, error.body, request.chat) from None
        except APIConnectionError as error:
            cause = error.__cause__ or error
            said = f"{type(error).__name__}: {cause}"
            raise _Failed(self._clean(said), True, charged=not _before_sending(cause)) from None
        except OpenAIError as error:
            raise _Failed(self._clean(f"{type(error).__name__}: {error}"), False, charged=True) from None

    def _refused(self, status: int, headers: Mapping[str, str], body: Any, chat: bool) -> _Failed:
        """An error status: whether to try again, and when."""
        own = body.get("error", body) if isinstance(body, Mapping) else body
        said = own.get("message", own) if isinstance(own, Mapping) else own
        said = said if isinstance(said, str) else json.dumps(said, default=str)
        code = own.get("code") if isinstance(own, Mapping) else None
        reason = self._clean(f"status {status}: {said or 'no message'}")
        if status in (404, 405) and not chat:
            reason += "; plain-text prompts go to /completions: give messages, or --text-as-message"
        empty = code == "insufficient_quota"
        again = (status in (408, 409, 429) or status >= 500) and not empty
        wrong = empty or status in (401, 403, 404, 405)
        renamed = chat and status == 400 and _NEW_NAME in said
        return _Failed(reason, again, pause_of(headers), all_others=wrong, renamed=renamed)

    def _clean(self, said: object) -> str:
        """A message without the key, in one line of bounded length."""
        text = " ".join(str(said).split())
        text = text.replace(self._key, "[key]") if len(self._key) >= 4 else text
        return re.sub(r"\b(sk-|Bearer\s+)[^\s'\",]+", r"\1[key]", text)[:300]


@dataclass
class _Failed(Exception):
    """One attempt without a reply."""

    reason: str
    again: bool
    pause: float = 0.0
    charged: bool = False
    all_others: bool = False
    renamed: bool = False


async def _whole(parts: AsyncIterator[bytes]) -> bytes:
    """The bytes of a reply. ReplyError: there are too many, or the connection ended before the last."""
    data = bytearray()
    while len(data) <= LARGEST_BYTES:
        try:
            data += await anext(parts)
        except StopAsyncIteration:
            return bytes(data)
        except Exception as error:  # of whichever HTTP client openai has
            raise ReplyError(f"{type(error).__name__}: {error}") from error
    raise ReplyError(f"a reply of more than {LARGEST_BYTES >> 20} MiB")


def pause_of(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0: it does not say.

    >>> pause_of({"retry-after": "2"}), pause_of({"retry-after-ms": "1500"}), pause_of({"retry-after": "soon"})
    (2.0, 1.5, 0.0)
    """
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after"]))
    with suppress(KeyError, ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    return 0.0


def _before_sending(cause: BaseException) -> bool:
    """Whether a connection was never made, so that nothing was asked."""
    return type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
