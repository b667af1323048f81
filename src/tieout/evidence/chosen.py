"""Check answers that were chosen among samples: each is the one that scored best, by the scores on record and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards import load_reward
from ..rewards.processes.workers import Workers
from ..rewards.scoring.outcomes import asks_for
from ..rewards.scoring.runner import Call, score_groups
from ..samplers.best_of_n import Draw, best
from ..storage.jsonl import read_json, stored
from ..types import Reward
from .challengers import BEST_OF_N
from .draws import read_draws
from .evaluate import Case, read_cases
from .scoring import NAMES, Asked, asked_of, kept_name


def samples_of(report: Mapping[str, Any]) -> dict[str, int]:
    """Model -> samples per answer, of those whose answers were chosen."""
    known = {name: one for name, one in report.get("metadata", {}).get("models", {}).items() if one}
    return {name: one["samples"] for name, one in known.items() if one.get("kind") == BEST_OF_N}


def chosen(
    evidence: Path, counts: Mapping[str, int], workers: Workers | None = None
) -> tuple[str, list[str]]:
    """(what was checked, what differs). `counts`: model -> samples that each of its answers was chosen among."""
    path = stored(evidence / "cases.jsonl")
    try:
        cases, draws = read_cases(path), read_draws(path)
    except InputError as error:
        return "of the samples on record", [str(error)]
    problems, total = list[str](), 0
    for model, count in counts.items():
        own = draws.get(model, {})
        total += len(own)
        for case in cases.get(model, ()):
            problems += _wrong(case, own.get(case.id), model, count)
    said = f"{total} answers are the best of their samples by the scores on record"
    again, why_not = _again(evidence, cases, draws, counts, workers)
    problems += again
    how = why_not or "and by the same scores computed again"
    return f"{said}, {how}; the samples themselves are not drawn again, `--fresh` or not", sorted(problems)


def _wrong(case: Case, draw: Draw | None, model: str, count: int) -> list[str]:
    if draw is None:
        return [f"{case.id}: no samples of {model} are on record"]
    found = []
    if len(draw.completions) != count:
        found.append(f"{case.id}: {len(draw.completions)} samples of {model}, where {count} were drawn")
    if draw.completions[draw.chosen] != case.completion:
        found.append(f"{case.id}: the answer of {model} in cases.jsonl is not its chosen sample")
    if (place := best(draw.scores)) != draw.chosen:
        found.append(f"{case.id}: sample {draw.chosen} of {model} was chosen, and sample {place} scored best")
    return found


def _again(
    evidence: Path,
    cases: Mapping[str, Sequence[Case]],
    draws: Mapping[str, Mapping[str, Draw]],
    counts: Mapping[str, int],
    workers: Workers | None,
) -> tuple[list[str], str]:
    """(samples whose score is not the one on record, why scores were not computed again)."""
    if not (evidence / NAMES).exists() or "selector" not in read_json(evidence / NAMES):
        return [], "not computed again: a model chose"
    problems = list[str]()
    try:
        name = kept_name(evidence, "selector")
        selector = load_reward(name) if name else None
        for asked in asked_of(evidence):
            function = selector or asked.task.reward
            if function is None or asks_for(function, "completion_ids"):
                return [], "not computed again: the selector asks for tokens, which only the answers have"
            for model in counts:
                own = {case.id: case for case in cases.get(model, ())}
                problems += _rescored(function, asked, own, draws.get(model, {}), model, workers)
    except (InputError, KeyError) as error:
        return [], f"not computed again: {error}"
    return problems, ""


def _rescored(
    function: Reward,
    asked: Asked,
    own: Mapping[str, Case],
    draws: Mapping[str, Draw],
    model: str,
    workers: Workers | None,
) -> list[str]:
    there = asked.only(draws)
    calls = [
        Call.of_texts(draws[name].completions, [row["prompt"]] * len(draws[name].completions), row)
        for name, row in zip(there.ids, there.prompted(own), strict=True)
    ]
    problems = list[str]()
    for name, outcomes in zip(there.ids, score_groups(function, calls, workers), strict=True):
        for k, (was, now) in enumerate(zip(draws[name].scores, outcomes, strict=True)):
            if was != now.worth:
                problems.append(
                    f"{name}: sample {k} of {model} has {was} on record; the selector gives {now.worth}"
                )
    return problems
