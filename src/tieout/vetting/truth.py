"""Calibrate a reward against what a task knows without asking people: gold, flawed completions, its primary metric.

| completion | is right | is wrong |
|---|---|---|
| gold | always | |
| flawed: `task.flaws` by kind, else `task.corrupt`, else another row's gold and changed answers | | always |
| sampled from a policy | as far as the primary metric says so | |

Without a primary metric a sample is known neither as right nor as wrong: only that none is better than gold.

Two completions of one prompt of which one is better should score in that order: a reward is only ever asked to order
the completions of a prompt. This says nothing of whether people share the task's idea of what is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from ..errors import InputError
from ..evidence.evaluate import plain_prompt
from ..evidence.stats import Estimate, mean
from ..rewards.processes.workers import Workers
from ..rewards.scoring.call import Call, Encode
from ..rewards.scoring.outcomes import reward_name
from ..rewards.scoring.runner import score_groups
from ..tasks import Task
from ..tasks.flaws import RULES
from ..types import Reward, Row
from .attack.gold import read_gold
from .attack.probe import in_other_words
from .calibrate import CalibrationPolicy, against_floor
from .check import perturbed
from .golden_rows import with_gold
from .reliability import Bin, faults, rank_agreement, reliability, separation

GOLD, SAMPLED = "gold", "sampled"
MIN_OF_A_KIND = 8
"""Pairs of one kind below which that kind is not judged on its own."""
MAX_WRONG_GOLD = 0.05
"""Share of golds that the primary metric may call wrong, and of samples that may score above gold where it is not known
what they are worth."""


@dataclass(frozen=True)
class Known:
    """A completion, and what is known of it."""

    completion: str
    kind: str
    """`gold`, `sampled`, or the kind of flaw."""
    truth: float | None = None
    """1 right, 0 wrong; None: the primary metric says."""


@dataclass(frozen=True)
class TruthCalibration:
    """How well a reward orders completions of which the task knows the better one."""

    truth: str
    """What the reward was compared with, in words."""
    reward: str
    primary: str | None
    agreement: Estimate
    """Share of pairs (one prompt, one better completion) in which the better one scores higher; a tie counts a half."""
    pairs: dict[str, Estimate]
    """The same per kind of pair, such as `gold over wrong_digit`."""
    separation: float | None
    """Chance that a right completion outscores a wrong one, over all prompts (AUC)."""
    rank_agreement: dict[str, float | None]
    """Kendall's tau-b of the reward with the truth, and with each metric of the task, over all completions."""
    bins: list[Bin]
    """How often each range of scores is right."""
    kinds: dict[str, dict[str, float]]
    """Per kind of completion: how many, their mean score and mean truth."""
    errored: int
    abstained: int
    verdict: Literal["pass", "hold", "fail"]
    reasons: list[str]
    policy: CalibrationPolicy
    rows: list[dict[str, Any]] = field(default_factory=list)
    """What was scored: row, prompt, completion, kind, status, score, truth, metrics."""


def known_completions(
    task: Task, rows: Sequence[Row], seed: int = 0, num_flaws: int = 3
) -> list[list[Known]]:
    """[row][...] gold and flawed completions of each row; none of a row without gold.

    Kinds of flaws take turns, so that each occurs about equally often whatever the number of rows.
    """
    golds = [found["completion"] if (found := with_gold(row, task.gold)) else None for row in rows]
    return [
        [] if gold is None else [Known(gold, GOLD, 1.0), *_flawed(task, rows, golds, i, seed, num_flaws)]
        for i, gold in enumerate(golds)
    ]


def _flawed(
    task: Task, rows: Sequence[Row], golds: Sequence[str | None], index: int, seed: int, count: int
) -> Iterator[Known]:
    rng, row, gold = random.Random(f"{seed}/truth/{index}"), rows[index], golds[index]
    assert gold is not None
    if task.flaws:
        names = list(task.flaws)
        for turn in range(min(count, len(names))):
            name = names[(index * count + turn) % len(names)]
            yield Known(task.flaws[name](row, rng), name, 0.0)
    elif task.corrupt is not None:
        for text in dict.fromkeys(task.corrupt(row, rng) for _ in range(count)):
            yield Known(text, "flawed", 0.0)
    else:
        read = read_gold({**row, "completion": gold}, [])
        others = [other for other in golds if other is not None and other != gold]
        others = [other for other in others if not in_other_words(other, read)]
        if others:
            yield Known(rng.choice(others), "another row's gold", 0.0)
        # What stands before the answer may be changed and the answer still be right.
        said, put = (read.answer, read.replaced) if read.kind == "text" or read.thinks else (gold, str)
        changes = [(name, RULES[name].change(said, rng)) for name in rng.sample(WRONG, len(WRONG))]
        fitting = [(name, put(text)) for name, text in changes if text and text.strip() != said]
        fitting = [(name, text) for name, text in fitting if not in_other_words(text, read)]
        for name, text in fitting[: max(1, count - 1)] or [
            ("changed gold", t) for t in perturbed(read, rng)[:1]
        ]:
            yield Known(text, name, 0.0)


