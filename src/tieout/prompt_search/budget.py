"""Budget of a search: what it must at least be, and what it can take, said before the first call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..errors import InputError
from ..rows.messages import prompt_text
from ..samplers.prices import Price
from ..samplers.prompted import PromptPrefix
from ..types import Row

STEPS = 3
"""Candidates that a search must be able to try to the end."""


@dataclass(frozen=True)
class Budget:
    """Completions of the policy for the search; those of the test come on top."""

    completions: int
    minibatch: int
    """Training rows on which a candidate and its parent are compared first."""
    validation: int
    """Rows on which a candidate is tried that was better there."""

    def __post_init__(self) -> None:
        if self.minibatch < 1:
            raise InputError(f"minibatch is {self.minibatch}; it must be at least 1")
        if self.completions < self.least:
            raise InputError(
                f"budget is {self.completions} completions; expected at least {self.least}: {self.validation} for the "
                f"first prompt on the validation rows, and {STEPS} times {self.step}: a candidate and its parent on "
                f"{self.minibatch} training rows and the candidate on the validation rows. Raise budget, or lower "
                "validation_rows"
            )

    @property
    def step(self) -> int:
        """The most that one candidate takes."""
        return 2 * self.minibatch + self.validation

    @property
    def least(self) -> int:
        """Of completions."""
        return self.validation + STEPS * self.step

    @property
    def spare(self) -> int:
        """What is left when the least is put aside."""
        return self.completions - self.least

    @property
    def reflections(self) -> int:
        """The most times that a reflection model can be asked: each time at least a minibatch was scored."""
        return (self.completions - self.validation) // self.minibatch


def said(
    budget: Budget,
    policy: tuple[str, str],
    reflection: tuple[str, str] | None,
    seed: PromptPrefix,
    rows: Sequence[Row],
    test: int,
    max_new_tokens: int,
    reflection_tokens: int,
) -> list[str]:
    """What the search can take, a line per model.

    Args:
        budget: of the search.
        policy: name and price; no price: empty.
        reflection: the same of the reflection model; None: there is none.
        seed: the prompt to begin with.
        rows: that are asked.
        test: number of test rows that the search asks at its end.
        max_new_tokens: of a completion.
        reflection_tokens: of a proposal.
    """
    prompt = fmean(len(prompt_text(seed(row["prompt"])).encode()) for row in rows)
    count = budget.completions + 2 * test
    parts = f", {budget.completions} of the search and 2 x {test} of the test" if test else ""
    lines = [
        f"{policy[0]}: at most {count} completions{parts}" + _cost(policy[1], count, prompt, max_new_tokens)
    ]
    if reflection is not None:
        asked = budget.minibatch * (prompt + 4 * max_new_tokens) + 2000
        lines.append(
            f"{reflection[0]}: at most {budget.reflections} proposals"
            + _cost(reflection[1], budget.reflections, asked, reflection_tokens)
        )
    return lines


def _cost(price: str, count: int, prompt: float, tokens: int) -> str:
    """What so many calls cost if every byte of a prompt were a token and every completion as long as it may be."""
    if not price:
        return ""
    one = Price.of(price).cost({"prompt_tokens": prompt, "tokens": tokens, "seconds": 0})
    return f", cost at most about {count * one:.3g} with prompts as long as the first; max_cost limits it"
