"""Section Consistency: how often an answer is judged otherwise when the same is asked again, with a few that are."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..evidence.consistency import Asked, asked
from ..evidence.consistency_rows import SAME_PROMPT
from ..evidence.evaluate import Case
from .examples import prompt_text
from .failures import asked as first_line
from .markup import Markup, html, joined, lead, nothing, number, table
from .stored import Stored

NUM_EACH, MAX_CHANGED = 2, 14
"""Examples of each kind, and lines of a prompt that one shows."""
KINDS = {
    "order": "what the prompt lists in another order",
    "formatting": "the same set otherwise",
    "paraphrase": "the instruction in other words",
}
NOT_ASKED = (
    "Nothing was asked again. `evaluate: {consistency: {max_rows: 48}}` in a recipe asks test rows again in other "
    "words, another order and another form, and the same prompt several times. Repeat the command of a finished run "
    "with `--set stages.evaluate.consistency.max_rows=48`, and only that is evaluated."
)


def section(run: Stored) -> Markup:
    """A table of models by kind, then rows of the candidate that flip."""
    found: Mapping[str, Mapping[str, Mapping[str, Any]]] = run.judged.get("consistency", {})
    kinds = list(dict.fromkeys(kind for own in found.values() for kind in own))
    if not kinds:
        return nothing(NOT_ASKED)
    graded = any(figure["right"] is None for own in found.values() for figure in own.values())
    rows = list[Sequence[Any] | Markup]()
    for kind in kinds:
        rows.append(html('{} <span class="muted">{}</span>', title(kind), _about(run, kind)))
        rows += [_row(model, own[kind]) for model, own in found.items() if kind in own]
    first = ["Mean at first", "Mean again"] if graded else ["Right at first", "Stay right"]
    columns = ["", "Flip", "Interval", *first, "Worse", "Better", "Rows"]
    parts = [lead(_said(run, graded)), table(columns, rows, numbers=(1, 3, 4, 5, 6), kind="consistency")]
    examples = list(_examples(run))
    if examples:
        said = "Rows of the candidate that flip, those that became worse first; the evidence has all of them."
        parts += [html("<h3>Examples</h3>"), lead(said), *examples]
    return joined(parts)


def title(kind: str) -> str:
    """A kind as a heading."""
    return kind.replace("_", " ").capitalize()


def _about(run: Stored, kind: str) -> str:
    again = run.settings["again"]
    if kind == SAME_PROMPT:
        times = f"{again['repeats']} samples at temperature {again['temperature']:g}"
        return f"{times}; flips where they are not all judged alike"
    return KINDS.get(kind, "as the task, or the recipe's `variants`, puts it otherwise")


def _said(run: Stored, graded: bool) -> str:
    again, primary = run.settings["again"], run.settings["primary"]
    by = f"right or wrong in {primary}" if primary else "right or wrong by the score"
    if graded:
        amount = next(f["amount"] for own in run.judged["consistency"].values() for f in own.values())
        by = f"by more than {amount:g} of the reward"
    flattered = (
        "A model with a low mean can flip seldom and be of no use: read the means, too."
        if graded
        else "A model that is wrong everywhere never flips: read it with the rows that were right at first, and with "
        "how many of them are right each time."
    )
    return (
        f"{again['rows']} test rows asked again. A row flips if a variant is judged otherwise than the row itself, "
        f"{by}. {flattered} Worse, better: rows with an answer that is judged worse, or better, than the row's own."
    )


def _row(model: str, figure: Mapping[str, Any]) -> list[Any]:
    if not figure["n"]:
        return [
            model,
            "–",
            html('<span class="none">no row could be compared</span>'),
            *"–" * 4,
            _rows(figure),
        ]
    right = figure["right"]
    if right is None:
        first = [number(figure["before"]), number(figure["after"])]
    else:
        stay = f"{round(right['mean'] * right['n'])} of {right['n']}" if right["n"] else "none to lose"
        first = [f"{right['n']} of {figure['n']}", stay]
    return [
        model,
        html("<b>{}</b>", percent(figure["mean"])),
        html('<span class="range">{} to {}</span>', percent(figure["low"]), percent(figure["high"])),
        *first,
        figure["worse"],
        figure["better"],
        _rows(figure),
    ]


def percent(value: float) -> str:
    """A share in a table."""
    return f"{value:.0%}"


def _rows(figure: Mapping[str, Any]) -> Markup:
    """How many were compared, and why others were not."""
    left = [
        f"{figure[what]} {said}"
        for what, said in (("without", "without one"), ("errors", "errored"), ("abstained", "abstained"))
        if figure[what]
    ]
    return html('{} <span class="muted">{}</span>', figure["n"], ", ".join(left))


def _examples(run: Stored) -> Iterator[Markup]:
    candidate, primary = run.settings["candidate"], run.settings["primary"]
    for kind, rows in asked(run.cases, candidate, primary).items():
        flips = sorted((one for one in rows if one.flips), key=lambda one: not one.worse)
        yield from (_example(run, kind, one) for one in flips[:NUM_EACH])


def _example(run: Stored, kind: str, one: Asked) -> Markup:
    worth, sampled = [_worth(run, case) for case in one.again], kind == SAME_PROMPT
    again = _unlike(one) if sampled else one.again[:1]
    answers = [("Greedily" if sampled else "As it stands", one.original)]
    answers += [("Sampled" if sampled else f"Again, {title(kind).lower()}", case) for case in again]
    shown = [
        html("<h5>{}: {}</h5><pre>{}</pre>", what, _worth(run, case), case.completion or "(nothing)")
        for what, case in answers
    ]
    changed = [] if sampled else [html("<pre>{}</pre>", difference(one.original, again[0]))]
    moved = ", ".join(dict.fromkeys(f"{worth.count(said)} of {len(worth)} {said}" for said in worth))
    return html(
        '<details class="case"><summary><span>{} <span class="muted">{}</span></span><span>{}: {} → {}</span></summary>'
        "{}</details>",
        one.original.id,
        first_line(one.original),
        title(kind).lower(),
        _worth(run, one.original),
        moved if sampled else worth[0],
        joined([*changed, *shown]),
    )


def _unlike(one: Asked) -> list[Case]:
    """Of several answers the worst and the best."""
    ranked = sorted(range(len(one.again)), key=lambda i: one.after[i])
    return [one.again[ranked[0]], one.again[ranked[-1]]]


def _worth(run: Stored, case: Case) -> str:
    primary = run.settings["primary"]
    value = case.metrics.get(primary) if primary else case.score
    if value in (0.0, 1.0):
        return "right" if value else "wrong"
    return f"{primary or 'reward'} {number(value)}"


def difference(original: Case, other: Case) -> str:
    """Lines of the prompt that are gone (-) and those that came (+)."""
    lines = difflib.ndiff(prompt_text(original).split("\n"), prompt_text(other).split("\n"))
    changed = [line if line[2:].strip() else f"{line[0]} (blank line)" for line in lines if line[0] in "+-"]
    left = len(changed) - MAX_CHANGED
    return "\n".join([*changed[:MAX_CHANGED], *([f"... and {left} lines more"] if left > 0 else [])])
