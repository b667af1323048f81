"""One side's trainer on real text: a program that is the same for both but for what it imports as `trl`.

`text_rows.py` starts it twice, as `trl` and as `tieout`, and lets one step at a time run, on one side or the other.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from works import ALPHA, RANK, flat

TASK = "finance_statements"
TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""SmolLM2's own template, without the line break after the last turn: TRL trains that token, and tieout does not."""
PRECISION = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class TextJob:
    """One row of the table."""

    method: str
    model: str
    groups: int
    """Prompts, pairs or demonstrations a step."""
    rounds: int
    """Steps that are timed, after one that is not."""
    goal: float
    """TRL's seconds over ours to reach."""
    group_size: int = 1
    longest: int = 0
    """Tokens at which a rollout is cut off."""
    shown: bool = False
    """Whether prompts hold a solved example: a model that was never trained for the task scores 0 without one."""


WORKS = {
    "text-grpo-base": TextJob("grpo", "tieout-base", 4, 5, 8, 8, 320),
    "text-grpo-smollm2": TextJob("grpo", "smollm2-135m", 1, 2, 6, 8, 128, shown=True),
    "text-dpo-smollm2": TextJob("dpo", "smollm2-135m", 4, 2, 5),
    "text-sft-smollm2": TextJob("sft", "smollm2-135m", 8, 2, 3),
}


class Timer:
    """Seconds spent in parts of the step in progress."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.spent = clock, Counter[str]()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self.clock()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent[name] += self.clock() - started

        return timed


def rows_of(work: TextJob) -> list[dict[str, Any]]:
    """Rows for every step: none is seen twice, so that nothing about one can be remembered."""
    from tieout.tasks import load_task

    task, rng = load_task(TASK, {}), random.Random(0)
    rows = task.rows("train")[: work.groups * (work.rounds + 1)]
    if work.method == "grpo":
        shown = _shown(task.rows("calibration")[0]) if work.shown else []
        return [
            {
                **{k: v for k, v in r.items() if k != "completion"},
                "prompt": [r["prompt"][0], *shown, r["prompt"][1]],
            }
            for r in rows
        ]

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    if work.method == "sft":
        return [{"prompt": row["prompt"], "completion": said(row["completion"])} for row in rows]
    assert task.corrupt is not None
    corrupt = task.corrupt
    return [
        {"prompt": r["prompt"], "chosen": said(r["completion"]), "rejected": said(corrupt(r, rng))}
        for r in rows
    ]


def _shown(row: dict[str, Any]) -> list[dict[str, str]]:
    """A question of another split with its answer, before the one that is asked."""
    return [row["prompt"][1], {"role": "assistant", "content": row["completion"]}]


def scores(completions: Any, **columns: Any) -> list[float]:
    """The task's own reward, of completions that are messages."""
    from tieout.tasks import load_task

    reward = load_task(TASK, {}).reward
    assert reward is not None
    return [float(x or 0) for x in reward([said[0]["content"] for said in completions], **columns)]