WRONG = ("another digit", "another sign", "another scale", "the opposite", "another name")
"""Rules of `tasks.flaws` whose result is wrong in substance, whatever the task."""


def calibrate_on_truth(
    task: Task,
    reward: Reward,
    rows: Sequence[Row],
    completions: Sequence[Sequence[Known]],
    policy: CalibrationPolicy | None = None,
    *,
    workers: Workers | None = None,
    encode: Encode | None = None,
) -> TruthCalibration:
    """Score the completions of every row with the reward and the task's metrics, and compare the orders.

    Args:
        task: its metrics are computed too; its primary decides on what is not known to be right or wrong.
        reward: what is calibrated.
        rows: one per item of `completions`.
        completions: [row][...] as `known_completions` makes them, and samples of a policy.
        policy: what is enough.
        workers: processes that call the reward and the metrics under a deadline.
        encode: makes the tokens for a reward that asks for them.

    Raises:
        InputError: there is nothing to compare: samples alone, of a task that names no primary metric.
    """
    policy = policy or CalibrationPolicy()
    given = [(row, list(known)) for row, known in zip(rows, completions, strict=True) if known]
    if task.primary is None and not any(one.truth is not None for _, known in given for one in known):
        raise InputError(
            f"task {task.name!r} names no primary metric, and no completion is known to be right or wrong: there is "
            "nothing to calibrate against but human labels"
        )
    calls = [
        Call.of_texts([one.completion for one in known], [row["prompt"]] * len(known), row, encode)
        for row, known in given
    ]
    said = score_groups(reward, calls, workers)
    measured = {name: score_groups(metric, calls, workers) for name, metric in task.metrics.items()}
    kept: list[dict[str, Any]] = []
    for i, (row, known) in enumerate(given):
        for k, one in enumerate(known):
            metrics = {name: found[i][k].worth for name, found in measured.items()}
            own = metrics.get(task.primary) if task.primary else None
            outcome = said[i][k]
            failed = outcome.worth is None or outcome.reason
            kept.append(
                {
                    "row": i,
                    "prompt": plain_prompt(row["prompt"]),
                    "completion": one.completion,
                    "kind": one.kind,
                    "status": "scored"
                    if not failed
                    else "abstained"
                    if outcome.status == "abstained"
                    else "errored",
                    "score": outcome.worth,
                    "truth": own if one.truth is None else one.truth,
                    "metrics": metrics,
                }
            )
    return summarise(reward_name(reward), task.primary, kept, policy)


