"""Collators that TRL's users give: ours decides what is trained, those that only pad have no effect."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq, DataCollatorWithPadding

from ..errors import InputError

Template = str | Sequence[int]


class DataCollatorForCompletionOnlyLM:
    """Train only what follows the last `response_template`; with `instruction_template`, every reply of a dialogue.

    Templates are text or tokens, and are looked for among the tokens: a tokenizer may write the same text otherwise
    inside a line, so give the tokens where a template is not found.
    """

    def __init__(
        self, response_template: Template, instruction_template: Template | None = None, *, tokenizer: Any = None,
        mlm: bool = False, **_: Any,
    ) -> None:  # fmt: skip
        if mlm:
            raise InputError("mlm=True: causal language models are trained here")

        def tokens(part: Template) -> list[int]:
            return tokenizer.encode(part, add_special_tokens=False) if isinstance(part, str) else [*part]

        self.tokenizer = tokenizer
        self.response = tokens(response_template)
        self.instruction = None if instruction_template is None else tokens(instruction_template)

    def trained(self, ids: Sequence[int]) -> list[bool]:
        """[L] which tokens are trained; none where the template is not found."""
        replies = [start + len(self.response) for start in _found(ids, self.response)]
        if self.instruction is None:
            return [bool(replies) and i >= replies[-1] for i in range(len(ids))]
        turns = _found(ids, self.instruction)
        ends = [next((t for t in turns if t >= start), len(ids)) for start in replies]
        return [any(a <= i < b for a, b in zip(replies, ends, strict=True)) for i in range(len(ids))]


def _found(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Where a run of tokens begins."""
    return [i for i in range(len(ids) - len(part) + 1) if list(ids[i : i + len(part)]) == list(part)]


def marking(collator: Any) -> Callable[[Sequence[int]], list[bool]] | None:
    """Which tokens a collator trains; None: all. InputError: it may do what is not known here."""
    if isinstance(collator, DataCollatorForCompletionOnlyLM):
        return collator.trained
    plain = isinstance(collator, DataCollatorForLanguageModeling) and not collator.mlm
    if plain or isinstance(collator, DataCollatorWithPadding | DataCollatorForSeq2Seq):
        warnings.warn(f"{type(collator).__name__}: without effect, rows are never padded here", stacklevel=4)
    elif collator is not None:
        raise InputError(
            "data_collator cannot be honoured: the trainer makes rows into tokens; give datasets with TRL's columns"
        )
    return None
