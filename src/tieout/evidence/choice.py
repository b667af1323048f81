"""Which of the evaluated models to take: a rule as data, on the same cases, paired.

Models are put in the order of what they cost: their training, and a number of answers. Between adapters of one base
the time of an answer is that of its tokens, as a measured one varies with what else the machine does. From the
cheapest one on, a dearer one is taken in its place only where it is shown to be better than the one taken so far. What
cannot be served, was measured on too few cases, or broke the controls is never taken; where costs are not known, or
not one answer of the model that is left scores above 0, nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..samplers.prices import Price
from . import stats
from .challengers import about, how_made, kind_of, oracle, remote
from .choice_words import numbers, reasons, step_in_words
from .evaluate import CONTROLS, PROGRAMMATIC, Case
from .figures import Ends, paired
from .readings import NONE, SCORE, Reading, judged, slice_of
from .usage import PER

TOTAL, SECONDS = "cost", "seconds"
"""What the order is by: money where prices say it, else the time of the one machine that all models ran on."""


@dataclass(frozen=True)
class ChoicePolicy:
    """The rule, as data. Cases, unscored cases, controls and the slice are judged by the gate's own bounds."""

    min_gain: float = 0.0
    """A dearer model is taken only if the paired interval of its difference lies above this, in the primary metric (the
    reward, if the task names none). 0 or more."""
    alpha: float = 0.05
    """Chance that any step to a dearer model is wrong, where none is better: each is tested at this, divided by their
    number."""
    min_score: float | None = None
    """A model is taken only if the lower end of its interval reaches this. None: any."""
    max_cost: float | None = None
    """A model is taken only if 1000 answers cost at most this. None: any."""
    answers: int = 100_000
    """Answers that the cost of a model is of, in addition to its training."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha of the choice is {self.alpha}; expected a chance between 0 and 1")
        if not self.min_gain >= 0:
            raise InputError(
                f"min_gain of the choice is {self.min_gain}; expected 0 or more: below 0 a dearer model that is shown "
                "to be worse would be taken"
            )
        if self.answers < 1:
            raise InputError(f"answers of the choice is {self.answers}; it must be at least 1")


def choose(
    report: Mapping[str, Any], cases: Mapping[str, Sequence[Case]], policy: ChoicePolicy, ends: Ends
) -> dict[str, Any]:
    """The table and the choice, as plain values.

    `order`: what the models are ordered by; `rows`: a model each, the cheapest first; `steps`: the comparisons in their
    order; `taken`: the model, or None; `why`: sentences.

    Args:
        report: with settings, models, usage and metadata (`made`: model -> `needs`, `seconds` of its training).
        cases: model -> its cases.
        policy: the rule.
        ends: of scales, as the report found them.
    """
    alike = by_tokens(report)
    rows = [_row(report, cases, model, policy, ends, alike.get(model)) for model in report["models"]]
    fit = [row for row in rows if not row["out"]]
    order = TOTAL if all(row["total"] is not None for row in fit) else SECONDS
    key = "total" if order == TOTAL else "total_seconds"
    rows.sort(key=lambda row: (bool(row["out"]), row[key] is None, row[key] or 0.0))
    found: dict[str, Any] = {"order": order, "rows": rows, "steps": [], "taken": None}
    if not fit:
        return {**found, "why": ["no model can be taken", *(f"{row['model']}: {row['out']}" for row in rows)]}
    if any(row[key] is None for row in fit):
        unknown = ", ".join(row["model"] for row in fit if row["total"] is None)
        away = any(remote(about(report, row["model"])) for row in fit)
        said = f"nothing is chosen: what {unknown} costs is not known"
        because = (
            "models behind an API and those that run here are compared by money alone: give `prices` of both"
        )
        because = because if away else "not every answer was counted by its sampler"
        return {**found, "why": [f"{said}; {because}"]}
    ordered = [row["model"] for row in rows if not row["out"]]
    taken, steps = ordered[0], list[dict[str, Any]]()
    level = policy.alpha / max(1, len(ordered) - 1)
    for model in ordered[1:]:
        figure = _difference(report, cases, model, taken, PROGRAMMATIC, ends)
        better = bool(figure["n"]) and figure["low"] > policy.min_gain and figure["p"] <= level
        kept = {name: figure[name] for name in ("difference", "low", "high", "n", "p", "smallest_detectable")}
        doubt = _doubt(figure, report["settings"]["policy"])
        steps.append(
            {"model": model, "against": taken, **kept, "level": level, "better": better and not doubt}
        )
        steps[-1]["said"] = doubt or step_in_words(steps[-1], policy.min_gain)
        taken = model if steps[-1]["better"] else taken
    why = reasons(taken, steps, rows, order == TOTAL, policy.answers)
    left = next(row for row in rows if row["model"] == taken)
    useless = left["mean"] == left["low"] == 0 and not stats.is_former()
    if useless:
        scale = report["settings"]["primary"] or "reward"
        said = f"no model can be taken: none of the {left['n']} answers of {taken} has a {scale} above 0"
        why[0] = f"{said}, and no dearer one is shown to be better"
    if ordered_so := [row["model"] for row in rows if row["model"] in alike and row["tokens_per_second"]]:
        why.append(
            f"{', '.join(ordered_so)} share a base: an answer takes the time of its tokens, at their common rate"
        )
    for model, used in report.get("usage", {}).items():
        if cut := used.get("cut_off"):
            why.append(
                f"{model}: {cut} of {used['n']} answers were cut off: with more room it may score more"
            )
    if "made" not in report["metadata"]:
        why.append("the time of training is not on record, and counts as none")
    left_out = {row["model"]: row["not_counted"] for row in rows if row["not_counted"]}
    why += [f"{model}: making {', '.join(names)} is not counted" for model, names in left_out.items()]
    if free := [row["model"] for row in rows if order == TOTAL and _trained_for_nothing(report, row)]:
        why.append(
            f"the training of {', '.join(free)} counts as nothing, as the price is of tokens: give HOUR/h to count it"
        )
    return {**found, "steps": steps, "taken": None if useless else taken, "why": why}


def by_tokens(report: Mapping[str, Any]) -> dict[str, float]:
    """Model -> seconds per answer by its tokens, of models that share a base here and are asked the same prompts.

    Their rate is that of all their tokens in all their seconds.
    """
    shared: dict[str, list[str]] = {}
    for model, used in report.get("usage", {}).items():
        known = about(report, model)
        base = str(known.get("base", ""))
        if base and not remote(known) and not known.get("kind") and used["n"] == used["cases"]:
            shared.setdefault(base, []).append(model)
    found = dict[str, float]()
    for models in shared.values():
        own = {model: report["usage"][model] for model in models}
        tokens = sum(used["n"] * used["tokens"]["mean"] for used in own.values())
        seconds = sum(used["n"] * used["seconds"] for used in own.values())
        if len(models) > 1 and tokens:
            found |= {model: used["tokens"]["mean"] * seconds / tokens for model, used in own.items()}
    return found


def _trained_for_nothing(report: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a model was trained here, and has a price that says nothing of an hour."""
    price = report["settings"].get("prices", {}).get(row["model"])
    return bool(row["trained_seconds"] and price and not Price.of(price).hour)


