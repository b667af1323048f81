"""A run folder as the page reads it: files and nothing computed by a model, of a finished run or of one that trains."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..evidence import reward_checks, scoring
from ..evidence.evaluate import PROGRAMMATIC, Case, case_id, read_cases
from ..evidence.training import read_stage
from ..evidence.verify import read_run
from ..rows.messages import is_talk, text_of
from ..storage import manifest
from ..storage.jsonl import as_json, read_json, read_jsonl, read_log, stored


@dataclass(frozen=True)
class Stored:
    """What a run folder holds."""

    folder: Path
    evidence: Path
    """Where report.json and the cases are: in the folder, or the folder itself."""
    name: str
    """What the page calls the folder, in its title and in commands."""
    record: Mapping[str, Any]
    """run.json; empty where there is none."""
    report: Mapping[str, Any] | None
    """evidence/report.json; None before the gate."""
    cases: Mapping[str, Sequence[Case]]
    """Model -> its cases, those that the report was made from."""
    stages: Mapping[str, Sequence[Mapping[str, Any]]]
    """Stage -> its metrics, a row per step, in the order of the recipe."""
    alarms: Mapping[str, Sequence[Mapping[str, Any]]]
    """Stage -> step and reason of each alarm."""
    plan: Sequence[Mapping[str, Any]]
    """Stages of plan.json; empty where nothing was planned."""
    steps: Sequence[Mapping[str, Any]]
    """Predicates of the manifest, the first step first, up to the one that was the last when the page was made."""
    head: str
    """Digest of the last of them; empty without a manifest."""

    @property
    def judged(self) -> Mapping[str, Any]:
        """The report of a run that has one."""
        assert self.report is not None
        return self.report

    @property
    def recipe(self) -> Sequence[Mapping[str, Any]]:
        """The stages of the recipe; empty for a run without one."""
        found: Sequence[Mapping[str, Any]] = self.record.get("identity", {}).get("stages", [])
        return found

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the numbers of the report depend on: models compared, primary metric, policy."""
        found: Mapping[str, Any] = self.judged["settings"]
        return found

    @cached_property
    def golds(self) -> Mapping[str, str]:
        """Case of the programmatic track -> the right answer, where its row has one as `completion` or `answer`."""
        rows, names = stored(self.evidence / scoring.ROWS), self.evidence / scoring.NAMES
        if not rows.exists() or not names.exists():
            return {}
        task, found, places = read_json(names)["name"], dict[str, str](), Counter[str]()
        for _, line in read_jsonl(rows):
            if line["track"] == PROGRAMMATIC:
                row, part = line["row"], line["slice"]
                name = case_id(task, part, row, places[part])
                places[part] += 1
                if (gold := row.get("completion", row.get("answer"))) is not None:
                    found[name] = (
                        text_of(gold)
                        if isinstance(gold, str) or is_talk(gold)
                        else json.dumps(gold, default=as_json)
                    )
        return found

    @cached_property
    def findings(self) -> Mapping[str, Any]:
        """The report, or before there is one its findings on the reward, as the run folder has them now."""
        if self.report is not None:
            return self.report
        return {"metadata": {reward_checks.KEY: reward_checks.collect(self.folder)}}


def read(place: Path, name: str = "", head: str | None = None) -> Stored:
    """Read a run folder, or a folder with report.json and its cases.

    `head`: leave out steps of the manifest after this one, as they were not there when a page was made.
    InputError: it is neither.
    """
    evidence = place / "evidence" if (place / "evidence").is_dir() else place
    there = evidence / "report.json"
    record, report = read_run(place, there)
    stages = {path.parent.name: read_stage(path.parent) for path in sorted(place.glob("*/metrics.jsonl"))}
    order = [name_of(stage) for stage in record.get("identity", {}).get("stages", [])]
    stages = dict(sorted(stages.items(), key=lambda one: (one[0] not in order, *_rank(order, one[0]))))
    steps, last = manifest.steps(place, head)
    return Stored(
        folder=place,
        evidence=evidence,
        name=name or str(place),
        record=record,
        report=report,
        cases=read_cases(stored(evidence / "cases.jsonl")) if report else {},
        stages=stages,
        alarms=alarms_in(place),
        plan=read_json(place / "plan.json")["stages"] if (place / "plan.json").exists() else [],
        steps=steps,
        head=last,
    )


def name_of(stage: Mapping[str, Any]) -> str:
    """Of a stage of a recipe, as run.json has it."""
    settings = stage if "train" in stage else next(iter(stage.values()))
    return str(settings["name"])


def _rank(order: Sequence[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def alarms_in(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Stage -> step and reason of each alarm that went off."""
    return {path.parent.name: read_log(path) for path in sorted(folder.glob("*/alarms.jsonl"))}
