"""Trained reward models in TRL's trainers: what failed or writes text is refused, drift is logged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from random_groups import make_learner
from tieout import trl
from tieout.errors import InputError
from tieout.learner.checkpoint import save_adapter
from tieout.rewards.library.reward_model import reward_model
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import write_jsonl

ModelFolder = Callable[[str], Path]
PROMPTS = Dataset.from_dict({"prompt": ["say a", "say b", "say c", "say d"]})
LORA = LoraConfig(r=2, task_type="CAUSAL_LM")


@pytest.fixture
def folder(tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reward model that training has measured: it failed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "reward" / "adapter"
    save_adapter(make_learner(tiny_model("llama"), head="score"), path)
    write_json(path.parent / "calibration.json", {"verdict": "fail", "reasons": ["agreement 0.6"]})
    write_jsonl(path.parent / "rows.jsonl", [{"chosen_score": -99.0, "rejected_score": 99.0}] * 20)
    return path


def options(**more: Any) -> dict[str, Any]:
    return {
        "output_dir": "out", "use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 1, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, **more,
    }  # fmt: skip


def grpo(model: Any, reward: Any) -> trl.GRPOTrainer:
    args = trl.GRPOConfig(**options(num_generations=2, max_completion_length=4))
    return trl.GRPOTrainer(str(model), reward, args, PROMPTS, peft_config=LORA)


def ppo(model: Any, reward: Any) -> trl.PPOTrainer:
    args = trl.PPOConfig(**options(response_length=4), sft_model_path=str(model))
    return trl.PPOTrainer(args=args, reward_model=reward, train_dataset=PROMPTS, peft_config=LORA)


@pytest.mark.parametrize("make", [grpo, ppo])
def test_one_that_failed_is_refused_unless_it_comes_with_a_reason(
    tiny_model: ModelFolder, folder: Path, make: Callable[..., Any]
) -> None:
    with pytest.raises(
        InputError, match=r"verdict is fail: agreement 0\.6 .*reward_model\(folder, override="
    ):
        make(tiny_model("llama"), str(folder))
    with pytest.raises(InputError, match="verdict is fail"):
        make(tiny_model("llama"), reward_model(folder))
    with pytest.warns(UserWarning, match="trained against anyway: a smoke test"):
        trainer = make(tiny_model("llama"), reward_model(folder, override="a smoke test"))
    trainer.train()
    assert any(entry.get("reward_drift") == 0.0 for entry in trainer.state.log_history)


def test_drift_is_warned_of(tiny_model: ModelFolder, folder: Path) -> None:
    write_json(folder.parent / "calibration.json", {"verdict": "pass", "reasons": []})
    write_jsonl(folder.parent / "rows.jsonl", [{"chosen_score": 99.0, "rejected_score": 98.0}] * 20)
    args = trl.GRPOConfig(**options(num_generations=2, max_completion_length=4, max_steps=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a verdict of pass nothing is said
        trainer = trl.GRPOTrainer(str(tiny_model("llama")), str(folder), args, PROMPTS, peft_config=LORA)
    with pytest.warns(UserWarning, match=r"step 3: reward_drift is 1, above 0\.2 for 3 steps"):
        trainer.train()


@pytest.mark.parametrize("make", [grpo, ppo])
def test_a_causal_model_is_refused_in_words(tiny_model: ModelFolder, make: Callable[..., Any]) -> None:
    base = tiny_model("llama")
    for reward in (str(base), AutoModelForCausalLM.from_pretrained(base)):
        with pytest.raises(InputError, match=r"is a causal language model .*it writes text"):
            make(base, reward)
    with pytest.warns(UserWarning, match="was never measured"):
        make(base, AutoModelForSequenceClassification.from_pretrained(base, num_labels=1))
