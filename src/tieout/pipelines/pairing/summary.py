"""Report what decides the pairs of a stage, and limit those that form alone decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from ...errors import InputError
from ...rows.messages import TOLD
from ...tasks.flaws import Flawed
from ...types import Row
from .choose import NEAR, TIED, Choice, Standard
from .measures import Candidate

FORM_ALONE = "form alone decides, above max_form"
FEW_SCORED = "fewer than two completions were scored"
NO_SCORE = "a completion has no score"
NO_FLAW = "no rule flaws the gold completion"
NOT_LOWER = "no flawed completion scores lower than gold by min_gap"
ALIKE = "fewer than two different completions of a prompt"
SKIPPED = "people skipped the prompt"
UNDECIDED = "people find no completion better than another, or differ"
ADVICE = {
    f"{FEW_SCORED} by the judge": "Look at what the judge says of some completions: it must score two of a prompt",
    FEW_SCORED: "Look at what the reward gives some completions: it must score two of a prompt",
    NO_SCORE: "Look at what the reward gives gold and its flawed copies",
    NO_FLAW: "Give a rule for such completions: `flaws: FILE.py:function`",
    NOT_LOWER: "The reward does not see these flaws: try more copies (num_completions), lower min_gap, or flaw what it "
    "scores (`flaws: FILE.py:function`)",
    FORM_ALONE: "Raise max_form, or sample more, so that substance decides more pairs",
    TIED: "All completions of such a prompt score the same: take harder prompts, a finer reward or judge, or raise "
    "temperature",
    ALIKE: "Raise temperature, or sample more (num_completions)",
    UNDECIDED: "Sample more unlike completions (temperature, num_completions), or settle what people differ on",
    SKIPPED: "Take other prompts (max_prompts): those that people skip give no pair",
    NEAR: "Lower min_gap, which is on the scale of what orders the completions; or sample more (num_completions)",
}
"""Why most prompts were dropped, as it begins -> what to do; a reason that is not here asks for better completions."""
SUMMARY = "pairs.json"
"""The file next to the pairs that says what decides them."""


def advice_on(dropped: Counter[str]) -> str:
    """What to do about why most prompts were dropped; empty where it is that no completion is good enough."""
    most = next((reason for reason, count in dropped.most_common() if count), "")
    return next((said for start, said in ADVICE.items() if most.startswith(start)), "")


@dataclass(frozen=True)
class Pair:
    """A pair with what decides it."""

    row: dict[str, Any]
    """As pairs.jsonl has it."""
    label: str
    form_alone: bool | None
    """Whether form alone decides it; None: that cannot be told."""
    gap: float | None
    """None: the pair has no scores."""
    good: bool | None = None
    """Whether the task calls the chosen good in itself; None: not known."""

    @classmethod
    def of(
        cls,
        row: Row,
        candidates: Sequence[Candidate],
        choice: Choice,
        source: str,
        rejected_as: str = "",
        good: bool | None = None,
    ) -> Pair:
        """The pair of a choice among the completions of a row's prompt.

        `rejected_as`: the rejected as it was made; of a `Flawed`, the rule says what decides where no measure does.
        """
        chosen, rejected = candidates[choice.chosen], candidates[choice.rejected]
        label, form = choice.decision.label, choice.decision.form_alone
        if isinstance(rejected_as, Flawed) and form is None:
            label, form = f"flaw: {rejected_as.rule}", rejected_as.form
        made = {
            **{name: row[name] for name in TOLD if name in row},
            "prompt": row["prompt"],
            "chosen": chosen.text,
            "rejected": rejected.text,
            "chosen_score": chosen.score,
            "rejected_score": rejected.score,
            "source": source,
            "decided_by": label,
        }
        return cls(made, label, form, choice.gap, good)


@dataclass
class Made:
    """The pairs of a stage so far, and the prompts that gave none."""

    pairs: list[Pair] = field(default_factory=list)
    prompts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> how many prompts gave no pair for it, or pairs that were left out for it."""
    best: list[float] = field(default_factory=list)
    """The best score of each prompt."""
    backstop: Counter[str] = field(default_factory=Counter)
    """What the program said of a judge's preferences -> how many prompts."""
    judged: list[Mapping[str, Any]] = field(default_factory=list)
    """Every judgement of people."""
    judge_gap: float | None = None
    """The least gap that was asked of a judge, on its own scale; None: no judge was."""

    def _gaps(self) -> dict[str, float]:
        """Source -> mean gap: a reward, a judge and people score on scales of their own."""
        found: dict[str, list[float]] = {}
        for pair in self.pairs:
            if pair.gap is not None:
                found.setdefault(str(pair.row["source"]), []).append(pair.gap)
        return {source: fmean(gaps) for source, gaps in found.items()}

    def limit_form(self, most: float) -> None:
        """Drop pairs that form alone decides until they are at most this share, those with the smallest gap first."""
        form = sorted((p for p in self.pairs if p.form_alone), key=lambda p: -(p.gap or 0))
        if most >= 1 or not form:
            return
        room = int(most / (1 - most) * (len(self.pairs) - len(form)) + 1e-9)
        surplus = {id(pair) for pair in form[room:]}
        self.pairs = [pair for pair in self.pairs if id(pair) not in surplus]
        self.dropped[FORM_ALONE] += len(surplus)

    def check_enough(self, least: int, standard: Standard, maker: str) -> None:
        """InputError: something was dropped, and fewer pairs than `least` are left; why, and what to do."""
        if len(self.pairs) >= least or (self.pairs and not self.dropped.total()):
            return
        ranked = sorted(self.best)
        shown = (
            f"; the best completion of a prompt scores {ranked[len(ranked) // 2]:.3g} in the median and "
            f"{ranked[len(ranked) * 9 // 10]:.3g} or more for a tenth of the prompts"
            if ranked
            else ""
        )
        why = "; ".join(f"{count} x {reason}" for reason, count in self.dropped.most_common() if count)
        advice = advice_on(self.dropped) or (
            f"A chosen completion must be good in itself: {standard.words}{shown}. Lower min_chosen, which is on the "
            "scale of the reward; sample more (num_completions, max_prompts); or train the model before, by SFT, so "
            "that more samples are right"
        )
        raise InputError(
            f"{maker} made {len(self.pairs)} pairs of {self.prompts} prompts, and min_pairs is {least} ({why}). "
            f"{advice}"
        )

    def summary(self, standard: Standard) -> dict[str, Any]:
        """Plain values for the JSON next to the pairs, and for reports."""
        count, gaps = len(self.pairs), self._gaps()
        form = [pair.form_alone for pair in self.pairs]
        return {
            "pairs": count,
            "prompts": self.prompts,
            "decided_by": dict(Counter(pair.label for pair in self.pairs).most_common()),
            "form_alone": None if None in form or not form else sum(map(bool, form)) / count,
            "mean_gap": next(iter(gaps.values())) if len(gaps) == 1 else gaps or None,
            "min_gap": standard.min_gap if self.judge_gap is None else self.judge_gap,
            "chosen": standard.words,
            "dropped": {reason: count for reason, count in self.dropped.most_common() if count},
            "sources": dict(Counter(str(pair.row["source"]) for pair in self.pairs)),
            **({"backstop": dict(self.backstop)} if self.backstop else {}),
        }


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what decides the pairs, and why prompts gave none."""
    table = Table(title=f"  what decides the {summary['pairs']} pairs", title_justify="left")
    table.add_column("decided by")
    table.add_column("pairs", justify="right")
    table.add_column("share", justify="right")
    for label, count in summary["decided_by"].items():
        table.add_row(label, str(count), f"{count / summary['pairs']:.0%}")
    console.print(table)
    mean = summary["mean_gap"]
    means = (
        [f"{source} {gap:.3f}" for source, gap in mean.items()]
        if isinstance(mean, dict)
        else [f"{mean or 0:.3f}"]
    )
    gap = "" if mean is None else f"; mean gap {', '.join(means)}, least {summary['min_gap']:g}"
    console.print(f"  chosen: {summary['chosen']}{gap}", highlight=False, markup=False)
    if summary["form_alone"] is None:
        console.print(
            "  how many are decided by form alone cannot be told, and max_form is not applied: that takes pairs "
            "that the reward scored, and parts (Task.parts) or metrics of form and of substance",
            highlight=False,
            markup=False,
        )
    if backstop := summary.get("backstop"):
        said = "; ".join(f"{count} x {what}" for what, count in backstop.items())
        console.print(f"  the judge's preferences and the program: {said}", highlight=False, markup=False)
    for reason, count in summary["dropped"].items():
        console.print(f"  dropped: {count} x {reason}", highlight=False, markup=False)
