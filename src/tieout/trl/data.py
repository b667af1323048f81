"""TRL's datasets, plain or conversational, -> rows of tokens, made before training starts so that errors come early."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from ..chat.template import Chat
from ..errors import InputError
from ..source import Source
from ..types import Completion, Group, Row
from .eval_predictions import IGNORED
from .turns import is_talk, only_reply, shared, split, turns

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
        if self.truncation == "keep_end" and len(tokens.completions) == 1:
            tokens = self._end(tokens)
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
        part = slice(-room, None) if self.truncation == "keep_end" and room is not None else slice(room)
        completions, masks = [c[part] for c in tokens.completions], [m[part] for m in tokens.masks]
        return Tokens(prompt, completions, masks) if all(any(m) for m in masks) else None

    def _end(self, tokens: Tokens) -> Tokens:
        """The last `max_length` tokens of prompt and completion together, the first of them as a prompt."""
        (completion,), (mask,) = tokens.completions, tokens.masks
        ids = [*tokens.prompt, *completion][-(self.max_length or 0) :]
        left = max(1, len(ids) - len(completion))
        return Tokens(ids[:left], [ids[left:]], [mask[len(mask) - (len(ids) - left) :]])


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
        return self._read(filled(dataset, count), self._demonstration, {"completion": ""})

    def pairs(self, dataset: Any, count: int | None = None) -> list[Row]:
        """Rows of chosen and rejected, with a prompt of their own or one that they share."""
        return self._read(filled(dataset, count), self._pair, {"chosen": "", "rejected": ""})

    def labelled(self, dataset: Any, count: int | None = None) -> list[Row]:
        """Rows of prompt, completion and label."""
        given: list[Row] = []
        for number, row in enumerate(filled(dataset, count)):
            given += unpaired(row)
            if not isinstance(given[-1].get("label"), bool | int):
                raise InputError(
                    f"row {number}: KTO needs a column 'label' of true and false, or chosen and rejected; rows have: "
                    f"{_columns(row)}"
                )
        return self._read(given, self._demonstration, {"completion": ""})

    def _read(
        self, rows: Sequence[Row], convert: Callable[[Row], Tokens], dummies: Mapping[str, str]
    ) -> list[Row]:
        result: list[Row] = []
        dropped: Counter[str] = Counter()
        for number, row in enumerate(rows):
            try:
                tokens = self._cut(convert(row))
            except Nothing as why:
                dropped[str(why)] += 1
                continue
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"row {number} of the dataset: {error}") from error
            kept = {k: v for k, v in row.items() if k in ("label", "margin")}
            result.append({"prompt": "", **dummies, **kept, TOKENS: asdict(tokens)})
        total = dropped.total() + len(result)
        reasons = "; ".join(
            f"{number} of {total} rows are left out: {why}" for why, number in dropped.items()
        )
        if not result:
            raise InputError(f"no row of the dataset has anything to train on. {reasons}")
        if dropped:
            warnings.warn(reasons, stacklevel=4)
        return result

    def _cut(self, tokens: Tokens) -> Tokens:
        """What is left of a row within the limits. Nothing: none of it is trained, and why."""
        if not all(map(any, tokens.masks)):
            raise Nothing(
                "the collator finds its response_template nowhere; give it as token ids, as they stand inside a text"
                if self.marks
                else "none of their tokens is to be trained"
            )
        left = self.limits.cut(tokens)
        if left is None:
            raise Nothing(f"nothing is left to train on within max_length={self.limits.max_length}; raise it")
        return left

    # ------------------------------------------------------------ kinds of rows

    def _demonstration(self, row: Row) -> Tokens:
        if self.format_row is not None:
            made = self.format_row(row)
            row = {**row, **made} if isinstance(made, Mapping) else {self.text_field: made}
        if "input_ids" in row:
            ids = list(row["input_ids"])
            if row.get("labels") is not None:
                return _whole(ids, [label != IGNORED for label in row["labels"]])
            trained = row.get("assistant_masks") or row.get("completion_mask") or [1] * len(ids)
            return _whole(ids, [bool(m) for m in trained])
        if "prompt" in row and "completion" in row:
            prompt, (completion,) = self._encoded(row["prompt"], [row["completion"]], row)
            mask = [True] * len(completion)
            if self.assistant_only and only_reply(row["completion"]) is None:
                talk = [*_turns_of(row["prompt"]), *turns(row["completion"])]
                made = self._templated(talk, return_assistant_tokens_mask=True)
                mask = _of_assistant(made)[len(prompt) :][: len(mask)]
            if self.completion_only is False:
                return _whole(prompt + completion, [True] * len(prompt) + mask)
            return Tokens(prompt, [completion], [mask])
        messages = row.get("messages") or row.get("conversations")
        if messages is not None:
            return self._conversation(messages, row)
        if self.assistant_only:
            raise InputError(
                "assistant_only_loss is for rows of messages: in text nothing marks whose turn it is"
            )
        if self.text_field in row:
            if not row[self.text_field]:
                raise Nothing(f"{self.text_field!r} is empty")
            ids = self.chat.prompt(str(row[self.text_field]))
            end = self.chat.tokenizer.eos_token_id
            ids = ids if ids[-1:] == [end] or end is None else [*ids, end]
            return _whole(ids, self._trained(ids))
        raise InputError(
            f"SFT needs prompt and completion, messages, or {self.text_field!r}; rows have: {_columns(row)}"
        )

    def _conversation(self, messages: Any, row: Row) -> Tokens:
        tools = row.get("tools") or None
        more = {"tools": json.loads(tools) if isinstance(tools, str) else tools} if tools else {}
        more |= row.get("chat_template_kwargs") or {}
        made = self._templated(turns(messages), return_assistant_tokens_mask=self.assistant_only, **more)
        ids = made["input_ids"]
        return _whole(ids, _of_assistant(made) if self.assistant_only else self._trained(ids))

    def _trained(self, ids: list[int]) -> list[bool]:
        return self.marks(ids) if self.marks else [True] * len(ids)

    def _pair(self, row: Row) -> Tokens:
        if "input_ids_chosen" in row:  # pre-tokenised, as earlier versions wanted them for reward models
            sides = [_unpadded(row, side) for side in ("chosen", "rejected")]
            common = max(1, min(shared(*sides), min(map(len, sides)) - 1))
            completions = [side[common:] for side in sides]
            return Tokens(sides[0][:common], completions, [[True] * len(c) for c in completions])
        prompt, sides = paired(row)
        if sides[0] == sides[1]:
            raise Nothing("chosen and rejected are equal")
        encoded, completions = self._encoded(prompt, sides, row)
        return Tokens(encoded, completions, [[True] * len(c) for c in completions])

    def _encoded(
        self, prompt: Any, completions: Sequence[Any], row: Row
    ) -> tuple[list[int], list[list[int]]]:
        """Text as the author rendered it, special tokens and all; messages through the template."""
        if isinstance(prompt, str) and all(isinstance(c, str) for c in completions):
            return self.chat.prompt(prompt), [self.chat.rendered(prompt, c) for c in completions]
        if given := [name for name in ("tools", "chat_template_kwargs") if row.get(name)]:
            raise InputError(
                f"{given[0]}: render such rows first, with tieout.trl.apply_chat_template(row, tokenizer, ...), and "
                "give the text"
            )
        before = _turns_of(prompt)
        said = [c if isinstance(c, str) else turns(c) for c in completions]
        replies = [only_reply(c) for c in said]
        plain = all(isinstance(value, str) for message in before for value in message.values())
        if before and plain and None not in replies:
            return self.chat.prompt(before), [self.chat.completion(before, str(r)) for r in replies]
        return self._later_turns(before, said)

    def _later_turns(self, before: Sequence[Row], sides: Sequence[Any]) -> tuple[list[int], list[list[int]]]:
        """Completions of several turns: all that the template writes after what the sides have in common."""
        wholes, ends = [], []
        for side in sides:
            more = [{"role": "assistant", "content": side}] if isinstance(side, str) else side
            whole = self._templated([*before, *more])["input_ids"]
            stop = max((i for i, token in enumerate(whole) if token in self.chat.stop_tokens), default=-1)
            if stop < 0 or self.chat.tokenizer.decode(whole[stop + 1 :]).strip():
                raise InputError(
                    "the chat template does not end the last turn of a completion with a stop token"
                )
            wholes.append(whole)
            ends.append(stop)
        opened = bool(before) and before[-1]["role"] != "assistant"
        head = self._templated(before, add_generation_prompt=opened)["input_ids"] if before else wholes[0][:1]
        if any(whole[: len(head)] != head for whole in wholes):
            head = head[: min(shared(head, whole) for whole in wholes)]
        return head, [whole[len(head) : end + 1] for whole, end in zip(wholes, ends, strict=True)]

    def _templated(self, messages: Sequence[Row], **options: Any) -> Any:
        template: Any = self.chat.tokenizer.apply_chat_template
        made = template(list(messages), tokenize=True, return_dict=True, **options)
        return {name: list(values) for name, values in made.items()}


class Nothing(Exception):
    """A row that nothing can be learned from; it is left out, and counted."""


def paired(row: Row) -> tuple[Any, list[Any]]:
    """Prompt, and the completions chosen and rejected; a prompt that they hold themselves is taken out of them."""
    if "chosen" not in row or "rejected" not in row:
        raise InputError(f"pairs need chosen and rejected; rows have: {_columns(row)}")
    prompt, sides = row.get("prompt"), [row["chosen"], row["rejected"]]
    if all(map(is_talk, sides)):
        sides = [turns(side) for side in sides]
        whole = isinstance(prompt, str) and all(len(side) > 1 for side in sides)
        if prompt is None or whole:  # whole conversations; a prompt beside them repeats how they begin
            return split(sides)
    return split(sides) if prompt is None else (prompt, sides)


def _turns_of(prompt: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else turns(prompt)


def _of_assistant(made: Mapping[str, list[int]]) -> list[bool]:
    """Which tokens of a conversation the template marks as the assistant's."""
    if not any(made["assistant_masks"]):
        raise InputError(
            "assistant_only_loss, but the chat template marks no assistant turn: put {% generation %} around it"
        )
    return [bool(m) for m in made["assistant_masks"]]


