"""Steps, evaluations and checkpoints come where TRL's trainers have them, and the best model survives interruptions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from tieout import trl

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ("cash", "debt", "bond", "fees", "loan")
ROWS = [{"prompt": f"say {w} ", "completion": w} for w in WORDS]
PAIRS = [{"prompt": f"say {w} ", "chosen": w, "rejected": f"{w[::-1]}x"} for w in WORDS]
LABELS = [{**row, "label": i % 2 > 0} for i, row in enumerate(ROWS)]
OF = {"SFT": ROWS, "DPO": PAIRS, "KTO": LABELS, "Reward": PAIRS, "ORPO": PAIRS, "CPO": PAIRS, "GRPO": ROWS}


def height(completions: Any, **_: Any) -> list[float]:
    return [sum(map(ord, text)) / (100 * len(text) + 1) for text in completions]


def made(library: Any, kind: str, model: Path, out: Path, callbacks: Any = (), **options: Any) -> Any:
    args = getattr(library, f"{kind}Config")(
        str(out), use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False,
        **{"per_device_train_batch_size": 4, "logging_steps": 1, **options},
    )  # fmt: skip
    rows = Dataset.from_list(OF[kind])
    rewards = {"reward_funcs": height} if kind == "GRPO" else {}
    return getattr(library, f"{kind}Trainer")(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), args=args, train_dataset=rows,
        eval_dataset=rows, processing_class=AutoTokenizer.from_pretrained(model), callbacks=[*callbacks], **rewards,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )  # fmt: skip


class StopsAt(TrainerCallback):
    def __init__(self, step: int, error: type[BaseException] | None = None) -> None:
        self.step, self.error = step, error

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True
            if self.error:
                raise self.error


def happened(trainer: Any, out: Path) -> dict[str, Any]:
    trainer.train()
    history, state = trainer.state.log_history, trainer.state
    return {
        "logged": [(e["step"], e["epoch"]) for e in history if "loss" in e],
        "evaluated": [(e["step"], e["epoch"]) for e in history if "eval_runtime" in e],
        "saved": sorted(int(p.name.partition("-")[2]) for p in out.glob("checkpoint-[0-9]*")),
        "ended": (state.global_step, state.max_steps, state.epoch, state.num_train_epochs),
        "samples": next(
            round(e["train_runtime"] * e["train_samples_per_second"], 1) for e in history if "train_loss" in e
        ),
    }


BOTH = {"eval_strategy": "epoch", "save_strategy": "epoch"}
EVENTS: dict[str, dict[str, Any]] = {
    "three passes": {"num_train_epochs": 3, **BOTH},
    "half a pass": {"num_train_epochs": 0.5, **BOTH},
    "one and a half, every step counted": {"num_train_epochs": 1.5, "eval_strategy": "steps", "eval_steps": 2},
    "the last step of steps": {
        "max_steps": 5, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
    },
    "steps that end inside a pass": {"max_steps": 3, **BOTH},
    "the rest dropped": {"num_train_epochs": 2, "dataloader_drop_last": True, **BOTH},
    "accumulated": {
        "num_train_epochs": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **BOTH,
    },
    "accumulated, the rest dropped": {
        "num_train_epochs": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3,
        "dataloader_drop_last": True, **BOTH,
    },
    "delayed": {"num_train_epochs": 3, "eval_delay": 1.5, **BOTH},
    "stopped by a callback": {"num_train_epochs": 3, "stops": 3, **BOTH},
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_events_come_where_trl_has_them(name: str, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    peer, found = pytest.importorskip("trl"), []
    options = {"save_strategy": "no", **EVENTS[name]}
    callbacks = [StopsAt(step)] if (step := options.pop("stops", 0)) else []
    for library, out in ((trl, tmp_path / "ours"), (peer, tmp_path / "theirs")):
        found.append(happened(made(library, "SFT", tiny_model("llama"), out, callbacks, **options), out))
    ours, theirs = found
    if "max_steps" in options or callbacks:
        del ours["samples"], theirs["samples"]  # transformers counts full batches there, or the planned ones
    elif "dataloader_drop_last" in options or options["num_train_epochs"] % 1:
        del ours["samples"], theirs["samples"]  # and all rows of a pass
    for key, value in ours.items():
        assert flat(value) == pytest.approx(flat(theirs[key])), key


def flat(value: Any) -> list[float]:
    parts = value if isinstance(value, list | tuple) else [value]
    return [float(x) for part in parts for x in (part if isinstance(part, tuple) else (part,))]


def test_grpo_takes_as_many_steps_as_trl(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    options = {
        "num_generations": 2, "max_completion_length": 4, "num_train_epochs": 2, "save_strategy": "epoch",
        "learning_rate": 0.0,
    }  # fmt: skip
    found = []
    for library, out in ((trl, tmp_path / "ours"), (pytest.importorskip("trl"), tmp_path / "theirs")):
        trainer = made(library, "GRPO", tiny_model("llama"), out, **options)
        trainer.train()
        saved = sorted(int(p.name.partition("-")[2]) for p in out.glob("checkpoint-[0-9]*"))
        found.append((trainer.state.global_step, trainer.state.max_steps, saved, trainer.state.epoch))
    assert found[0] == found[1] == (4, 4, [2, 4], 2.0)


def test_dropping_the_rest_may_leave_nothing(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="drop_last leaves nothing: 5 rows are fewer than a batch of 8"):
        made(
            trl,
            "SFT",
            tiny_model("llama"),
            tmp_path,
            per_device_train_batch_size=8,
            dataloader_drop_last=True,
        )


# ---------------------------------------------------------------- the best model


BEST = {
    "num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
    "load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True, "learning_rate": 1e-2,
}  # fmt: skip
"""The loss falls, so that by this measure the first evaluation is the best."""
OF_REWARDS = {"num_generations": 2, "max_completion_length": 4, "metric_for_best_model": "reward"}


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer._model.trained().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


@pytest.mark.parametrize("kind", OF)
@pytest.mark.parametrize("how", ["interrupted", "stopped", "save_total_limit", "from a step"])
def test_the_best_model_survives_an_interruption(
    kind: str, how: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    if how != "interrupted" and kind not in ("SFT", "GRPO"):
        pytest.skip("one way of stopping is enough for this trainer")
    options = BEST | (OF_REWARDS if kind == "GRPO" else {})
    if how == "save_total_limit":
        options["save_total_limit"] = 1
    stop = StopsAt(4, KeyboardInterrupt if how == "interrupted" else None)
    first = made(trl, kind, tiny_model("llama"), tmp_path, [stop], **options)
    if how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            first.train()
    else:
        first.train()
    again = made(trl, kind, tiny_model("llama"), tmp_path, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3") if how == "from a step" else True)
    best = again.state.best_global_step
    assert again.state.global_step == 6
    if kind != "GRPO":
        assert best == 1
    exported = load_file(tmp_path / f"checkpoint-{best}" / "adapter_model.safetensors")
    again.save_model(str(tmp_path / "final"))
    final = load_file(tmp_path / "final" / "adapter_model.safetensors")
    assert same(final, exported)
    assert again.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    if best < 6:
        last = load_file(tmp_path / "checkpoint-6" / "adapter_model.safetensors")
        assert not same(final, last)


def test_a_best_step_between_checkpoints_is_kept_too(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {**BEST, "save_steps": 2}
    whole = made(trl, "SFT", tiny_model("llama"), tmp_path / "whole", **options)
    whole.train()
    assert whole.state.best_global_step == 1
    assert whole.state.best_model_checkpoint is None, "nothing is exported there, as in transformers"
    with pytest.raises(KeyboardInterrupt):
        made(
            trl, "SFT", tiny_model("llama"), tmp_path / "cut", [StopsAt(5, KeyboardInterrupt)], **options
        ).train()
    again = made(trl, "SFT", tiny_model("llama"), tmp_path / "cut", **options)
    again.train(resume_from_checkpoint=True)
    assert same(weights(again), weights(whole))


def test_a_best_checkpoint_that_is_gone_is_said_before_any_step(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(trl, "SFT", tiny_model("llama"), tmp_path, [StopsAt(4, KeyboardInterrupt)], **BEST).train()
    (tmp_path / "checkpoints" / "step-000001" / "state.safetensors").write_bytes(b"")
    again = made(trl, "SFT", tiny_model("llama"), tmp_path, **BEST)
    with pytest.raises(OSError, match="best step is damaged or missing"):
        again.train(resume_from_checkpoint=True)
    assert again.events.losses == []
