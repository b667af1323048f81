"""Rows of a search: to try on, to choose by, and to measure on; no question is in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..evidence.leakage import check_leakage
from ..rows.checks import with_prompts
from ..rows.spread import spread
from ..samplers.prompted import PromptPrefix, check_not_searched, question_digest
from ..tasks.files import hold_out
from ..types import Row

TEST, VALIDATION = "prompt search test", "prompt search validation"
"""Salts of the hashes by which rows are divided."""
TEST_SHARE, VALIDATION_SHARE = 1 / 3, 1 / 2


@dataclass(frozen=True)
class Splits:
    """Rows by what they are for."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    leakage: Mapping[str, Any]
    """Of validation and test rows, counts of those that others give away, and the reason to accept that."""

    @property
    def searched(self) -> list[str]:
        """Digests of the questions that choose the prompt."""
        return sorted({question_digest(row) for row in (*self.train, *self.validation)})


def split_rows(
    given: Sequence[Row],
    test: Sequence[Row] | None,
    before: PromptPrefix,
    limits: tuple[int, int, int],
    least: int,
    accept: str,
    option: str = '--accept-leakage "reason"',
) -> Splits:
    """Divide rows by hash: a half of those searched on is chosen by. Copies of a prompt stay on one side.

    Args:
        given: to search on.
        test: to measure on; None: a third of `given`; empty: others measure.
        before: the prompt to begin with: it is not tried on rows that it shows, nor measured on rows that chose it.
        limits: of train, validation and test, spread over all; 0: all.
        least: training rows, at least.
        accept: a reason to continue although rows are on both sides.
        option: how it is given, in messages.

    Raises:
        InputError: too few rows, or one side gives rows of the other away.
    """
    rows, more = list(with_prompts(given)), "" if test is not None else ", or --test FILE"
    if test is None:
        rows, test = hold_out(rows, TEST, TEST_SHARE)
    train, validation = hold_out(rows, VALIDATION, VALIDATION_SHARE)
    shown = {question_digest({"prompt": asked}) for asked, _ in before.shots}
    train, validation = (
        [row for row in part if question_digest(row) not in shown] for part in (train, validation)
    )
    train, validation, held = (
        spread(part, count)
        for part, count in zip((train, validation, list(with_prompts(test))), limits, strict=True)
    )
    counts = {"training": (train, least), "validation": (validation, 2), "test": (held, 2 if test else 0)}
    for name, (part, needed) in counts.items():
        if len(part) < needed:
            raise InputError(
                f"{len(part)} {name} rows, and a search needs {needed}; there are {len(train)} to try prompts on, "
                f"{len(validation)} to choose by and {len(held)} to measure on: give more rows{more}"
            )
    check_not_searched(before, held, accept, option)
    found = {
        "validation": check_leakage({"train": train}, {"validation": validation}, accept, option),
        "test": check_leakage({"train": train, "validation": validation}, {"test": held}, accept, option),
    }
    return Splits(train, validation, held, found)
