"""Train one method into one folder: metrics, groups seen, checkpoints, adapter. Repeating it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..learner.checkpoint import Checkpoints, save_adapter
from ..learner.parallel.processes import join
from ..rewards import load_reward
from ..rewards.scoring.outcomes import reward_name
from ..rewards.scoring.runner import check_call
from ..rows import data_hash
from ..samplers.staleness import StalenessCheck
from ..shipping.reload_check import observe
from ..storage.atomic import write_json
from ..storage.identity import differences, refuse_changes
from ..storage.runfolder import RunFolder, Stage
from ..tasks import Task
from .alarms import Adjustments
from .build import prepare, under_deadline
from .guards import watch
from .log import TrainLog
from .loop import train
from .monitors import DEFAULT, kl_to_reference, stop_on_divergence, stop_on_mismatch
from .progress import bar
from .reward_check import check_reward_model
from .schedule import num_steps
from .spec import TrainSpec, identity

BEHAVIOUR = "behaviour.json"
"""What the policy did on a few prompts while it was in memory: whatever is shipped must do the same."""


def fit(run: RunFolder, name: str, spec: TrainSpec, task: Task, console: Console, data: str = "") -> Path:
    """Train `spec` on `task` in stage `name` of the run, unless that is done; return the adapter's folder.

    A stage that was interrupted is resumed, and one that is done is continued if the method now has more epochs. If
    an earlier stage has changed (the adapter it starts from, or rows that were made for it), it is trained from the
    beginning.

    Args:
        run: the run folder.
        name: of the stage.
        spec: method, model and settings, and where to compute.
        task: its `train` rows are trained on.
        console: where progress is shown.
        data: fingerprint of the rows, if it is known.

    Raises:
        InputError: the stage was begun with other values; the message lists what was and what is.
    """
    ranks, where = join(), spec.placement
    stage = run.stage(name)
    known = _known(spec, task, data)
    adapter = stage.path / "adapter"
    if ranks.first(lambda: stage.is_done(known)):
        console.print(f"[bold]{name}[/]  done before ({stage.info().get('steps')} steps)")
        return adapter
    console.print(f"[bold]{name}[/]")
    ranks.first(lambda: _begin(stage, known))
    learner, source = prepare(spec, task)
    gold = load_reward(spec.guards.gold) if spec.guards.gold and source.sampler is not None else None
    rewards = [r for r in (source.task.reward, gold) if r is not None]
    if source.sampler is not None and source.task.scorer == "reward" and rewards:
        source.workers = under_deadline(rewards, where.reward_workers, where.reward_seconds, console)
        for reward in rewards:
            check_call(reward, source.rows, source.workers, encode=source.chat.encode)
    steps = num_steps(spec.method, source)
    monitors = [*DEFAULT, stop_on_divergence()]
    if isinstance(source.sampler, StalenessCheck):
        monitors.append(source.sampler.monitor)
    log, adjustments = TrainLog(run, stage), Adjustments()

    def say(step: int, reason: str) -> None:
        log.alarm(step, reason)
        console.print(f"  [yellow]alarm[/] at step {step}: {escape(reason)}", highlight=False)

    if source.sampler is not None:
        monitors.append(stop_on_mismatch())
        if learner.model.has_reference:
            monitors.append(kl_to_reference(learner))
        monitors += watch(spec.guards, gold, source.workers, adjustments, say)
    with bar(console, name, steps) as shown:

        def on_start(step: int) -> None:
            log.cut(step)
            if step:
                shown.at(step)
                console.print(f"  resumed at step {step} of {steps}")

        def on_step(step: int, metrics: dict[str, float]) -> None:
            log.metrics(step, metrics)
            shown.at(step, metrics)

        train(
            spec.method,
            source,
            learner,
            steps=steps,
            schedule=spec.schedule,
            monitors=[*monitors, log.groups],
            checkpoints=Checkpoints(stage.path / "checkpoints"),
            save_steps=where.save_steps,
            on_step=on_step,
            on_start=on_start,
            adjustments=adjustments,
            identity=known,
        )
    if isinstance(source.sampler, StalenessCheck):
        source.sampler.close()
    if source.workers is not None:
        source.workers.close()

    def finish() -> None:
        save_adapter(learner, adapter)
        if learner.sharded:
            console.print(f"  no {BEHAVIOUR}: this process holds only its part of the model")
        elif learner.model.only_scores:
            check_reward_model(learner, source, task.rows("test"), stage.path, console)
        else:
            rows = list(task.rows("test"))[:8] or list(task.rows("train"))[:8]
            prompts = [row["prompt"] for row in rows]
            seen = observe(learner.model, learner.model.chat, prompts, task.max_new_tokens)
            write_json(stage.path / BEHAVIOUR, seen)
        lost = log.flush()
        stage.finish(known, steps=steps, **({"lost_log_lines": lost} if lost else {}))

    ranks.first(finish)
    return adapter


def _known(spec: TrainSpec, task: Task, data: str) -> dict[str, Any]:
    """The identity of the stage: of the specification, with what it is trained on."""
    scored_by = {"reward": reward_name(task.reward)} if task.reward is not None else {}
    rows = task.rows("train")
    trained_on = {"rows": len(rows), "sha256": data or data_hash(rows)}
    return {**identity(spec), "task": task.name, **scored_by, "data": trained_on}


MADE_BEFORE = ("start:", "data.")
"""What an earlier stage decides, and no value that was given for this one."""


def _begin(stage: Stage, known: dict[str, Any]) -> None:
    """Keep what the stage has done so far, or clear it if an earlier stage has changed."""
    if (was := stage.begun()) is not None:
        lines = differences(was, known)
        refuse_changes(lines if any(not line.startswith(MADE_BEFORE) for line in lines) else [], stage.path)
    stage.begin(known)
