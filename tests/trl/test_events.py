"""When a trainer logs, evaluates and saves, and what it keeps: as its configuration says, and as transformers does."""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from tieout import trl
from tieout.types import Group

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = Dataset.from_list([{"prompt": f"say {w} ", "completion": w} for w in ("cash", "debt", "bond", "fees")])


@pytest.fixture
def trained(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """Six steps, three epochs."""

    def train(callbacks: Sequence[TrainerCallback] = (), **options: Any) -> Any:
        args = trl.SFTConfig(
            str(tmp_path), per_device_train_batch_size=2, use_cpu=True, report_to=[], disable_tqdm=True,
            **{"num_train_epochs": 3, "save_strategy": "no", "logging_strategy": "no", **options},
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            str(tiny_model("llama")), args, ROWS, ROWS, peft_config=LoraConfig(r=2), callbacks=[*callbacks]
        )
        trainer.train()
        return trainer

    return train


WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"say {w}"}],
        "chosen": [{"role": "assistant", "content": w}],
        "rejected": [{"role": "assistant", "content": f"{w[::-1]}x"}],
    }
    for w in WORDS
]
DEMONSTRATIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
LABELS = [
    {"prompt": row["prompt"], "completion": row["chosen" if i % 3 else "rejected"], "label": bool(i % 3)}
    for i, row in enumerate(PAIRS)
]
PROMPTS = [{"prompt": f"say {w} "} for w in WORDS]


def vowels(completions: Sequence[str], **_: Any) -> list[float]:
    return [sum(c in "aeiou" for c in text) / (len(text) + 1) for text in completions]


def odd(completions: Sequence[str], **_: Any) -> list[float | None]:
    return [float(len(text)) if i % 2 else None for i, text in enumerate(completions)]


def made(
    library: Any, kind: str, rows: list[Any], folder: Path, out: Path, *given: Any, **options: Any
) -> Any:
    """A trainer of ours or of TRL, as a user writes it, with an adapter that says something."""
    if library is not trl and kind in ("ORPO", "CPO"):
        library = importlib.import_module(f"trl.experimental.{kind.lower()}")
    args = getattr(library, f"{kind}Config")(
        output_dir=str(out), use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        **{"per_device_train_batch_size": 8, "max_steps": 1, "logging_steps": 1, "save_strategy": "no", **options},
    )  # fmt: skip
    of_scores = kind == "Reward" and library is not trl
    kind_of_model = AutoModelForSequenceClassification if of_scores else AutoModelForCausalLM
    trainer = getattr(library, f"{kind}Trainer")(
        kind_of_model.from_pretrained(folder, dtype=torch.float32, **({"num_labels": 1} if of_scores else {})),
        *given, args=args, train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"],
                               task_type="SEQ_CLS" if of_scores else "CAUSAL_LM"),
    )  # fmt: skip
    weights = {n: p for n, p in trainer.model.named_parameters() if "lora" in n and p.requires_grad}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in sorted(weights):
            weights[name].copy_(torch.randn(weights[name].shape, generator=generator) * 0.05)
    return trainer


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
    assert len(again.events.losses) == 4
    again = trl.SFTTrainer(trainer._model.name, trainer.args, ROWS, peft_config=LoraConfig(r=2))
    with pytest.raises(ValueError, match="no such checkpoint; found: step-000002, step-000004, step-000006"):
        again.train(resume_from_checkpoint=str(folder / "checkpoint-3"))


def test_a_checkpoint_of_an_epoch_or_of_a_callback_can_be_gone_on_from(trained: Callable[..., Any]) -> None:
    class Asks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = state.global_step in (1, 5)

    for options, steps in (({"save_strategy": "epoch"}, [2, 4, 6]), ({"callbacks": [Asks()]}, [1, 5])):
        trainer = trained(**{"save_strategy": "steps", "save_steps": 100, **options})
        folder = Path(trainer.args.output_dir)
        kept = sorted((folder / "checkpoints").glob("step-*"))
        assert [int(p.name.removeprefix("step-")) for p in kept] == sorted({*steps, 6})
        again = trl.SFTTrainer(trainer._model.name, trainer.args, ROWS, peft_config=LoraConfig(r=2))
        again.train(resume_from_checkpoint=str(folder / f"checkpoint-{steps[0]}"))
        assert len(again.events.losses) == 6 - steps[0]


def test_a_resumed_run_remembers_the_best_and_what_it_saw(trained: Callable[..., Any]) -> None:
    best = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "best",
        "metric_for_best_model": "loss",
    }
    options = {
        **best,
        "greater_is_better": True,
        "learning_rate": 1e-2,
        "logging_strategy": "steps",
        "logging_steps": 1,
    }
    first = trained(**options)  # the loss falls: the first evaluation stays the best
    assert first.state.best_global_step == 1
    args = copy.copy(first.args)
    args.max_steps = 8
    again = trl.SFTTrainer(first._model.name, args, ROWS, ROWS, peft_config=LoraConfig(r=2))
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    assert (again.state.best_global_step, again.state.best_metric) == (1, first.state.best_metric)
    assert Path(str(again.state.best_model_checkpoint)).exists()
    assert again.state.num_input_tokens_seen == pytest.approx(
        first.state.num_input_tokens_seen * 8 / 6, rel=0.2
    )


