"""Section Against the alternatives: what else was evaluated on the same rows, and whether the candidate beat it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..evidence.readings import NONE, REWARD, judged, slice_of
from .markup import Markup, html, lead, number, p_value, signed, span, table
from .results import bar
from .stored import Stored

KINDS = {
    "base": "the base, untrained",
    "sft": "supervised fine-tuning alone",
    "best_of_n": "the base, best of N samples by the reward",
    "prompt": "the base with an optimised prompt",
}
"""What a reviewer asks the candidate to beat."""


def section(run: Stored) -> Markup:
    """A row per model other than the candidate, and one per alternative that was not evaluated."""
    settings = run.settings
    metric, slice = settings["primary"] or REWARD, settings["policy"]["programmatic_slice"]
    found = [(model, kind_of(run, model), _difference(run, model)) for model in run.judged["models"]]
    rows, there = list[list[Any]](), set[str]()
    known = [figure for _, _, figure in found if figure["n"]]
    reach = max([0.05, *(max(abs(f["low"]), abs(f["high"])) for f in known)])
    for model, kind, figure in found:
        if model == settings["candidate"]:
            continue
        there.add(kind)
        own = _figure(run, run.judged["models"][model])
        rows.append([model, KINDS.get(kind, kind), number(own["mean"]), *_cells(figure, reach)])
    for kind, what in KINDS.items():
        if kind not in there:
            missing = html('<span class="none">not in this run; {}</span>', _who(kind))
            rows.append(["–", what, "–", missing, "", "", "", ""])
    said = (
        f"{settings['candidate']} minus each model on the same rows{f' ({slice})' if slice else ''}, in "
        f"{metric}. Training is worth its cost if it beats what is cheaper."
    )
    columns = ["Model", "What it is", "Mean", "Difference", "Interval", "", "p", "Beaten?"]
    return html("{}\n{}", lead(said), table(columns, rows, numbers=(2, 3, 6), kind="alternatives"))


def kind_of(run: Stored, model: str) -> str:
    """`base`, `best_of_n`, `prompt`, or the method that trained it; by its name where no recipe says."""
    if model == run.settings["base"]:
        return "base"
    stages = run.judged["metadata"].get("recipe", {}).get("stages", [])
    for stage in stages:
        if stage.get("name") == model and "train" in stage:
            return _method(stage)
    if re.search(r"best[-_ ]?of", model):
        return "best_of_n"
    return "prompt" if "prompt" in model else "evaluated with the others"


def _method(stage: Mapping[str, Any]) -> str:
    return str(stage["train"])


def _who(kind: str) -> str:
    asked = {
        "sft": "the developer trains one",
        "best_of_n": "the developer evaluates one, with best-of in its name",
        "prompt": "the developer evaluates one, with prompt in its name",
    }
    return asked.get(kind, "the developer evaluates it")


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
