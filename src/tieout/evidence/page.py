"""report.html: the report for people. One file, no scripts, nothing fetched; outputs are never trusted."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..rows.messages import said_by
from ..storage.jsonl import write_text
from . import charts
from .evaluate import PROGRAMMATIC, TRACKS, Case
from .lines import lines, place
from .reward_checks import pairs_of, rows_of
from .training import stage_charts, words
from .usage import table

NUM_CHARTS = 12
"""Charts of a stage shown at once; the others fold away."""
MAX_CHARACTERS = 12_000
"""Of one prompt or output; the page says what it leaves out."""

# Control characters, and those that reorder or hide text: shown by their code, so that nothing is disguised.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class Example:
    """One case, as every model answered it."""

    kind: str
    """`improved`, `worsened` or `unchanged`: the candidate's score compared with the baseline's."""
    case: Case
    answers: list[tuple[str, Case]]


def write_page(
    path: Path,
    report: Mapping[str, Any],
    cases: Mapping[str, Sequence[Case]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    title: str = "Evidence",
    steps: Sequence[str] = (),
    next_command: str = "",
    notes: Sequence[str] = (),
    num_examples: int = 2,
) -> None:
    """Write the page. `curves`: stage -> its metrics, rows with `step` and numbers.

    `steps` are what to do now and `next_command` what to type; `notes` stand below the verdict. `num_examples` cases
    of each kind (improved, worsened, unchanged) are chosen at random with the report's seed.
    """
    html = render(
        report,
        cases,
        curves,
        title=title,
        steps=steps,
        next_command=next_command,
        notes=notes,
        num_examples=num_examples,
    )
    write_text(path, html)


def render(
    report: Mapping[str, Any],
    cases: Mapping[str, Sequence[Case]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    title: str = "",
    steps: Sequence[str] = (),
    next_command: str = "",
    notes: Sequence[str] = (),
    num_examples: int = 2,
) -> str:
    """The page's HTML."""
    import jinja2  # the rest of the package does not need it

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(visible=visible, number=number, signed=signed, p_value=p_value, words=words)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8"))
    settings = report["settings"]
    examples, counts = pick_examples(
        cases, settings["candidate"], settings["baseline"], num_examples, settings["seed"]
    )
    return template.render(
        title=title,
        report=report,
        settings=settings,
        steps=steps,
        next_command=next_command,
        notes=notes,
        rows=_model_rows(report),
        comparisons=_comparison_rows(report),
        stages=[{"name": name, **_drawn(name, rows)} for name, rows in (curves or {}).items()],
        examples=examples,
        counts=counts,
        prompt_text=prompt_text,
        place=place,
        share=share,
        usage=table(report.get("usage", {})),
        reward_checks=rows_of(report),
        reward_pairs=pairs_of(report),
        metadata=json.dumps(report["metadata"], indent=2, ensure_ascii=False, default=str),
    )


def figures_of(html: str) -> str:
    """Verdict, tables, regressions and findings on the reward, which depend on nothing but the report; empty: none."""
    found = re.search("<!-- figures -->(.*)<!-- end of figures -->", html, re.DOTALL)
    return re.sub('<div class="(next|notes)">.*?</div>\\n?', "", found[1], flags=re.DOTALL) if found else ""


def curves_of(html: str) -> frozenset[str]:
    """The curves of a page, a text per stage; stages have no order."""
    found = re.search("<!-- curves -->(.*)<!-- end of curves -->", html, re.DOTALL)
    return frozenset(found[1].split("<h3>")) if found else frozenset()


def pick_examples(
    cases: Mapping[str, Sequence[Case]], candidate: str, baseline: str, num_each: int, seed: int
) -> tuple[list[Example], dict[str, int]]:
    """Up to `num_each` cases of each kind, chosen at random, and how many there are of each in all."""
    by_model = {model: {case.id: case for case in own} for model, own in cases.items()}
    kinds: dict[str, list[str]] = {"improved": [], "worsened": [], "unchanged": []}
    for name, case in by_model[candidate].items():
        other = by_model[baseline].get(name)
        if case.track != PROGRAMMATIC or other is None or case.score is None or other.score is None:
            continue
        gain = case.score - other.score
        kinds["improved" if gain > 0 else "worsened" if gain < 0 else "unchanged"].append(name)
    examples = []
    for kind, names in kinds.items():
        chosen = random.Random(f"{seed}/{kind}").sample(names, min(num_each, len(names)))
        for name in chosen:
            answers = [(model, own[name]) for model, own in by_model.items() if name in own]
            examples.append(Example(kind, by_model[candidate][name], answers))
    return examples, {kind: len(names) for kind, names in kinds.items()}


def prompt_text(case: Case) -> str:
    """The prompt as text; of messages, each turn under its role."""
    if isinstance(case.prompt, str):
        return case.prompt
    return "\n\n".join(f"[{message['role']}]\n{said_by(message)}" for message in case.prompt)


def visible(text: str) -> str:
    """The text with hidden characters shown by their code, cut where it is very long."""
    cut = len(text) - MAX_CHARACTERS
    if cut > 0:
        text = text[:MAX_CHARACTERS] + f"\n[... {cut} more characters, in cases.jsonl]"
    text = text.replace("\r\n", "\n")
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def number(value: float | None) -> str:
    """A score in a table."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference in a table, with a real minus sign."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def share(figure: Mapping[str, Any], what: str) -> str:
    """A count of pairs as a share of them."""
    return f"{figure[what] / figure['n']:.0%}" if figure["n"] else "–"


def p_value(value: float | None) -> str:
    """A p-value; small ones are only said to be small."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _model_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per number, a cell per model."""
    rows: list[dict[str, Any]] = [
        {"line": line, "cells": [line.of(tracks) for tracks in report["models"].values()]}
        for line in lines(report)
    ]
    known = [cell for row in rows for cell in row["cells"] if cell["n"]]
    axis = min([0.0, *(c["low"] for c in known)]), max([1.0, *(c["high"] for c in known)])
    for row in rows:
        row["cells"] = [
            {**cell, "bar": _safe(charts.interval(cell["mean"], cell["low"], cell["high"], axis))}
            if cell["n"]
            else None
            for cell in row["cells"]
        ]
    return rows


def _comparison_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    comparisons = []
    for comparison in report["comparisons"]:
        found = [(line, line.of(comparison["tracks"])) for line in lines(report)]
        rows: list[dict[str, Any]] = [
            {"line": line, "figure": figure if figure["n"] else None}
            for line, figure in found
            if figure["n"] or line.track in TRACKS
        ]
        comparisons.append({**comparison, "rows": rows})
    known = [row["figure"] for c in comparisons for row in c["rows"] if row["figure"]]
    reach = max([0.05, *(max(abs(f["low"]), abs(f["high"])) for f in known)])
    for row in (row for c in comparisons for row in c["rows"] if row["figure"]):
        f = row["figure"]
        row["bar"] = _safe(charts.interval(f["difference"], f["low"], f["high"], (-reach, reach), mark=0.0))
    return comparisons


def _drawn(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The charts of a stage: those that are shown, and those that fold away."""
    charts_of = [{**chart, "svg": _safe(chart["svg"])} for chart in stage_charts(name, rows)]
    return {"curves": charts_of[:NUM_CHARTS], "more": charts_of[NUM_CHARTS:]}


def _safe(svg: str) -> Any:
    """Our own SVG, which escapes what it is given: not to be escaped again."""
    from markupsafe import Markup

    return Markup(svg)
