"""What scores are computed from, kept next to the cases, and the scores computed again from it.

`rows.jsonl` has the row of every case without its prompt, `scoring.json` names task, reward and controls with the
SHA-256 of their source, and `scoring/` has a copy of a source that is no part of an installed package. With the
completions of `cases.jsonl` that is all a reward is given, so scores can be computed again wherever the folder is.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards import load_reward
from ..rewards.processes.workers import Workers
from ..rows.checks import with_prompts
from ..samplers.mock import MockSampler
from ..storage.atomic import sha256, write_atomic, write_json
from ..storage.jsonl import read_json, read_jsonl, stored, write_jsonl
from ..tasks import Task, load_task
from ..types import Row
from .evaluate import CONTROLS, PROGRAMMATIC, Case, evaluate, read_cases

ROWS, NAMES, SOURCES = "rows.jsonl", "scoring.json", "scoring"


def keep(
    evidence: Path,
    task: Task,
    splits: Mapping[str, Sequence[Row]],
    controls: Task | None,
    names: Mapping[str, Any],
) -> None:
    """Keep rows and names. `splits`: slice -> the rows that were asked, in order; `names`: `task`, `task_options`,
    `reward` and `controls`, as `load_task` and `load_reward` take them.
    """
    lines = []
    asked = [(task, split, rows) for split, rows in splits.items()]
    if controls:
        asked.append((controls, "", controls.rows("test")))
    for own, split, rows in asked:
        for row in with_prompts(rows):
            rest = {name: value for name, value in row.items() if name != "prompt"}
            of = CONTROLS if own is controls else PROGRAMMATIC
            lines.append({"track": of, "slice": split or str(row.get("skill", "controls")), "row": rest})
    functions = {"reward": task.reward, **task.metrics, **task.parts}
    if controls:
        functions["controls"] = controls.reward
    known = {}
    for name, function in functions.items():
        file = None if function is None else _source(function)
        if file is not None:
            known[name] = {"file": file.name, "sha256": sha256(file)}
    for name in ("task", "reward", "controls"):
        place, _, _ = str(names.get(name) or "").rpartition(":")
        if place.endswith(".py"):
            write_atomic(_copy(evidence, name, place), Path(place).read_bytes())
    write_jsonl(evidence / ROWS, lines)
    version = importlib.metadata.version("tieout")
    write_json(evidence / NAMES, {**names, "name": task.name, "sources": known, "tieout": version})


def _copy(evidence: Path, of: str, place: str) -> Path:
    """Where the source of `task`, `reward` or `controls` is kept: each apart, as two files may have one name."""
    return evidence / SOURCES / of / Path(place).name


def _source(function: Any) -> Path | None:
    """The file that a reward is written in; None: it has none, or an object of several functions."""
    while isinstance(function, partial):
        function = function.func
    try:
        found = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        found = inspect.getsourcefile(type(function))
    return Path(found) if found else None


def source_digest(function: Any) -> str:
    """SHA-256 of the file that a reward is written in; empty: it is not known."""
    file = None if function is None else _source(function)
    return sha256(file) if file else ""


def rescore(evidence: Path, workers: Workers | None = None) -> tuple[list[str], str, bool]:
    """A line for every case that is gone or whose score is not the one that the reward gives; and why nothing was
    scored again, or with what; and whether anything was scored.
    """
    if not (evidence / NAMES).exists() or not stored(evidence / ROWS).exists():
        return [], "scores not computed again: the rows were not kept (made before they were)", False
    names = read_json(evidence / NAMES)
    try:
        tasks = _tasks(evidence, names)
        if tasks[PROGRAMMATIC].scorer == "environment":
            return (
                [],
                "scores not computed again: an environment gave them, and its turns are not kept",
                False,
            )
        cases = read_cases(stored(evidence / "cases.jsonl"))
        rows = [line for _, line in read_jsonl(stored(evidence / ROWS))]
        problems = [
            line for model, own in cases.items() for line in _of_model(model, own, rows, tasks, workers)
        ]
    except (InputError, KeyError) as error:
        return [], f"scores not computed again: {error}", False
    changed = _changed_sources(tasks, names)
    with_what = (
        f"; not with the recorded source of {', '.join(changed)}" if changed else ", with the recorded source"
    )
    return problems, f"{sum(map(len, cases.values()))} scores computed again{with_what}", True


def _tasks(evidence: Path, names: Mapping[str, Any]) -> dict[str, Task]:
    """Track -> its task."""

    def at(name: str) -> Any:
        place, _, attribute = str(names.get(name) or "").rpartition(":")
        return f"{_copy(evidence, name, place)}:{attribute}" if place.endswith(".py") else names.get(name)

    if names.get("task"):
        task = load_task(at("task"), names.get("task_options") or {})
    else:
        task = Task(names["name"], lambda split: [], load_reward(at("reward") or "exact"))
    if not names.get("controls"):
        return {PROGRAMMATIC: task}
    file = names["controls"] == "file"
    own = Task("controls", lambda split: [], load_reward("exact")) if file else load_task(at("controls"))
    return {PROGRAMMATIC: task, CONTROLS: own}


def _changed_sources(tasks: Mapping[str, Task], names: Mapping[str, Any]) -> list[str]:
    task = tasks[PROGRAMMATIC]
    functions = {"reward": task.reward, **task.metrics, **task.parts}
    now = {name: _source(function) for name, function in functions.items() if function is not None}
    known = names.get("sources", {})
    return [
        name for name, file in now.items() if file and name in known and sha256(file) != known[name]["sha256"]
    ]


def _of_model(
    model: str,
    cases: Sequence[Case],
    rows: Sequence[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    workers: Workers | None,
) -> list[str]:
    """Problems of one model: cases that are gone, and scores that the reward does not give."""
    by_place: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in rows:  # as they were evaluated: the task's slices one after another, all controls at once
        place = (line["track"], line["slice"] if line["track"] == PROGRAMMATIC else "")
        by_place.setdefault(place, []).append(line)
    own, found = {case.id: case for case in cases}, dict[str, Case]()
    for (track, _), lines in by_place.items():
        task, counts = tasks[track], list[str]()
        for i, line in enumerate(lines):
            counts.append(f"{task.name}/{line['slice']}/{line['row'].get('id', i)}")
        asked = [
            {**line["row"], "prompt": own[name].prompt if name in own else "?"}
            for name, line in zip(counts, lines, strict=True)
        ]
        said = MockSampler([own[name].completion if name in own else "" for name in counts])
        slices = iter([line["slice"] for line in lines])
        again = evaluate(task, asked, said, track=track, slice=lambda row, s=slices: next(s), workers=workers)  # type: ignore[misc]
        found |= {case.id: case for case in again}
    problems = [f"{name}: {model} has no such case; the row was asked" for name in found if name not in own]
    problems += [f"{name}: {model} has a case that no row was asked for" for name in own if name not in found]
    for name in found.keys() & own.keys():
        problems += _differs(name, model, own[name], found[name])
    return sorted(problems)


def _differs(name: str, model: str, said: Case, found: Case) -> list[str]:
    lines = []
    for what, was, now in (
        ("score", said.score, found.score),
        *(
            (f"metric {key}", said.metrics.get(key), found.metrics.get(key))
            for key in {*said.metrics, *found.metrics}
        ),
        *((f"part {key}", said.parts.get(key), found.parts.get(key)) for key in {*said.parts, *found.parts}),
    ):
        if was != now:
            lines.append(f"{name}: {what} of {model} is {was} in cases.jsonl; its output gives {now}")
    if not lines and said.errors.keys() != found.errors.keys():
        lines.append(
            f"{name}: errors of {model} are {sorted(said.errors)}; its output gives {sorted(found.errors)}"
        )
    return lines
