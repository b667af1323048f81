"""Calibrate the reward of a run: against human labels or the task's own truth, before training and on samples."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from rich.markup import escape

from ...errors import InputError
from ...evidence.reward_checks import in_words
from ...rewards import load_reward
from ...rewards.scoring.outcomes import judges_form
from ...rewards.scoring.runner import reward_name
from ...rewards.text.thinking import as_read, knowing
from ...rows import data_hash, read_rows
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...storage.atomic import write_json
from ...storage.jsonl import read_json, write_jsonl
from ...storage.runfolder import Stage as Folder
from ...tasks.splits import calibration_rows
from ...training.build import under_deadline
from ...types import Reward, Row
from ...vetting.calibrate import Calibration, CalibrationPolicy, calibrate
from ...vetting.golden_rows import with_gold
from ...vetting.records import REPORT, keep
from ...vetting.truth import SAMPLED, Known, TruthCalibration, calibrate_on_truth, known_completions
from ..kinds import Calibrate, Check
from ..kinds import Calibration as Given
from ..run import Run

SAMPLES = "samples.jsonl"
"""Completions that the policy wrote for the calibration prompts."""


def calibrate_given(run: Run, stage: Check, reward: Reward) -> None:
    """Part `calibration` of a check stage: given completions, scored before anything is trained."""
    wanted, policy = stage.calibration, _policy(stage.calibration)
    rows, why = _given(run, wanted, reward)
    if why:
        return say(run, stage, f"not calibrated: {why}")
    part = run.folder.stage(f"{stage.name}/calibration")
    known_as = "labels" if wanted.data else "rows"
    inputs = {**_inputs(run, reward), "policy": asdict(policy), known_as: data_hash(rows)}
    found: Calibration | TruthCalibration
    if not part.is_done(inputs):
        part.begin(inputs)
        if wanted.data:
            found = calibrate(reward_name(reward), reward, rows, policy, workers=run.workers)
        else:
            known = known_completions(run.task, rows, run.recipe.seed)
            found = calibrate_on_truth(run.task, reward, rows, known, policy, workers=run.workers)
        keep(part.path, found)
    _conclude(
        run, stage, wanted.override, "check: {calibration: {override: ...}}", part, holds=bool(wanted.data)
    )
    part.finish(inputs)
    return None


def _given(run: Run, wanted: Given, reward: Reward) -> tuple[list[Row], str]:
    """Labelled rows, or rows with gold; or none, and why."""
    if wanted.data:
        return list(read_rows(wanted.data)), ""
    if not wanted.max_rows:
        return [], "the recipe says so"
    if judges_form(reward):
        return [], "the reward judges form only, and gold is no better formed than others"
    rows = [row for row in calibration_rows(run.task, wanted.max_rows) if with_gold(row, run.task.gold)]
    return rows, "" if rows else "no row has gold, and the recipe names no human labels"


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
    if not part.is_done(inputs):
        part.begin(inputs)
        _calibrate(run, stage, part, rows, labels, reward)
    _conclude(run, stage, stage.override, "calibrate: {override: ...}", part)
    part.finish(inputs)


def _calibrate(
    run: Run, stage: Calibrate, part: Folder, rows: list[Row], labels: list[Row], reward: Reward
) -> None:
    task, policy, name = run.task, _policy(stage), reward_name(reward)
    samples = _samples(run, stage, part, rows)
    workers = run.workers if reward is run.task.reward else _workers(run, reward)
    try:
        labelled = None
        if labels:
            fresh = [
                {**row, "completion": one.completion}
                for row, known in zip(rows, samples, strict=True)
                for one in known
                if one.kind == SAMPLED
            ]
            labelled = calibrate(name, reward, labels, policy, fresh=fresh, workers=workers)
        if task.primary is None and not any(one.truth is not None for own in samples for one in own):
            unknown = {"reward": name, "verdict": "hold", "reasons": [UNKNOWN.format(task.name)]}
            write_json(part.path / REPORT, unknown) if labelled is None else keep(part.path, labelled)
        else:
            found = calibrate_on_truth(task, reward, rows, samples, policy, workers=workers)
            keep(part.path, found, labelled)
    finally:
        if workers is not None and workers is not run.workers:
            workers.close()


UNKNOWN = (
    "task {!r} names no primary metric and its rows have no gold: nothing but the reward says which of the policy's "
    "samples are right; label some and name the file as `data`"
)


def _samples(run: Run, stage: Calibrate, part: Folder, rows: list[Row]) -> list[list[Known]]:
    """[row][...] gold and what the policy wrote, also kept in samples.jsonl."""
    sampler = LocalSampler(run.open(run.policy(stage.start)))
    chat, task = sampler.chat, run.task
    params = SamplingParams(task.max_new_tokens, stage.temperature, seed=run.recipe.seed)
    prompts = [chat.prompt(row["prompt"]) for row in rows]
    sampled = sampler.sample(prompts, stage.num_completions, params)
    texts = [
        [as_read(one) for one in knowing(group, p, chat.text)]
        for group, p in zip(sampled, prompts, strict=True)
    ]
    write_jsonl(
        part.path / SAMPLES,
        [{"prompt": row["prompt"], "completions": own} for row, own in zip(rows, texts, strict=True)],
    )
    # Without a primary metric nothing is known of samples but that gold is no worse: flaws show what the reward sees.
    given = known_completions(task, rows, run.recipe.seed)
    return [
        [*known[: 1 if task.primary else None], *(Known(text, SAMPLED) for text in dict.fromkeys(own))]
        for known, own in zip(given, texts, strict=True)
    ]


def _conclude(
    run: Run, stage: Check | Calibrate, override: str, how: str, part: Folder, *, holds: bool = False
) -> None:
    """Say the verdict; InputError where it stops the run: fail, and hold where labels were given to show something."""
    report = read_json(part.path / REPORT)
    verdict, reasons = report["verdict"], in_words(report)
    against = f" against {report.get('truth', 'human labels')}" if "policy" in report else ""
    if verdict == "pass":
        return say(run, stage, f"calibrated{against}: {reasons}")
    if override:
        write_json(part.path / REPORT, {**report, "override": override})
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
