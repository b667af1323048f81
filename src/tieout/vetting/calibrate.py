"""Calibrate a reward against human labels, before training and again on fresh samples.

Two kinds of rows: `prompt, completion, label` (1 right, 0 wrong, or a share of labellers in between; `labels` for
those of several labellers), and `prompt, chosen, rejected` (a human preferred the one to the other).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from ..errors import InputError
from ..evidence.evaluate import plain_prompt
from ..evidence.stats import Estimate, mean
from ..rewards.library.judge import judges_of
from ..rewards.processes.workers import Workers
from ..rewards.scoring.runner import check_reward, score
from ..types import Reward, Row
from .biases import Bias, as_text, measure
from .reliability import (
    Bin,
    Drift,
    calibration_error,
    drift,
    faults,
    kappa,
    pair_faults,
    reliability,
    separation,
)

PAIR_FLOOR, PAIR_GOOD = 0.70, 0.85
"""Accuracy on pairs below which a reward should not be trained against, and from which thousands of steps are safe."""


@dataclass(frozen=True)
class CalibrationPolicy:
    """Every threshold of a calibration."""

    floor: float = PAIR_FLOOR
    """The interval of the agreement must lie above this."""
    threshold: float = 0.5
    """A completion that scores at least this counts as called right (rows with labels)."""
    min_rows: int = 50
    """Fewer judged rows show nothing."""
    max_unscored_share: float = 0.05
    """More rows than this without a score of their own: breaking the reward must not hide what it gets wrong."""


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration, and whether it is enough."""

    kind: Literal["labels", "pairs"]
    reward: str
    judge_model: str
    """Whose family's writing was looked at; empty where nothing judges."""
    agreement: Estimate
    """Share of completions (pairs) where reward and labels agree; a tie counts a half."""
    people: Estimate
    """The same between two labellers, where rows have `labels`."""
    kappa: float | None
    """Agreement beyond chance (labels)."""
    separation: float | None
    """Chance that a right completion outscores a wrong one (labels)."""
    calibration_error: float | None
    """ECE, of scores in [0, 1] (labels)."""
    bins: list[Bin]
    """Labels: how often each range of scores is right. Pairs: how often each range of leads, the distance of the two
    scores, is in the order of people."""
    biases: list[Bias]
    """What the reward makes of length, hedges and its own family's writing, beyond what people do."""
    drift: Drift | None
    errored: int
    """Rows on which the reward failed; those that crashed it still count as wrong answers."""
    abstained: int
    verdict: Literal["pass", "hold", "fail"]
    reasons: list[str]
    policy: CalibrationPolicy
    rows: list[dict[str, Any]] = field(default_factory=list)
    """What was scored: prompt, completion, label, score (or chosen_score, rejected_score), whether they agree."""


def calibrate(
    name: str,
    reward: Reward | None,
    rows: Sequence[Row],
    policy: CalibrationPolicy | None = None,
    *,
    fresh: Sequence[Row] = (),
    judge_model: str = "",
    progress: Callable[[int], None] | None = None,
    workers: Workers | None = None,
) -> Calibration:
    """Score every row and compare the scores with human labels.

    Args:
        name: of the reward, for the report.
        reward: None if rows carry `score` (or `chosen_score` and `rejected_score`) already.
        rows: of one of the two kinds.
        policy: what is enough.
        fresh: rows of prompt and completion that the policy just wrote, to see whether it has drifted away.
        judge_model: name of the model that judges, where it is none that the reward names; rows that name their models
            (`model`; `chosen_model`, `rejected_model`) then show whether it prefers its own family's writing.
        progress: told of rows as they are scored.
        workers: processes that call the reward under a deadline; None: this one does, and nothing can stop it.

    Raises:
        ValueError: rows of neither kind, or columns that the reward asks for and rows lack.
    """
    policy = policy or CalibrationPolicy()
    kind = kind_of(rows)
    if reward is not None:
        for some in filter(None, (rows, fresh)):
            given = {"completion", "chosen", "rejected", "label", "labels"}
            columns = [c for c in some[0] if c not in given and all(c in row for row in some)]
            check_reward(reward, columns, tokens=False)
    measured = [_measure(kind, reward, row, progress, workers) for row in rows]
    names = [judge.model for judge in judges_of(reward).values()] if reward is not None else []
    judge_model = judge_model or next(filter(None, names), "")
    return summarise(name, measured, policy, _fresh(reward, fresh), judge_model)