def trainer_of(
    trl: Any, work: TextJob, dtype: str, plain: bool, out: Path, timer: Timer, callback: Any
) -> Any:
    """The trainer, with its side's defaults but for what both are given."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer

    from tieout.learner.models.names import resolve

    options: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": [],
        "use_cpu": True,
        "bf16": dtype == "bf16",
        "model_init_kwargs": {"dtype": PRECISION[dtype]},
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 0.0,
        "max_steps": 100,  # `Gate` stops it: what a trainer does at the end of a run is not a step
        "per_device_train_batch_size": work.groups * work.group_size,
        **({"gradient_checkpointing": False} if plain else {}),
    }
    folder = resolve(work.model)[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if work.model == "smollm2-135m":
        tokenizer.chat_template = TURNS
    given: dict[str, Any] = {
        "model": folder,
        "processing_class": tokenizer,
        "train_dataset": Dataset.from_list(rows_of(work)),
        "peft_config": LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        "callbacks": [callback],
    }
    if work.method != "grpo":
        options["train_sampling_strategy"] = "sequential"
        kind, settings = {"dpo": ("DPOTrainer", "DPOConfig"), "sft": ("SFTTrainer", "SFTConfig")}[work.method]
        return getattr(trl, kind)(args=getattr(trl, settings)(**options), **given)
    timed = timer.around("reward", scores)

    def finance(completions: Any, statement: Any, total: Any, components: Any, **_: Any) -> Any:
        return timed(completions, statement=statement, total=total, components=components)

    options |= {
        "num_generations": work.group_size,
        "max_completion_length": work.longest,
        "shuffle_dataset": False,
    }
    return trl.GRPOTrainer(args=trl.GRPOConfig(**options), reward_funcs=finance, **given)


def start_alike(parameters: dict[str, Any]) -> None:
    """The same adapter on both sides, and one that changes nothing yet: the text is the model's own."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in sorted(parameters.items()):
            drawn = 0.02 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.zeros_like(drawn) if "lora_B" in name else drawn)


