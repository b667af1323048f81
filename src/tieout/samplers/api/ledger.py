"""Ledger of calls to APIs: what was sent, what came back, what it cost. It is cache, budget and resume in one file.

A line is written, and forced to disk, before a call is sent, and another one before its reply is used. So a command
that was killed asks for nothing again that had arrived. A call under way at that moment has no reply: it counts at
its most, since the provider may charge it, and is asked again. Processes and samplers may share a file: each line is
written under a lock, after what the others wrote was read.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from ...errors import InputError, TieoutError
from ...storage.atomic import sync
from ..prices import Price
from .reply import Reply

FILE = "calls.jsonl"
"""In the folder of a ledger."""


class BudgetError(TieoutError, RuntimeError):
    """The next call could go beyond the budget; it was not sent."""


@dataclass(frozen=True)
class Budget:
    """Limits on everything that a ledger holds, earlier commands included; None: no limit."""

    max_calls: int | None = None
    """Calls sent; a retry is a call."""
    max_tokens: int | None = None
    """Tokens read and written. A call is sent only if there is room for the most that it can take: its prompt in
    bytes, as no token is shorter, and `max_new_tokens`."""
    max_cost: float | None = None
    """Money, in the currency of the prices."""


@dataclass
class Spent:
    """What calls took."""

    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0
    """Of the calls whose price is known."""
    unpriced: int = 0
    """Calls without a price, which the cost leaves out."""
    unknown: int = 0
    """Calls that count at their most, as no reply says what they took: lost, under way, or without usage."""


@dataclass
class _Call:
    key: str
    model: str
    price: str
    prompt_tokens: int
    tokens: int
    known: bool = False
    """Whether the tokens are what the call took, no longer the most that it can take."""


@dataclass
class Ledger:
    """What was sent and what came back, in `FOLDER/calls.jsonl`, or in memory only."""

    folder: Path | None = None
    """None: nothing is kept, and every command asks again."""
    budget: Budget = field(default_factory=Budget)
    prices: Mapping[str, str] = field(default_factory=dict)
    """Model -> price per million tokens, `PROMPT,ANSWER`. A call keeps the price that it was sent under."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._calls: dict[str, _Call] = {}
        self._replies: dict[str, Reply] = {}
        self._mine: set[str] = set()
        self._spent, self._unpriced = Spent(), set[str]()
        self._read = 0
        for model, price in self.prices.items():
            if Price.of(price).hour:
                raise InputError(f"price {price!r} of {model}: an API is paid by tokens, PROMPT,ANSWER")
        with self._open() as file:
            self._absorb(file)
        self.left_over = self._spent.unknown
        """Calls of earlier commands that nothing says the usage of."""

    @property
    def path(self) -> Path | None:
        """The file."""
        return None if self.folder is None else self.folder / FILE

    @property
    def spent(self) -> Spent:
        """What all calls took, at this moment."""
        with self._lock:
            return replace(self._spent)

    def known(self, key: str) -> Reply | None:
        """The reply to a request, if it has arrived in this command or an earlier one."""
        return self._replies.get(key)

    def send(self, key: str, model: str, prompt_tokens: int, tokens: int) -> str | None:
        """Put a call on record before it is sent: the name under which `settle` ends it.

        `prompt_tokens` and `tokens` are the most that it can take. None: there is room only once calls of this process
        that are under way have come back. BudgetError: there is no room.
        """
        call = _Call(key, model, self.prices.get(model, ""), prompt_tokens, tokens)
        with self._lock, self._open() as file:
            self._absorb(file)
            if over := self._over(call):
                if self._mine:
                    return None
                raise BudgetError(over)
            name = uuid4().hex[:12]
            self._mine.add(name)
            self._write(file, {"sent": name, **{k: v for k, v in asdict(call).items() if k != "known"}})
        return name

    def settle(self, name: str, reply: Reply | None = None, failed: str = "", charged: bool = False) -> None:
        """Put on record how a call ended, before its reply is used.

        Without a reply it took nothing, or, if it was perhaps `charged`, the most that it could.
        """
        line: dict[str, Any] = {"came": name}
        if reply is not None:
            line["reply"] = asdict(reply)
        if failed:
            line |= {"failed": failed, "charged": charged}
        with self._lock, self._open() as file:
            self._absorb(file)
            self._write(file, line)
            self._mine.discard(name)

    # ------------------------------------------------------------ arithmetic

    def _cost(self, call: _Call) -> float:
        price = call.price or self.prices.get(call.model, "")
        used = {"prompt_tokens": call.prompt_tokens, "tokens": call.tokens, "seconds": 0}
        return Price.of(price).cost(used) if price else 0.0

    def _count(self, call: _Call, sign: int) -> None:
        """Add a call to what is spent, or take it out."""
        spent = self._spent
        spent.calls += sign
        spent.prompt_tokens += sign * call.prompt_tokens
        spent.tokens += sign * call.tokens
        spent.unknown += sign * (not call.known)
        spent.cost += sign * self._cost(call)
        if not (call.price or self.prices.get(call.model)):
            spent.unpriced += sign
            self._unpriced.add(call.model)

    def _over(self, call: _Call) -> str:
        """Why a call does not fit the budget; empty if it does."""
        spent, most = self._spent, self.budget
        where = f" ({self.path} counts)" if self.path else ""
        if most.max_calls is not None and spent.calls >= most.max_calls:
            return f"all {most.max_calls} calls of the budget are used{where}; raise max_calls"
        used, more = spent.prompt_tokens + spent.tokens, call.prompt_tokens + call.tokens
        if most.max_tokens is not None and used + more > most.max_tokens:
            return (
                f"{used:,} tokens are used of a budget of {most.max_tokens:,}, and the next call can take "
                f"{more:,}{where}; raise the budget of tokens"
            )
        if most.max_cost is not None:
            self._unpriced |= set() if call.price else {call.model}
            if self._unpriced:
                names = ", ".join(sorted(self._unpriced))
                raise InputError(
                    f"a budget of money needs the price of every model in the ledger; none is known of {names}: give "
                    f"--price api:{min(self._unpriced)}=PROMPT,ANSWER per million tokens"
                )
            if spent.cost + self._cost(call) > most.max_cost + 1e-12:
                return (
                    f"{spent.cost:.6g} is spent of a budget of {most.max_cost:g}, and the next call can cost "
                    f"{self._cost(call):.6g}{where}; raise max_cost"
                )
        return ""

    # ------------------------------------------------------------ the file

    @contextmanager
    def _open(self) -> Iterator[BinaryIO | None]:
        """The file, under its lock."""
        if self.path is None:
            yield None
            return
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if new:
                sync(self.path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _write(self, file: BinaryIO | None, line: Mapping[str, Any]) -> None:
        text = json.dumps(line)
        if file is not None:
            file.write(text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._read = file.tell()
        self._take(line, "")

    def _absorb(self, file: BinaryIO | None) -> None:
        """Take over what other processes wrote; a line torn by a kill is cut off."""
        if file is None:
            return
        size = file.seek(0, os.SEEK_END)
        if size < self._read:
            raise InputError(f"{self.path} has become shorter while it was in use; run the command again")
        file.seek(self._read)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(self._read + whole)
        for number, text in enumerate(data[:whole].splitlines(), start=1):
            self._take(_line(text, f"{self.path}, line {number} from byte {self._read}"), str(self.path))
        self._read += whole
        file.seek(0, os.SEEK_END)

    def _take(self, line: Mapping[str, Any], where: str) -> None:
        """Count a line."""
        try:
            if "sent" in line:
                own = {name: line[name] for name in ("key", "model", "price", "prompt_tokens", "tokens")}
                self._calls[line["sent"]] = _Call(**own)
                self._count(self._calls[line["sent"]], 1)
                return
            call = self._calls[line["came"]]
            self._count(call, -1)
            if "reply" in line:
                reply = Reply(**line["reply"])
                self._replies[call.key] = reply
                if reply.tokens is not None and reply.prompt_tokens is not None:
                    call.prompt_tokens, call.tokens, call.known = reply.prompt_tokens, reply.tokens, True
            elif not line["charged"]:
                call.prompt_tokens, call.tokens, call.known = 0, 0, True
            self._count(call, 1)
        except (KeyError, TypeError) as error:
            raise InputError(f"{where}: not a ledger of calls ({type(error).__name__}: {error})") from error


def _line(text: bytes, where: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); a ledger is not for editing") from error
    if not isinstance(line, dict):
        raise InputError(f"{where}: expected an object, found a {type(line).__name__}")
    return line
