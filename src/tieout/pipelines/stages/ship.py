"""Stage `ship`: the candidate packaged, loaded again and compared, and shipped if the verdict allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config.fields import from_plain
from ...errors import InputError
from ...evidence.approved import keep_approved
from ...evidence.evaluate import CONTROLS, PROGRAMMATIC, Case
from ...evidence.figures import pair_figures
from ...evidence.report import note
from ...learner import load
from ...review.document import write_page
from ...shipping.candidate import prepare
from ...shipping.reload_check import Behaviour
from ...storage.jsonl import read_json, set_aside
from ...training.fit import BEHAVIOUR
from ...training.progress import bars
from ..kinds import Gate, Ship
from ..run import Run
from ..show import ship_run
from .evaluate import cases_of, evaluated_before, read_evaluated

MARKER = "candidate-check"
"""Folder of the marker, in the stage's."""


def ship(run: Run, stage: Ship) -> None:
    """Package the candidate unless that is done, and ship it if the report says so."""
    evidence = run.folder.path / "evidence"
    report = read_json(evidence / "report.json")
    if stage.approved:
        keep_approved(run.folder.path, Path(stage.approved))
    _candidate(run, stage, report)
    folder = next(f for name in ("candidate", "shipped") if (f := run.folder.path / name).exists())
    if found := read_json(folder / "card.json")["facts"].get("merged_difference"):
        note(evidence, "merged", found)
    if report["verdict"]["verdict"] == "ship" and not stage.demonstration:
        ship_run(run.folder.path, None, run.console)
    write_page(run.folder.path)


def _candidate(run: Run, stage: Ship, report: Mapping[str, Any]) -> None:
    """Adapter, merged model and card, loaded again and compared with the policy."""
    gate = _gate_before(run, stage)
    policy = run.policy(gate.candidate)
    part = run.folder.stage(f"{stage.name}/{MARKER}")
    inputs = {"model": policy.identity, "merged": stage.merged, "report": report["models"]}
    there = [f for name in ("candidate", "shipped") if (f := run.folder.path / name).exists()]
    if part.is_done(inputs) and there:
        return
    part.begin(inputs)
    if (run.folder.path / "shipped").exists():
        set_aside(run.folder.path / "shipped")  # an earlier candidate, before the run was made longer
    run.console.print(f"[bold]{stage.name}[/]  candidate loaded again from disk and compared with the policy")
    assert policy.trained is not None
    seen = policy.trained.parent / BEHAVIOUR
    if not seen.exists():
        raise InputError(
            f"{seen} is missing: the policy was cut over the ranks while it was trained, so that what it does was not "
            "recorded, and a candidate cannot be checked"
        )
    prepare(
        policy.trained,
        policy.base,
        run.folder.path / "candidate",
        policy=from_plain(Behaviour, read_json(seen), str(seen)),
        report=report,
        device=run.recipe.placement.device,
        four_bits=policy.four_bits,
        merged=stage.merged,
        bases=run.bases,
        measure=lambda folder: {"scores": _scores(run, gate, folder)},
    )
    part.finish(inputs)


def _gate_before(run: Run, stage: Ship) -> Gate:
    before = run.recipe.stages[: run.recipe.stages.index(stage)]
    return next(s for s in reversed(before) if isinstance(s, Gate))


def _scores(run: Run, gate: Gate, folder: Path) -> dict[str, Any]:
    """Paired score differences of the merged model from the candidate, on the rows of the evaluation."""
    evaluation, name = evaluated_before(run, gate), "merged"
    model = load(str(folder), dtype=run.recipe.dtype, device=run.recipe.placement.device)
    with bars(run.console) as add:
        cases: dict[str, list[Case]] = {
            gate.candidate: read_evaluated(run, evaluation)[gate.candidate],
            name: cases_of(run, evaluation, name, lambda: model, add),
        }
    found: dict[str, Any] = {}
    for track in (PROGRAMMATIC, CONTROLS):
        figure = pair_figures(cases, (), name, gate.candidate, track, run.recipe.seed)
        parts = figure["slices"] if track == PROGRAMMATIC else {track.replace("_", " "): figure}
        found |= {
            place: {k: f[k] for k in ("difference", "low", "high", "n")}
            for place, f in parts.items()
            if f["n"]
        }
    return found
