"""Code written for TRL runs: every trainer, on models as objects, as PEFT models and by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainingArguments

from tieout import trl

ModelFolder = Callable[[str], Path]
WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")

DEMONSTRATIONS = Dataset.from_list([{"prompt": f"say {w} ", "completion": w} for w in WORDS])
PAIRS = Dataset.from_list(
    [
        {
            "prompt": [{"role": "user", "content": f"say {w}"}],
            "chosen": [{"role": "assistant", "content": w}],
            "rejected": [{"role": "assistant", "content": w[::-1]}],
        }
        for w in WORDS
    ]
)
LABELS = Dataset.from_list(
    [
        {"prompt": f"say {w} ", "completion": w if i % 2 else w[::-1], "label": bool(i % 2)}
        for i, w in enumerate(WORDS)
    ]
)
PROMPTS = Dataset.from_list([{"prompt": f"say {w} ", "answer": w} for w in WORDS])


def vowels(completions: list[str], **_: Any) -> list[float]:
    return [sum(c in "aeiou" for c in text) / (len(text) + 1) for text in completions]


@pytest.fixture
def folder(tiny_model: ModelFolder) -> Path:
    return tiny_model("llama")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(**more: Any) -> dict[str, Any]:
    quick = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
    }
    return {"output_dir": "out", "use_cpu": True, "report_to": "none", "disable_tqdm": True, **quick, **more}


GIVEN: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "SFT": ("SFTTrainer", "SFTConfig", DEMONSTRATIONS, {}),
    "Reward": ("RewardTrainer", "RewardConfig", PAIRS, {}),
    "DPO": ("DPOTrainer", "DPOConfig", PAIRS, {}),
    "KTO": ("KTOTrainer", "KTOConfig", LABELS, {}),
    "ORPO": ("ORPOTrainer", "ORPOConfig", PAIRS, {}),
    "CPO": ("CPOTrainer", "CPOConfig", PAIRS, {}),
    "SimPO": ("CPOTrainer", "CPOConfig", PAIRS, {"loss_type": "simpo", "cpo_alpha": 0.0}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_given_data_is_learned(name: str, folder: Path) -> None:
    trainer_name, config_name, data, more = GIVEN[name]
    trainer = getattr(trl, trainer_name)(
        model=str(folder),
        args=getattr(trl, config_name)(**options(num_train_epochs=4, **more)),
        train_dataset=data,
        eval_dataset=data,
        peft_config=LORA,
    )
    before = trainer.evaluate()["eval_loss"]
    result = trainer.train()
    assert result.global_step == 8
    assert trainer.evaluate()["eval_loss"] < before
    assert isinstance(trainer.model, PeftModel)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logged] == list(range(1, 9))
    assert logged[-1]["epoch"] == 4.0
    assert {"grad_norm", "learning_rate"} <= logged[0].keys()


@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_rewards_are_raised(name: str, folder: Path) -> None:
    config = getattr(trl, f"{name}Config")(
        **options(per_device_train_batch_size=16, max_steps=12, learning_rate=0.05),
        num_generations=4, max_completion_length=8,
    )  # fmt: skip
    trainer = getattr(trl, f"{name}Trainer")(
        model=str(folder), reward_funcs=vowels, args=config, train_dataset=PROMPTS, peft_config=LORA
    )
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(rewards[-4:]) > sum(rewards[:4])
    rows = [json.loads(line) for line in Path("out/groups.jsonl").read_text().splitlines()]
    assert len(rows) == 12 * 4
    assert all(len(row["completions"]) == 4 for row in rows)


def test_the_object_that_was_given_is_the_one_that_is_trained(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trl.SFTTrainer(
        model, args=trl.SFTConfig(**options()), train_dataset=DEMONSTRATIONS,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    trainer.train()
    assert trainer.model is model
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > len(before) // 2, "full fine-tuning, as in TRL, without peft_config"


def test_a_peft_model_goes_on_from_its_adapter_and_keeps_it_as_reference(folder: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LORA)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.05)
    trainer = trl.DPOTrainer(
        model=model, ref_model=None, args=trl.DPOConfig(**options(max_steps=2)), train_dataset=PAIRS,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    trainer.train()
    first = next(e for e in trainer.state.log_history if "loss" in e)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_a_reference_of_its_own_is_used_and_one_of_another_vocabulary_refused(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        reference.lm_head.weight.add_(torch.randn_like(reference.lm_head.weight))
    args = trl.DPOConfig(**options(max_steps=1))
    trainer = trl.DPOTrainer(
        str(folder), reference, args=args, train_dataset=PAIRS, processing_class=tokenizer, peft_config=LORA
    )
    trainer.train()
    assert abs(next(e for e in trainer.state.log_history if "loss" in e)["loss"] - 0.6931) > 1e-3
    reference.resize_token_embeddings(300)
    with pytest.raises(ValueError, match="ref_model has 300 tokens and the model"):
        trl.DPOTrainer(str(folder), reference, args=args, train_dataset=PAIRS, peft_config=LORA)


def test_what_is_saved_loads_elsewhere(folder: Path) -> None:
    trainer = trl.SFTTrainer(
        str(folder), args=trl.SFTConfig(**options(save_steps=2, save_total_limit=1)), train_dataset=DEMONSTRATIONS,
        peft_config=LORA,
    )  # fmt: skip
    trainer.train()
    trainer.save_model("final")
    assert sorted(p.name for p in Path("out").glob("checkpoint-*")) == ["checkpoint-4"]
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    again = PeftModel.from_pretrained(base, "final")
    ids = AutoTokenizer.from_pretrained("final")("say cash ", return_tensors="pt").input_ids
    trainer.model.eval()
    torch.testing.assert_close(again.eval()(ids).logits, trainer.model(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_only_if_asked_and_ends_as_if_unbroken(folder: Path) -> None:
    def make(steps: int, out: str) -> Any:
        args = trl.SFTConfig(
            **options(max_steps=steps, save_steps=1, output_dir=out, lr_scheduler_type="constant")
        )
        return trl.SFTTrainer(str(folder), args=args, train_dataset=DEMONSTRATIONS, peft_config=LORA)

    whole = make(4, "whole")
    whole.train()
    make(2, "parts").train()
    rest = make(4, "parts")
    rest.train(resume_from_checkpoint=True)
    assert rest.state.global_step == 4
    for (name, a), b in zip(whole.model.named_parameters(), rest.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    with pytest.warns(UserWarning, match="held checkpoints of an earlier run"):
        make(2, "parts").train()


class Watcher(TrainerCallback):
    """Counts events, and stops after three steps."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert kwargs["model"] is not None
        self.seen.append("begin")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.seen.append(f"step {state.global_step}")
        control.should_training_stop = state.global_step == 3
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.seen.append("log")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append("end")


