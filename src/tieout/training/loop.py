"""The training loop: collect -> annotate -> update, the same for every method."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ..batch import Totals
from ..errors import InputError, RollBack, StopTraining, TooManyErrors
from ..learner import Learner
from ..learner.checkpoint import Checkpoints
from ..learner.parallel.processes import Processes
from ..methods import Method
from ..source import Source
from ..storage.identity import differences, refuse_changes
from ..storage.runfolder import RunFolderError
from ..types import Group
from .alarms.actions import Adjustments
from .alarms.memory import Monitor, memory_of, recall
from .evaluation import Evaluation
from .interrupts import interrupts
from .library_schedule import LibrarySchedule
from .provenance import provenance
from .schedule import Schedule, num_steps


def train(
    method: Method,
    source: Source,
    learner: Learner,
    *,
    steps: int | None = None,
    schedule: Schedule | LibrarySchedule | None = None,
    monitors: Sequence[Monitor] = (),
    checkpoints: Checkpoints | None = None,
    save_steps: int | Callable[[int], bool] = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    adjustments: Adjustments | None = None,
    evaluation: Evaluation | None = None,
    kept: Callable[[], int] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> None:
    """Take `steps` optimizer steps, resuming from the newest checkpoint that verifies.

    They count from this call: a learner that was trained before is trained further.

    Interrupted (Ctrl-C, SIGTERM, or a monitor that stops the run), it finishes the step, saves and raises on; a second
    Ctrl-C ends it at once, and the newest checkpoint stays. With several processes, every rank calls this with the
    same arguments; `on_step` is told on the first one.

    An alarm that rolls back puts the weights and the optimizer of an earlier checkpoint into the learner; steps and
    data continue, the checkpoints since then are deleted, and the step's metrics say `rolled_back_to`.

    Args:
        method: what to collect, annotate and minimise.
        source: where groups come from; its position is saved with the weights.
        learner: what is trained.
        steps: optimizer steps of this training, those before it was resumed included; the method's epochs if None.
        schedule: of the learning rate.
        monitors: called after each step, in order; what they remember (`monitors.remembers`) is saved too.
        checkpoints: where to save; None saves nothing.
        save_steps: save every so many steps, or after each of which this is true (asked after the monitors); 0 saves
            only at the end and when interrupted.
        on_step: told each step's number and metrics, after the monitors. If it fails, that is a warning: a service
            for metrics that is down ends no run.
        on_start: told, on every rank, how many steps are done already: 0, or where the run resumes.
        adjustments: what alarms may turn; saved with the weights.
        evaluation: measures held-out rows; it may stop the run early, and have the weights of its best step put into
            the learner at the end. What it remembers is saved with the weights, and so is its best step.
        kept: the step whose checkpoint is never deleted for its age, asked after the monitors, and saved if it is the
            step just done; 0 or None: none. With an evaluation that keeps the best, it is the best step.
        identity: what the run is known by (`spec.identity`, with the data); read off the arguments if None.

    Raises:
        InputError: the checkpoint is of another method, other settings or other data; the message lists what was and
            what is. Steps and epochs may grow: a finished run can be continued. Or `steps` is below 1.
    """
    whole, begun = num_steps(method, source), learner.step
    steps = whole if steps is None else steps
    if steps < 1:
        raise InputError(f"steps is {steps}; expected at least 1, or None for the method's epochs")
    schedule, adjustments = schedule or Schedule(), adjustments or Adjustments()
    adjustments.has_kl_coef = method.needs.kl_coef is not None
    ranks = learner.processes
    if evaluation and evaluation.policy.keep_best and not checkpoints:
        raise InputError("keep_best: there are no checkpoints to keep; give a folder for them")

    def best() -> int:
        return evaluation.best_step if evaluation else kept() if kept else 0

    made_of = identity or (provenance(method, source, learner, schedule) if checkpoints else {})
    if checkpoints and (state := checkpoints.peek(learner)) is not None:
        refuse_changes(differences(state.get("made_of", made_of), made_of), checkpoints.folder)
        checkpoints.load(learner, state)
        source.position, begun = state["position"], state.get("begun", 0)
        adjustments.rate, adjustments.beta = state.get("adjustments", (1.0, 1.0))
        for monitor, memory in zip(monitors, state.get("monitors", ()), strict=False):
            recall(memory_of(monitor), memory)
        if evaluation:
            recall(evaluation.memory, state.get("evaluation", {}))
    if evaluation and learner.step == begun:
        evaluation.check(method, learner)
    if on_start:
        on_start(learner.step)
    if checkpoints and (kept or (evaluation and evaluation.policy.keep_best)):
        checkpoints.require(learner, best())
    if checkpoints:  # a resumed run reads what the unbroken one remembers
        learner.reference_folder = checkpoints.folder / "reference"
    saved = learner.step

    def save() -> None:
        nonlocal saved
        if checkpoints and learner.step != saved:
            known = {
                "adjustments": [adjustments.rate, adjustments.beta],
                "monitors": [memory_of(m) for m in monitors],
                **({"evaluation": evaluation.memory} if evaluation else {}),
                **({"begun": begun} if begun else {}),
            }
            checkpoints.save(learner, {"position": position, "made_of": made_of, **known}, {best()})
            saved = learner.step

    groups_of, last = method.collect(source), begun + steps
    position = source.position
    with interrupts() as asked_to_stop:
        while learner.step < last and not (evaluation and evaluation.stopped):
            started = time.perf_counter()
            if source.sampler is not None:
                source.sampler.load(learner)
            current = adjustments.turned(method)
            try:
                groups = current.annotate(next(groups_of), learner)
            except TooManyErrors:
                save()  # a pause: once the reward works again, the run resumes from here
                raise
            collected = time.perf_counter()
            learner.learning_rate = current.learning_rate * schedule.rate(learner.step - begun, steps)
            metrics = learn(current, groups, learner)
            position = source.position
            step = learner.step
            ended = time.perf_counter()
            metrics |= {name: float(count) for name, count in source.counts.items()}
            if source.sampled_scores:
                metrics["score"] = fmean(source.sampled_scores)
            metrics["collect_seconds"], metrics["update_seconds"] = collected - started, ended - collected
            try:
                for monitor in monitors:
                    _watch(monitor, step, groups, metrics, ranks)
                if evaluation and evaluation.due(step, last):
                    metrics |= evaluation.measure(method, learner)
                    evaluation.judge(step, metrics)
            except TooManyErrors:  # in an evaluation: the step itself is done
                save()
                raise
            except StopTraining as stopped:
                if stopped.before is None:
                    save()
                    raise
                raise _given_up(learner, checkpoints, stopped) from None
            except RollBack as alarmed:
                metrics["rolled_back_to"] = _roll_back(learner, checkpoints, alarmed, evaluation)
                saved = (
                    0  # and save at once, or an interrupted run would resume from weights that were given up
                )
                save()
            finally:
                if on_step:
                    _tell(on_step, step, metrics, ranks)
            # Asked once: a signal between two questions must not skip the save.
            stop = ranks.any(asked_to_stop())
            if callable(save_steps):
                due = ranks.any(save_steps(step))
            else:
                due = save_steps > 0 and step % save_steps == 0
            if stop or due or best() == step:
                save()
            if stop:
                raise KeyboardInterrupt
        save()
    if evaluation and evaluation.policy.keep_best and best() not in (0, learner.step):
        assert checkpoints is not None
        checkpoints.load_weights(learner, best())


def learn(method: Method, groups: list[Group], learner: Learner) -> dict[str, float]:
    """All optimizer updates that one batch of annotated groups is worth; together they are one step.

    `method.updates` yields the groups of each of them, and is sent the metrics of the one before. An update in which no
    token would be trained is skipped, and counted.

    Returns:
        the means of the updates' metrics, but `mismatch` of the first (later ones measure the updates themselves, not
        the sampler), and `updates` and `empty_updates`, which are counts.
    """
    step, results, empty = learner.step, list[dict[str, float]](), 0
    plan = method.updates(groups)
    part = next(plan, None)
    while part is not None:
        if Totals.of(part).tokens:
            results.append(learner.update(part, method.loss, method.counts(part)))
        else:
            empty += 1
        try:
            part = plan.send(results[-1] if results else {})
        except StopIteration:
            part = None
    learner.step = step + 1
    names = dict.fromkeys(name for result in results for name in result)
    metrics = {name: fmean(r[name] for r in results) for name in names}
    metrics |= {"updates": float(len(results)), "empty_updates": float(empty)}
    if "mismatch" in metrics:
        metrics["mismatch"] = results[0]["mismatch"]
    return metrics


def _watch(
    monitor: Monitor, step: int, groups: list[Group], metrics: dict[str, float], ranks: Processes
) -> None:
    """Ask a monitor on every rank; if it stops the run or rolls it back on one, it does so on all."""
    said: tuple[str, str, int | None] | None = None
    try:
        monitor(step, groups, metrics)
    except StopTraining as stop:
        if ranks.alone:
            raise
        said = ("stop", str(stop), stop.before)
    except RollBack as alarmed:
        if ranks.alone:
            raise
        said = ("roll back", str(alarmed), alarmed.before)
    if found := [x for x in ranks.gather(said) if x is not None]:
        kind, reason, before = next((x for x in found if x[0] == "stop"), found[0])
        raise RollBack(reason, before) if kind == "roll back" else StopTraining(reason, before)


def _given_up(learner: Learner, checkpoints: Checkpoints | None, stopped: StopTraining) -> StopTraining:
    """The stop of a run that has blown up, with the newest checkpoint from before that back in the learner."""
    assert stopped.before is not None
    state = checkpoints.peek(learner, before=stopped.before) if checkpoints else None
    good = 0 if state is None else int(state["step"])
    if checkpoints:
        learner.processes.first(lambda: checkpoints.discard(after=good))
    if checkpoints is None or state is None:
        kept = "There is no checkpoint from before that: nothing is kept"
    else:
        checkpoints.load(learner, state)
        kept = f"The checkpoint of step {good} is from before that; it is kept, and no later one"
    told = StopTraining(f"{stopped}. {kept}", stopped.before)
    told.good = good or None
    return told


def _roll_back(
    learner: Learner, checkpoints: Checkpoints | None, alarmed: RollBack, evaluation: Evaluation | None
) -> float:
    """Put the newest checkpoint from before the trouble into the learner, which keeps counting; returns its step."""
    step = learner.step
    state = checkpoints.peek(learner, before=alarmed.before) if checkpoints else None
    if checkpoints is None or state is None:
        raise StopTraining(
            f"{alarmed}; there is no checkpoint from before step {alarmed.before} to return to"
        )
    checkpoints.load(learner, state)
    learner.processes.first(lambda: checkpoints.discard(after=state["step"]))
    if evaluation:  # a best step among those that were given up is none
        recall(evaluation.memory, state.get("evaluation", {}))
    learner.step = step
    warnings.warn(f"{alarmed}; went back to the weights of step {state['step']}", stacklevel=2)
    return float(state["step"])


def _tell(
    on_step: Callable[[int, dict[str, float]], None], step: int, metrics: dict[str, float], ranks: Processes
) -> None:
    try:
        ranks.first(lambda: on_step(step, metrics))
    except RunFolderError:  # another run writes into this folder
        raise
    except Exception as error:
        warnings.warn(
            f"on_step failed at step {step} ({type(error).__name__}: {error}); training continues",
            stacklevel=3,
        )
