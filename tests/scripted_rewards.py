"""Rewards that do as their completions say, in a module of its own: worker processes import it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any


def obedient(completions: Sequence[str], **_: Any) -> list[Any]:
    """1 for a harmless completion; otherwise what the completion says."""
    for completion in completions:
        match completion:
            case "hang":
                while True:
                    pass
            case "raise":
                raise ValueError("told to")
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "print":
                print('["scored", 1e9]', flush=True)
            case "fork":
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                time.sleep(60)
    return [float(completion != "wrong") for completion in completions]


def slow(completions: Sequence[str], **_: Any) -> list[float]:
    """Takes 5 ms a completion."""
    time.sleep(0.005 * len(completions))
    return [float(len(completion)) for completion in completions]


def hangs(completions: Sequence[str], **_: Any) -> list[float]:
    """Never answers."""
    while True:
        pass


def raises(completions: Sequence[str], **_: Any) -> list[float]:
    """Always."""
    raise KeyError("no such thing")


def not_a_number(completions: Sequence[str], **_: Any) -> list[Any]:
    """NaN."""
    return [float("nan")] * len(completions)


def infinite(completions: Sequence[str], **_: Any) -> list[Any]:
    """Infinity."""
    return [float("inf")] * len(completions)


def strings(completions: Sequence[str], **_: Any) -> list[Any]:
    """Numbers as text."""
    return ["1.0"] * len(completions)


def one_too_few(completions: Sequence[str], **_: Any) -> list[float]:
    """The wrong length."""
    return [1.0] * (len(completions) - 1)


def nothing(completions: Sequence[str], **_: Any) -> Any:
    """No list at all."""
    return None


def down(completions: Sequence[str], **_: Any) -> list[float]:
    """A service that does not answer."""
    raise ConnectionError("connection refused")


async def never(completions: Sequence[str], **_: Any) -> list[float]:
    """Waits for ever."""
    await asyncio.sleep(3600)
    return [1.0] * len(completions)


def scaled(completions: Sequence[str], factor: float = 1.0, **_: Any) -> list[float]:
    """The length, times an option."""
    return [factor * len(completion) for completion in completions]


def by_message(completions: Sequence[list[dict[str, str]]], answer: Sequence[str], **_: Any) -> list[float]:
    """Written for conversations."""
    return [float(c[-1]["content"] == a) for c, a in zip(completions, answer, strict=True)]


def counts_tokens(completions: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> list[float]:
    """The tokens of each; what says so breaks it."""
    if "raise" in completions:
        raise ValueError("told to")
    return [float(len(ids)) for ids in completion_ids]


def forks(completions: list[str], **_: Any) -> list[float]:
    """Forks, and returns in the child too."""
    os.fork()
    return [float(c) for c in completions]


def forges(completions: list[str], **_: Any) -> list[float]:
    """Writes an answer of its own to whatever sockets it has, before the true one."""
    if completions == ["forge"]:
        for number in range(3, 64):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, b'[99, [["scored", 1.0, "", "", null, {}]]]\n')
        return [0.5]
    return [float(c) for c in completions]


async def blocks(completions: Sequence[str], **_: Any) -> list[float]:
    """Async by name: what says so blocks every call that waits with it."""
    if "exit" in completions:
        raise SystemExit(1)
    if "die" in completions:
        os._exit(1)
    if "block" in completions:
        time.sleep(3600)
    await asyncio.sleep(0.01)
    return [1.0] * len(completions)


_KEPT: list[bytearray] = []


def takes(completions: Sequence[str], **_: Any) -> list[float]:
    """100 MB for a moment, or for good, as the completion says; the process is the score."""
    time.sleep(0.15)
    if completions[0]:
        taken = bytearray(b"x") * (100 << 20)
        time.sleep(0.3)
        if completions[0] == "keep":
            _KEPT.append(taken)
    return [float(os.getpid())] * len(completions)


async def takes_async(completions: Sequence[str], **_: Any) -> list[float]:
    """200 MB, where the completion says so, while it waits."""
    taken = bytearray(b"x") * (200 << 20) if "keep" in completions else b""
    await asyncio.sleep(0.5)
    return [1.0 if len(taken) < 2 else 0.5] * len(completions)


def exits(completions: Sequence[str], **_: Any) -> list[float]:
    """Ends the program, if it says so."""
    if "exit" in completions:
        raise SystemExit(1)
    return [1.0] * len(completions)


_ASKED: set[str] = set()


async def recovers(completions: Sequence[str], **_: Any) -> list[float]:
    """A service: it fails once, and answers after 0.6 seconds; another completion hangs."""
    if "hang" in completions:
        await asyncio.sleep(3600)
    if "answer" in completions:
        if "answer" not in _ASKED:
            _ASKED.add("answer")
            raise ConnectionError("try again")
        await asyncio.sleep(0.6)
    return [1.0] * len(completions)


def roles(completions: Sequence[str], completion_turns: Sequence[Sequence[Mapping[str, str]]]) -> list[float]:
    """The turns as digits of a number: 2 the policy, 1 the environment."""
    digits = {"assistant": "2", "user": "1"}
    return [float("".join(digits[turn["role"]] for turn in turns)) for turns in completion_turns]