def test_callbacks_of_transformers_are_told_and_obeyed(folder: Path) -> None:
    watcher = Watcher()
    trainer = trl.SFTTrainer(
        str(folder), args=trl.SFTConfig(**options()), train_dataset=DEMONSTRATIONS, peft_config=LORA,
        callbacks=[watcher],
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3
    assert watcher.seen == ["begin", "step 1", "log", "step 2", "log", "step 3", "log", "end"]


def test_rewards_see_what_trl_shows_them(folder: Path) -> None:
    seen: list[dict[str, Any]] = []

    def spy(
        prompts: Any, completions: Any, answer: Any, completion_ids: Any, trainer_state: Any, **_: Any
    ) -> list[float]:
        seen.append(
            {
                "prompts": prompts,
                "completions": completions,
                "answer": answer,
                "step": trainer_state.global_step,
            }
        )
        assert len(completion_ids) == len(completions)
        return [float(i) for i in range(len(completions))]

    async def later(completions: Any, **_: Any) -> list[float | None]:
        return [None] * len(completions)

    chats = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": f"say {w}"}], "answer": w} for w in WORDS]
    )
    args = trl.GRPOConfig(
        **options(num_generations=2, max_completion_length=4, max_steps=2, reward_weights=[1.0, 0.5])
    )
    trainer = trl.GRPOTrainer(str(folder), [spy, later], args, chats, peft_config=LORA)
    trainer.train()
    first = seen[0]
    assert first["prompts"][0][0]["role"] == "user"
    assert first["completions"][0][0]["role"] == "assistant"
    assert first["answer"] == [first["answer"][0]] * 2
    assert seen[-1]["step"] == 1


