"""Read rows into tokens and what is trained of them: demonstrations, conversations, text, pairs and labels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import Any

from ..errors import InputError
from ..rows.messages import asked, is_talk, only_reply, paired, reply_of, turns, turns_of
from ..rows.pairs import WEIGHT, preferences
from ..rows.values import truth, unflagged
from ..types import Row
from .conversation import conversation
from .template import Chat
from .tokens import Limits, Tokens

TOKENS = "_tokens"
"""Column of a prepared row: the fields of a `Tokens`, plain, so that the data can be hashed."""
PER_TOKEN = ("input_ids", "labels", "assistant_masks", "completion_mask")
"""Columns of a pre-tokenised row with an entry per token."""
GENERAL = "_general"
"""Column of a prepared row: its chosen equals its rejected completion, so that only an SFT term learns from it."""
IGNORED = -100
"""Label of a token that is not trained, and of padding."""
_BLANK = dict.fromkeys(("prompt", "completion", "chosen", "rejected"), "")
"""Columns that a source reads of every row; here the tokens stand for them."""


class NothingToLearn(Exception):
    """A row without anything to train on; it is left out, and counted."""


@dataclass(frozen=True)
class Reader:
    """Turns rows of a dataset into prepared rows."""

    chat: Chat
    limits: Limits = field(default_factory=Limits)
    text_field: str = "text"
    completion_only: bool | None = None
    assistant_only: bool = False
    format_row: Callable[[Any], Any] | None = None
    """Makes text, or columns, of a row."""
    marks: Callable[[Sequence[int]], list[bool]] | None = None
    """Which tokens of a whole text are trained, where a collator says so."""
    whole: bool = False
    """Pairs are whole conversations, which a reward model reads; else a prompt and what the policy writes."""
    anchors: bool = False
    """Keep pairs whose chosen equals rejected, as general rows; else they are left out."""
    name: str = "the dataset"
    """What messages call the rows."""

    def demonstrations(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of prompt and completion, of messages, or of text."""
        return self._read(rows, self._demonstration)

    def pairs(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of chosen and rejected, with a prompt of their own or one that they share; or of rankings."""
        if rows and all("completions" in row and "scores" in row for row in rows):
            rows = preferences(rows, self.name)
        return self._read(rows, self._pair)

    def labelled(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of prompt, completion and label."""
        given: list[Row] = []
        for number, row in enumerate(map(_filled, rows)):
            given += unpaired(row)
            label = truth(given[-1].get("label"))
            if label is None:
                found = f"its label is {row['label']!r}" if "label" in row else f"rows have: {', '.join(row)}"
                raise InputError(
                    f"row {number}: KTO needs a column 'label' of true and false, or chosen and rejected, in "
                    f"{self.name}; {found}"
                )
            given[-1] = {**given[-1], "label": label}
        return self._read(given, self._label)

    def _label(self, row: Row) -> Tokens:
        if row.get(GENERAL):
            raise NothingToLearn("chosen and rejected of their pair are equal")
        return self._demonstration(row)

    def _read(self, rows: Sequence[Row], convert: Callable[[Row], Tokens]) -> list[Row]:
        result: list[Row] = []
        dropped: Counter[str] = Counter()
        for number, row in enumerate(rows):
            try:
                row = _filled(row)
                whole = convert(row)
                tokens = self._cut(whole)
            except NothingToLearn as why:
                dropped[str(why)] += 1
                continue
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"row {number} of {self.name}: {error}") from error
            kept = {k: v for k, v in row.items() if k in ("label", "margin", WEIGHT)}
            if len(whole.completions) == 2 and whole.completions[0] == whole.completions[1]:
                kept[GENERAL] = True
            result.append({**_BLANK, **kept, TOKENS: asdict(tokens)})
        left_out = "; ".join(f"{n} of {len(rows)} rows are left out: {why}" for why, n in dropped.items())
        reasons = f"{self.name}: {left_out}"
        if not result:
            raise InputError(f"no row of {self.name} has anything to train on. {left_out}")
        if dropped:
            warnings.warn(reasons, stacklevel=4)
        if count := sum(GENERAL in row for row in result):
            if count == len(result):
                raise InputError(
                    f"{self.name}: chosen and rejected are equal in every row: nothing is compared; use SFTTrainer"
                )
            text = f"{self.name}: in {count} of {len(rows)} rows chosen equals rejected: they train the SFT term alone"
            warnings.warn(text, stacklevel=4)
        return result

    def _cut(self, tokens: Tokens) -> Tokens:
        """What is left of a row within the limits. NothingToLearn: none of it is trained, and why."""
        if not all(map(any, tokens.masks)):
            raise NothingToLearn(
                "the collator finds its response_template nowhere; give it as token ids, as they stand inside a text"
                if self.marks
                else "none of their tokens is to be trained"
            )
        left = self.limits.cut(tokens)
        if left is None:
            raise NothingToLearn(
                f"nothing is left to train on within max_length={self.limits.max_length}; raise it"
            )
        return left

    # ------------------------------------------------------------ kinds of rows

    def _demonstration(self, row: Row) -> Tokens:
        if self.format_row is not None:
            made = self.format_row(row)
            row = {**row, **made} if isinstance(made, Mapping) else {self.text_field: made}
        if "input_ids" in row:
            row = _unpadded_row(row)
            return _whole([int(token) for token in row["input_ids"]], self._labelled(row))
        if "prompt" in row and "completion" in row:
            return self._reply(row)
        if messages := row.get("messages") or row.get("conversations"):
            messages = self._unflagged(messages, "messages")
            made = conversation(self.chat, messages, row, self.assistant_only)
            return _whole(made.ids, made.assistant or self._trained(made.ids))
        if self.assistant_only:
            raise InputError(
                "assistant_only_loss is for rows of messages: in text nothing marks whose turn it is"
            )
        if self.text_field not in row:
            raise InputError(
                f"SFT needs prompt and completion, messages, or {self.text_field!r}; rows have: {', '.join(row)}"
            )
        if not row[self.text_field]:
            raise NothingToLearn(f"{self.text_field!r} is empty")
        ids = self.chat.prompt(str(row[self.text_field]))
        end = self.chat.tokenizer.eos_token_id
        ids = ids if ids[-1:] == [end] or end is None else [*ids, end]
        return _whole(ids, self._trained(ids))

    def _reply(self, row: Row) -> Tokens:
        """A prompt and its completion."""
        before = self._unflagged(row["prompt"], "prompt", trained=self.completion_only is False)
        made = self._given(before, [row["completion"]], row)
        prompt, (completion,), (mask,) = made.prompt, made.completions, made.masks
        if self.assistant_only and only_reply(row["completion"]) is None:
            whole = conversation(
                self.chat, [*turns_of(row["prompt"]), *row["completion"]], row, assistant=True
            )
            mask = whole.assistant[len(prompt) :][: len(mask)]
        if self.completion_only is False:
            return _whole(prompt + completion, [True] * len(prompt) + mask)
        return Tokens(prompt, [completion], [mask])

    def _pair(self, row: Row) -> Tokens:
        if "input_ids_chosen" in row:  # pre-tokenised, as earlier versions wanted them for reward models
            sides = [unpadded(row, f"_{side}") for side in ("chosen", "rejected")]
            return Tokens.wholes(sides)
        prompt, sides = sides_of(row)
        if sides[0] == sides[1] and not self.anchors:
            raise NothingToLearn("chosen and rejected are equal")
        return self._given(prompt, sides, row)

    def _given(self, prompt: Any, completions: Sequence[Any], row: Row) -> Tokens:
        """The tokens of a row's prompt and completions."""
        said = [self._unflagged(one, "completion") for one in completions]
        if not isinstance(prompt, str) or any(not isinstance(one, str) for one in said):
            prompt = asked(turns_of(prompt), row)
        if self.whole:
            return Tokens.wholes([self.chat.whole(prompt, one, rendered=True) for one in said])
        return self.chat.given(prompt, said)

    def _unflagged(self, messages: Any, name: str, trained: bool = True) -> Any:
        """The messages of a conversation without flags of single turns, which must ask for what is trained."""
        if not is_talk(messages):
            return messages
        said = turns(messages)
        only = ("assistant",) if self.assistant_only else {m["role"] for m in said}
        return unflagged(said, [trained and m["role"] in only for m in said], name)

    def _labelled(self, row: Row) -> list[bool]:
        """Which tokens of a pre-tokenised row are trained: what its labels say, else what all of its masks do."""
        if row.get("labels") is not None:
            return [int(label) != IGNORED for label in row["labels"]]
        names = ["assistant_masks", *(["completion_mask"] if self.completion_only is not False else [])]
        masks = [row[name] for name in names if row.get(name) is not None]
        return [all(map(bool, flags)) for flags in zip([1] * len(row["input_ids"]), *masks, strict=True)]

    def _trained(self, ids: list[int]) -> list[bool]:
        return self.marks(ids) if self.marks else [True] * len(ids)


