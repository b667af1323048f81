"""Calibrate the reward of a run: against human labels or the task's own truth, before training and on samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from rich.markup import escape

from ...errors import InputError
from ...evidence.reward_checks import in_words
from ...rewards import load_reward
from ...rewards.scoring.outcomes import judges_form
from ...rewards.scoring.runner import reward_name
from ...rows import data_hash, read_rows
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...storage.atomic import write_json
from ...storage.jsonl import read_json, write_jsonl
from ...storage.runfolder import Stage as Folder
from ...tasks import Task
from ...tasks.splits import calibration_rows
from ...training.build import under_deadline
from ...types import Reward, Row
from ...vetting.calibrate import CalibrationPolicy, calibrate
from ...vetting.calibration_plot import plot, plot_truth
from ...vetting.golden_rows import with_gold
from ...vetting.truth import SAMPLED, Known, calibrate_on_truth, known_completions
from ..kinds import Calibrate, Check
from ..run import Run

SAMPLES = "samples.jsonl"
"""Completions that the policy wrote for the calibration prompts."""


def calibrate_given(run: Run, stage: Check, reward: Reward) -> None:
    """Part `calibration` of a check stage: given completions, scored before anything is trained."""
    wanted = stage.calibration
    if wanted.data:
        return _labelled(run, stage, reward, wanted.data)
    if not wanted.max_rows:
        return say(run, stage, "not calibrated: the recipe says so")
    if judges_form(reward):
        return say(
            run,
            stage,
            "not calibrated: the reward judges form only, and gold is no better formed than others",
        )
    rows = [row for row in calibration_rows(run.task, wanted.max_rows) if with_gold(row, run.task.gold)]
    if not rows:
        return say(run, stage, "not calibrated: no row has gold, and the recipe names no human labels")
    part = run.folder.stage(f"{stage.name}/calibration")
    inputs = {**_inputs(run, reward), "policy": asdict(_policy(wanted)), "rows": data_hash(rows)}
    if part.is_done(inputs):
        report = read_json(part.path / "calibration.json")
    else:
        part.begin(inputs)
        known = known_completions(run.task, rows, run.recipe.seed)
        report = _on_truth(run, part, run.task, reward, rows, known, _policy(wanted), run.workers)
    _conclude(run, stage, report, wanted.override, "check: {calibration: {override: ...}}", part)
    part.finish(inputs)
    return None


def _labelled(run: Run, stage: Check, reward: Reward, data: str) -> None:
    wanted, rows = stage.calibration, list(read_rows(data))
    part = run.folder.stage(f"{stage.name}/calibration")
    inputs = {**_inputs(run, reward), "policy": asdict(_policy(wanted)), "labels": data_hash(rows)}
    if part.is_done(inputs):
        report = read_json(part.path / "calibration.json")
    else:
        part.begin(inputs)
        found = calibrate(reward_name(reward), reward, rows, _policy(wanted), workers=run.workers)
        report = {**found.to_plain(), "truth": "human labels", "override": wanted.override}
        write_json(part.path / "calibration.json", report)
        write_jsonl(part.path / "rows.jsonl", found.rows)
        plot(found, part.path / "calibration.png")
    _conclude(run, stage, report, wanted.override, "check: {calibration: {override: ...}}", part, holds=True)
    part.finish(inputs)


def calibrate_sampled(run: Run, stage: Calibrate) -> None:
    """Stage `calibrate`: the policy's own samples, scored by the reward and by the primary metric."""
    task = run.task
    reward = _reward(run, stage)
    part, rows = run.folder.stage(stage.name), calibration_rows(task, stage.max_rows)
    labels = list(read_rows(stage.data)) if stage.data else []
    inputs = {
        "rows": data_hash(rows),
        "labels": data_hash(labels),
        "reward": _reward_known(run, stage, reward),
        "model": run.policy(stage.start).identity,
        "policy": asdict(_policy(stage)),
        "sampling": [stage.num_completions, stage.temperature, task.max_new_tokens, run.recipe.seed],
    }
    if part.is_done(inputs):
        report = read_json(part.path / "calibration.json")
    else:
        part.begin(inputs)
        samples = _samples(run, stage, part, rows)
        workers = run.workers if reward is run.task.reward else _workers(run, reward)
        if task.primary is None:
            report = {
                "reward": reward_name(reward),
                "verdict": "hold",
                "reasons": [NO_PRIMARY.format(task.name)],
            }
        else:
            report = _on_truth(run, part, task, reward, rows, samples, _policy(stage), workers)
        if labels:
            fresh = [
                {**row, "completion": one.completion}
                for row, known in zip(rows, samples, strict=True)
                for one in known
                if one.kind == SAMPLED
            ]
            report = _drifted(report, calibrate(
                reward_name(reward), reward, labels, _policy(stage), fresh=fresh, workers=workers
            ).to_plain())  # fmt: skip
        write_json(part.path / "calibration.json", report)
        if workers is not None and workers is not run.workers:
            workers.close()
    _conclude(run, stage, report, stage.override, "calibrate: {override: ...}", part)
    part.finish(inputs)


