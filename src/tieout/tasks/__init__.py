"""A Task: rows, how to ask, how to score. One file a task; its docstring shows one real row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from ..types import Prompt, Row

RewardFunction = Callable[..., "list[float | None]"]
"""`(completions, prompts=..., **columns) -> scores`, TRL's signature, called once per group on strings.

`completions` and `prompts` have K entries, and so has every column of the row. None means: does not apply.
"""

Environment = Callable[[Row], Generator[str, str, float | None]]
"""`text = yield observation`, `return score`: a multi-turn episode. The first observation is the user's turn."""


@dataclass(frozen=True)
class Task:
    """What to learn: where rows come from, and what a good completion is."""

    name: str
    rows: Callable[[str], Sequence[Row]]
    """Split name -> rows. Splits: train, calibration, test, ood; a task may lack some (empty list)."""
    reward: RewardFunction | None = None
    """Scores completions; None if the environment returns the score."""
    environment: Environment | None = None
    """None: single turn, the row's prompt is asked and one completion is taken."""
    metrics: Mapping[str, RewardFunction] = field(default_factory=dict)
    """Further numbers for reports, with a reward's signature."""
    gold: Callable[[Row], str] | None = None
    """The completion that must score 1."""
    max_new_tokens: int = 256
    """Long enough for every gold completion."""

    def prompt(self, row: Row) -> Prompt:
        """What the policy is asked."""
        prompt: Prompt = row["prompt"]
        return prompt