def _row(
    report: Mapping[str, Any],
    cases: Mapping[str, Sequence[Case]],
    model: str,
    policy: ChoicePolicy,
    ends: Ends,
    by_tokens: float | None,
) -> dict[str, Any]:
    """A model: score, what 1000 answers cost, its time, what it needs, and why it cannot be taken, if so."""
    settings, known = report["settings"], about(report, model)
    score = judged(_of_slice(report["models"][model].get(PROGRAMMATIC, NONE), settings), settings["primary"])
    usage = report.get("usage", {}).get(model, {})
    made = report["metadata"].get("made", {}).get(model, {})
    seconds, trained = usage.get("seconds"), made.get("seconds", 0.0)
    price = settings.get("prices", {}).get(model)
    counted = bool(usage) and usage["n"] == usage["cases"]
    cost, counts = usage.get("cost") if counted else None, seconds if by_tokens is None else by_tokens
    if cost is not None and by_tokens is not None and Price.of(price).hour:
        cost = PER * Price.of(price).cost({"prompt_tokens": 0, "tokens": 0, "seconds": by_tokens})
    training = trained * Price.of(price).hour / 3600 if price else 0.0
    row = {
        "model": model,
        "kind": kind_of(report, model),
        "made": how_made(known),
        "needs": list(made.get("needs", [])),
        **{name: score[name] for name in ("mean", "low", "high", "n")},
        "cost": cost,
        "seconds": seconds,
        "tokens_per_second": None if not seconds or remote(known) else usage["tokens"]["mean"] / seconds,
        "trained_seconds": trained,
        "not_counted": list(made.get("not_counted", [])),
        "total": None if cost is None else training + cost * policy.answers / 1000,
        "total_seconds": None if not counted or remote(known) else trained + counts * policy.answers,
    }
    return {**row, "out": _out(report, cases, row, known, policy, ends)}


