"""Audit a judge on what a policy writes: a sheet of outputs with its scores and reasons, filled in by a person.

A row of a sheet, as training writes it every so many steps:

    {"step": 200, "prompt": "...", "completion": "...", "score": 0.75, "judges": {"judge": 0.75},
     "reasons": {"judge": "Short and right, one figure without a unit."}, "agree": "", "human_score": null, "note": ""}

A person writes yes or no as `agree`, or a `human_score` on the scale of the score, or both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, TieoutError
from ..evidence.evaluate import plain_prompt
from ..evidence.stats import Estimate, mean
from ..rewards.library.judge import Judge
from ..rows import read_rows
from ..types import Row
from .calibrate import Calibration, CalibrationPolicy, against_floor, calibrate
from .records import plain

_YES, _NO = (True, 1, "yes", "y", "true"), (False, 0, "no", "n", "false")
MIN_SCORED = 8
"""Rows with a human score below which scores are not compared."""


@dataclass(frozen=True)
class Audit:
    """What people said of a judge's scores of a policy's outputs."""

    agreement: Estimate
    """Share of the rows filled in on which the person agrees."""
    steps: dict[str, Estimate]
    """The same per sheet, by its step: a judge that is being persuaded is agreed with less and less."""
    scores: Calibration | None
    """The judge's scores against those that people gave, with its biases, where there are enough."""
    open_rows: int
    """Rows not filled in."""
    verdict: Literal["pass", "hold", "fail"]
    reasons: list[str]
    refresh: bool
    """Whether the judge should be refreshed: another rubric, another model, or a smaller weight."""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "scores": plain(self.scores) if self.scores else None}


def sheet(
    step: int, samples: Sequence[tuple[Row, str, float]], judges: Mapping[str, Judge], count: int
) -> list[dict[str, Any]]:
    """The rows of a sheet: `count` outputs spread evenly from the lowest to the highest score.

    Args:
        step: of the training.
        samples: row, completion and score, as they were just sampled.
        judges: asked again for their reasons; a cached judge answers from its cache.
        count: rows; the best-scored output is always one, as it is where a judge is exploited.
    """
    ordered = sorted(samples, key=lambda sample: sample[2])
    count = min(count, len(ordered))
    places = (
        [round(i * (len(ordered) - 1) / max(1, count - 1)) for i in range(count)]
        if count > 1
        else [-1] * count
    )
    rows = []
    for place in dict.fromkeys(places):
        row, completion, score = ordered[place]
        said = {name: _ask(judge, row, completion) for name, judge in judges.items()}
        rows.append(
            {
                "step": step,
                "prompt": plain_prompt(row.get("prompt", "")),
                "completion": completion,
                "score": score,
                "judges": {name: grade for name, (grade, _) in said.items()},
                "reasons": {name: reasons for name, (_, reasons) in said.items()},
                "agree": "",
                "human_score": None,
                "note": "",
            }
        )
    return rows


def _ask(judge: Judge, row: Row, completion: str) -> tuple[float | None, str]:
    try:
        ((outcome, reasons),) = judge.grade(
            [completion], [row.get("prompt", "")], **{name: [row[name]] for name in judge.shows}
        )
    except TieoutError as error:  # a spent budget must not end the training
        return None, f"not asked: {error}"
    return outcome.score, reasons or outcome.reason


def read_sheets(path: Path) -> list[Row]:
    """The rows of a sheet, or of all sheets of a folder. InputError: there are none, or an answer is none."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no audit sheets (*.jsonl)")
    found = []
    for file in files:
        for number, row in enumerate(read_rows(file), 1):
            if missing := [name for name in ("step", "completion", "score", "agree") if name not in row]:
                raise InputError(f"{file}, row {number} is of no audit sheet: it has no {', '.join(missing)}")
            _agrees(row, f"{file}, row {number}")
            value = row.get("human_score")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(
                    f"{file}, row {number}: human_score is {value!r}; expected a number, or null"
                )
            found.append(row)
    return found


def audit(rows: Sequence[Row], policy: CalibrationPolicy | None = None) -> Audit:
    """Compare a judge with people on filled sheets, and say whether it should be refreshed."""
    policy = policy or CalibrationPolicy()
    answered = [(row, said) for row in rows if (said := _agrees(row, "a row")) is not None]
    agreement = _share(answered)
    by_step = {
        str(step): _share([(row, said) for row, said in answered if row["step"] == step])
        for step in sorted({row["step"] for row, _ in answered})
    }
    scored = [
        {
            "prompt": row["prompt"],
            "completion": row["completion"],
            "score": row["score"],
            "label": row["human_score"],
        }
        for row in rows
        if isinstance(row.get("human_score"), int | float) and 0 <= row["human_score"] <= 1
    ]
    scores = calibrate("scores", None, scored, policy) if len(scored) >= MIN_SCORED else None
    fails, holds = list[str](), list[str]()
    value, low, high = agreement.value, agreement.low, agreement.high
    if value is None or low is None or high is None:
        if scores is None:
            holds.append(f"nothing is filled in: write yes or no as `agree` in {len(rows)} rows")
    else:
        shown = f"people agree with the judge on {value:.1%} [{low:.1%}, {high:.1%}] of {agreement.n} outputs"
        fails, holds = against_floor(agreement, policy, shown, f"{policy.floor:.0%}")
        fails += _falling(by_step)
    if scores is not None and scores.verdict == "fail":
        fails += scores.reasons
    elif scores is not None:
        holds += [bias.found for bias in scores.biases if bias.found]
    refresh = bool(fails)
    if refresh:
        fails.append(
            "refresh the judge before training continues: fix its rubric with the rows that people disagree with, "
            "take another model, or let it weigh less"
        )
    verdict: Literal["pass", "hold", "fail"] = "fail" if fails else "hold" if holds else "pass"
    reasons = fails + holds or [shown if value is not None else "the scores agree with people's"]
    return Audit(agreement, by_step, scores, len(rows) - len(answered), verdict, reasons, refresh)


def _falling(by_step: Mapping[str, Estimate]) -> list[str]:
    """The last sheet is agreed with less than an earlier one, beyond chance."""
    if len(by_step) < 2:
        return []
    *earlier, (last, now) = by_step.items()
    step, best = max(earlier, key=lambda item: item[1].low or 0.0)
    if now.high is None or best.low is None or now.high >= best.low:
        return []
    return [f"agreement fell from {best.value:.0%} at step {step} to {now.value:.0%} at step {last}"]


def _share(answered: Sequence[tuple[Row, bool]]) -> Estimate:
    return mean([float(said) for _, said in answered], [str(row.get("prompt", "")) for row, _ in answered])


def _agrees(row: Row, where: str) -> bool | None:
    """What a person wrote; None where nothing is filled in."""
    said = row.get("agree")
    said = said.strip().lower() if isinstance(said, str) else said
    if said in ("", None):
        return None
    if said not in (*_YES, *_NO):
        raise InputError(f"{where}: agree is {row['agree']!r}; expected yes, no, or nothing")
    return said in _YES
