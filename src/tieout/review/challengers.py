"""Section Against the alternatives: what else was evaluated on the same rows, and whether the candidate beat it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..evidence.readings import NONE, REWARD, judged, slice_of
from .markup import Markup, html, joined, lead, number, p_value, signed, span, table
from .results import bar, reach_of
from .stored import Stored

KINDS = {
    "base": "the base, untrained",
    "sft": "supervised fine-tuning alone",
    "best_of_n": "best of N samples of the base, by the reward",
    "prompt": "the base with an optimised prompt",
}
"""What a reviewer asks the candidate to beat."""


def section(run: Stored) -> Markup:
    """A row per model other than the candidate, and what was not evaluated."""
    settings = run.settings
    metric, slice = settings["primary"] or REWARD, settings["policy"]["programmatic_slice"]
    others = [model for model in run.judged["models"] if model != settings["candidate"]]
    found = [(model, kind_of(run, model), _difference(run, model)) for model in others]
    reach = reach_of(figure for *_, figure in found)
    rows = [
        [
            html('{} <span class="muted">{}</span>', model, KINDS.get(kind, kind)),
            number(_figure(run, run.judged["models"][model])["mean"]),
            *_cells(figure, reach),
        ]
        for model, kind, figure in found
    ]
    said = (
        f"{settings['candidate']} minus each model on the same rows{f' ({slice})' if slice else ''}, in {metric}. "
        "Training is worth its cost if it beats what is cheaper."
    )
    columns = ["Model", "Mean", "Difference", "Interval", "", "p", "Beaten?"]
    parts = [lead(said), table(columns, rows, numbers=(1, 2, 5), kind="alternatives")]
    there = {kind for _, kind, _ in found}
    if missing := [what for kind, what in KINDS.items() if kind not in there]:
        listed = joined([html("<li>{}</li>", what) for what in missing])
        parts.append(html("<p>Not in this run, and for its developer to provide:</p><ul>{}</ul>", listed))
    return joined(parts)


def kind_of(run: Stored, model: str) -> str:
    """`base`, `best_of_n`, `prompt`, or the method that trained it; by its name where no recipe says."""
    if model == run.settings["base"]:
        return "base"
    stages = run.judged["metadata"].get("recipe", {}).get("stages", [])
    for stage in stages:
        if stage.get("name") == model and "train" in stage:
            return str(stage["train"])
    if re.search(r"best[-_ ]?of", model):
        return "best_of_n"
    return "prompt" if "prompt" in model else "evaluated with the others"


def _figure(run: Stored, tracks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the judged slice of the programmatic track, in the judged metric."""
    figure = slice_of(tracks.get("programmatic", NONE), run.settings["policy"]["programmatic_slice"])
    return judged(figure, run.settings["primary"])


def _difference(run: Stored, model: str) -> Mapping[str, Any]:
    """Of the candidate minus this model; `NONE` where the report does not compare them."""
    for pair in run.judged["comparisons"]:
        if (pair["candidate"], pair["baseline"]) == (run.settings["candidate"], model):
            return _figure(run, pair["tracks"])
    return NONE


def _cells(figure: Mapping[str, Any], reach: float) -> Iterator[Any]:
    if not figure["n"]:
        yield from ("–", html('<span class="none">not compared</span>'), "", "–", "not shown")
        return
    yield html("<b>{}</b>", signed(figure["difference"]))
    yield span(figure, sign=True)
    yield bar(figure, reach)
    yield p_value(figure["p"])
    yield "yes" if figure["low"] > 0 else "no: it is worse" if figure["high"] < 0 else "not shown"
