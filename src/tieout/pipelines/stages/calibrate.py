"""Before training: the reward held against people. Below its floor nothing is trained, unless overridden by name."""

from __future__ import annotations

from dataclasses import asdict

from ...errors import InputError
from ...rewards.scoring.runner import reward_name
from ...rows import data_hash, read_rows
from ...storage.atomic import fingerprint, write_json
from ...storage.jsonl import read_json, write_jsonl
from ...vetting.calibrate import CalibrationPolicy, calibrate
from ...vetting.calibration_plot import plot
from ..run import Run


def calibrated(run: Run) -> None:
    """Stage `calibrate`, if the recipe names data for it. ValueError: the reward did not pass, and why."""
    wanted = run.recipe.calibration
    if not wanted.data:
        return
    assert run.task.reward is not None
    rows = list(read_rows(wanted.data))
    policy = CalibrationPolicy(wanted.floor, wanted.threshold, wanted.min_rows)
    name = reward_name(run.task.reward)
    stage = run.folder.stage("calibrate")
    inputs = fingerprint(
        {"policy": asdict(policy), "rows": data_hash(rows), "reward": run.recipe.reward, "name": name}
    )
    if stage.is_done(inputs):
        report = read_json(stage.path / "calibration.json")
    else:
        stage.begin(inputs)
        found = calibrate(name, run.task.reward, rows, policy, workers=run.workers)
        report = {**found.to_plain(), "override": wanted.override}
        write_json(stage.path / "calibration.json", report)
        write_jsonl(stage.path / "rows.jsonl", found.rows)
        plot(found, stage.path / "calibration.png")
    verdict, reasons = report["verdict"], "; ".join(report["reasons"])
    if verdict == "pass":
        run.console.print(f"[bold]calibrate[/]  {reasons}", highlight=False)
    elif wanted.override:
        run.console.print(
            f"[bold]calibrate[/]  {verdict}: {reasons}; overridden: {wanted.override}", highlight=False
        )
    else:
        raise InputError(
            f"reward {name!r} is not calibrated ({verdict}): {reasons}. See {stage.path}; mend the reward, label more "
            'rows, or train against it all the same with `calibration: {override: "reason"}`'
        )
    stage.finish(inputs)