def summarise(
    reward: str, primary: str | None, kept: Sequence[Mapping[str, Any]], policy: CalibrationPolicy
) -> TruthCalibration:
    """Every figure, and the verdict, from what was scored: `kept` is as `TruthCalibration.rows`."""
    compared = [one for one in kept if one["score"] is not None and one["truth"] is not None]
    ordered = _pairs(compared)
    agreement = mean([value for _, value, _ in ordered], [row for _, _, row in ordered])
    by_kind = {
        kind: mean(
            [v for name, v, _ in ordered if name == kind], [r for name, _, r in ordered if name == kind]
        )
        for kind in dict.fromkeys(name for name, _, _ in ordered)
    }
    scores, truths = [one["score"] for one in compared], [one["truth"] for one in compared]
    bins = reliability(scores, truths, num_bins=min(10, max(2, len(scores) // 30))) if scores else []
    ranks: dict[str, float | None] = {"truth": rank_agreement(scores, truths)}
    for name in kept[0]["metrics"] if kept else ():
        both = [(one["score"], one["metrics"][name]) for one in kept]
        present = [(s, m) for s, m in both if s is not None and m is not None]
        ranks[name] = rank_agreement([s for s, _ in present], [m for _, m in present])
    statuses = {name: sum(one["status"] == name for one in kept) for name in ("errored", "abstained")}
    verdict, reasons = _verdict(
        policy, agreement, by_kind, bins, _beliefs(kept, primary), len(kept), statuses
    )
    return TruthCalibration(
        _in_words(primary, kept), reward, primary, agreement, by_kind, separation(scores, truths),
        ranks, bins, _kinds(kept), statuses["errored"], statuses["abstained"], verdict, reasons, policy,
        [dict(one) for one in kept],
    )  # fmt: skip


def _beliefs(kept: Sequence[Mapping[str, Any]], primary: str | None) -> list[str]:
    """What cannot be: golds that the primary metric calls wrong, samples that are better than gold."""
    golds = [one for one in kept if one["kind"] == GOLD]
    wrong = sum((own := one["metrics"].get(primary)) is not None and own < 1 for one in golds)
    found = [f"metric {primary!r} calls {wrong} of {len(golds)} golds wrong"]
    if wrong <= MAX_WRONG_GOLD * len(golds):
        found = []
    best = {one["row"]: one["score"] for one in golds if one["score"] is not None}
    unknown = [
        one for one in kept if one["truth"] is None and one["score"] is not None and one["row"] in best
    ]
    above = sum(one["score"] > best[one["row"]] + 1e-9 for one in unknown)
    if above > MAX_WRONG_GOLD * len(unknown):
        found.append(f"{above} of {len(unknown)} samples score above the gold of their row")
    return found


def _pairs(compared: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """(kind of pair, 1 if the better one scores higher, row) of every two completions of a row that differ in truth."""
    by_row: dict[int, list[Mapping[str, Any]]] = {}
    for one in compared:
        by_row.setdefault(one["row"], []).append(one)
    found = []
    for row, own in by_row.items():
        for a, b in combinations(own, 2):
            if a["truth"] == b["truth"]:
                continue
            better, worse = (a, b) if a["truth"] > b["truth"] else (b, a)
            ahead = better["score"] - worse["score"]
            found.append(
                (f"{better['kind']} over {worse['kind']}", 0.5 if ahead == 0 else float(ahead > 0), row)
            )
    return found


def _kinds(kept: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found = {}
    for kind in dict.fromkeys(one["kind"] for one in kept):
        own = [one for one in kept if one["kind"] == kind]
        figures: dict[str, float] = {"n": len(own)}
        for name in ("score", "truth"):
            values = [one[name] for one in own if one[name] is not None]
            if values:
                figures[f"mean_{name}"] = sum(values) / len(values)
        found[kind] = figures
    return found


def _in_words(primary: str | None, kept: Sequence[Mapping[str, Any]]) -> str:
    kinds = {one["kind"] for one in kept}
    used = ["gold"] if GOLD in kinds else []
    if flaws := kinds - {GOLD, SAMPLED}:
        used.append(f"flawed completions of {len(flaws)} kinds" if len(flaws) > 1 else "flawed completions")
    if SAMPLED in kinds:
        known = f"metric {primary} of" if primary else "no primary metric, so only that gold is not below"
        used.append(f"{known} the policy's samples")
    return f"the task's own truth, not people: {', '.join(used)}"


def _verdict(
    policy: CalibrationPolicy,
    agreement: Estimate,
    by_kind: Mapping[str, Estimate],
    bins: Sequence[Bin],
    impossible: Sequence[str],
    num_completions: int,
    statuses: Mapping[str, int],
) -> tuple[Literal["pass", "hold", "fail"], list[str]]:
    """Fail: it is shown to order wrongly. Hold: it is not shown to order rightly."""
    fails, holds = list(impossible), list[str]()
    value, low, high = agreement.value, agreement.low, agreement.high
    if value is None or low is None or high is None:
        holds.append("no prompt has two completions of which one is known to be better")
        return ("fail" if fails else "hold"), fails + holds
    shown = (
        f"the better completion scores higher in {value:.1%} [{low:.1%}, {high:.1%}] of {agreement.n} pairs"
    )
    failed, held = against_floor(agreement, policy, shown, f"{policy.floor:.0%}")
    fails, holds = fails + failed, holds + held
    for kind, own in by_kind.items():
        if (
            own.n >= MIN_OF_A_KIND
            and own.high is not None
            and own.value is not None
            and own.high < policy.floor
        ):
            fails.append(f"{kind}: the better one scores higher in {own.value:.0%} of {own.n} pairs only")
    if agreement.n >= policy.min_rows:
        fails += [fault for fault in faults(bins) if fault.startswith("not monotone")]
    unscored = sum(statuses.values()) / num_completions
    if unscored > policy.max_unscored_share:
        holds.append(
            f"{unscored:.0%} of the completions have no score of their own ({statuses['errored']} errored)"
        )
    if fails or holds:
        return ("fail" if fails else "hold"), fails + holds
    return "pass", [shown]