def _out(
    report: Mapping[str, Any],
    cases: Mapping[str, Sequence[Case]],
    row: Mapping[str, Any],
    known: Mapping[str, Any],
    policy: ChoicePolicy,
    ends: Ends,
) -> str:
    """Why a model cannot be taken; empty if it can."""
    model, base, bounds = row["model"], report["settings"]["base"], report["settings"]["policy"]
    if oracle(known):
        return "chosen with the gold answer, which nobody has when it is asked"
    if row["n"] < bounds["min_cases"]:
        return f"{row['n']} cases with a score are too few to judge by (at least {bounds['min_cases']})"
    if policy.min_score is not None and row["low"] < policy.min_score:
        return f"its interval begins at {row['low']:.3f}; asked for is {policy.min_score:g}"
    if policy.max_cost is not None and (row["cost"] is None or row["cost"] > policy.max_cost):
        costs = "is not known" if row["cost"] is None else f"is {row['cost']:.4g}"
        return f"the cost of 1000 answers {costs}; allowed is {policy.max_cost:g}"
    if model != base:
        figure = _difference(report, cases, model, base, CONTROLS, ends)
        margin = bounds["control_margin"]
        if figure["n"] and figure["difference"] < -margin and figure["high"] < 0:
            return f"it broke what {base} could do: {numbers(figure)} on the negative controls"
    return ""


def _difference(
    report: Mapping[str, Any],
    cases: Mapping[str, Sequence[Case]],
    one: str,
    other: str,
    track: str,
    ends: Ends,
) -> Mapping[str, Any]:
    """One model minus another, in the judged metric of the judged slice; of the controls, in their score."""
    settings = report["settings"]
    right = track == PROGRAMMATIC and settings["primary"]
    reading = Reading("metrics", settings["primary"]) if right else SCORE
    slice = settings["policy"]["programmatic_slice"] if track == PROGRAMMATIC else None
    ours, theirs = (
        {case.id: case for case in cases[name] if case.track == track and slice in (None, case.slice)}
        for name in (one, other)
    )
    if (reading, track) not in ends:
        ends[reading, track] = reading.bounds(cases, track)
    pairs = [(ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]
    return paired(pairs, reading, ends[reading, track], settings["seed"])


def _of_slice(figure: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return slice_of(figure, settings["policy"]["programmatic_slice"])


def _doubt(figure: Mapping[str, Any], bounds: Mapping[str, Any]) -> str:
    """Why a comparison says nothing; empty if it does."""
    if figure["n"] < bounds["min_cases"]:
        return f"{figure['n']} pairs are too few to judge by (at least {bounds['min_cases']})"
    share = figure["unpaired"] / (figure["n"] + figure["unpaired"])
    if share > bounds["max_unpaired_share"]:
        return f"{figure['unpaired']} cases lack a number of one of the two ({share:.1%})"
    return ""