def test_older_code_runs_with_warnings_that_say_the_new_names(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trl.SFTTrainer(
            model=model,
            train_dataset=Dataset.from_list([{"text": f"say {w}: {w}"} for w in WORDS]),
            dataset_text_field="text",
            max_seq_length=32,
            tokenizer=tokenizer,
            packing=False,
            peft_config=LORA,
            args=TrainingArguments(
                output_dir="old", max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[]
            ),
        ).train()
    said = " ".join(str(w.message) for w in caught)
    assert "belong into SFTConfig by now" in said
    assert "max_seq_length (now max_length)" in said
    assert "tokenizer is the older name of processing_class" in said


def test_pre_tokenised_pairs_and_a_formatting_function(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(w: str) -> dict[str, list[int]]:
        chosen, rejected = tokenizer(f"say {w}: {w}"), tokenizer(f"say {w}: no")
        return {
            "input_ids_chosen": chosen["input_ids"], "attention_mask_chosen": chosen["attention_mask"],
            "input_ids_rejected": rejected["input_ids"] + [0, 0],
            "attention_mask_rejected": rejected["attention_mask"] + [0, 0],
        }  # fmt: skip

    rows = Dataset.from_list([encode(w) for w in WORDS])
    trainer = trl.RewardTrainer(
        str(folder),
        args=trl.RewardConfig(**options(num_train_epochs=6)),
        train_dataset=rows,
        peft_config=LORA,
    )
    trainer.train()
    assert trainer.evaluate(rows)["eval_accuracy"] == 1.0
    trl.SFTTrainer(
        str(folder), args=trl.SFTConfig(**options(max_steps=1)), train_dataset=PROMPTS, peft_config=LORA,
        formatting_func=lambda row: f"{row['prompt']}{row['answer']}",
    ).train()  # fmt: skip


def test_ppo_by_steps_raises_the_reward(folder: Path) -> None:
    config = trl.PPOConfig(
        model_name=str(folder), learning_rate=0.03, batch_size=16, mini_batch_size=8, ppo_epochs=2, init_kl_coef=0.01,
        response_length=8, temperature=1.0, use_cpu=True, output_dir="ppo", vf_coef=0.1, report_to=[],
    )  # fmt: skip
    model = trl.AutoModelForCausalLMWithValueHead.from_pretrained(config.model_name, peft_config=LORA)
    tokenizer = AutoTokenizer.from_pretrained(config.model_name)
    ppo_trainer = trl.PPOTrainer(config, model, ref_model=None, tokenizer=tokenizer)
    means = []
    for _ in range(8):
        queries = [torch.tensor(tokenizer(f"say {w} ").input_ids) for w in WORDS * 2]
        responses = ppo_trainer.generate(queries, return_prompt=False, do_sample=True, top_k=0, top_p=1.0)
        scores = [torch.tensor(s) for s in vowels([tokenizer.decode(r) for r in responses])]
        stats = ppo_trainer.step(queries, responses, scores)
        assert "loss" in stats
        means.append(float(torch.stack(scores).mean()))
    assert sum(means[-3:]) > sum(means[:3])
    with pytest.raises(ValueError, match="15 queries, and batch_size is 16"):
        ppo_trainer.step(queries[:15], responses[:15], scores[:15])


def test_dpo_trains_general_rows_by_the_sft_term_alone(folder: Path) -> None:
    alike = [{"prompt": f"keep {w} ", "chosen": w, "rejected": w} for w in WORDS[:4]]
    mixed = Dataset.from_list(
        [{"prompt": f"say {w} ", "chosen": w, "rejected": w[::-1]} for w in WORDS[:4]] + alike
    )
    with pytest.warns(UserWarning, match="in 4 of 8 rows chosen equals rejected"):
        trainer = trl.DPOTrainer(
            str(folder), args=trl.DPOConfig(**options(max_steps=2, per_device_train_batch_size=8)), train_dataset=mixed,
            peft_config=LORA,
        )  # fmt: skip
    trainer.train()
    first, second = (entry for entry in trainer.state.log_history if "anchor_loss" in entry)
    assert first["loss"] == pytest.approx(0.6931 + first["anchor_loss"], abs=1e-3)
    assert second["anchor_loss"] < first["anchor_loss"]


def test_ppo_over_a_dataset_with_a_trained_reward_model(folder: Path) -> None:
    reward = trl.RewardTrainer(
        str(folder), args=trl.RewardConfig(**options()), train_dataset=PAIRS, peft_config=LORA
    )
    reward.train()
    reward.save_model("reward")
    args = trl.PPOConfig(
        **options(max_steps=2, response_length=6, reward_model_path="reward", kl_coef=0.05),
        sft_model_path=str(folder),
    )
    trainer = trl.PPOTrainer(args=args, train_dataset=PROMPTS, peft_config=LORA)
    trainer.train()
    assert trainer.state.global_step == 2
    assert any("reward" in entry for entry in trainer.state.log_history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: trl.SFTTrainer(str(f), train_dataset=None), "train_dataset is None"),
        (
            lambda f: trl.SFTTrainer(str(f), train_dataset=Dataset.from_list([{"x": 1}])),
            "row 0 .*SFT needs prompt",
        ),
        (lambda f: trl.DPOTrainer(str(f), train_dataset=DEMONSTRATIONS), "pairs need chosen and rejected"),
        (lambda f: trl.KTOTrainer(str(f), train_dataset=DEMONSTRATIONS), "KTO needs a column 'label'"),
        (lambda f: trl.GRPOTrainer(str(f), None, train_dataset=PROMPTS), "reward_funcs is missing"),
        (lambda f: trl.SFTTrainer(None, train_dataset=DEMONSTRATIONS), "model is None"),
        (
            lambda f: trl.GRPOTrainer(str(f), vowels, train_dataset=LABELS.remove_columns("prompt")),
            "row 0 has no prompt",
        ),
        (
            lambda f: trl.DPOTrainer(str(f), train_dataset=PAIRS, compute_metrics=print),
            "has no predictions for compute_metrics",
        ),
        (
            lambda f: trl.SFTTrainer(str(f), train_dataset=DEMONSTRATIONS, data_collator=print),
            "data_collator cannot",
        ),
        (
            lambda f: trl.GRPOTrainer(
                str(f), vowels, trl.GRPOConfig(output_dir="o", per_device_train_batch_size=3), PROMPTS
            ),
            "3 completions a step .* not whole groups of num_generations=8",
        ),
        (
            lambda f: trl.DPOTrainer(
                str(f),
                train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "b"}]),
            ),
            "chosen and rejected are equal in every row",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_input_is_refused_before_any_work(
    make: Callable[[Path], Any], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make(folder)
