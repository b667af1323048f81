"""The alarms that every run has, through TRL's trainers: a run that goes wrong is told or ended, a sane one is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig

from random_groups import make_learner
from tieout import trl
from tieout.errors import StopTraining
from tieout.learner.checkpoint import save_adapter
from tieout.rewards.library.reward_model import reward_model

BASE = "tieout-base"
LORA = LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear")


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


PAIRS = [
    {
        "prompt": said("user", f"Add {i} and {i * i}."),
        "chosen": said("assistant", f"It is {i + i * i}."),
        "rejected": said("assistant", f"{i}{i}?" * (1 + i % 3)),
    }
    for i in range(40)
]
LABELS = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row in PAIRS
    for side in ("chosen", "rejected")
]
PROMPTS = Dataset.from_list([{"prompt": row["prompt"]} for row in PAIRS])


def full_stops(completions: list[Any], **_: Any) -> list[float]:
    texts = [completion[-1]["content"] for completion in completions]
    return [text.count(".") / max(1, len(text)) for text in texts]


def options(rate: float, steps: int, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": "out", "use_cpu": True, "per_device_train_batch_size": 8, "max_steps": steps, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "learning_rate": rate, "lr_scheduler_type": "constant", **more,
    }  # fmt: skip


def dpo(rate: float, folder: Path) -> Any:
    return trl.DPOTrainer(BASE, args=trl.DPOConfig(**options(rate, 12)), train_dataset=Dataset.from_list(PAIRS),
                          peft_config=LORA)  # fmt: skip


def kto(rate: float, folder: Path) -> Any:
    return trl.KTOTrainer(BASE, args=trl.KTOConfig(**options(rate, 12)), train_dataset=Dataset.from_list(LABELS),
                          peft_config=LORA)  # fmt: skip


def grpo(rate: float, folder: Path) -> Any:
    args = trl.GRPOConfig(**options(rate, 8, num_generations=4, max_completion_length=16))
    return trl.GRPOTrainer(BASE, full_stops, args, PROMPTS, peft_config=LORA)


def rloo(rate: float, folder: Path) -> Any:
    args = trl.RLOOConfig(**options(rate, 8, num_generations=4, max_completion_length=16, beta=0.0))
    return trl.RLOOTrainer(BASE, full_stops, args=args, train_dataset=PROMPTS, peft_config=LORA)


def ppo(rate: float, folder: Path) -> Any:
    """Against a reward model that knows nothing: whatever it pays for is learned."""
    save_adapter(make_learner(Path(BASE), head="score"), folder / "reward")
    args = trl.PPOConfig(
        **options(rate, 8, response_length=16, kl_coef=0.0, target_kl=0.0), sft_model_path=BASE
    )
    scores = reward_model(folder / "reward", override="a test")
    return trl.PPOTrainer(args=args, reward_model=scores, train_dataset=PROMPTS, peft_config=LORA)


def told(make: Callable[[float, Path], Any], rate: float, folder: Path) -> list[str]:
    """The alarms of a run, those that end it among them."""
    trainer, ended = make(rate, folder), []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            trainer.train()
        except StopTraining as stopped:
            ended = [str(stopped)]
    return [str(w.message) for w in seen if str(w.message).startswith("alarm at step")] + ended


@pytest.mark.parametrize(
    ("make", "sane", "wild"),
    [
        (dpo, 1e-4, 5e-2),
        (grpo, 1e-4, 3e-2),
        pytest.param(kto, None, 5e-2, marks=pytest.mark.slow),
        pytest.param(rloo, None, 3e-2, marks=pytest.mark.slow),
        pytest.param(ppo, 1e-4, 3e-1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_goes_wrong_is_told_and_a_sane_one_is_left_alone(
    make: Callable[[float, Path], Any],
    sane: float | None,
    wild: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIEOUT_UNCHECKED", "a test")
    if sane:  # one of the trainers on pairs, and one of those that sample
        assert told(make, sane, tmp_path) == []
    heard = " ".join(told(make, wild, tmp_path))
    signs = ("blown up", "repetition is", "empty is", "no_signal is 1", "entropy went", "cut_off is 1")
    assert any(sign in heard for sign in signs), heard
