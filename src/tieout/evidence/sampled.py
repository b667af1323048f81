"""Tokens and log-probabilities of what models wrote, kept next to their cases for `tieout verify --fresh`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..storage.jsonl import read_jsonl, stored, write_jsonl
from ..types import Answer

DECIMALS = 6
"""Of a log-probability in the file."""


@dataclass(frozen=True)
class Turn:
    """What a model wrote after one prompt."""

    tokens: list[int]
    """[C]"""
    logprobs: list[float]
    """[C] nats, as the sampler had them."""


Turns = Mapping[str, Mapping[str, Sequence[Turn]]]
"""Model -> case -> its turns; one, unless there is an environment."""


def turns_of(texts: Sequence[str]) -> tuple[Turn, ...]:
    """The turns of an answer; none where the sampler does not know its tokens."""
    sampled = [text.sampled if isinstance(text, Answer) else None for text in texts]
    known = [one for one in sampled if one is not None and one.logprobs is not None]
    if len(known) < len(texts):
        return ()
    return tuple(Turn(one.tokens, [round(x, DECIMALS) for x in one.logprobs or ()]) for one in known)


def tokens_file(cases: Path) -> Path:
    """Where the tokens of a file of cases are, compressed or not."""
    return cases.with_name(f"{cases.name.removesuffix('.gz').removesuffix('.jsonl')}.tokens.jsonl")


def write_turns(cases: Path, turns: Turns) -> None:
    """Write what is known of the answers in a file of cases; compressed, as it is several times as long."""
    path = tokens_file(cases)
    stored(path).unlink(missing_ok=True)
    lines = [
        {"model": model, "case": case, "turns": [[turn.tokens, turn.logprobs] for turn in said]}
        for model, own in turns.items()
        for case, said in own.items()
        if said
    ]
    if lines:
        write_jsonl(path.with_name(f"{path.name}.gz"), lines)


def read_turns(cases: Path) -> dict[str, dict[str, tuple[Turn, ...]]]:
    """The same again; empty where nothing was known. InputError: the file is none of tokens."""
    path, found = stored(tokens_file(cases)), dict[str, dict[str, tuple[Turn, ...]]]()
    if not path.exists():
        return found
    for number, line in read_jsonl(path):
        try:
            said = tuple(Turn([int(t) for t in tokens], list(map(float, of))) for tokens, of in line["turns"])
            if any(len(turn.tokens) != len(turn.logprobs) for turn in said):
                raise ValueError("as many log-probabilities as tokens are expected")
            found.setdefault(line["model"], {})[line["case"]] = said
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}:{number}: not the tokens of a case ({error})") from error
    return found
