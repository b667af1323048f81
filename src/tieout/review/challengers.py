"""Section Against the alternatives: what else was evaluated on the same rows, and whether the candidate beat it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..evidence.challengers import BEST_OF_N, PROMPT, about, how_made, kind_of, oracle
from ..evidence.readings import NONE, REWARD, judged, slice_of
from .markup import Markup, html, joined, lead, number, p_value, signed, span, table, tag, ticked
from .results import bar, reach_of
from .stored import Stored

KINDS = {
    "base": "the base, untrained",
    "sft": "supervised fine-tuning alone",
    BEST_OF_N: "best of N samples of the base: `best_of_n` of an evaluate stage",
    PROMPT: "the base with a prompt of yours: `prompt` of an evaluate stage",
}
"""What a reviewer asks the candidate to beat."""


def section(run: Stored) -> Markup:
    """A row per model other than the candidate, and what was not evaluated."""
    settings = run.settings
    metric, slice = settings["primary"] or REWARD, settings["policy"]["programmatic_slice"]
    others = [model for model in run.judged["models"] if model != settings["candidate"]]
    found = [(model, kind_of(run.judged, model), _difference(run, model)) for model in others]
    reach = reach_of(figure for *_, figure in found)
    rows = [
        [
            html('{} {}<span class="muted">{}</span>', model, _mark(run, model), _words(run, model, kind)),
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
    there = {kind_of(run.judged, settings["candidate"]), *(kind for _, kind, _ in found)}
    if missing := [what for kind, what in KINDS.items() if kind not in there]:
        listed = joined([html("<li>{}</li>", ticked(what)) for what in missing])
        parts.append(html("<p>Not in this run, and for its developer to provide:</p><ul>{}</ul>", listed))
    return joined(parts)


def _words(run: Stored, model: str, kind: str) -> str:
    """How a model was made."""
    known = "evaluated with the others" if not kind else KINDS.get(kind, kind).partition(":")[0]
    return how_made(about(run.judged, model)) or known


def _mark(run: Stored, model: str) -> Markup:
    """A model that nobody could serve says so before anything else."""
    return html("{} ", tag("oracle")) if oracle(about(run.judged, model)) else Markup("")


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
