"""Parse what came out of the sandbox. Its writer may lie about everything, so only one form is accepted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .values import decode

FAILED = "the program failed: "
"""How the error of a program starts that could not be loaded."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call gave: a value, or an error."""

    value: Any = None
    error: str = ""
    """Empty exactly if there is a value."""


def read_answers(output: bytes, nonce: str, num_calls: int) -> tuple[list[Answer | None], str]:
    """([num_calls] answers, None where there is none; what is wrong with the whole, or nothing).

    Every line must be one JSON object with the nonce and the next index, or the program's error; anything else
    spoils all of it, as then not only the harness wrote.
    """
    answers: list[Answer | None] = [None] * num_calls
    lines = output.split(b"\n")
    for number, line in enumerate(lines[:-1]):  # a last line without its end was cut off: no answer
        try:
            said = json.loads(line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
            if not isinstance(said, dict) or said.pop("nonce", None) != nonce:
                raise ValueError("it does not carry the nonce")
            if set(said) == {"error"} and number == 0 and len(lines) == 2:
                return answers, f"{FAILED}{str(said['error'])[:300]}"
            if said.pop("index", None) != number or number >= num_calls:
                raise ValueError("it is not the next answer")
            answers[number] = _answer(said)
        except (ValueError, TypeError, RecursionError) as error:
            return [None] * num_calls, f"something other than its answers was on their descriptor ({error})"
    return answers, ""


def _answer(said: dict[str, Any]) -> Answer:
    if set(said) == {"error"} and isinstance(said["error"], str):
        return Answer(error=said["error"][:300] or "an error without a message")
    if set(said) != {"value"}:
        raise ValueError("expected a value or an error")
    return Answer(decode(said["value"]))


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _no_constant(literal: str) -> float:
    raise ValueError(f"{literal} is not JSON")
