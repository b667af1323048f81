"""Train one method into one folder: metrics, groups seen, checkpoints, adapter. Repeating it resumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..errors import InputError, StopTraining
from ..learner import Learner
from ..learner.checkpoint import Checkpoints, save_adapter
from ..learner.models.bases import Bases
from ..learner.parallel.processes import join
from ..learner.tinker.learner import TinkerLearner
from ..rewards.scoring.runner import check_call
from ..samplers.staleness import StalenessCheck
from ..shipping.reload_check import observe
from ..source import Source
from ..storage.atomic import write_json
from ..storage.runfolder import RunFolder, Stage
from ..tasks import Task
from ..types import Reward, Row
from .alarms import Adjustments, alarm, skipped, stop
from .build import prepare, under_deadline
from .evaluation import Evaluation
from .guards import gold_of, noticed_within
from .held_out import held_out_loss
from .log import TrainLog
from .loop import train
from .progress import bar
from .recalibration import primary_of
from .rescue import rescued
from .reward_check import check_reward_model
from .reward_models import check_models, check_turns
from .schedule import num_steps
from .served import verify_served
from .spec import TrainSpec
from .stage import agree, begin, known_as, rows_held_out
from .teachers import check_teachers
from .trackers import Trackers
from .watching import monitors_of

FEW = 500
"""Demonstrations, pairs or labels below which a stage says that they are few."""
GOOD = "last_good"
"""Folder of the weights that a run which has blown up goes back to: an adapter to start from, as any other."""
BEHAVIOUR = "behaviour.json"
"""What the policy did on a few prompts while it was in memory: whatever is shipped must do the same."""


def fit(
    run: RunFolder,
    name: str,
    spec: TrainSpec,
    task: Task,
    console: Console,
    data: str = "",
    bases: Bases | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Path:
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
        bases: holds the base that is loaded already, if this stage may use it.
        told: called after each step that is logged, with its number and how many there will be.

    Raises:
        InputError: the stage was begun with other values; the message lists what was and what is.
    """
    ranks, where = join(), spec.placement
    stage = run.stage(name)
    held_out = rows_held_out(spec, task, console)
    known = known_as(spec, task, data, held_out)
    agree(ranks, known)
    adapter = stage.path / "adapter"
    if ranks.first(lambda: stage.is_done(known)):
        console.print(f"[bold]{name}[/]  done before ({stage.info().get('steps')} steps)")
        return adapter
    console.print(f"[bold]{name}[/]")
    known_of_models = _known_of_models(spec, task)
    check_teachers(spec.method.needs, str(spec.start or spec.model), task.rows("train"))
    ranks.first(lambda: begin(stage, known, console))
    log, adjustments = TrainLog(run, stage), Adjustments()
    trackers = Trackers(where.trackers, run.path / "trackers", run.path.resolve().name, name)
    with ExitStack() as opened:
        opened.callback(trackers.close)
        learner, source = prepare(spec, task, bases)
        if isinstance(learner, TinkerLearner):
            console.print(f"  {learner.examined}", markup=False, highlight=False, soft_wrap=True)
        gold = _scoring(spec, source, held_out, console, opened)
        evaluation = _evaluation(spec, learner, source, held_out)
        steps = num_steps(spec.method, source)
        if spec.method.needs.rows != "prompt" and len(source.rows) < FEW:
            console.print(
                f"  {len(source.rows)} rows are few: the rules of thumb in docs/choosing.md begin at {FEW}"
            )

        def say(step: int, reason: str) -> None:
            log.alarm(step, reason)
            console.print(f"  [yellow]alarm[/] at step {step}: {escape(reason)}", highlight=False)

        watched: Any = {"guards": spec.guards, "gold": gold, "adjustments": adjustments, "say": say}
        watched["folder"] = stage.path
        monitors = monitors_of(spec.method, learner, source, steps, **watched)
        measured = held_out_loss(learner, source, steps, spec.guards.held_out_steps)
        if spec.guards.held_out_steps and not (measured or learner.model.only_scores):
            console.print("  no held-out loss: nothing is held out that has a right completion")
        monitors += measured
        once, always = skipped()
        skips = [alarm(once, say), alarm(always, stop())]
        checkpoints = Checkpoints(stage.path / "checkpoints", apart=noticed_within(spec.guards))
        with bar(console, name, steps) as shown:

            def on_start(step: int) -> None:
                log.cut(step)
                trackers.start(known, step)
                if step:
                    shown.at(step)
                    console.print(f"  resumed at step {step} of {steps}")
                for said in known_of_models if not step else ():
                    say(step, said)

            def on_step(step: int, metrics: dict[str, float]) -> None:
                log.metrics(step, metrics)
                shown.at(step, metrics)
                trackers.log(step, metrics)
                if told is not None:
                    told(step, steps)

            try:
                train(
                    spec.method,
                    source,
                    learner,
                    steps=steps,
                    schedule=spec.schedule,
                    monitors=[*monitors, log.groups, *skips],
                    checkpoints=checkpoints,
                    save_steps=where.save_steps if spec.engine == "local" else 1,
                    on_step=on_step,
                    on_start=lambda step: ranks.first(lambda: on_start(step)),
                    adjustments=adjustments,
                    evaluation=evaluation,
                    identity=known,
                )
            except StopTraining as stopped:
                if stopped.good:
                    ranks.first(lambda: save_adapter(learner, stage.path / GOOD))
                    console.print(
                        f"  the weights of step {stopped.good}: {stage.path / GOOD}", highlight=False
                    )
                raise
            except OSError as error:
                raise rescued(error, learner, checkpoints) from error
    if evaluation is not None:
        console.print(f"  {_outcome(evaluation, learner.step, steps)}", markup=False, highlight=False)

    def finish() -> None:
        save_adapter(learner, adapter)
        _look_at(learner, source, task, stage, console, spec)
        info: dict[str, Any] = {"steps": learner.step}
        if evaluation is not None:
            info["best"] = {"step": evaluation.best_step, evaluation.metric: evaluation.memory["best"]}
        if lost := log.flush():
            info["lost_log_lines"] = lost
        stage.finish(known, **info)

    try:
        ranks.first(finish)
    except OSError as error:
        raise rescued(error, learner, checkpoints) from error
    return adapter