class Side:
    """A trainer whose steps wait for a word, and what was seen of the first one."""

    def __init__(
        self, side: str, work: TextJob, dtype: str, plain: bool, cpu_time: bool, folder: Path
    ) -> None:
        from transformers import TrainerCallback

        self.work, self.folder, self.side = work, folder, side
        self.timer = Timer(time.process_time if cpu_time else time.perf_counter)
        self.channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not come between
        seen = self

        class Gate(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                seen.wait()

            def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
                seen.keep_gradient(seen.trainer.model)

            def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
                seen.ended()
                control.should_training_stop = state.global_step > seen.work.rounds

        if side == "tieout":
            import tieout.trl as trl
        else:
            import trl  # type: ignore[no-redef]
        self.gradient: Any = None
        self.sampled: dict[str, Any] = {}
        self.trainer = trainer_of(trl, self.work, dtype, plain, folder / side, self.timer, Gate())
        start_alike(self.parameters())
        (self._watch_ours if side == "tieout" else self._watch_theirs)()

    def parameters(self) -> dict[str, Any]:
        return {n: p for n, p in self.trainer.model.named_parameters() if p.requires_grad}

    def keep_gradient(self, model: Any) -> None:
        if self.gradient is None:
            self.gradient = flat({n: p for n, p in model.named_parameters() if p.requires_grad})

    def _watch_theirs(self) -> None:
        trainer, around = self.trainer, self.timer.around
        if self.work.method != "grpo":
            return
        trainer._generate = around("rollouts", trainer._generate)
        score = trainer._generate_and_score_completions

        def kept(inputs: Any) -> Any:
            found = score(inputs)
            mask = found["completion_mask"]
            self.sampled.setdefault("lengths", []).append(mask.sum(1).tolist())
            if "completions" not in self.sampled:
                self.sampled["completions"] = [
                    ids[on.bool()].tolist() for ids, on in zip(found["completion_ids"], mask, strict=True)
                ]
                self.sampled["prompts"] = [
                    ids[on.bool()].tolist()
                    for ids, on in zip(found["prompt_ids"], found["prompt_mask"], strict=True)
                ]
                self.sampled["advantages"] = found["advantages"].tolist()
                if not any(self.sampled["advantages"]):
                    raise RuntimeError("all completions of the first step score the same: nothing to compare")
            return found

        trainer._generate_and_score_completions = kept

    def _watch_ours(self) -> None:
        trainer, learner, around = self.trainer, self.trainer.learner, self.timer.around
        learner.forward.outputs = around("forward", learner.forward.outputs)
        learner.optimizer.apply = around("optimizer", learner.optimizer.apply)
        learner._measure_reference = around("reference", learner._measure_reference)
        update = around("update", learner.update)

        def updated(groups: Any, *args: Any) -> Any:
            metrics = update(groups, *args)
            lengths = [sum(c.mask) for g in groups for c in g.completions]
            self.sampled.setdefault("lengths", []).append(lengths)
            self.sampled.setdefault("fed", []).append(metrics["token_ratio"])
            self.keep_gradient(trainer.model)
            return metrics

        learner.update = updated
        if self.work.method == "grpo":
            trainer.source.sampler.sample = around("rollouts", trainer.source.sampler.sample)

    def say(self, **what: Any) -> None:
        self.channel.write(json.dumps(what) + "\n")
        self.channel.flush()

    def wait(self) -> None:
        """Stand still until it is this side's turn; then the step's clock runs."""
        self.say(ready=True)
        if not sys.stdin.readline():
            raise SystemExit("the other side has ended")
        for parameter in self.trainer.model.parameters():
            parameter.data.sum()  # what the system took away while this side stood still is there again
        self.timer.spent.clear()
        self.started = self.timer.clock()

    def ended(self) -> None:
        seconds = self.timer.clock() - self.started
        parts = dict(self.timer.spent)
        if "update" in parts:
            parts["backward"] = parts.pop("update") - parts["forward"] - parts["optimizer"]
        self.say(seconds=seconds, parts=parts)

    def run(self) -> None:
        """All steps; then what the first one was, for the comparison."""
        import torch

        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.trainer.train()
        first = next(line for line in self.trainer.state.log_history if "loss" in line)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = {"peak": peak, "loaded": loaded, "loss": first["loss"], **self.sampled}
        found["rewards"] = [line["reward"] for line in self.trainer.state.log_history if "reward" in line]
        if self.side == "tieout" and self.work.method == "grpo":
            self.say(ready=True)
            found |= self.repeat(json.loads(Path(sys.stdin.readline().strip()).read_text()))
        torch.save(self.gradient, self.folder / f"{self.side}.gradient.pt")
        (self.folder / f"{self.side}.json").write_text(json.dumps(found))
        self.say(done=True)

    def repeat(self, theirs: dict[str, Any]) -> dict[str, Any]:
        """TRL's first step by our reward, advantages and update, on the tokens that TRL sampled."""
        from tieout.types import Completion, Group

        trainer, learner, k = self.trainer, self.trainer.learner, self.work.group_size
        source, method, groups = trainer.source, trainer.plan.method, []
        for i, row in enumerate(source.rows[: self.work.groups]):
            said = theirs["completions"][i * k : (i + 1) * k]
            texts = [trainer.chat.text(tokens) for tokens in said]
            columns = {name: [row[name]] * k for name in ("statement", "total", "components")}
            messages = [[{"role": "assistant", "content": text}] for text in texts]
            prompt = theirs["prompts"][i * k]
            if prompt != trainer.chat.prompt(row["prompt"]):
                raise RuntimeError(
                    "the two sides render this prompt to other tokens: their times mean nothing"
                )
            rewards = scores(messages, **columns)
            completions = [Completion(t, [True] * len(t), text=x) for t, x in zip(said, texts, strict=True)]
            groups.append(Group(prompt, completions, rewards, row))
        own = learner.logprobs(groups)
        groups = [
            replace(g, completions=[replace(c, logprobs=p) for c, p in zip(g.completions, ps, strict=True)])
            for g, ps in zip(groups, own, strict=True)
        ]
        annotated = method.annotate(groups, learner)
        self.gradient = None
        metrics = learner.update(annotated, method.loss, method.counts(annotated))
        advantages = [float(a) for g in annotated for a in g.columns["advantages"]]
        return {"repeated_loss": metrics["loss"], "advantages": advantages}


if __name__ == "__main__":
    import torch

    side, name, rounds, dtype, plain, clock, threads, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    job = replace(WORKS[name], rounds=int(rounds))
    Side(side, job, dtype, plain == "plain", clock == "cpu", Path(folder)).run()
