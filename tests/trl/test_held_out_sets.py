"""Evaluation sets need no more than scoring does, and what is wrong with one is said, by its name, before training."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from tieout import trl

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ("cash", "debt", "bond", "fees")
ROWS = [{"prompt": f"say {w} ", "completion": w} for w in WORDS]
PAIRS = [{"prompt": f"say {w} ", "chosen": w, "rejected": f"{w[::-1]}x"} for w in WORDS]
LABELS = [{**row, "label": i % 2 > 0} for i, row in enumerate(ROWS)]
PROMPTS = [{"prompt": row["prompt"], "answer": row["completion"]} for row in ROWS]
OF = {"SFT": ROWS, "DPO": PAIRS, "KTO": LABELS, "Reward": PAIRS, "ORPO": PAIRS, "CPO": PAIRS, "GRPO": PROMPTS}


def says(completions: Any, answer: Any, weight: float = 1.0) -> list[float]:
    return [weight * (a in c) for c, a in zip(completions, answer, strict=True)]


Make = Callable[..., Any]


@pytest.fixture
def make(tiny_model: Callable[[str], Path], tmp_path: Path) -> Make:
    def make(kind: str, held_out: Any = None, rewards: Any = says, **options: Any) -> Any:
        own = {"num_generations": 2, "max_completion_length": 4} if kind == "GRPO" else {}
        args = getattr(trl, f"{kind}Config")(
            str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True,
            **{"save_strategy": "no", "per_device_train_batch_size": 4, "max_steps": 1, **own, **options},
        )  # fmt: skip
        more = {"reward_funcs": rewards} if kind == "GRPO" else {}
        return getattr(trl, f"{kind}Trainer")(
            str(tiny_model("llama")), args=args, train_dataset=OF[kind], eval_dataset=held_out, **more,
            peft_config=LoraConfig(r=2, target_modules=["q_proj"]),
        )  # fmt: skip

    return make


@pytest.mark.parametrize("kind", OF)
def test_one_row_and_streams_are_evaluated_as_a_list_is(kind: str, make: Make) -> None:
    rows = OF[kind]
    streams = {"stream": iter(rows), "iterable": Dataset.from_list(rows).to_iterable_dataset(), "list": rows}
    trainer = make(kind, {**streams, "one": rows[:1]})
    found = trainer.evaluate()
    measure = "reward" if kind == "GRPO" else "loss"
    assert (
        found[f"eval_stream_{measure}"] == found[f"eval_list_{measure}"] == found[f"eval_iterable_{measure}"]
    )
    assert f"eval_one_{measure}" in found
    assert trainer.evaluate()[f"eval_stream_{measure}"] == found[f"eval_list_{measure}"], "and again"
    assert trainer.evaluate(iter(rows))[f"eval_{measure}"] == found[f"eval_list_{measure}"]


def test_one_row_of_kto_has_the_loss_that_its_share_of_two_says(make: Make) -> None:
    """Without a step the policy is the reference, so that no reference point couples rows."""
    trainer = make("KTO", desirable_weight=3.0)
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.05)
    good, bad = [trainer.evaluate([LABELS[i]])["eval_loss"] for i in (1, 0)]
    rewards = trainer.evaluate([LABELS[1]])["eval_rewards/chosen"]
    assert good == pytest.approx(3 * (1 - torch.tensor(rewards).sigmoid().item()), rel=1e-5)
    assert bad != good


WRONG: dict[str, tuple[str, Any, str]] = {
    "no column": ("SFT", [{"question": "a"}], "row 0 of eval_dataset: SFT needs prompt and completion"),
    "no label": ("KTO", [LABELS[0], ROWS[0]], "row 1: KTO needs a column 'label' .* in eval_dataset"),
    "no pair": ("DPO", [PAIRS[0], ROWS[0]], "row 1 of eval_dataset: pairs need chosen and rejected"),
    "nothing to compare": (
        "DPO",
        [{**PAIRS[0], "rejected": "cash"}],
        "eval_dataset: chosen and rejected are equal",
    ),
    "one of several": ("SFT", {"a": ROWS, "b": [{}]}, "row 0 of eval_dataset 'b': SFT needs"),
    "empty": ("SFT", [], "no row of eval_dataset has anything"),
    "no prompt": ("GRPO", [{"answer": "a"}], "row 0 has no prompt in eval_dataset; it has: answer"),
    "no rows": ("GRPO", iter([]), "eval_dataset has no rows"),
    "no column for a reward": (
        "GRPO",
        [{"prompt": "a"}],
        "eval_dataset: reward 'says' needs column 'answer'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_of_an_evaluation_set_names_it_before_training(what: str, make: Make) -> None:
    kind, held_out, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        make(kind, held_out)
    if not isinstance(held_out, dict):
        trainer = make(kind)
        with pytest.raises(ValueError, match=message):
            trainer.evaluate(iter([]) if what == "no rows" else held_out)


def test_rows_that_are_left_out_are_counted_by_the_name_of_their_set(make: Make) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make("Reward", [*PAIRS, {**PAIRS[0], "rejected": "cash"}])
    assert any("eval_dataset: 1 of 5 rows are left out" in str(w.message) for w in caught)


def test_a_reward_that_fails_on_an_evaluation_set_names_it_and_saves_the_step(
    make: Make, tmp_path: Path
) -> None:
    def fails(completions: Any, answer: Any) -> list[float]:
        if answer[0] == "held out":
            raise KeyError("lost")
        return [float(len(c)) for c in completions]

    held_out = [{"prompt": f"say {i}", "answer": "held out"} for i in range(20)]
    options = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 9,
    }
    trainer = make("GRPO", {"hard": held_out}, fails, **options)
    with pytest.raises(RuntimeError, match=r"eval_dataset 'hard': the reward .* failed on 20 of 20"):
        trainer.train()
    assert [p.name for p in (tmp_path / "checkpoints").glob("step-*")] == ["step-000001"]


def test_rewards_of_partial_functions_have_their_functions_names(make: Make) -> None:
    half, double = functools.partial(says, weight=0.5), functools.partial(functools.partial(says), weight=2.0)
    trainer = make("GRPO", PROMPTS, [half, double], logging_steps=1)
    assert list(trainer.source.task.reward.parts) == ["says", "says_2"]
    assert {"eval_rewards/says/mean", "eval_rewards/says_2/mean"} <= trainer.evaluate().keys()
    assert make("GRPO", None, half).source.task.reward.__name__ == "says"


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("reduce_lr_on_plateau", {"eval_strategy": "steps"}, "takes its rate from evaluations"),
        ("warmup_stable_decay", {}, "num_decay_steps"),
        ("cosine_warmup_with_min_lr", {}, "min_lr"),
        ("polynomial", {"lr_scheduler_kwargs": {"power_of": 2}}, "power_of"),
    ],
)
def test_a_schedule_that_cannot_be_had_is_refused_by_name_before_training(
    kind: str, options: Any, says: str, make: Make
) -> None:
    with pytest.raises(ValueError, match=f"lr_scheduler_type '{kind}' .*{says}"):
        make("SFT", ROWS, lr_scheduler_type=kind, **options)