def _known_of_models(spec: TrainSpec, task: Task) -> list[str]:
    """What has to be said of the reward models that score. InputError: one of them must not be trained against."""
    needs = spec.method.needs
    if not needs.rewarded:
        return []
    check_turns(task, needs.reward_model)
    return check_models(task.reward, needs.reward_model, spec.guards.reward_model_override, spec.model)


def _scoring(
    spec: TrainSpec, source: Source, held_out: Sequence[Row], console: Console, opened: ExitStack
) -> Reward | None:
    """Start the processes of the rewards, and call each reward once; returns the gold one, if any."""
    if isinstance(source.sampler, StalenessCheck):
        opened.callback(source.sampler.close)
    where, scored = spec.placement, spec.method.needs.rewarded
    rows = source.rows if scored else held_out
    if source.sampler is None or not rows:
        return None
    gold = gold_of(spec.guards, source.task) if scored else None
    primary = primary_of(source.task) if scored and spec.guards.calibration_steps else None
    named = gold if spec.guards.gold else None
    rewards = [r for r in (source.task.reward, named, primary) if r is not None]
    if source.task.scorer == "reward" and rewards:
        source.workers = under_deadline(rewards, where.reward_workers, where.reward_seconds, console)
        if source.workers is not None:
            opened.callback(source.workers.close)
        for reward in rewards:
            check_call(reward, rows, source.workers, encode=source.chat.encode)
    return gold


def _evaluation(
    spec: TrainSpec, learner: Learner, source: Source, held_out: Sequence[Row]
) -> Evaluation | None:
    if not held_out:
        return None
    needs = spec.method.needs
    try:
        source.chat.check(held_out)
    except InputError as error:
        raise InputError(f"held-out rows: {error}") from error
    source.chat.check_lengths(held_out, learner.model.context, needs.max_new_tokens, "held-out rows")
    return Evaluation(spec.evaluation, source, held_out, needs.samples and source.task.scorer is not None)


def _look_at(
    learner: Learner, source: Source, task: Task, stage: Stage, console: Console, spec: TrainSpec
) -> None:
    """Write what the trained model does while it is in memory: scores of pairs, or completions."""
    if isinstance(learner, TinkerLearner):
        if spec.placement.engine_check == "server":
            console.print(f"  no {BEHAVIOUR}, and the adapter was not compared: the base is not loaded here")
            return
        rows = list(task.rows("test"))[:8] or list(task.rows("train"))[:8]
        seen, apart = verify_served(learner, stage.path / "adapter", rows, task.max_new_tokens, spec.dtype)
        console.print(f"  the fetched adapter gives the server's log-probabilities within {apart:.1e} nats")
        write_json(stage.path / BEHAVIOUR, seen)
    elif learner.sharded:
        console.print(f"  no {BEHAVIOUR}: this process holds only its part of the model")
    elif learner.model.only_scores:
        check_reward_model(learner, source, task.rows("test"), stage.path, console)
    else:
        rows = list(task.rows("test"))[:8] or list(task.rows("train"))[:8]
        prompts = [row["prompt"] for row in rows]
        seen = observe(learner.model, learner.model.chat, prompts, task.max_new_tokens)
        write_json(stage.path / BEHAVIOUR, seen)


def _outcome(evaluation: Evaluation, step: int, steps: int) -> str:
    best = evaluation.memory["best"]
    if best is None:
        return f"{evaluation.metric} was never measured"
    said = f"best {evaluation.metric} {best:.4g} at step {evaluation.best_step}"
    if evaluation.policy.keep_best:
        said += ", whose weights are exported"
    if evaluation.stopped and step < steps:
        said += (
            f"; stopped at step {step} of {steps}: no better in {evaluation.memory['not_better']} evaluations"
        )
    return said
