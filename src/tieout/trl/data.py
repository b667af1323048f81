"""TRL's datasets, plain or conversational, -> rows of tokens, made before training starts so that errors come early."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from ..chat import Chat
from ..source import Source
from ..types import Completion, Group, Message, Row

TOKENS = "_tokens"
"""Column of a prepared row: the fields of a `Tokens`, plain, so that the data can be hashed."""


@dataclass(frozen=True)
class Tokens:
    """A row as the learner sees it."""

    prompt: list[int]
    completions: list[list[int]]
    masks: list[list[bool]]
    """Like completions: True where the token is trained."""


@dataclass(frozen=True)
class Limits:
    """How long rows may be, in tokens."""

    max_length: int | None = None
    max_prompt_length: int | None = None
    max_completion_length: int | None = None
    truncation: str = "keep_start"

    def cut(self, tokens: Tokens) -> Tokens | None:
        """What is left; None if nothing that is trained is."""
        prompt = tokens.prompt[-self.max_prompt_length :] if self.max_prompt_length else tokens.prompt
        room = self.max_completion_length
        if self.max_length is not None:
            longest = max(map(len, tokens.completions))
            if self.truncation == "keep_end" and len(prompt) + longest > self.max_length:
                prompt = prompt[-max(1, self.max_length - longest) :]
            left = self.max_length - len(prompt)
            room = left if room is None else min(room, left)
        if room is not None and room < 1:
            return None
        completions = [c[:room] for c in tokens.completions]
        masks = [m[:room] for m in tokens.masks]
        return Tokens(prompt, completions, masks) if all(any(m) for m in masks) else None


class Prepared(Source):
    """A source over rows that are tokens already."""

    def given(self, row: Row, texts: Sequence[str], scores: list[float] | None) -> Group:
        """The group that was prepared for this row."""
        tokens = Tokens(**row[TOKENS])
        pairs = zip(tokens.completions, tokens.masks, strict=True)
        return Group(tokens.prompt, [Completion(c, m) for c, m in pairs], scores, row)


@dataclass(frozen=True)
class Reader:
    """Turns rows of a dataset into prepared rows."""

    chat: Chat
    limits: Limits = field(default_factory=Limits)
    text_field: str = "text"
    completion_only: bool | None = None
    assistant_only: bool = False
    format_row: Callable[[Any], Any] | None = None
    """TRL's formatting_func, of a row: `rowwise`."""
    marks: Callable[[Sequence[int]], list[bool]] | None = None
    """Which tokens of a whole text are trained, where a collator says so."""

    def demonstrations(self, dataset: Any, count: int | None = None) -> list[Row]:
        """Rows of prompt and completion, of messages, or of text."""
        return self._read(dataset, count, self._demonstration, {"completion": ""})

    def pairs(self, dataset: Any, count: int | None = None) -> list[Row]:
        """Rows of chosen and rejected, with a prompt of their own or one that they share."""
        return self._read(dataset, count, self._pair, {"chosen": "", "rejected": ""})

    def labelled(self, dataset: Any, count: int | None = None) -> list[Row]:
        """Rows of prompt, completion and label."""
        rows = self._read(dataset, count, self._demonstration, {"completion": ""})
        for row in rows:
            if "label" not in row:
                raise ValueError(f"KTO needs a column 'label' of true and false; rows have: {_columns(row)}")
        return rows

    def _read(
        self, dataset: Any, count: int | None, convert: Callable[[Row], Tokens], dummies: Mapping[str, str]
    ) -> list[Row]:
        result: list[Row] = []
        dropped = 0
        for number, row in enumerate(listed(dataset, count)):
            try:
                tokens = self.limits.cut(convert(row))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"row {number} of the dataset: {error}") from error
            if tokens is None:
                dropped += 1
                continue
            kept = {k: v for k, v in row.items() if k in ("label", "margin") and v is not None}
            result.append({"prompt": "", **dummies, **kept, TOKENS: asdict(tokens)})
        if dropped:
            warnings.warn(
                f"{dropped} of {dropped + len(result)} rows have nothing left to train on within "
                f"max_length={self.limits.max_length}, and are left out; raise it",
                stacklevel=4,
            )
        if not result:
            raise ValueError("no row of the dataset has anything to train on")
        return result

    # ------------------------------------------------------------ kinds of rows

    def _demonstration(self, row: Row) -> Tokens:
        if self.format_row is not None:
            made = self.format_row(row)
            row = {**row, **made} if isinstance(made, Mapping) else {self.text_field: made}
        if "input_ids" in row:
            ids = list(row["input_ids"])
            trained = row.get("assistant_masks") or row.get("completion_mask") or [1] * len(ids)
            return _whole(ids, [bool(m) for m in trained])
        if "prompt" in row and "completion" in row:
            prompt, (completion,) = self._encoded(row["prompt"], [row["completion"]])
            if self.completion_only is False:
                return _whole(prompt + completion, [True] * (len(prompt) + len(completion)))
            return Tokens(prompt, [completion], [[True] * len(completion)])
        messages = row.get("messages") or row.get("conversations")
        if messages is not None:
            return self._conversation(messages)
        if self.text_field in row:
            ids = self.chat.prompt(str(row[self.text_field]))
            end = self.chat.tokenizer.eos_token_id
            ids = ids if ids[-1:] == [end] or end is None else [*ids, end]
            return _whole(ids, self._trained(ids))
        raise ValueError(
            f"SFT needs prompt and completion, messages, or {self.text_field!r}; rows have: {_columns(row)}"
        )

    def _conversation(self, messages: Sequence[Message]) -> Tokens:
        template: Any = self.chat.tokenizer.apply_chat_template
        options = {"return_dict": True, "return_assistant_tokens_mask": self.assistant_only}
        made = template([dict(m) for m in messages], tokenize=True, **options)
        ids = list(made["input_ids"])
        if not self.assistant_only:
            return _whole(ids, self._trained(ids))
        mask = [bool(m) for m in made["assistant_masks"]]
        if not any(mask):
            raise ValueError(
                "assistant_only_loss, but the chat template marks no assistant turn: put {% generation %} around it"
            )
        return _whole(ids, mask)

    def _trained(self, ids: list[int]) -> list[bool]:
        return self.marks(ids) if self.marks else [True] * len(ids)

    def _pair(self, row: Row) -> Tokens:
        if "input_ids_chosen" in row:  # pre-tokenised, as earlier versions wanted them for reward models
            sides = [_unpadded(row, side) for side in ("chosen", "rejected")]
            shared = _shared(*sides)
            shared = max(1, min(shared, min(map(len, sides)) - 1))
            completions = [side[shared:] for side in sides]
            return Tokens(sides[0][:shared], completions, [[True] * len(c) for c in completions])
        if "chosen" not in row or "rejected" not in row:
            raise ValueError(f"pairs need chosen and rejected; rows have: {_columns(row)}")
        prompt, sides = row.get("prompt"), [row["chosen"], row["rejected"]]
        if prompt is None:
            prompt, sides = _split(sides)
        if sides[0] == sides[1]:
            raise ValueError("chosen and rejected are equal: nothing can be preferred")
        encoded, completions = self._encoded(prompt, sides)
        return Tokens(encoded, completions, [[True] * len(c) for c in completions])

    def _encoded(self, prompt: Any, completions: Sequence[Any]) -> tuple[list[int], list[list[int]]]:
        if isinstance(prompt, str) and all(isinstance(c, str) for c in completions):
            return self.chat.prompt(prompt), [self.chat.completion(prompt, c) for c in completions]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        return self.chat.prompt(turns), [self.chat.completion(turns, _reply(c)) for c in completions]


