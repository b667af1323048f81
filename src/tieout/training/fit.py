"""Train one method into one folder: metrics, groups seen, checkpoints, adapter. Repeating it continues."""

from __future__ import annotations

import inspect
import json
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..config.fields import to_plain
from ..errors import InputError
from ..learner import AdapterConfig, Learner, LearnerConfig, Model, load
from ..learner.checkpoint import Checkpoints, save_adapter
from ..learner.parallel.processes import join
from ..methods import Method
from ..rewards import load_reward
from ..rewards.library.reward_model import PreferenceReward, SharedReward
from ..rewards.processes.workers import Workers, start_workers
from ..rewards.scoring.runner import Combined, Limits, check_call
from ..samplers import PolicySampler
from ..samplers.local.sampler import LocalSampler
from ..samplers.staleness import StalenessCheck
from ..samplers.vllm.sampler import VLLMSampler
from ..shipping.reload_check import observe
from ..source import Source
from ..storage.atomic import fingerprint, sha256, write_atomic, write_json
from ..storage.runfolder import RunFolder, Stage
from ..tasks import Task
from ..types import Group, Reward
from .alarms import Adjustments
from .guards import Guards, watch
from .loop import Schedule, num_steps, train
from .monitors import DEFAULT, kl_to_reference, sampled_rows, stop_on_divergence, stop_on_mismatch
from .progress import bar
from .reward_check import check_reward_model

BEHAVIOUR = "behaviour.json"
"""What the policy did on a few prompts while it was in memory: whatever is shipped must do the same."""


@dataclass(frozen=True)
class TrainSpec:
    """What to train; together with the data, this is what a finished stage is known by."""

    method: Method
    model: str
    start: Path | None = None
    """Adapter to start from; it is then the reference too."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    save_steps: int = 20
    device: str | None = None
    vllm: str = ""
    """Addresses of vLLM servers that rollouts are drawn on; empty: in process."""
    reward_workers: int = 2
    """Processes that call the reward of rollouts; 0 calls it in this one, where nothing can stop it."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one group has failed."""
    guards: Guards = field(default_factory=Guards)
    """What is watched while it samples."""


