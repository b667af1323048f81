"""Section Attempts: everything that was tried in the run folder, failed steps too, by its append-only record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.plain import changes
from ..evidence.evaluate import PROGRAMMATIC, read_cases
from ..evidence.figures import model_figures
from ..evidence.readings import REWARD, judged, slice_of
from .markup import Markup, html, joined, lead, nothing, number, span, table, tag
from .stored import Stored

BEGINS = ("start", "tieout eval")
"""Steps that begin an attempt."""
PAGE_ALONE = "tieout report"
"""The step that writes nothing but the page."""


def section(run: Stored) -> Markup:
    """A row per attempt, and one per evaluation that a later one set aside."""
    if not run.steps:
        return nothing(
            "This run has no record of its steps: it was made before there was one, or by `tieout train`, "
            "which has none. The developer says what else was tried."
        )
    rows = [_row(number, *one) for number, one in enumerate(_attempts(run.steps), 1)]
    said = (
        "All attempts in this run folder, the failed ones too, from its append-only record (manifest.jsonl); "
        "trainings in other folders are not in it, and the developer names them."
    )
    columns = ["Attempt", "Begun", "Seeds", "Settings", "Steps", "Ended", "Code"]
    parts = [lead(said), table(columns, rows, kind="attempts")]
    return joined([*parts, *_earlier(run)])


def failure(steps: Sequence[Mapping[str, Any]]) -> str:
    """The stage that ended the last attempt and why; empty where none failed since."""
    last: Mapping[str, Any] = next((step for step in reversed(steps) if step["step"] != PAGE_ALONE), {})
    return f"{last['step']}: {last['failed']}" if "failed" in last else ""


def _earlier(run: Stored) -> list[Markup]:
    """Evaluations that a later attempt replaced: what the model had then."""
    told = run.report["settings"] if run.report else {}
    primary, slice = told.get("primary"), told.get("policy", {}).get("programmatic_slice")
    rows = []
    for path in sorted(path for path in run.folder.glob("*/*-[0-9]*.jsonl") if _aside(path)):
        for model, cases in read_cases(path).items():
            whole = model_figures({model: cases}, (), model, PROGRAMMATIC, told.get("seed", 0))
            if not whole["slices"]:  # what was asked again is in a file of its own
                continue
            figure = judged(slice_of(whole, slice), primary)
            value = html("{} {}", number(figure["mean"]), span(figure)) if figure["n"] else "–"
            rows.append(
                [model, primary or REWARD, value, figure["n"], path.relative_to(run.folder).as_posix()]
            )
    if not rows:
        return []
    columns = ["Model", "Measured", "Mean", "Cases", "File"]
    said = "Evaluations that a later attempt replaced, and what each model had then:"
    return [html("<p>{}</p>", said), table(columns, rows, numbers=(3,), kind="earlier")]


def _aside(path: Path) -> bool:
    """Whether a file is an earlier one, and not a model's whose name ends so: that has a marker."""
    return not path.with_name(f"{path.name.split('.jsonl')[0]}.json").exists()


def _attempts(
    steps: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]], Mapping[str, Any]]]:
    """(how it began, its steps, how the one before it began)."""
    own, before = list[Mapping[str, Any]](), dict[str, Any]()
    for step in steps:
        if step["step"] in BEGINS and own:
            yield own[0], own, before
            before, own = dict(own[0]), []
        own.append(step)
    yield own[0], own, before


def _row(
    number: int, begun: Mapping[str, Any], own: Sequence[Mapping[str, Any]], before: Mapping[str, Any]
) -> list[Any]:
    failed = [f"{step['step']}: {step['failed']}" for step in own if "failed" in step]
    done = [step["step"] for step in own if step is not begun and "failed" not in step]
    code = begun.get("code", {})
    settings = begun.get("configuration", {})
    said = (
        _settings(settings, before.get("configuration", {})) if before else " ".join(begun.get("command", []))
    )
    return [
        number,
        str(begun["time"]).replace("T", " ").removesuffix("+00:00"),
        ", ".join(_seeds(settings)) or "–",
        said,
        ", ".join(done) or "–",
        html("{} {}", tag("fail"), "; ".join(failed)) if failed else tag("done"),
        html("{} <code>{}</code>", code.get("version", "–"), code.get("sha256", "")[:12]),
    ]


def _settings(now: Mapping[str, Any], was: Mapping[str, Any]) -> str:
    return "; ".join(changes(was, now)) or "those of the attempt before"


def _seeds(settings: Mapping[str, Any]) -> Iterator[str]:
    if "seed" in settings:
        yield str(settings["seed"])
    for stage in settings.get("stages", []):
        if "train" in stage and stage.get("seed") is not None:
            yield f"{stage['name']} {stage['seed']}"