NO_PRIMARY = (
    "task {!r} names no primary metric: nothing but the reward says which of the policy's samples are right; label "
    "some and name the file as `data`"
)


def _samples(run: Run, stage: Calibrate, part: Folder, rows: list[Row]) -> list[list[Known]]:
    """[row][...] gold and what the policy wrote, also kept in samples.jsonl."""
    sampler = LocalSampler(run.open(run.policy(stage.start)))
    chat, task = sampler.chat, run.task
    params = SamplingParams(task.max_new_tokens, stage.temperature, seed=run.recipe.seed)
    sampled = sampler.sample([chat.prompt(row["prompt"]) for row in rows], stage.num_completions, params)
    texts = [[one.text for one in group] for group in sampled]
    write_jsonl(
        part.path / SAMPLES,
        [{"prompt": row["prompt"], "completions": own} for row, own in zip(rows, texts, strict=True)],
    )
    golds = [known[:1] for known in known_completions(task, rows, run.recipe.seed, num_flaws=0)]
    return [
        [*gold, *(Known(text, SAMPLED) for text in dict.fromkeys(own))]
        for gold, own in zip(golds, texts, strict=True)
    ]


def _on_truth(
    run: Run,
    part: Folder,
    task: Task,
    reward: Reward,
    rows: list[Row],
    known: list[list[Known]],
    policy: CalibrationPolicy,
    workers: Any,
) -> dict[str, Any]:
    found = calibrate_on_truth(task, reward, rows, known, policy, workers=workers)
    report = found.to_plain()
    write_json(part.path / "calibration.json", report)
    write_jsonl(part.path / "rows.jsonl", found.rows)
    plot_truth(found, part.path / "calibration.png")
    return report


def _drifted(report: dict[str, Any], labelled: Mapping[str, Any]) -> dict[str, Any]:
    """The report with the agreement with people and the drift from what they labelled; the worse verdict decides."""
    order = ("pass", "hold", "fail")
    worse = max((report["verdict"], labelled["verdict"]), key=order.index)
    return {
        **report,
        "verdict": worse,
        "reasons": [*report["reasons"], *labelled["reasons"]],
        "labels": labelled,
    }


def _conclude(
    run: Run,
    stage: Check | Calibrate,
    report: Mapping[str, Any],
    override: str,
    how: str,
    part: Folder,
    *,
    holds: bool = False,
) -> None:
    """Say the verdict; InputError where it stops the run: fail, and hold where labels were given to show something."""
    verdict, reasons = report["verdict"], in_words(report)
    against = f" against {report['truth']}" if "truth" in report else ""
    if verdict == "pass":
        return say(run, stage, f"calibrated{against}: {reasons}")
    if override:
        write_json(part.path / "calibration.json", {**report, "override": override})
        return say(run, stage, f"calibration{against}: {verdict}: {reasons}; overridden: {override}")
    if verdict == "hold" and not holds:
        return say(run, stage, f"calibration{against}: hold: {reasons}")
    raise InputError(
        f"reward {report['reward']!r} is not calibrated ({verdict}){against}: {reasons}. See {part.path}; fix the "
        f"reward{', label more rows' if holds else ''}, or train against it anyway with a reason that is recorded: "
        f"`{how.replace('...', chr(34) + 'reason' + chr(34))}`"
    )


def _reward(run: Run, stage: Calibrate) -> Reward:
    if not stage.reward:
        assert run.task.reward is not None, "checked before the run began"
        return run.task.reward
    models = {s.name for s in run.recipe.stages}
    name = f"reward_model:{run.adapter(stage.reward)}" if stage.reward in models else stage.reward
    return load_reward(name)


def _reward_known(run: Run, stage: Calibrate, reward: Reward) -> Any:
    if stage.reward in {s.name for s in run.recipe.stages}:
        return run.policy(stage.reward).identity
    return stage.reward or run.recipe.reward or reward_name(reward)


def _workers(run: Run, reward: Reward) -> Any:
    place = run.recipe.placement
    return under_deadline(
        [reward, *run.task.metrics.values()], place.reward_workers, place.reward_seconds, run.console
    )


def _policy(wanted: CalibrationPolicy) -> CalibrationPolicy:
    return CalibrationPolicy(**{f.name: getattr(wanted, f.name) for f in fields(CalibrationPolicy)})


def _inputs(run: Run, reward: Reward) -> dict[str, Any]:
    return {"train": run.hashes["train"], "reward": run.recipe.reward or reward_name(reward)}


def say(run: Run, stage: Check | Calibrate, text: str) -> None:
    """Print a line of a stage."""
    run.console.print(f"[bold]{stage.name}[/]  {escape(text)}", highlight=False)
