"""What watches the reward while a trainer of TRL samples: a primary metric that is not trained on, and audit sheets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig

from tieout import trl
from tieout.errors import InputError
from tieout.rewards.library.judge import Judge
from tieout.samplers.mock import MockSampler

ModelFolder = Callable[[str], Path]
PROMPTS = Dataset.from_dict({"prompt": ["say a", "say b", "say c", "say d"], "answer": ["a", "b", "c", "d"]})


def wordy(completions: list[str], **_: Any) -> list[float]:
    return [min(1.0, len(text) / 50) for text in completions]


def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(a in text) for text, a in zip(completions, answer, strict=True)]


def trained(model: Path, reward: Any, **more: Any) -> trl.GRPOTrainer:
    options: dict[str, Any] = {
        "output_dir": "out", "use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 2, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "num_generations": 2, "max_completion_length": 4,
    }  # fmt: skip
    lora = LoraConfig(r=2, task_type="CAUSAL_LM")
    trainer = trl.GRPOTrainer(
        str(model), reward, trl.GRPOConfig(**options), PROMPTS, peft_config=lora, **more
    )
    trainer.train()
    return trainer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIEOUT_UNCHECKED", "a test")


def test_a_primary_metric_is_gold_and_the_reward_is_calibrated_against_it(tiny_model: ModelFolder) -> None:
    first, *_ = trained(tiny_model("llama"), wordy, primary=right).state.log_history
    assert {"calibration/score", "calibration/primary", "gold"} <= set(first)
    plain, *_ = trained(tiny_model("llama"), wordy).state.log_history
    assert not {"calibration/score", "gold"} & set(plain)
    assert first["loss"] == plain["loss"], "it is measured, and nothing is trained on it"


def test_a_judge_leaves_audit_sheets_and_must_not_be_of_the_policy_s_family(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    def said(conversation: Any) -> str:
        mark = str(conversation[0]["content"]).partition('"mark": "')[2].partition('"')[0]
        return "Fine.\n" + json.dumps({"mark": mark, "score": 4})

    judge = Judge(MockSampler(said), "5: good. 1: bad.", model="gpt-4o")
    trained(tiny_model("llama"), judge)
    (sheet,) = (tmp_path / "out" / "audit").glob("*.jsonl")
    rows = [json.loads(line) for line in sheet.read_text().splitlines()]
    assert sheet.name == "step-000001.jsonl"
    assert {(row["score"], row["reasons"]["judge"], row["agree"]) for row in rows} == {(0.75, "Fine.", "")}
    own = Judge(MockSampler(said), "5: good. 1: bad.", model="Llama-3.1-8B")
    with pytest.raises(InputError, match="are both of the family"):
        trained(tiny_model("llama"), own)
