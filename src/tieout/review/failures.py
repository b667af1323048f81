"""Section Where it fails: cases that became worse, and the worst twenty of the candidate."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from ..evidence.evaluate import PROGRAMMATIC, Case
from ..evidence.readings import SCORE, Reading
from ..rows.messages import said_by
from .examples import prompt_text, right_answer, written
from .markup import Markup, folded, html, joined, lead, nothing, number, table
from .stored import Stored

WORST = 20
PRINTED = 3
"""Of the worst cases, those whose prompt and answers are printed; of the others a line each."""


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
        body = table(columns, rows, numbers=range(1, len(columns)), kind="listed worse")
        parts.append(folded(f"{len(worse)} listed", body, unfolded=len(worse) <= WORST))
        if left := len(worse[WORST:]):
            parts.append(html('<p class="printed">{} more, with smaller losses, are not printed.</p>', left))
    return joined(parts)


def _move(values: Mapping[str, Any]) -> str:
    return f"{number(values['baseline'])} → {number(values['candidate'])}"


def worst(run: Stored) -> list[Case]:
    """The candidate's worst cases of the programmatic track, by what the gate judges, then by the reward.

    Cases that could not be scored come first; of equals those that lost most, and those of the judged slice.
    """
    settings = run.settings
    primary = SCORE if settings["primary"] is None else Reading("metrics", settings["primary"])
    before = {case.id: case.score or 0.0 for case in run.cases[settings["baseline"]]}

    def rank(case: Case) -> tuple[Any, ...]:
        right, score = (-inf if value is None else value for value in (primary.of(case), case.score))
        apart = case.slice != settings["policy"]["programmatic_slice"]
        return right, score, -before.get(case.id, 0.0), apart, case.id

    own = [case for case in run.cases[settings["candidate"]] if case.track == PROGRAMMATIC]
    return sorted((case for case in own if case.status != "abstained"), key=rank)[:WORST]


def _worst(run: Stored) -> Markup:
    settings, found = run.settings, worst(run)
    if not found:
        return nothing("No case was scored.")
    own = [case for case in run.cases[settings["candidate"]] if case.track == PROGRAMMATIC]
    said = (
        f"Of all {len(own)} cases of the programmatic track those on which {settings['candidate']} has the least; of "
        "equals those that lost most first."
    )
    before = {case.id: case for case in run.cases[settings["baseline"]]}
    listed = joined(
        [_case(run, case, before.get(case.id), printed=i < PRINTED) for i, case in enumerate(found)]
    )
    return joined([html("<h3>The worst {}</h3>", len(found)), lead(said), listed])


def _case(run: Stored, case: Case, before: Case | None, printed: bool) -> Markup:
    primary = run.settings["primary"]
    pieces = [f"reward {_value(before)} → {_value(case)}"]
    if primary:
        reading = Reading("metrics", primary)
        pieces.insert(
            0, f"{primary} {number(reading.of(before)) if before else '–'} → {number(reading.of(case))}"
        )
    wrong = [html('<p class="flag">{}: {}</p>', what, reason) for what, reason in case.errors.items()]
    answers = [
        html("<h5>{}</h5>{}", name, written(own))
        for name, own in ((run.settings["candidate"], case), (run.settings["baseline"], before))
        if own is not None
    ]
    body = joined(
        [
            *wrong,
            html("<h5>Prompt</h5><pre>{}</pre>", prompt_text(case)),
            *right_answer(run.golds.get(case.id)),
            *answers,
        ]
    )
    return html(
        '<details class="{}"><summary><span>{} <span class="muted">{}</span></span><span>{}</span></summary>{}'
        "</details>",
        "case" if printed else "case screen",
        case.id,
        asked(case),
        ", ".join(pieces),
        body,
    )


def asked(case: Case, most: int = 90) -> str:
    """The first line of what the user asked last."""
    said = case.prompt if isinstance(case.prompt, str) else said_by(case.prompt[-1])
    first = next((line.strip() for line in said.split("\n") if line.strip()), "")
    return first if len(first) <= most else f"{first[:most]}…"


def _value(case: Case | None) -> str:
    return "–" if case is None else number(case.score) if case.score is not None else case.status
