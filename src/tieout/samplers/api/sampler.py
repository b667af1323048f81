"""Sample text from an OpenAI-compatible API: concurrent requests over a ledger, which asks for nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

from ...errors import InputError, TieoutError
from ...storage.atomic import fingerprint
from ...types import Answer, Messages, Prompt
from .. import SamplingParams
from .client import Caller, RefusedError, Request
from .ledger import BudgetError, Ledger
from .reply import Reply

OPENAI = "https://api.openai.com/v1"
"""Where requests go if nothing says otherwise."""
OUTAGE = 8
"""Requests in a row that fail by the server's fault before no more are sent."""
ALIKE = 8
"""Samples of prompts that were sampled several times, from which it is said that none of a prompt differ."""


class IncompleteError(TieoutError, RuntimeError):
    """Some requests failed for good. What did arrive is here, so that nothing paid for is lost."""

    def __init__(self, completions: list[str | None], reasons: dict[int, str], kept: str = "") -> None:
        first = next(iter(reasons.values()))
        super().__init__(f"{len(reasons)} of {len(completions)} requests failed; the first: {first}{kept}")
        self.completions = completions
        """One per prompt; None where the request failed."""
        self.reasons = reasons
        """Position of the prompt -> why it has no completion."""


class APISampler:
    """A Sampler over a chat (or, for plain-text prompts, a completions) endpoint.

    Time-outs, connection errors, the statuses 408, 409, 429 and 5xx, and replies that are no completion are retried,
    after the pause that the server asks for or growing ones; remaining failures are in IncompleteError, with the
    completions that arrived. An empty completion is a completion.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        num_workers: int = 8,
        max_retries: int = 4,
        timeout_seconds: float = 120.0,
        ledger: Ledger | None = None,
        text_as_message: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """
        Args:
            model: the name that the server knows it by.
            base_url: such as `http://127.0.0.1:8000/v1`; the environment's OPENAI_BASE_URL, or OpenAI's, if None.
            api_key: the environment's OPENAI_API_KEY if None; servers of your own take any. It is written nowhere.
            num_workers: concurrent requests.
            max_retries: attempts after the first.
            timeout_seconds: for one attempt, to the last byte of its reply.
            ledger: cache, record and budget; in memory and without limits if None.
            text_as_message: ask a plain-text prompt as a message of the user, for servers without /completions.
            progress: called with the number of completions that have just arrived.

        Raises:
            InputError: no key for OpenAI, or a base URL that holds a secret or is none.
        """
        self.model, self.url = model, address(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        if not key and self.url == OPENAI:
            raise InputError(
                f"{model} is behind {self.url}, which needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL to the "
                "address of another server"
            )
        if num_workers < 1 or max_retries < 0 or not timeout_seconds > 0:
            raise InputError(
                f"num_workers {num_workers}, max_retries {max_retries}, timeout_seconds {timeout_seconds}: expected at "
                "least one worker, no negative retries, and some seconds"
            )
        self._key = key or "none"
        self.num_workers, self.max_retries, self.seconds = num_workers, max_retries, timeout_seconds
        self.ledger, self.text_as_message = ledger if ledger is not None else Ledger(), text_as_message
        self.progress = progress
        self.hits = self.misses = 0
        """Completions so far that the ledger had, and that were asked for."""
        self._served: set[str] = set()
        self._alike = False

    @property
    def known_by(self) -> dict[str, str]:
        """What changes with its answers. Where it is asked is none of that: see `RunFolder.record`."""
        return {"model": self.model}

    def __repr__(self) -> str:
        return f"APISampler({self.model!r}, {self.url!r})"

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt. A prompt asked twice in a call is asked once if it is not sampled.

        Sampled, the n-th time that a prompt occurs in a call has a random stream of its own, whatever else is asked:
        16 samples of a prompt begin with the same 8 as 8 do. Servers may ignore seeds; the ledger repeats replies.
        """
        requests = self._requests(prompts, params)
        missing = {r.key: r for r in requests if self.ledger.known(r.key) is None}
        known = [r.key for r in requests if r.key not in missing]
        self.hits, self.misses = self.hits + len(known), self.misses + len(requests) - len(known)
        if self.progress and known:
            self.progress(len(known))
        reasons = self._fetch(missing, Counter(r.key for r in requests)) if missing else {}
        replies = [self.ledger.known(r.key) for r in requests]
        answers = [None if reply is None else answer(reply) for reply in replies]
        self._notice({reply.served for reply in replies if reply is not None and reply.served})
        if params.temperature:
            self._notice_alike(requests, answers)
        if reasons:
            there, path = len(replies) - replies.count(None), self.ledger.path
            kept = (
                f". Repeat the command to ask for these alone: {path} keeps {there} replies" if path else ""
            )
            said = {i: reasons[r.key] for i, r in enumerate(requests) if r.key in reasons}
            raise IncompleteError([*answers], said, kept)
        return [one for one in answers if one is not None]

    def _notice(self, served: set[str]) -> None:
        """Warn once if replies are of several versions of the model, by what the server calls them."""
        before, self._served = self._served, self._served | served
        if len(before) < 2 <= len(self._served):
            warnings.warn(
                f"{self.model} was answered by {' and '.join(sorted(self._served))}: figures over both are of no one "
                "model. Name one version, and use another folder of calls, so that every reply is of it",
                stacklevel=3,
            )

    def _notice_alike(self, requests: Sequence[Request], answers: Sequence[str | None]) -> None:
        """Warn once if no prompt that was sampled several times has two different answers: a server may be greedy."""
        said: dict[str, list[str]] = {}
        for request, one in zip(requests, answers, strict=True):
            if one is not None:
                asked = {name: value for name, value in request.options.items() if name != "seed"}
                said.setdefault(fingerprint(asked), []).append(one)
        several = [own for own in said.values() if len(own) > 1]
        if self._alike or sum(map(len, several)) < ALIKE or any(len(set(own)) > 1 for own in several):
            return
        self._alike = True
        warnings.warn(
            f"{self.model}: all samples of each of {len(several)} prompts are the same text. Either it is sure, or "
            f"{self.url} does not sample: `transformers serve` takes a temperature only where the model's "
            "generation_config.json says do_sample",
            stacklevel=3,
        )

    def _fetch(self, missing: dict[str, Request], times: Counter[str]) -> dict[str, str]:
        """Ask for everything that is missing; key -> why there is no reply."""
        reasons: dict[str, str] = {}
        _in_own_loop(self._ask_all(missing, times, reasons))
        return reasons

    async def _ask_all(
        self, missing: dict[str, Request], times: Counter[str], reasons: dict[str, str]
    ) -> None:
        from openai import AsyncOpenAI

        places, stop, outages = asyncio.Semaphore(self.num_workers), "", 0
        timeout = self.seconds + 5  # of the connection; each attempt has a deadline of its own
        async with AsyncOpenAI(
            api_key=self._key, base_url=self.url, max_retries=0, timeout=timeout
        ) as client:
            caller = Caller(client, self.model, self._key, self.ledger, self.max_retries, self.seconds)

            async def one(request: Request) -> None:
                nonlocal stop, outages
                async with places:
                    if stop:
                        reasons[request.key] = f"not sent, since {stop}"
                        return
                    try:
                        await caller.ask(request)
                        outages = 0
                    except RefusedError as error:
                        reasons[request.key] = f"{self.model}: {error}"
                        outages += error.outage
                        if error.all_others or outages >= OUTAGE:
                            stop = stop or f"an earlier one failed: {error}"
                    except BudgetError as error:
                        reasons[request.key] = str(error)
                    if self.progress:
                        self.progress(times[request.key])

            async with asyncio.TaskGroup() as tasks:
                for request in missing.values():
                    tasks.create_task(one(request))

    def _requests(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[Request]:
        seen: Counter[str] = Counter()
        found = []
        for i, prompt in enumerate(prompts):
            said, chat = self._said(prompt)
            options = {
                "model": self.model,
                "temperature": params.temperature,
                "top_p": params.top_p,
                **said,
            }
            asked: dict[str, Any] = {"url": self.url, "max_new_tokens": params.max_new_tokens, **options}
            if params.temperature:
                # Which sample of the prompt it is, not its place in the call: other rows do not change it.
                asked |= {"seed": params.seed, **({"stream": params.stream(i)} if params.streams else {})}
                asked["sample"] = seen[(key := fingerprint(asked))]
                seen[key] += 1
            key = fingerprint(asked)
            options["seed"] = int(key[:8], 16) % 2**31
            size = len(json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            found.append(Request(key, chat, options, size, params.max_new_tokens))
        return found

    def _said(self, prompt: Prompt) -> tuple[dict[str, Any], bool]:
        """The prompt as the client takes it, and whether it is a chat."""
        if isinstance(prompt, str):
            if not self.text_as_message:
                return {"prompt": prompt}, False
            return {"messages": [{"role": "user", "content": prompt}]}, True
        options: dict[str, Any] = {"messages": [dict(message) for message in prompt]}
        told = dict(prompt.told) if isinstance(prompt, Messages) else {}
        if tools := told.pop("tools", None):
            options["tools"] = tools
        if told:  # servers of open models take it; others refuse what they do not know
            options["extra_body"] = {"chat_template_kwargs": told}
        return options, True


def answer(reply: Reply) -> Answer:
    """A reply as samplers give it."""
    return Answer(reply.text, reply.usage, finish_reason=reply.finish_reason)


def address(url: str) -> str:
    """A base URL as it is compared and kept. InputError: it is none, or it holds what belongs into OPENAI_API_KEY."""
    parts = urlsplit(url.strip())
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "the base URL holds a name, a password or a query, and it is kept in files: give the address alone "
            "(http://HOST:PORT/v1), and the key as OPENAI_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"the base URL is {url!r}; expected http://HOST:PORT/v1 or https://HOST/v1")
    return url.strip().rstrip("/")


def _in_own_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous work to its end in a thread, as the caller may be inside a loop of its own (a notebook)."""
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            failed.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        thread.join()
    except BaseException:  # interrupted: what is under way ends, and is on record
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failed:
        first = failed[0]
        raise first.exceptions[0] if isinstance(first, BaseExceptionGroup) else first
