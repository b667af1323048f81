"""Section Where it fails: cases that became worse, and the worst twenty of the candidate."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from ..evidence.evaluate import PROGRAMMATIC, Case
from ..evidence.readings import SCORE, Reading
from .examples import prompt_text
from .markup import Markup, folded, html, joined, lead, nothing, number, table
from .stored import Stored

WORST = 20


def section(run: Stored) -> Markup:
    """Regressions, then the worst."""
    return joined([_regressions(run), _worst(run)])


def _regressions(run: Stored) -> Markup:
    settings, worse = run.settings, run.judged["comparisons"][0]["regressions"]
    primary = settings["primary"]
    what = f"reward or {primary}" if primary else "reward"
    said = (
        f"{len(worse)} {'case' if len(worse) == 1 else 'cases'} where the {what} of {settings['candidate']} is "
        f"lower than {settings['baseline']}'s by more than {settings['policy']['regression_drop']}, the largest "
        "loss first. Those of every comparison are in report.json, what was written in cases.jsonl."
    )
    parts = [html("<h3>Regressions</h3>"), lead(said)]
    if worse:
        columns = ["Case", *([primary] if primary else []), "Reward"]
        rows = [
            [case["case"], *([_move(case["primary"])] if primary else []), _move(case["reward"])]
            for case in worse
        ]
        body = table(columns, rows, numbers=range(1, len(columns)), kind="listed")
        parts.append(folded(f"{len(worse)} listed", body, unfolded=len(worse) <= 12))
    return joined(parts)


def _move(values: Mapping[str, Any]) -> str:
    return f"{number(values['baseline'])} → {number(values['candidate'])}"


def worst(run: Stored) -> list[Case]:
    """The candidate's worst cases of the programmatic track: without a score, then by primary metric and reward."""
    settings = run.settings
    primary = SCORE if settings["primary"] is None else Reading("metrics", settings["primary"])

    def rank(case: Case) -> tuple[float, float, str]:
        right, score = (-inf if value is None else value for value in (primary.of(case), case.score))
        return right, score, case.id

    found = [
        case
        for case in run.cases[settings["candidate"]]
        if case.track == PROGRAMMATIC and case.status != "abstained"
    ]
    return sorted(found, key=rank)[:WORST]


def _worst(run: Stored) -> Markup:
    settings, found = run.settings, worst(run)
    said = (
        f"Of all {len([c for c in run.cases[settings['candidate']] if c.track == PROGRAMMATIC])} cases of the "
        f"programmatic track, those on which {settings['candidate']} has the least, whatever "
        f"{settings['baseline']} had."
    )
    before = {case.id: case for case in run.cases[settings["baseline"]]}
    heading = html("<h3>The worst {}</h3>", len(found)) if found else html("<h3>The worst</h3>")
    if not found:
        return joined([heading, nothing("no case was scored")])
    return joined([heading, lead(said), *(_case(run, case, before.get(case.id)) for case in found)])


def _case(run: Stored, case: Case, before: Case | None) -> Markup:
    primary = run.settings["primary"]
    pieces = [f"reward {_value(before)} → {_value(case)}"]
    if primary:
        reading = Reading("metrics", primary)
        pieces.insert(
            0, f"{primary} {number(reading.of(before)) if before else '–'} → {number(reading.of(case))}"
        )
    wrong = [html('<p class="flag">{}: {}</p>', what, reason) for what, reason in case.errors.items()]
    answers = [
        html("<h5>{}</h5><pre>{}</pre>", name, own.completion or "(nothing)")
        for name, own in ((run.settings["candidate"], case), (run.settings["baseline"], before))
        if own is not None
    ]
    body = joined([*wrong, html("<h5>Prompt</h5><pre>{}</pre>", prompt_text(case)), *answers])
    return html(
        '<details class="case"><summary><span>{}</span> <span class="muted">{}</span></summary>{}</details>',
        case.id,
        ", ".join(pieces),
        body,
    )


def _value(case: Case | None) -> str:
    return "–" if case is None else number(case.score) if case.score is not None else case.status
