"""Train one method into one folder: metrics, groups seen, checkpoints, adapter. Repeating it continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ..atomic import fingerprint, write_atomic, write_json
from ..behaviour import observe
from ..config import to_plain
from ..learner import AdapterConfig, Learner, LearnerConfig, Model, load
from ..learner.checkpoint import Checkpoints, save_adapter
from ..methods import GRPO, Method
from ..monitors import DEFAULT, kl_to_reference, stop_on_divergence, stop_on_mismatch
from ..runfolder import RunFolder, Stage
from ..samplers.local import LocalSampler
from ..source import Source
from ..tasks import Task
from ..train import Schedule, num_steps, train
from ..types import Group
from .progress import bar

BEHAVIOUR = "behaviour.json"
"""What the policy did on a few prompts while it was in memory: whatever is shipped must do the same."""


@dataclass(frozen=True)
class Fit:
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


def fit(run: RunFolder, name: str, what: Fit, task: Task, console: Console, data: str = "") -> Path:
    """Train `what` on `task` in stage `name` of the run, unless that is done; return the adapter's folder.

    Args:
        run: the run folder.
        name: of the stage.
        what: method, model and settings.
        task: its `train` rows are trained on.
        console: where progress is shown.
        data: fingerprint of the rows.
    """
    stage = run.stage(name)
    inputs = fingerprint({"what": _plain(what), "task": task.name, "data": data})
    adapter = stage.path / "adapter"
    if stage.is_done(inputs):
        console.print(f"[bold]{name}[/]  done before ({stage.info().get('steps')} steps)")
        return adapter
    console.print(f"[bold]{name}[/]")
    stage.begin(inputs)
    learner, source = prepare(what, task)
    steps = num_steps(what.method, source)
    monitors = [*DEFAULT, stop_on_divergence()]
    if source.sampler is not None:
        monitors += [stop_on_mismatch(), kl_to_reference(learner)]
    log = _Log(run, stage)
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
        )
    save_adapter(learner, adapter)
    rows = list(task.rows("test"))[:8] or list(task.rows("train"))[:8]
    prompts = [task.prompt(row) for row in rows]
    write_json(
        stage.path / BEHAVIOUR, observe(learner.model, learner.model.chat, prompts, task.max_new_tokens)
    )
    stage.finish(inputs, steps=steps)
    return adapter


def prepare(what: Fit, task: Task) -> tuple[Learner, Source]:
    """Load the model and make the learner and the source; whatever is wrong with them is said here."""
    model = open_model(
        what.model, what.start, what.adapter, what.seed, what.device, _needs_reference(what.method)
    )
    temperature = getattr(what.method, "temperature", 1.0)
    learner = Learner(model, what.method.learning_rate, what.learner, temperature)
    sampler = LocalSampler(model) if isinstance(what.method, GRPO) else None
    return learner, Source(task, model.chat, sampler, seed=what.seed)


class _Log:
    """metrics.jsonl: a line per step. groups.jsonl: what was sampled and how it was scored."""

    def __init__(self, run: RunFolder, stage: Stage) -> None:
        self.run, self.folder = run, stage.path.relative_to(run.path)

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.run.append_jsonl(str(self.folder / "metrics.jsonl"), {"step": step, **metrics})

    def groups(self, step: int, groups: Sequence[Group], metrics: Any) -> None:
        """A monitor: rollouts are kept in full, rows of given data are in the data."""
        for group in groups:
            if group.completions[0].logprobs is None:
                return
            row = {
                "step": step,
                "prompt": group.row.get("prompt"),
                "completions": [c.text for c in group.completions],
                "scores": group.scores,
            }
            self.run.append_jsonl(str(self.folder / "groups.jsonl"), row)

    def cut(self, step: int) -> None:
        """Drop what was logged after `step`: it will be done again."""
        for name in ("metrics.jsonl", "groups.jsonl"):
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
    source = manifest if manifest.exists() else folder / "adapter_model.safetensors"
    return fingerprint(source.read_bytes().hex())


def _plain(what: Fit) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(what)
    return {**plain, "method_name": type(what.method).__name__, "start": adapter_digest(what.start)}


def open_model(
    name: str,
    start: Path | None,
    adapter: AdapterConfig | None = None,
    seed: int = 0,
    device: str | None = None,
    keep_reference: bool = False,
) -> Model:
    """The base with what a stage left (an adapter, or a whole model); `adapter` None: only to sample from."""
    if start is not None and not (start / "adapter_config.json").exists():
        name, start = str(start), None
    return load(name, adapter, start=start, seed=seed, device=device, keep_reference=keep_reference)


def _needs_reference(method: Method) -> bool:
    return getattr(method, "beta", 0.0) != 0.0