def test_the_best_checkpoint_is_the_one_that_is_saved(trained: Callable[..., Any], tmp_path: Path) -> None:
    best = {"eval_strategy": "epoch", "save_strategy": "best", "learning_rate": 1e-2}
    first = trained(**best, metric_for_best_model="loss", greater_is_better=True)  # the loss falls
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert Path(first.state.best_model_checkpoint).is_dir()
    with pytest.raises(ValueError, match="save_strategy='best' needs metric_for_best_model"):
        trained(**best)
    last = trained(**best, metric_for_best_model="eval_loss", save_total_limit=1)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert not last.events.judge({"eval_loss": math.nan})
    last.state.best_metric = None
    assert not last.events.judge({"eval_loss": math.nan}), "or nothing would be better than it ever after"


def test_the_margin_of_an_evaluation_may_decide(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    trainer = made(
        trl, "DPO", PAIRS, tiny_model("llama"), tmp_path, max_steps=3, learning_rate=1e-2, eval_strategy="steps",
        eval_steps=1, save_strategy="best", metric_for_best_model="eval_rewards/margins", load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train()
    entries = [e for e in trainer.state.log_history if "eval_loss" in e]
    margins = [e["eval_rewards/margins"] for e in entries]
    assert margins == [e["eval_rewards/chosen"] - e["eval_rewards/rejected"] for e in entries]
    assert trainer.state.best_metric == max(margins) > 0
    assert trainer.evaluate()["eval_rewards/margins"] == pytest.approx(max(margins), abs=1e-5)


LOGITS = {"logits/chosen", "logits/rejected"}
ACCURACY = {"mean_token_accuracy"}
CLIPS = {f"clip_ratio/{name}" for name in ("low_mean", "low_min", "high_mean", "high_max")}
# Rows, what docs/trl.md says is not measured, what is measured otherwise, what the trainer takes beside.
NAMED: dict[str, tuple[list[Any], set[str], set[str], dict[str, Any]]] = {
    "SFT": (DEMONSTRATIONS, ACCURACY, set(), {}),
    "Reward": (PAIRS, {"min_reward", "max_reward"}, {"margin", "mean_reward", "accuracy", "loss", "grad_norm"}, {}),
    "DPO": (PAIRS, LOGITS | ACCURACY, set(), {}),
    "KTO": (LABELS, LOGITS, set(), {"loss_type": "apo_zero_unpaired"}),
    "ORPO": (PAIRS, LOGITS, {"nll_loss", "loss", "grad_norm"}, {}),
    "CPO": (PAIRS, LOGITS, set(), {}),
}  # fmt: skip
CLOCK = {"runtime", "samples_per_second", "steps_per_second"}
PREPARED = {"model_preparation_time"}


def compared(ours: dict[str, Any], theirs: dict[str, Any], missing: set[str], otherwise: set[str]) -> None:
    """TRL's names are all there, and their numbers are TRL's."""
    assert theirs.keys() - ours.keys() <= missing
    same = sorted((theirs.keys() & ours.keys()) - otherwise)
    assert [ours[n] for n in same] == pytest.approx([theirs[n] for n in same], rel=1e-3, abs=1e-4), same


@pytest.mark.parametrize("kind", NAMED)
def test_names_and_numbers_are_those_of_trl(
    kind: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    peer, (rows, missing, otherwise, options) = pytest.importorskip("trl"), NAMED[kind]
    evaluations, logs = [], []
    for library in (trl, peer):
        trainer = made(library, kind, rows, tiny_model("llama"), tmp_path, **options)
        evaluations.append({n.removeprefix("eval_"): x for n, x in trainer.evaluate().items()})
        trainer.train()
        logs.append(next(e for e in trainer.state.log_history if "loss" in e))
        assert trainer.state.log_history[-1].keys() >= {f"train_{name}" for name in CLOCK}
    compared(logs[0], logs[1], missing, otherwise)
    compared(evaluations[0], evaluations[1], missing | PREPARED | {"entropy"}, otherwise | CLOCK)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_names_of_rollouts_are_those_of_trl(
    kind: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {"num_generations": 4, "num_generations_eval": 4, "max_completion_length": 8, "beta": 0.04}
    evaluations, logs = [], []
    for library in (trl, pytest.importorskip("trl")):
        trainer = made(library, kind, PROMPTS, tiny_model("llama"), tmp_path, [vowels, odd], **options)
        trainer.train()
        logs.append(next(e for e in trainer.state.log_history if "loss" in e).keys())
        evaluations.append(trainer.evaluate().keys())
    assert logs[1] - logs[0] <= CLIPS
    of_a_loss = {"loss", "kl", "clip_ratio/region_mean"} | CLIPS
    assert evaluations[1] - evaluations[0] <= {f"eval_{name}" for name in of_a_loss}


def test_rollouts_are_counted_as_trl_counts_them(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logged(given: Any, out: Path) -> tuple[list[dict[str, Any]], list[Sequence[Group]]]:
        trainer = made(
            trl, "GRPO", PROMPTS, tiny_model("llama"), out, given,
            num_generations=4, max_completion_length=12, max_steps=2, mask_truncated_completions=True,
        )  # fmt: skip
        seen: list[Sequence[Group]] = []
        monkeypatch.setattr(trainer.events, "record", lambda step, groups: seen.append(groups))
        trainer.train()
        return [e for e in trainer.state.log_history if "reward" in e], seen

    entries, seen = logged([vowels, odd], tmp_path / "two")
    tokens = 0
    for entry, groups in zip(entries, seen, strict=True):
        completions = [c for g in groups for c in g.completions]
        lengths = [len(c.tokens) for c in completions]
        ended = [len(c.tokens) for c in completions if c.finish_reason == "stop"] or [0]
        tokens += sum(lengths) + sum(4 * len(g.prompt) for g in groups)
        assert entry["num_tokens"] == tokens
        assert entry["completions/min_length"] == min(lengths)
        assert entry["completions/max_length"] == max(lengths)
        assert entry["completions/mean_terminated_length"] == fmean(ended)
        assert entry["completions/max_terminated_length"] == max(ended)
        assert entry["reward_std"] == pytest.approx(stdev(s for g in groups for s in g.scores or []))
        said = [s for g in groups for s in g.columns["reward/odd"] if s is not None]
        assert len(said) == 4
        assert entry["rewards/odd/mean"] == fmean(said)
        assert entry["rewards/odd/std"] == pytest.approx(stdev(said))
        assert entry["step_time"] > entry["update_seconds"]
    (entry, _), _ = logged(vowels, tmp_path / "one")
    assert (entry["rewards/vowels/mean"], entry["rewards/vowels/std"]) == (
        entry["reward"],
        entry["reward_std"],
    )


def test_a_step_in_which_all_is_cut_off_has_no_loss_and_ends_no_run(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    trainer = made(
        trl, "GRPO", PROMPTS, tiny_model("llama"), tmp_path, vowels,
        num_generations=4, max_completion_length=1, mask_truncated_completions=True,
    )  # fmt: skip
    result = trainer.train()
    entry = trainer.state.log_history[0]
    assert (entry["completions/clipped_ratio"], entry["empty_updates"], "loss" in entry) == (1.0, 1.0, False)
    assert result.metrics["train_runtime"] * result.metrics["train_steps_per_second"] == pytest.approx(1)


def test_a_class_that_a_step_lacks_is_not_counted_as_0(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = sorted(LABELS * 2, key=lambda row: bool(row["label"]))
    rows = rows[:6] + rows[-6:]

    def logged(every: int) -> list[dict[str, Any]]:
        trainer = made(
            trl, "KTO", rows, tiny_model("llama"), tmp_path,
            per_device_train_batch_size=6, max_steps=2, logging_steps=every, learning_rate=1e-3,
        )  # fmt: skip
        trainer.train()
        return [e for e in trainer.state.log_history if "loss" in e]

    bad, good = logged(1)
    assert "rewards/chosen" not in bad
    assert "rewards/rejected" not in good
    assert "rewards/margins" not in {*bad, *good}
    (both,) = logged(2)
    assert both["rewards/chosen"] == pytest.approx(good["rewards/chosen"]) != 0
    assert both["rewards/rejected"] == pytest.approx(bad["rewards/rejected"]) != 0


def test_tokens_are_counted_up_and_speeds_follow_from_the_time(trained: Callable[..., Any]) -> None:
    trainer = trained(logging_strategy="steps", logging_steps=4, eval_strategy="epoch")
    a_pass = sum(len(row["prompt"]) + len(row["completion"]) + 1 for row in ROWS)
    assert [e["num_tokens"] for e in trainer.state.log_history if "loss" in e] == [2 * a_pass, 3 * a_pass]
    evaluation = trainer.evaluate()
    summary = next(e for e in trainer.state.log_history if "train_loss" in e)
    assert evaluation["eval_num_tokens"] == 3 * a_pass
    counts = [
        (summary["train_runtime"], summary["train_steps_per_second"], 6),
        (summary["train_runtime"], summary["train_samples_per_second"], 12),
        (evaluation["eval_runtime"], evaluation["eval_samples_per_second"], 4),
        (evaluation["eval_runtime"], evaluation["eval_steps_per_second"], 1),
    ]
    assert all(seconds * rate == pytest.approx(count) for seconds, rate, count in counts)
    unsized = trainer.events.speed("eval", 0.0, itertools.chain())
    assert list(unsized) == ["eval_runtime"]