def summarise(
    name: str,
    measured: Sequence[dict[str, Any]],
    policy: CalibrationPolicy,
    fresh: Sequence[float] = (),
    judge_model: str = "",
) -> Calibration:
    """Every figure, and the verdict, from what was scored: `measured` is as `Calibration.rows`, `fresh` are scores."""
    kind = kind_of(measured)
    scored = [row for row in measured if row["status"] == "scored"]
    for row in scored:
        row["agrees"] = _agrees(kind, row, policy.threshold)
    abstained = sum(row["status"] == "abstained" for row in measured)
    counts = {"errored": sum("reason" in row for row in measured), "abstained": abstained}
    clusters = [str(row["prompt"]) for row in scored]
    agreement = mean([row["agrees"] for row in scored], clusters)
    bins: list[Bin] = []
    apart = beyond = error = None
    if kind == "labels" and scored:
        scores, labels = [r["score"] for r in scored], [r["label"] for r in scored]
        bins = reliability(scores, labels, num_bins=min(10, max(2, len(scores) // 30)))
        apart = separation(scores, labels)
        beyond = kappa([s >= policy.threshold for s in scores], [y > 0.5 for y in labels])
        if min(scores) >= 0 and max(scores) <= 1:
            error = calibration_error(bins)
    elif scored:
        leads = [(abs(r["chosen_score"] - r["rejected_score"]), r["agrees"]) for r in scored]
        apart_pairs = [(lead, agrees) for lead, agrees in leads if lead]
        if apart_pairs:
            distances, orders = [lead for lead, _ in apart_pairs], [agrees for _, agrees in apart_pairs]
            bins = reliability(distances, orders, num_bins=min(10, max(2, len(orders) // 30)))
    biases = measure(kind, scored, judge_model)
    keys = ["chosen_score", "rejected_score"] if kind == "pairs" else ["score"]
    known = [row[key] for row in scored for key in keys]
    moved = drift(known, fresh) if known and fresh else None
    verdict, reasons = _judge(policy, kind, agreement, bins, moved, len(measured), counts)
    if lopsided := [bias.found for bias in biases if bias.found]:
        verdict = "hold" if verdict == "pass" else verdict
        reasons = [*reasons, *lopsided]
    return Calibration(
        kind, name, judge_model, agreement, _people(measured), beyond, apart, error, bins, biases, moved,
        counts["errored"], counts["abstained"], verdict, reasons, policy, list(measured),
    )  # fmt: skip


def kind_of(rows: Sequence[Row]) -> Literal["labels", "pairs"]:
    """Which kind of rows these are; ValueError that names what is missing."""
    if not rows:
        raise InputError("there are no rows to calibrate on")
    for kind, needed in (("pairs", ("chosen", "rejected")), ("labels", ("completion",))):
        if all(all(c in row for c in ("prompt", *needed)) for row in rows):
            if kind == "labels" and not all("label" in row or "labels" in row for row in rows):
                break
            return kind  # type: ignore[return-value]
    raise InputError(
        "rows must have prompt, completion and label (or labels), or prompt, chosen and rejected; the first has: "
        + ", ".join(rows[0])
    )


def _measure(
    kind: str,
    reward: Reward | None,
    row: Row,
    progress: Callable[[int], None] | None,
    workers: Workers | None,
) -> dict[str, Any]:
    """Score one row: its `status`, scores and label."""
    names = ["chosen", "rejected"] if kind == "pairs" else ["completion"]
    keys = ["chosen_score", "rejected_score"] if kind == "pairs" else ["score"]
    result: dict[str, Any] = {"prompt": plain_prompt(row["prompt"]), **{n: row[n] for n in names}}
    writers = ["chosen_model", "rejected_model"] if kind == "pairs" else ["model"]
    result |= {name: row[name] for name in writers if name in row}
    texts = [as_text(row[n]) for n in names]
    if reward is None:
        result |= {key: row.get(key) for key in keys} | {"status": "scored"}
        if any(not isinstance(row.get(key), int | float) for key in keys):
            result["status"] = "abstained"
    else:
        outcomes = score(reward, texts, [row["prompt"]] * len(texts), _columns(row), workers)
        # What a completion crashed counts as wrong, as in training; what failed otherwise has no score.
        result |= {key: o.worth for key, o in zip(keys, outcomes, strict=True)}
        statuses = {o.status if o.worth is None else "scored" for o in outcomes}
        result["status"] = next((s for s in ("errored", "abstained") if s in statuses), "scored")
        if reasons := [o.reason for o in outcomes if o.reason]:
            result["reason"] = reasons[0]
    if kind == "labels":
        result["label"] = _label(row)
        result |= {"labels": list(row["labels"])} if "labels" in row else {}
    if progress:
        progress(1)
    return result


def _agrees(kind: str, row: Mapping[str, Any], threshold: float) -> float:
    if kind == "pairs":
        ahead = row["chosen_score"] - row["rejected_score"]
        return 0.5 if ahead == 0 else float(ahead > 0)
    return float((row["score"] >= threshold) == (row["label"] > 0.5))


def _label(row: Row) -> float:
    """1 right, 0 wrong; of several labellers, the share that says right."""
    marks = row["labels"] if "labels" in row else [row["label"]]
    for mark in marks:
        if not isinstance(mark, bool | int | float) or not 0 <= mark <= 1:
            raise InputError(f"a label is {mark!r}; expected true, false or a number between 0 and 1")
    return sum(map(float, marks)) / len(marks)


def _people(rows: Sequence[Row]) -> Estimate:
    """How often two labellers agree on one completion: the most a reward can reach."""
    agreed: list[float] = []
    clusters: list[str] = []
    for i, row in enumerate(rows):
        for one, other in combinations(row.get("labels") or [], 2):
            agreed.append(float((one > 0.5) == (other > 0.5)))
            clusters.append(str(i))
    return mean(agreed, clusters)


def _fresh(reward: Reward | None, rows: Sequence[Row]) -> list[float]:
    """The scores of what the policy just wrote."""
    if reward is None:
        found = [row.get("score") for row in rows]
    else:
        calls = [([as_text(row["completion"])], [row["prompt"]], _columns(row)) for row in rows]
        found = [outcome.worth for call in calls for outcome in score(reward, *call)]
    return [value for value in found if isinstance(value, int | float)]


def _judge(
    policy: CalibrationPolicy,
    kind: str,
    agreement: Estimate,
    bins: Sequence[Bin],
    moved: Drift | None,
    num_rows: int,
    counts: Mapping[str, int],
) -> tuple[Literal["pass", "hold", "fail"], list[str]]:
    """Fail: it is shown to be too low, flat, falling or drifted. Hold: it is not shown to be enough."""
    found = pair_faults if kind == "pairs" else faults
    fails = found(bins) if agreement.n >= policy.min_rows and bins else []
    value, low, high = agreement.value, agreement.low, agreement.high
    if value is None or low is None or high is None:
        return "hold", ["no row has a score"]
    shown = f"agreement {value:.3f} [{low:.3f}, {high:.3f}] on {agreement.n} {kind}"
    failed, held = against_floor(agreement, policy, shown, f"{policy.floor}")
    fails, holds = fails + failed, held
    unscored = sum(counts.values()) / num_rows
    if unscored > policy.max_unscored_share:
        holds.append(f"{unscored:.0%} of the rows have no score of their own ({counts['errored']} errored)")
    if moved and moved.drifted:
        fails.append(
            f"fresh samples have drifted: distance {moved.distance:.2f}, {moved.outside:.0%} outside the range"
        )
    if fails or holds:
        return ("fail" if fails else "hold"), fails + holds
    good = kind == "pairs" and low >= PAIR_GOOD
    return "pass", [shown + (f", above {PAIR_GOOD}: good for thousands of steps" if good else "")]


def against_floor(
    agreement: Estimate, policy: CalibrationPolicy, shown: str, floor: str
) -> tuple[list[str], list[str]]:
    """(why it fails, why it holds) of an agreement; `shown` and `floor` are how the two are written."""
    value, low, high = agreement.value, agreement.low, agreement.high
    if value is None or low is None or high is None:
        return [], []
    if high < policy.floor or (value < policy.floor and agreement.n >= policy.min_rows):
        return [f"{shown}, below the floor of {floor}"], []
    if agreement.n < policy.min_rows:
        return [], [f"{shown}: fewer than {policy.min_rows} show nothing"]
    if low < policy.floor:
        return [], [f"{shown}: not shown to be above the floor of {floor}"]
    return [], []


def _columns(row: Row) -> dict[str, Any]:
    """The columns a reward may ask for: not the labels, or it could look them up."""
    hidden = (
        "completion",
        "chosen",
        "rejected",
        "label",
        "labels",
        "score",
        "chosen_score",
        "rejected_score",
        "model",
        "chosen_model",
        "rejected_model",
    )
    return {name: value for name, value in row.items() if name not in hidden}