def unpaired(row: Row) -> list[Row]:
    """A pair as a good and a bad completion; any other row as it is."""
    if "label" in row or "chosen" not in row or "rejected" not in row:
        return [row]
    prompt, (chosen, rejected) = paired(row)
    rest = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    return [
        {**rest, "prompt": prompt, "completion": chosen, "label": True},
        {**rest, "prompt": prompt, "completion": rejected, "label": False},
    ]


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
        raise InputError("train_dataset is None; give a dataset with TRL's columns")
    if isinstance(dataset, Mapping):
        raise InputError(
            f"train_dataset is a dictionary of {', '.join(map(str, dataset))}; choose one of them"
        )
    if not hasattr(dataset, "__len__"):
        if count is None:
            raise InputError("the dataset has no length; give max_steps")
        dataset = islice(dataset, count)
    return [dict(row) for row in dataset]


def filled(dataset: Any, count: int | None) -> list[Row]:
    """The rows without the gaps that Arrow fills with None."""
    return [{k: v for k, v in row.items() if v is not None} for row in listed(dataset, count)]


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
        if is_talk(row.get("prompt")):
            row = {**row, "prompt": turns(row["prompt"])}
        rows.append(row)
    return rows


def _whole(ids: list[int], trained: list[bool]) -> Tokens:
    """All tokens but the first, which nothing predicts."""
    if len(ids) < 2:
        raise Nothing("fewer than two tokens: nothing can be predicted")
    return Tokens(ids[:1], [ids[1:]], [trained[1:]])


def _columns(row: Row) -> str:
    return ", ".join(row)
