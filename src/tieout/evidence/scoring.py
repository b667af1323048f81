"""What scores are computed from, kept next to the cases, and the scores computed again from it.

`rows.jsonl` has the row of every case without its prompt, `scoring.json` names task, reward and controls with the
SHA-256 of their source, and `scoring/` has a copy of a source that is no part of an installed package, with what it
imports from its own folder. With the completions of `cases.jsonl` that is all a reward is given, so scores can be
computed again wherever the folder is.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..config.attribute import from_source
from ..config.siblings import siblings
from ..config.weights import weighted, weights_of
from ..errors import InputError
from ..rewards import load_reward
from ..rewards.processes.workers import Workers
from ..rewards.scoring.combine import Combined
from ..rows.checks import with_prompts
from ..samplers import Sampler
from ..samplers.mock import MockSampler
from ..storage.atomic import sha256, write_atomic, write_json
from ..storage.jsonl import read_json, read_jsonl, stored, write_jsonl
from ..tasks import Task, load_task
from ..types import Row
from .consistency_rows import Again
from .evaluate import CONSISTENCY, CONTROLS, PROGRAMMATIC, Case, asked_with, case_id, evaluate, read_cases
from .replay import replayable, replayed

ROWS, NAMES, SOURCES = "rows.jsonl", "scoring.json", "scoring"


def keep(
    evidence: Path,
    task: Task,
    splits: Mapping[str, Sequence[Row]],
    controls: Task | None,
    names: Mapping[str, Any],
    again: Sequence[Again] = (),
) -> None:
    """Keep rows and names. `splits`: slice -> the rows that were asked, in order; `names`: `task`, `task_options`,
    `reward`, `controls` and `selector`, as `load_task` and `load_reward` take them, and the `max_new_tokens` of an
    answer; `again`: what was asked again of the slice `test`.
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
    for one, row in zip(again, with_prompts([one.row for one in again]), strict=True):
        rest = {name: value for name, value in row.items() if name != "prompt"}
        about = {"track": CONSISTENCY, "slice": one.kind, "case": one.id, "cluster": one.original}
        lines.append({**about, "row": rest})
    functions = _functions(task)
    if controls:
        functions["controls"] = controls.reward
    known = {}
    for name, function in functions.items():
        file = None if function is None else _source(function)
        if file is not None:
            known[name] = {"file": file.name, "sha256": sha256(file)}
    copies = _keep_sources(evidence, names)
    write_jsonl(evidence / ROWS, lines)
    version = importlib.metadata.version("tieout")
    kept = {**names, "name": task.name, "sources": known, "copies": copies, "tieout": version}
    write_json(evidence / NAMES, kept)


def _functions(task: Task) -> dict[str, Any]:
    """What scores: the reward and its parts, metrics, parts of the task."""
    parts = task.reward.parts if isinstance(task.reward, Combined) else {}
    return {"reward": task.reward, **parts, **task.metrics, **task.parts}


def _keep_sources(evidence: Path, names: Mapping[str, Any]) -> dict[str, str]:
    """Copy the files that are named, and what they import from their folders: copy -> SHA-256."""
    copies = dict[Path, bytes]()
    for name in ("task", "reward", "controls", "selector"):
        for i, spec in enumerate(_specs(names.get(name))):
            place, _, _ = spec.rpartition(":")
            if not place.endswith(".py"):
                continue
            root = Path(place).resolve().parent
            copy = _copy(evidence, name, place, i)
            copies[copy] = Path(place).read_bytes()
            copies |= {
                copy.parent / p.relative_to(root): p.read_bytes() for p in siblings(Path(place)).values()
            }
    shutil.rmtree(evidence / SOURCES, ignore_errors=True)  # of an earlier evaluation
    for path, content in copies.items():
        write_atomic(path, content)
    return {path.relative_to(evidence / SOURCES).as_posix(): sha256(path) for path in sorted(copies)}


def _specs(name: Any) -> Mapping[str, float | None]:
    """The parts of weighted rewards and their weights; of another name, itself."""
    given = str(name or "")
    return weights_of(given) or {given: None}


def _copy(evidence: Path, of: str, place: str, part: int = 0) -> Path:
    """Where the source of a task, reward, controls or selector is kept: each apart, as two may have one name."""
    return evidence / SOURCES / (f"{of}-{part + 1}" if part else of) / Path(place).name


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


@dataclass(frozen=True)
class Rescored:
    """What came of scoring the stored outputs again."""

    problems: list[str]
    """A line for every case that is gone or whose score is not the one that the reward gives."""
    said: str
    """With what they were scored, and which were not, and why."""
    scored: int
    left: int
    """Scores that were not computed again."""


