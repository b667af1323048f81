"""When a trainer logs, evaluates and saves, and what it keeps: as its configuration says, and as transformers does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig

from tieout import trl

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = Dataset.from_list([{"prompt": f"say {w} ", "completion": w} for w in ("cash", "debt", "bond", "fees")])


@pytest.fixture
def trained(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """Six steps, three epochs."""

    def train(**options: Any) -> Any:
        args = trl.SFTConfig(
            str(tmp_path), per_device_train_batch_size=2, use_cpu=True, report_to=[], disable_tqdm=True,
            **{"num_train_epochs": 3, "save_strategy": "no", "logging_strategy": "no", **options},
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            str(tiny_model("llama")), args, ROWS, ROWS, peft_config=LoraConfig(r=2), callbacks=[]
        )
        trainer.train()
        return trainer

    return train


def steps(trainer: Any, key: str) -> list[int]:
    return [entry["step"] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize(
    ("options", "logged", "evaluated", "saved"),
    [
        ({"logging_strategy": "steps", "logging_steps": 4, "logging_first_step": True}, [1, 4, 6], [], []),
        ({"logging_strategy": "epoch", "save_strategy": "epoch"}, [2, 4, 6], [], [2, 4, 6]),
        ({"eval_strategy": "steps", "eval_steps": 2, "eval_delay": 3}, [6], [4, 6], []),
        ({"eval_strategy": "epoch", "eval_on_start": True}, [6], [0, 2, 4, 6], []),
        ({"save_strategy": "steps", "save_steps": 0.3, "save_total_limit": 2}, [6], [], [4, 6]),
    ],
)
def test_logs_evaluations_and_checkpoints_come_when_asked(
    trained: Callable[..., Any], options: Any, logged: Any, evaluated: Any, saved: Any
) -> None:
    trainer = trained(**options)
    assert steps(trainer, "loss") == logged
    assert steps(trainer, "eval_loss") == evaluated
    found = sorted(int(p.name.split("-")[1]) for p in Path(trainer.args.output_dir).glob("checkpoint-*"))
    assert found == saved


def test_an_evaluation_that_fails_ends_the_run(trained: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="metric_for_best_model is 'f1'; an evaluation gave: eval_loss"):
        trained(
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="f1",
        )


def test_resuming_from_a_step_goes_on_from_that_one(trained: Callable[..., Any]) -> None:
    trainer = trained(save_strategy="steps", save_steps=2)
    folder = Path(trainer.args.output_dir)
    again = trl.SFTTrainer(trainer._model.name, trainer.args, ROWS, peft_config=LoraConfig(r=2))
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert len(again._losses) == 4
    again = trl.SFTTrainer(trainer._model.name, trainer.args, ROWS, peft_config=LoraConfig(r=2))
    with pytest.raises(ValueError, match="no such checkpoint; found: step-000002, step-000004, step-000006"):
        again.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
