"""Cases of made-up models, without any model. Not a test."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tieout.evidence.evaluate import CONTROLS, PROGRAMMATIC, Case


def make_cases(
    scores: Sequence[float | None],
    controls: Sequence[float | None] = (),
    ood: Sequence[float | None] = (),
    model: str = "m",
) -> list[Case]:
    """Cases with these scores in the test slice, the negative controls and the ood slice; None: errored."""
    cases = []
    parts = ((PROGRAMMATIC, "test", scores), (CONTROLS, "copy", controls), (PROGRAMMATIC, "ood", ood))
    for track, slice, values in parts:
        for i, value in enumerate(values):
            errors = {} if value is not None else {"score": "the parser crashed"}
            name = f"t/{track}/{slice}/{i}"
            cases.append(Case(name, track, slice, f"Prompt {i}", f"{model} says {value}", value, {}, errors))
    return cases


def two_models() -> dict[str, list[Case]]:
    """sft is better than base on 60 test cases, and the same on 80 controls and 30 ood cases."""
    rng = random.Random(0)
    base = [rng.choice([0.0, 0.2, 0.5]) for _ in range(60)]
    sft = [min(1.0, score + rng.choice([0.0, 0.3, 0.5])) for score in base]
    ood = [0.2] * 30
    return {
        "base": make_cases(base, [1.0] * 80, ood, "base"),
        "sft": make_cases(sft, [1.0] * 80, ood, "sft"),
    }


def with_parts(cases: Mapping[str, Sequence[Case]]) -> dict[str, list[Case]]:
    """The same, with a metric `right` and a reward in two parts; the candidate lost what the base had right."""
    return {
        model: [
            replace(
                case,
                metrics={"right": float(i % 5 == (model == "base"))},
                parts={} if case.score is None else {"form": 0.75 * case.score, "figures": 0.25 * case.score},
            )
            for i, case in enumerate(own)
        ]
        for model, own in cases.items()
    }