@dataclass(frozen=True)
class Asked:
    """Rows that were evaluated together, with the names of their cases."""

    task: Task
    track: str
    ids: list[str]
    slices: list[str]
    rows: list[Row]
    """Without prompts, which are the cases'."""
    clusters: list[str] | None = None
    """Where they were kept, next to the rows: the cases that are asked again."""

    def only(self, names: Container[str]) -> Asked:
        """Those of these cases."""
        at = [i for i, name in enumerate(self.ids) if name in names]
        ids, slices, rows = ([of[i] for i in at] for of in (self.ids, self.slices, self.rows))
        clusters = self.clusters and [self.clusters[i] for i in at]
        return replace(self, ids=ids, slices=slices, rows=rows, clusters=clusters)  # type: ignore[arg-type]

    def evaluate(self, own: Mapping[str, Case], sampler: Sampler, **options: Any) -> list[Case]:
        """The cases that a sampler gives on these rows, named and clustered as those of `own`."""
        slices = iter(self.slices)
        found = evaluate(
            self.task,
            self.prompted(own),
            sampler,
            track=self.track,
            slice=lambda row: next(slices),
            ids=self.ids,
            **options,
        )
        clusters = self.clusters or [own[name].cluster if name in own else "" for name in self.ids]
        return [replace(case, cluster=cluster) for case, cluster in zip(found, clusters, strict=True)]

    def prompted(self, own: Mapping[str, Case]) -> list[Row]:
        """The rows with the prompts of their cases."""
        named = zip(self.ids, self.rows, strict=True)
        return [{**row, "prompt": own[name].prompt if name in own else "?"} for name, row in named]


def asked_of(evidence: Path) -> list[Asked]:
    """What every model of an evidence folder was asked. InputError, KeyError: it cannot be known any more."""
    tasks = _tasks(evidence, read_json(evidence / NAMES))
    by_place: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for _, line in read_jsonl(stored(evidence / ROWS)):
        by_place.setdefault(asked_with(line["track"], line["slice"]), []).append(line)
    return [
        Asked(
            tasks[track],
            track,
            [
                line.get("case") or case_id(tasks[track].name, line["slice"], line["row"], i)
                for i, line in enumerate(lines)
            ],
            [line["slice"] for line in lines],
            [line["row"] for line in lines],
            [line["cluster"] for line in lines] if track == CONSISTENCY else None,
        )
        for (track, _), lines in by_place.items()
    ]


def rescore(evidence: Path, workers: Workers | None = None) -> Rescored:
    """Compute every score again from its stored output, with the recorded reward, or by the recorded turns of an
    episode.
    """
    cases = read_cases(stored(evidence / "cases.jsonl"))
    samples = sampled_cases(evidence / "cases.jsonl")
    count = sum(map(len, (*cases.values(), *samples.values())))
    if not (evidence / NAMES).exists() or not stored(evidence / ROWS).exists():
        return Rescored(
            [], "scores not computed again: the rows were not kept (made before they were)", 0, count
        )
    names = read_json(evidence / NAMES)
    problems, left = _altered(evidence, names.get("copies", {})), list[str]()
    try:
        with from_source():
            asked = asked_of(evidence)
            once = [one for one in asked if one.track == PROGRAMMATIC]
            for model, own in [*cases.items(), *samples.items()]:
                found, why_not = _of_model(model, own, asked if model in cases else once, workers)
                problems, left = problems + found, left + why_not
    except (InputError, KeyError) as error:
        return Rescored(problems, f"scores not computed again: {error}", 0, count)
    task = next((one.task for one in asked if one.track == PROGRAMMATIC), None)
    changed = _changed_sources(task, names) if task else []
    with_what = (
        f"; not with the recorded source of {', '.join(changed)}" if changed else ", with the recorded source"
    )
    of_samples = f" ({sum(map(len, samples.values()))} of samples)" if samples else ""
    said = f"{count - len(left)} scores computed again{of_samples}{with_what}"
    if left:
        said += f"; {len(left)} not computed again, such as {left[0]}"
    return Rescored(problems, said, count - len(left), len(left))


def samples_file(cases: Path) -> Path:
    """Where the samples of a file of cases are that were taken for pass@k, compressed or not."""
    return cases.with_name(f"{cases.name.removesuffix('.gz').removesuffix('.jsonl')}.samples.jsonl")


def sampled_cases(cases: Path) -> dict[str, list[Case]]:
    """`MODEL, sample 3` -> its cases; empty where none were kept."""
    path = stored(samples_file(cases))
    return read_cases(path) if path.exists() else {}