def fit(run: RunFolder, name: str, what: TrainSpec, task: Task, console: Console, data: str = "") -> Path:
    """Train `what` on `task` in stage `name` of the run, unless that is done; return the adapter's folder.

    Args:
        run: the run folder.
        name: of the stage.
        what: method, model and settings.
        task: its `train` rows are trained on.
        console: where progress is shown.
        data: fingerprint of the rows.
    """
    ranks = join()
    stage = run.stage(name)
    inputs = fingerprint({"what": _plain(what), "task": task.name, "data": data})
    adapter = stage.path / "adapter"
    if ranks.first(lambda: stage.is_done(inputs)):
        console.print(f"[bold]{name}[/]  done before ({stage.info().get('steps')} steps)")
        return adapter
    console.print(f"[bold]{name}[/]")
    ranks.first(lambda: stage.begin(inputs))
    learner, source = prepare(what, task)
    gold = load_reward(what.guards.gold) if what.guards.gold and source.sampler is not None else None
    rewards = [r for r in (source.task.reward, gold) if r is not None]
    if source.sampler is not None and source.task.scorer == "reward" and rewards:
        source.workers = under_deadline(rewards, what.reward_workers, what.reward_seconds, console)
        for reward in rewards:
            check_call(reward, source.rows, source.workers, encode=source.chat.encode)
    steps = num_steps(what.method, source)
    monitors = [*DEFAULT, stop_on_divergence()]
    if isinstance(source.sampler, StalenessCheck):
        monitors.append(source.sampler.monitor)
    log, adjustments = _Log(run, stage), Adjustments()

    def say(step: int, reason: str) -> None:
        log.alarm(step, reason)
        console.print(f"  [yellow]alarm[/] at step {step}: {escape(reason)}", highlight=False)

    if source.sampler is not None:
        monitors.append(stop_on_mismatch())
        if learner.model.has_reference:
            monitors.append(kl_to_reference(learner))
        monitors += watch(what.guards, gold, source.workers, adjustments, say)
    with bar(console, name, steps) as shown:

        def on_start(step: int) -> None:
            log.cut(step)
            if step:
                shown.at(step)
                console.print(f"  continued at step {step} of {steps}")

        def on_step(step: int, metrics: dict[str, float]) -> None:
            log.metrics(step, metrics)
            shown.at(step, metrics)

        train(
            what.method,
            source,
            learner,
            steps=steps,
            schedule=what.schedule,
            monitors=[*monitors, log.groups],
            checkpoints=Checkpoints(stage.path / "checkpoints"),
            save_steps=what.save_steps,
            on_step=on_step,
            on_start=on_start,
            adjustments=adjustments,
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
        stage.finish(inputs, steps=steps, **({"lost_log_lines": lost} if lost else {}))

    ranks.first(finish)
    return adapter


def prepare(what: TrainSpec, task: Task) -> tuple[Learner, Source]:
    """Load the model and make the learner and the source; whatever is wrong with them is said here."""
    method, needs = what.method, what.method.needs
    options = {"head": needs.head, "value_adapter": needs.value_adapter}
    model = open_model(
        what.model, what.start, what.adapter, what.seed, what.device, needs.reference, **options
    )
    learner = Learner(model, method.learning_rate, what.learner, needs.temperature)
    if learner.sharded and needs.samples:
        raise InputError(
            f"{type(method).__name__} samples, and a model that is cut over the ranks cannot: leave FSDP out, or train "
            "on given completions"
        )
    sampler = _sampler(what, model) if needs.samples else None
    if needs.reward_model:
        model.add_reward(Path(needs.reward_model))
        task = replace(task, reward=SharedReward(learner), environment=None)
    return learner, Source(task, model.chat, sampler, seed=what.seed)


def _sampler(what: TrainSpec, model: Model) -> PolicySampler:
    """In process, or on vLLM servers, watched: those may go on with old weights."""
    return StalenessCheck(VLLMSampler(what.vllm, model.chat)) if what.vllm else LocalSampler(model)


def under_deadline(rewards: Sequence[Reward], count: int, seconds: float, console: Console) -> Workers | None:
    """Processes that call these rewards; None: this one does. That is said, but of a reward model: it belongs here."""
    workers = None
    if any(isinstance(reward, PreferenceReward) for reward in rewards):
        return None
    try:
        for reward in rewards:
            if workers is None:
                workers = start_workers(reward, count, Limits(seconds))
            elif not isinstance(reward, Combined) and not inspect.iscoroutinefunction(reward):
                workers.load(reward)
    except ValueError as error:
        if workers is not None:
            workers.close()
        console.print(f"  no deadline for rewards: {error}", markup=False, highlight=False)
        return None
    return workers


class _Log:
    """metrics.jsonl: a line per step. groups.jsonl: what was sampled and how it was scored. alarms.jsonl: reasons."""

    NAMES = ("metrics.jsonl", "groups.jsonl", "alarms.jsonl")

    def __init__(self, run: RunFolder, stage: Stage) -> None:
        self.run, self.folder = run, stage.path.relative_to(run.path)
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._append("metrics.jsonl", {"step": step, **metrics})

    def alarm(self, step: int, reason: str) -> None:
        self._append("alarms.jsonl", {"step": step, "reason": reason})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        """A log that cannot be written ends no run: its lines wait, and go before the next ones."""
        self._waiting.append((name, row))
        before = len(self._waiting)
        if self.flush() and before == 1:
            warnings.warn(
                f"{self.run.path / self.folder / name} cannot be written ({self._why}); its lines are kept in memory, "
                "and written once it can be",
                stacklevel=2,
            )

    def flush(self) -> int:
        """Write what waits; how many lines still do."""
        try:
            while self._waiting:
                name, row = self._waiting[0]
                self.run.append_jsonl(str(self.folder / name), row)
                self._waiting.popleft()
        except OSError as error:
            self._why = error
        return len(self._waiting)

    def groups(self, step: int, groups: Sequence[Group], metrics: Any) -> None:
        """A monitor: rollouts are kept in full, rows of given data are in the data."""
        for row in sampled_rows(step, groups):
            self._append("groups.jsonl", row)

    def cut(self, step: int) -> None:
        """Drop what was logged after `step`: it will be done again."""
        for name in self.NAMES:
            path = self.run.path / self.folder / name
            if path.exists():
                # Only "\n" ends a line (splitlines would also break inside a completion); a torn last one is dropped.
                lines = path.read_text(encoding="utf-8").split("\n")[:-1]
                kept = [line + "\n" for line in lines if json.loads(line)["step"] <= step]
                write_atomic(path, "".join(kept).encode())


def adapter_digest(folder: Path | None) -> str | None:
    """What an adapter is known by: its manifest of hashes."""
    if folder is None:
        return None
    manifest = folder / "manifest.json"
    return sha256(manifest if manifest.exists() else folder / "adapter_model.safetensors")


def _plain(what: TrainSpec) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(what)
    for where in ("vllm", "reward_workers", "reward_seconds"):  # where is not what
        del plain[where]
    return {**plain, "method_name": type(what.method).__name__, "start": adapter_digest(what.start)}


def open_model(
    name: str,
    start: Path | None,
    adapter: AdapterConfig | None = None,
    seed: int = 0,
    device: str | None = None,
    keep_reference: bool = False,
    **options: Any,
) -> Model:
    """The base with what a stage left (an adapter, or a whole model); `adapter` None: only to sample from."""
    if start is not None and not (start / "adapter_config.json").exists():
        name, start = str(start), None
    return load(
        name, adapter, start=start, seed=seed, device=device, keep_reference=keep_reference, **options
    )