def rowwise(function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """TRL's formatting_func as a function of one row: earlier versions gave it a batch, and took a list of texts."""
    kinds: list[bool] = []

    def of_batch(row: Row) -> Any:
        assert function is not None
        made = function({name: [value] for name, value in row.items()})
        return made[0] if isinstance(made, list) and len(made) == 1 and isinstance(made[0], str) else None

    def of_row(row: Row) -> Any:
        assert function is not None
        if not kinds:
            with suppress(Exception):  # a function of rows may fail on a batch, in whatever way
                kinds.append(of_batch(row) is not None)
        return of_batch(row) if any(kinds) else function(row)

    return of_row if function else None


def _unpadded(row: Row, side: str) -> list[int]:
    """Pre-tokenised ids without what their attention mask leaves out."""
    ids = list(row[f"input_ids_{side}"])
    mask = row.get(f"attention_mask_{side}") or [1] * len(ids)
    return [token for token, seen in zip(ids, mask, strict=True) if seen]


def listed(dataset: Any, count: int | None = None) -> list[Row]:
    """The rows of anything that can be iterated over; of one without a length, the first `count`."""
    if dataset is None:
        raise ValueError("train_dataset is None; give a dataset with TRL's columns")
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"train_dataset is a dictionary of {', '.join(map(str, dataset))}; choose one of them"
        )
    if not hasattr(dataset, "__len__"):
        if count is None:
            raise ValueError("the dataset has no length; give max_steps")
        dataset = islice(dataset, count)
    return [dict(row) for row in dataset]


def prompts(dataset: Any, tokenizer: Any, count: int | None = None) -> list[Row]:
    """Rows with `prompt`; what earlier versions wanted, text under `query` or tokens under `input_ids`, becomes it."""
    rows: list[Row] = []
    for row in listed(dataset, count):
        if "prompt" not in row and isinstance(row.get("query"), str):
            row = {**row, "prompt": row["query"]}
        elif "prompt" not in row and "input_ids" in row:
            rest = {k: v for k, v in row.items() if k not in ("input_ids", "attention_mask")}
            seen = row.get("attention_mask") or [1] * len(row["input_ids"])
            ids = [int(token) for token, real in zip(row["input_ids"], seen, strict=True) if real]
            text = tokenizer.decode(ids, skip_special_tokens=False)
            row = {**rest, "prompt": text.removeprefix(tokenizer.bos_token or "")}  # it is put there again
        rows.append(row)
    return rows


def _reply(completion: Any) -> str:
    """The text of a completion of one assistant message."""
    if isinstance(completion, str):
        return completion
    if len(completion) != 1 or completion[0].get("role") != "assistant":
        roles = ", ".join(str(m.get("role")) for m in completion)
        raise ValueError(
            f"a completion is the turns: {roles}; expected one assistant message, the rest in the prompt"
        )
    return str(completion[0]["content"])


def _split(sides: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The prompt that chosen and rejected share: their common messages, or the text up to the last common space."""
    chosen, rejected = sides
    shared = _shared(chosen, rejected)
    if not isinstance(chosen, str):
        return list(chosen[:shared]), [list(chosen[shared:]), list(rejected[shared:])]
    if 0 < shared < min(len(chosen), len(rejected)) and chosen[shared - 1] == " ":
        shared -= 1
    return chosen[:shared], [chosen[shared:], rejected[shared:]]


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _whole(ids: list[int], trained: list[bool]) -> Tokens:
    """All tokens but the first, which nothing predicts."""
    if len(ids) < 2:
        raise ValueError("fewer than two tokens: nothing can be predicted")
    return Tokens(ids[:1], [ids[1:]], [trained[1:]])


def _columns(row: Row) -> str:
    return ", ".join(row)