def kept_name(evidence: Path, of: str) -> Any:
    """What `scoring.json` names as `task`, `reward`, `controls` or `selector`: of a file, the copy of it."""
    given = read_json(evidence / NAMES).get(of)
    found = dict[str, float | None]()
    for i, (spec, weight) in enumerate(_specs(given).items()):
        place, _, attribute = spec.rpartition(":")
        found[f"{_copy(evidence, of, place, i)}:{attribute}" if place.endswith(".py") else spec] = weight
    (first, weight), *_ = found.items()
    return (first or given) if weight is None else weighted(found, of)


def _altered(evidence: Path, copies: Mapping[str, str]) -> list[str]:
    """A line for each copy of a source that is not the one that was kept."""
    paths = {name: evidence / SOURCES / name for name in copies}
    return [
        f"{SOURCES}/{name}: the source that was kept is gone" for name, p in paths.items() if not p.exists()
    ] + [
        f"{SOURCES}/{name}: not the source that was kept (SHA-256 {sha256(path)[:16]}, was {copies[name][:16]})"
        for name, path in paths.items()
        if path.exists() and sha256(path) != copies[name]
    ]


def _tasks(evidence: Path, names: Mapping[str, Any]) -> dict[str, Task]:
    """Track -> its task."""

    if names.get("task"):
        task = load_task(kept_name(evidence, "task"), names.get("task_options") or {})
    else:
        task = Task(names["name"], lambda split: [], load_reward(kept_name(evidence, "reward") or "exact"))
    found = {PROGRAMMATIC: task, CONSISTENCY: task}
    if not names.get("controls"):
        return found
    file = names["controls"] == "file"
    own = (
        Task("controls", lambda split: [], load_reward("exact"))
        if file
        else load_task(kept_name(evidence, "controls"))
    )
    return {**found, CONTROLS: own}


def _changed_sources(task: Task, names: Mapping[str, Any]) -> list[str]:
    functions = _functions(task)
    now = {name: _source(function) for name, function in functions.items() if function is not None}
    known = names.get("sources", {})
    return [
        name for name, file in now.items() if file and name in known and sha256(file) != known[name]["sha256"]
    ]


def _of_model(
    model: str, cases: Sequence[Case], asked: Sequence[Asked], workers: Workers | None
) -> tuple[list[str], list[str]]:
    """Problems of one model: cases that are gone, and scores that the reward does not give; and why some cannot be
    computed again.
    """
    own, found = {case.id: case for case in cases}, dict[str, Case]()
    names = {name for one in asked for name in one.ids}
    problems = [f"{name}: {model} has no such case; the row was asked" for name in names if name not in own]
    problems += [f"{name}: {model} has a case that no row was asked for" for name in own if name not in names]
    left = list[str]()
    for one in asked:
        there = one.only(own)
        if one.task.environment is None:
            said = MockSampler([own[name].completion for name in there.ids])
            again = there.evaluate(own, said, workers=workers)
            if why := _fails_here(own, again):
                left += [f"{name} of {model}: {why}" for name in there.ids]
                continue
        else:
            kept, why_not, wrong = replayable(
                one.task, there.prompted(own), [own[name] for name in there.ids]
            )
            left += [f"{name} of {model}: {why}" for name, why in why_not.items()]
            problems += [f"{name} of {model}: {what}" for name, what in wrong.items()]
            there = there.only(kept)
            turns = iter([own[name].turns for name in there.ids])
            again = there.evaluate(
                own,
                MockSampler([]),
                workers=workers,
                episodes=lambda play, rows, *_, turns=turns: [replayed(play, r, next(turns)) for r in rows],
            )
        found |= {case.id: case for case in again}
    for name in found:
        problems += _differs(name, model, own[name], found[name])
    return sorted(problems), left


def _fails_here(own: Mapping[str, Case], again: Sequence[Case]) -> str:
    """Why the reward scores none of the outputs here, where each was scored then; empty: it scores one."""
    if all("score" in case.errors and "score" not in own[case.id].errors for case in again) and again:
        return f"the reward fails here on every output: {again[0].errors['score']}"
    return ""


def _differs(name: str, model: str, said: Case, found: Case) -> list[str]:
    lines = []
    if said.completion != found.completion:
        lines.append(f"{name}: the turns of {model} in cases.jsonl are not its completion")
    if said.replies and said.replies != found.replies:
        lines.append(f"{name}: what the environment replied to {model} in cases.jsonl is not what it replies")
    for what in ("track", "slice", "cluster"):
        if (was := getattr(said, what)) != (now := getattr(found, what)):
            lines.append(f"{name}: {what} of {model} is {was!r} in cases.jsonl; its row was kept as {now!r}")
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