def _whole(ids: list[int], trained: list[bool]) -> Tokens:
    """All tokens but the first, which nothing predicts."""
    if len(ids) < 2:
        raise NothingToLearn("fewer than two tokens: nothing can be predicted")
    return Tokens(ids[:1], [ids[1:]], [trained[1:]])


def sides_of(row: Row) -> tuple[Any, list[Any]]:
    """Prompt, and the completions chosen and rejected, each in one form."""
    if "chosen" not in row or "rejected" not in row:
        raise InputError(f"pairs need chosen and rejected; rows have: {', '.join(row)}")
    prompt, sides = paired(row)
    return prompt, [reply_of(side) if is_talk(side) else side for side in sides]


def unpaired(row: Row) -> list[Row]:
    """A pair as a good and a bad completion, of a general row with a mark; any other row as it is."""
    if "label" in row or "chosen" not in row or "rejected" not in row:
        return [row]
    prompt, sides = sides_of(row)
    rest = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    if sides[0] == sides[1]:
        rest[GENERAL] = True
    labels = (True, False)
    return [
        {**rest, "prompt": prompt, "completion": c, "label": x} for c, x in zip(sides, labels, strict=True)
    ]


def unpadded(row: Row, suffix: str = "") -> list[int]:
    """Pre-tokenised ids without what their attention mask leaves out."""
    ids, mask = row[f"input_ids{suffix}"], row.get(f"attention_mask{suffix}")
    mask = [1] * len(ids) if mask is None else mask
    return [int(token) for token, seen in zip(ids, mask, strict=True) if seen]


def _unpadded_row(row: Row) -> Row:
    """A pre-tokenised row without what its attention mask leaves out, in every column that has an entry per token."""
    if row.get("attention_mask") is None:
        return row
    seen, columns = list(row["attention_mask"]), [c for c in PER_TOKEN if row.get(c) is not None]
    if short := [c for c in columns if len(row[c]) != len(seen)]:
        raise InputError(f"{short[0]!r} has {len(row[short[0]])} entries, and attention_mask {len(seen)}")
    return {
        **row,
        **{c: list(compress(row[c], seen)) for c in columns},
        "attention_mask": [1] * sum(map(bool, seen)),
    }


def _filled(row: Row) -> Row:
    """The row without the gaps that Arrow fills with None."""
    return {name: value for name, value in row.items() if value is not None}
