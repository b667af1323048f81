"""What a trainer of `tieout.trl` shows reward functions and refuses to ignore, beside rows and options."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from datasets import Dataset
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tieout import trl
from tieout.chat.template import Chat
from tieout.rewards.scoring.call import Call
from tieout.rewards.scoring.runner import score_groups
from tieout.trl.reward_funcs import RewardContext, rewards
from tieout.types import Completion
from tieout.vetting import before_training

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = Dataset.from_list([{"prompt": f"{i} and"} for i in range(4)])
TEXTS = Dataset.from_list([{"text": f"{i} and {i + 1}"} for i in range(4)])


@pytest.fixture
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def grpo(folder: Path, out: Path, function: Any, **options: Any) -> Any:
    given = {
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "logging_steps": 1,
    }
    given |= options
    args = trl.GRPOConfig(str(out), **given, max_steps=2, use_cpu=True, report_to=[], save_strategy="no")
    return trl.GRPOTrainer(str(folder), function, args, PROMPTS, PROMPTS)


def test_rewards_see_the_tokens_that_were_sampled(folder: Path, tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def length(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.extend(completion_ids)
        return [float(len(ids)) for ids in completion_ids]

    trainer = grpo(folder, tmp_path, length)
    trainer.train()
    assert seen
    first = trainer.state.log_history[0]
    assert first["reward"] == pytest.approx(first["completions/mean_length"])


ANSWERS = Dataset.from_list([{"prompt": f"What is {i} + 2000?", "answer": str(2000 + i)} for i in range(8)])


def mentioned(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(right in text) for text, right in zip(completions, answer, strict=True)]


def alone(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(text.strip() == right) for text, right in zip(completions, answer, strict=True)]


def of_tokens(completions: list[str], completion_ids: list[list[int]]) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


@pytest.mark.parametrize(
    ("function", "reason", "warned"),
    [(mentioned, "", True), (mentioned, "a toy", False), (alone, "", False), (of_tokens, "", False)],
)
def test_a_reward_is_attacked_before_training_and_a_finding_is_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, reason: str, warned: bool
) -> None:
    monkeypatch.setenv("TIEOUT_UNCHECKED", reason)
    monkeypatch.setattr(before_training, "_warned", set())
    given = {
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "max_completion_length": 4,
        "max_steps": 1,
    }
    args = trl.GRPOConfig(str(tmp_path), **given, use_cpu=True, report_to=[], save_strategy="no")
    trainer = trl.GRPOTrainer(str(folder), function, args, ANSWERS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    said = [str(one.message) for one in caught if "pays for what it should not" in str(one.message)]
    assert bool(said) == warned, said
    assert all("'mentioned'" in one and "contradiction" in one for one in said)


def test_a_batch_of_two_prompts_as_in_0_14_samples_eight_completions_of_each(
    folder: Path, tmp_path: Path
) -> None:
    sizes: list[int] = []

    def count(completions: list[str], **_: Any) -> list[float]:
        sizes.append(len(completions))
        return [float(len(text)) for text in completions]

    trainer = grpo(folder, tmp_path, count, per_device_train_batch_size=2, num_generations=8)
    trainer.train()
    assert sizes == [8] * 4, "two steps of two prompts"


def test_what_a_reward_logs_is_in_the_log_of_its_step_and_of_its_evaluation(
    folder: Path, tmp_path: Path
) -> None:
    logged: list[list[float]] = []

    def letters(completions: list[str], log_metric: Any, log_extra: Any, **_: Any) -> list[float]:
        shares = [sum(c.isalpha() for c in text) / max(1, len(text)) for text in completions]
        log_metric("letters", fmean(shares))
        log_metric("reward", 1000.0)  # ours of that name is what was measured
        log_extra("share", shares)
        logged.append(shares)
        return shares

    trainer = grpo(folder, tmp_path, letters, eval_strategy="steps", eval_steps=1)
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "letters" in entry]
    evaluated = [entry for entry in trainer.state.log_history if "eval_letters" in entry]
    assert len(history) == len(evaluated) == 2
    trained, held_out = logged[:2], logged[2:6]  # two prompts a step, and four of the evaluation after it
    assert history[0]["letters"] == pytest.approx(fmean(fmean(shares) for shares in trained))
    assert evaluated[0]["eval_letters"] == pytest.approx(fmean(fmean(shares) for shares in held_out))
    assert history[0]["reward"] == pytest.approx(history[0]["letters"])
    lines = [json.loads(line) for line in (tmp_path / "extra.jsonl").read_text().splitlines()]
    assert [line["values"] for line in lines] == [*logged[:2], *logged[6:8]]
    assert [(line["step"], line["column"]) for line in lines] == [(1, "share")] * 2 + [(2, "share")] * 2


def test_of_equal_texts_each_has_its_own_tokens(tiny_tokenizer: Any) -> None:
    seen: list[list[list[int]]] = []

    def spy(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.append(completion_ids)
        return [0.0] * len(completions)

    reward = rewards(spy, None, None, RewardContext(lambda: None), None)
    ended = Completion([7, 1], [True, True], text="a")
    cut_off = Completion([7], [True], text="a", finish_reason="length")
    call = Call([ended, cut_off], ["p", "p"], {"prompt": "p"}, Chat(tiny_tokenizer).encode)
    for _ in range(2):  # every reward function asks
        score_groups(reward, [call])
        assert seen[-1] == [[7, 1], [7]]
    score_groups(reward, [call.instead("b")])
    assert seen[-1] == [tiny_tokenizer("b", add_special_tokens=False)["input_ids"]]


def test_a_second_call_of_train_is_a_second_run(folder: Path, tmp_path: Path) -> None:
    args = trl.SFTConfig(
        str(tmp_path), max_steps=3, use_cpu=True, report_to=[], logging_steps=1, learning_rate=1e-2
    )
    trainer = trl.SFTTrainer(str(folder), args, TEXTS, peft_config=LoraConfig(r=4))
    losses = []
    for _ in range(2):
        result = trainer.train()
        assert result.global_step == 3
        losses.append(result.training_loss)
    assert losses[1] < losses[0]


def test_a_second_run_keeps_its_own_checkpoints_and_sets_the_first_ones_aside(
    folder: Path, tmp_path: Path
) -> None:
    args = trl.SFTConfig(
        str(tmp_path), max_steps=6, use_cpu=True, report_to=[], save_steps=2, save_total_limit=1
    )
    trainer = trl.SFTTrainer(str(folder), args, TEXTS, peft_config=LoraConfig(r=4))
    trainer.train()
    trainer.state.max_steps = 4
    trainer.train()
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert [p.name for p in (tmp_path / "checkpoints-before-1").glob("checkpoint-*")] == ["checkpoint-6"]


def test_hooks_that_nothing_calls_are_refused() -> None:
    with pytest.raises(TypeError, match="compute_loss, which nothing calls here"):

        class Mine(trl.SFTTrainer):
            def compute_loss(self, model: Any, inputs: Any) -> Any:
                return 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f, args: trl.SFTTrainer(f, args(eval_strategy="steps"), TEXTS), "there is no eval_dataset"),
        (
            lambda f, args: trl.KTOTrainer(f, train_dataset=TEXTS, formatting_func=str),
            "knows no formatting_func",
        ),
        (
            lambda f, args: trl.SFTTrainer(f, args(), TEXTS, preprocess_logits_for_metrics=lambda a, b: a),
            "is for compute_metrics",
        ),
    ],
    ids=["no eval_dataset", "formatting_func", "preprocess"],
)
def test_what_would_be_ignored_or_fail_late_is_refused_at_once(
    make: Callable[..., Any], message: str, folder: Path, tmp_path: Path
) -> None:
    def args(**options: Any) -> Any:
        return trl.SFTConfig(str(tmp_path), use_cpu=True, report_to=[], **options)

    with pytest.raises(ValueError, match=message):
        make(str(folder), args)


def test_adapters_that_cannot_be_trained_say_why(folder: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(folder)
    foreign = get_peft_model(
        base, IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    )
    with pytest.raises(ValueError, match="of a IA3Config; LoRA and DoRA"):
        trl.SFTTrainer(foreign, train_dataset=TEXTS)
    frozen = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, task_type="CAUSAL_LM")
    )
    frozen.requires_grad_(False)
    with pytest.raises(ValueError, match="is_trainable=True"):
        trl.SFTTrainer(frozen, train_dataset=TEXTS)


def test_a_reward_model_may_be_a_classifier_by_name(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    context = RewardContext(lambda: None)
    with pytest.raises(OSError, match="no-such-owner/no-such-model"):
        rewards("no-such-owner/no-such-model", None, None, context, None)
    score = rewards(model, None, None, context, tokenizer)
    assert score(completions=["a"], prompts=["b"]) != score(completions=["zz"], prompts=["b"])
