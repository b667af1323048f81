"""Whole programs, as users wrote them for TRL 0.7 to 1.16, with one line changed: `from tieout.trl import ...`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EarlyStoppingCallback,
    HfArgumentParser,
    TrainerCallback,
    TrainingArguments,
)

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
QUICK: dict[str, Any] = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}


@pytest.fixture
def name(tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model's name; the program runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return str(tiny_model("llama"))


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# ------------------------------------------------------------------------------------------------ SFT


def test_sft_on_a_text_field_with_packing_as_in_0_7(name: str) -> None:
    from tieout.trl import SFTTrainer

    dataset = Dataset.from_dict({"text": [f"### Question: {w}?\n### Answer: {w[::-1]}" for w in WORDS]})
    training_args = TrainingArguments(
        output_dir="./results", num_train_epochs=1, per_device_train_batch_size=4, gradient_accumulation_steps=1,
        optim="adamw_torch", save_steps=25, logging_steps=1, learning_rate=2e-3, weight_decay=0.001, fp16=False,
        bf16=False, max_grad_norm=0.3, max_steps=-1, warmup_steps=0.03, lr_scheduler_type="constant", **QUICK,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    trainer = SFTTrainer(
        model=model, train_dataset=dataset, peft_config=LoraConfig(lora_alpha=16, lora_dropout=0.1, r=8, bias="none",
        task_type="CAUSAL_LM"), dataset_text_field="text", max_seq_length=64, tokenizer=tokenizer, args=training_args,
        packing=True,
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained("new_model")
    trainer.tokenizer.save_pretrained("new_model")
    merged = AutoPeftModelForCausalLM.from_pretrained("new_model").merge_and_unload()
    assert torch.isfinite(merged(torch.tensor([[5, 6, 7]])).logits).all()


def test_sft_on_completions_only_with_a_batched_formatting_function(name: str) -> None:
    from tieout.trl import DataCollatorForCompletionOnlyLM, SFTTrainer

    dataset = Dataset.from_dict({"instruction": WORDS, "output": [w[::-1] for w in WORDS]})
    tokenizer = AutoTokenizer.from_pretrained(name)

    def formatting_prompts_func(example: Any) -> list[str]:
        output_texts = []
        for i in range(len(example["instruction"])):
            output_texts.append(f"### Q: {example['instruction'][i]}\n ### A: {example['output'][i]}")
        return output_texts

    collator = DataCollatorForCompletionOnlyLM(" ### A:", tokenizer=tokenizer)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(name),
        train_dataset=dataset,
        args=TrainingArguments("tmp", max_steps=1, **QUICK),
        formatting_func=formatting_prompts_func,
        data_collator=collator,
    )
    trainer.train()
    first = trainer.source.rows[0]["_tokens"]
    trained = [t for t, m in zip(first["completions"][0], first["masks"][0], strict=True) if m]
    assert tokenizer.decode(trained) == f" {WORDS[0][::-1]}<|end|>"


def test_sft_on_messages_with_peft_evaluated_as_in_1_16(name: str) -> None:
    from tieout.trl import SFTConfig, SFTTrainer

    rows = [
        {"messages": [{"role": "user", "content": f"say {w}"}, {"role": "assistant", "content": w}]}
        for w in WORDS
    ]
    dataset = DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[:3])})

    def preprocess_logits_for_metrics(logits: Any, labels: Any) -> Any:
        return logits.argmax(dim=-1)

    def compute_metrics(eval_preds: Any) -> dict[str, float]:
        preds, labels = eval_preds
        preds, labels = preds[:, :-1], labels[:, 1:]
        mask = labels != -100
        return {"token_accuracy": float(np.mean(preds[mask] == labels[mask])), "tokens": int(mask.sum())}

    trainer = SFTTrainer(
        model=name,
        args=SFTConfig(
            output_dir="out", learning_rate=5e-2, num_train_epochs=3, eval_strategy="epoch", logging_steps=2,
            per_device_train_batch_size=2,
            packing=True, model_init_kwargs={"torch_dtype": "float32"}, gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False}, max_length=128, **QUICK,
        ),
        train_dataset=dataset["train"],
        eval_dataset=dataset["test"],
        peft_config=LoraConfig(r=8, target_modules="all-linear"),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )  # fmt: skip
    trainer.train()
    evaluated = [e for e in trainer.state.log_history if "eval_loss" in e]
    assert len(evaluated) == 3
    assert evaluated[-1]["eval_token_accuracy"] > evaluated[0]["eval_token_accuracy"] >= 0
    assert evaluated[0]["eval_tokens"] == sum(len(trainer.chat.tokenizer.apply_chat_template(
        r["messages"], return_dict=False)) - 1 for r in rows[:3])  # fmt: skip
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    trainer.save_state()
    trainer.save_model(trainer.args.output_dir)
    assert Path("out/eval_results.json").exists()


def test_sft_from_the_command_line(name: str) -> None:
    from tieout.trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

    (training_args,) = HfArgumentParser((SFTConfig,)).parse_args_into_dataclasses(
        ["--output_dir", "out", "--max_steps", "1", "--use_cpu", "True", "--max_length", "64"]
    )
    assert (training_args.max_steps, training_args.max_length) == (1, 64)
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config(
        ["--dataset_name", "trl-lib/Capybara", "--model_name_or_path", name, "--output_dir", "out", "--use_peft",
         "--lora_r", "4", "--max_steps", "1", "--learning_rate", "2e-4", "--use_cpu", "--report_to", "none",
         "--lora_target_modules", "q_proj", "v_proj"]
    )  # fmt: skip
    assert script_args.dataset_name == "trl-lib/Capybara"
    trainer = SFTTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=Dataset.from_list([{"prompt": f"say {w} ", "completion": w} for w in WORDS]),
        peft_config=get_peft_config(model_args),
    )
    trainer.train()
    assert trainer.model.peft_config["default"].r == 4


# ------------------------------------------------------------------------------------------------ reward models


def test_reward_model_from_pre_tokenised_pairs_as_in_0_7(name: str) -> None:
    from tieout.trl import RewardConfig, RewardTrainer

    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(name)
    model.config.pad_token_id = tokenizer.pad_token_id
    raw = Dataset.from_dict(
        {"chosen": [f"Q A: {w}" for w in WORDS], "rejected": [f"Q A: {w[::-1]}" for w in WORDS]}
    )

    def preprocess_function(examples: Any) -> Any:
        new: dict[str, list[Any]] = {
            f"{kind}_{side}": []
            for kind in ("input_ids", "attention_mask")
            for side in ("chosen", "rejected")
        }
        for chosen, rejected in zip(examples["chosen"], examples["rejected"], strict=True):
            for side, text in (("chosen", chosen), ("rejected", rejected)):
                tokenized = tokenizer(text)
                new[f"input_ids_{side}"].append(tokenized["input_ids"])
                new[f"attention_mask_{side}"].append(tokenized["attention_mask"])
        return new

    train = raw.map(preprocess_function, batched=True, num_proc=1)

    def compute_metrics(eval_pred: Any) -> dict[str, float]:
        predictions, labels = eval_pred
        assert predictions.shape == (len(WORDS), 2)
        return {"mine": float(np.mean(np.argmax(predictions, axis=1) == labels))}

    trainer = RewardTrainer(
        model=model,
        tokenizer=tokenizer,
        args=RewardConfig(
            output_dir="rm", per_device_train_batch_size=4, num_train_epochs=8, learning_rate=1e-2, max_length=64,
            evaluation_strategy="no", remove_unused_columns=False, gradient_checkpointing=True, **QUICK,
        ),
        train_dataset=train,
        eval_dataset=train,
        peft_config=LoraConfig(task_type=TaskType.SEQ_CLS, inference_mode=False, r=8, lora_alpha=16, lora_dropout=0.0),
        compute_metrics=compute_metrics,
    )  # fmt: skip
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_mine"] == metrics["eval_accuracy"] == 1.0
    trainer.save_model("rm/final")
    again = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)
    again = PeftModel.from_pretrained(again, "rm/final").eval()
    with torch.no_grad():
        good, bad = (
            float(again(**tokenizer(f"Q A: {w}", return_tensors="pt")).logits) for w in ("audit", "tidua")
        )
    assert good > bad


def test_reward_model_fully_trained_from_a_classifier_as_in_1_16(name: str) -> None:
    from tieout.trl import RewardConfig, RewardTrainer

    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=torch.float32)
    head = model.score.weight.detach().clone()
    rows = [
        {"chosen": [{"role": "user", "content": "say it"}, {"role": "assistant", "content": w}],
         "rejected": [{"role": "user", "content": "say it"}, {"role": "assistant", "content": w[::-1]}]}
        for w in WORDS
    ]  # fmt: skip
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            "rm", num_train_epochs=6, learning_rate=1e-3, center_rewards_coefficient=0.01, **QUICK
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(name),
    )
    trainer.train()
    assert losses(trainer) == [] or losses(trainer)[-1] < 0.7
    trainer.save_model("rm/final")
    again = AutoModelForSequenceClassification.from_pretrained("rm/final")
    assert not torch.equal(again.score.weight, head)


# ------------------------------------------------------------------------------------------------ preferences


def test_dpo_as_in_0_7(name: str) -> None:
    from tieout.trl import DPOTrainer, create_reference_model

    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float32)
    model_ref = create_reference_model(model)
    tokenizer = AutoTokenizer.from_pretrained(name)
    train_dataset = Dataset.from_dict(
        {
            "prompt": [f"Question: {w}\n\nAnswer: " for w in WORDS],
            "chosen": WORDS,
            "rejected": [w[::-1] for w in WORDS],
        }
    )
    dpo_trainer = DPOTrainer(
        model,
        model_ref,
        args=TrainingArguments("dpo", max_steps=2, learning_rate=1e-3, logging_steps=1, remove_unused_columns=False,
                               per_device_train_batch_size=4, **QUICK),
        beta=0.3,
        loss_type="ipo",
        train_dataset=train_dataset,
        eval_dataset=train_dataset,
        tokenizer=tokenizer,
        max_length=64,
        max_target_length=16,
        max_prompt_length=32,
    )  # fmt: skip
    dpo_trainer.train()
    assert losses(dpo_trainer)[0] == pytest.approx((1 / (2 * 0.3)) ** 2, rel=1e-4)
    assert losses(dpo_trainer)[1] < losses(dpo_trainer)[0]


def test_dpo_as_in_1_16(name: str) -> None:
    from tieout.trl import DPOConfig, DPOTrainer

    rows = [
        {"chosen": [{"role": "user", "content": f"say {w}"}, {"role": "assistant", "content": w}],
         "rejected": [{"role": "user", "content": f"say {w}"}, {"role": "assistant", "content": w[::-1]}]}
        for w in WORDS
    ]  # fmt: skip
    dataset = Dataset.from_list(rows)
    trainer = DPOTrainer(
        model=name,
        args=DPOConfig(output_dir="dpo", learning_rate=1e-2, num_train_epochs=2, eval_strategy="steps", eval_steps=1,
                       loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0], **QUICK),
        train_dataset=dataset,
        eval_dataset={"all": dataset, "few": dataset.select(range(2))},
        peft_config=LoraConfig(),
    )  # fmt: skip
    trainer.train()
    seen = {k for e in trainer.state.log_history for k in e}
    assert {"eval_all_loss", "eval_few_loss", "eval_all_rewards/accuracies"} <= seen


def test_kto(name: str) -> None:
    from tieout.trl import KTOConfig, KTOTrainer

    train_dataset = Dataset.from_dict(
        {
            "prompt": ["Which is better?", "What are you?"] * 4,
            "completion": [w if i % 2 else w[::-1] for i, w in enumerate(WORDS)],
            "label": [bool(i % 2) for i in range(8)],
        }
    )
    model = AutoModelForCausalLM.from_pretrained(name)
    model_ref = AutoModelForCausalLM.from_pretrained(name)
    training_args = KTOConfig("kto", beta=0.1, desirable_weight=1.0, undesirable_weight=1.3, max_prompt_length=64,
                              max_completion_length=64, max_steps=2, learning_rate=1e-3, **QUICK)  # fmt: skip
    kto_trainer = KTOTrainer(
        model, model_ref, args=training_args, train_dataset=train_dataset,
        tokenizer=AutoTokenizer.from_pretrained(name),
    )  # fmt: skip
    kto_trainer.train()
    assert kto_trainer.state.global_step == 2


@pytest.mark.parametrize("loss_type", ["sigmoid", "simpo"])
def test_orpo_cpo_and_simpo(name: str, loss_type: str) -> None:
    from tieout.trl import CPOConfig, CPOTrainer, ORPOConfig, ORPOTrainer

    rows = {"prompt": ["hello", "how are you"], "chosen": ["hi nice to meet you", "fine"],
            "rejected": ["leave me alone", "not telling"]}  # fmt: skip
    train_dataset = Dataset.from_dict(rows)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    if loss_type == "simpo":
        config = CPOConfig("cpo", loss_type="simpo", cpo_alpha=0.0, simpo_gamma=0.5, max_steps=1, **QUICK)
        trainer: Any = CPOTrainer(model, args=config, train_dataset=train_dataset, tokenizer=tokenizer)
    else:
        orpo = ORPOConfig("orpo", beta=0.1, max_length=64, max_prompt_length=32, max_steps=1, **QUICK)
        trainer = ORPOTrainer(
            model=model, args=orpo, train_dataset=train_dataset, tokenizer=tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=["k_proj", "q_proj", "v_proj", "o_proj"]),
        )  # fmt: skip
    trainer.train()
    trainer.save_model("here")
    assert trainer.state.global_step == 1


# ------------------------------------------------------------------------------------------------ rollouts


def test_grpo_quick_start(name: str) -> None:
    from tieout.trl import GRPOConfig, GRPOTrainer

    def reward_num_unique_chars(completions: Any, **kwargs: Any) -> list[int]:
        return [len(set(c)) for c in completions]

    trainer = GRPOTrainer(
        model=name,
        reward_funcs=reward_num_unique_chars,
        args=GRPOConfig(
            output_dir="grpo", max_prompt_length=32, max_completion_length=8, max_steps=1, **QUICK
        ),
        train_dataset=Dataset.from_dict({"prompt": [f"The {w}" for w in WORDS]}),
    )
    trainer.train()
    assert "reward" in trainer.state.log_history[0] or "reward" in trainer.state.log_history[-2]


def test_grpo_on_conversations_with_several_rewards(name: str) -> None:
    from tieout.trl import GRPOConfig, GRPOTrainer

    system = "Respond in <reasoning></reasoning><answer></answer>"
    dataset = Dataset.from_dict({"question": WORDS, "answer": [w[0] for w in WORDS]}).map(
        lambda x: {
            "prompt": [{"role": "system", "content": system}, {"role": "user", "content": x["question"]}]
        }
    )

    def correctness_reward_func(prompts: Any, completions: Any, answer: Any, **kwargs: Any) -> list[float]:
        responses = [completion[0]["content"] for completion in completions]
        assert prompts[0][-1]["content"][0] == answer[0]
        return [2.0 if r[:1] == a else 0.0 for r, a in zip(responses, answer, strict=True)]

    def format_reward_func(completions: Any, **kwargs: Any) -> list[float]:
        return [0.5 if re.match(r"<reasoning>", c[0]["content"]) else 0.0 for c in completions]

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(name),
        processing_class=AutoTokenizer.from_pretrained(name),
        reward_funcs=[correctness_reward_func, format_reward_func],
        args=GRPOConfig(
            "grpo", reward_weights=[1.0, 0.5], num_generations=4, per_device_train_batch_size=8, max_new_tokens=6,
            max_steps=2, logging_steps=1, beta=0.04, log_completions=True, scale_rewards=False, **QUICK,
        ),
        train_dataset=dataset,
        peft_config=LoraConfig(task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    logged = next(e for e in trainer.state.log_history if "loss" in e)
    assert {"rewards/correctness_reward_func/mean", "rewards/format_reward_func/mean", "kl"} <= logged.keys()


def test_rloo_as_in_0_12(name: str) -> None:
    from tieout.trl import RLOOConfig, RLOOTrainer

    tokenizer = AutoTokenizer.from_pretrained(name)
    reward_model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)
    policy = AutoModelForCausalLM.from_pretrained(name)
    ref_policy = AutoModelForCausalLM.from_pretrained(name)
    dataset = Dataset.from_dict({"prompt": WORDS}).map(
        lambda x: {"input_ids": tokenizer(x["prompt"])["input_ids"]}, remove_columns=["prompt"]
    )
    trainer = RLOOTrainer(
        config=RLOOConfig("rloo", rloo_k=2, kl_coef=0.03, response_length=6, total_episodes=8, num_ppo_epochs=1,
                          num_mini_batches=1, per_device_train_batch_size=4, missing_eos_penalty=1.0, **QUICK),
        processing_class=tokenizer,
        policy=policy,
        ref_policy=ref_policy,
        reward_model=reward_model,
        train_dataset=dataset,
        eval_dataset=dataset,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 2


# ------------------------------------------------------------------------------------------------ PPO


def test_ppo_quick_start_as_in_0_7(name: str) -> None:
    from tieout.trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

    model = AutoModelForCausalLMWithValueHead.from_pretrained(name)
    ref_model = AutoModelForCausalLMWithValueHead.from_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.pad_token = tokenizer.eos_token
    ppo_config: dict[str, Any] = {"mini_batch_size": 1, "batch_size": 1}
    config = PPOConfig(**ppo_config)
    ppo_trainer = PPOTrainer(config, model, ref_model, tokenizer)
    query_txt = "This morning I went to the "
    query_tensor = tokenizer.encode(query_txt, return_tensors="pt").to(model.pretrained_model.device)
    generation_kwargs = {"min_length": -1, "top_k": 0.0, "top_p": 1.0, "do_sample": True,
                         "pad_token_id": tokenizer.eos_token_id, "max_new_tokens": 20}  # fmt: skip
    response_tensor = ppo_trainer.generate(list(query_tensor), return_prompt=False, **generation_kwargs)
    response_txt = tokenizer.decode(response_tensor[0])
    assert isinstance(response_txt, str)
    reward = [torch.tensor(1.0, device=model.pretrained_model.device)]
    train_stats = ppo_trainer.step([query_tensor[0]], [response_tensor[0]], reward)
    assert {"objective/kl", "ppo/mean_scores", "ppo/loss/total"} <= train_stats.keys()


def test_ppo_over_its_dataloader_as_in_0_7(name: str) -> None:
    from tieout.trl import (
        AutoModelForCausalLMWithValueHead,
        PPOConfig,
        PPOTrainer,
        respond_to_batch,
        set_seed,
    )

    config = PPOConfig(model_name=name, learning_rate=1.41e-5, batch_size=4, mini_batch_size=2, log_with=None,
                       ppo_epochs=1, init_kl_coef=0.2, adap_kl_ctrl=True, target=6, horizon=10000, gamma=1, lam=0.95,
                       cliprange=0.2, cliprange_value=0.2, vf_coef=0.1, seed=0, optimize_cuda_cache=True)  # fmt: skip
    set_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(config.model_name)
    dataset = Dataset.from_dict({"review": WORDS}).map(
        lambda x: {"input_ids": tokenizer.encode(x["review"]), "query": x["review"]}, batched=False
    )
    dataset.set_format(type="torch", columns=["input_ids"], output_all_columns=True)

    def collator(data: Any) -> Any:
        return {key: [d[key] for d in data] for key in data[0]}

    model = AutoModelForCausalLMWithValueHead.from_pretrained(config.model_name)
    ppo_trainer = PPOTrainer(config, model, None, tokenizer, dataset=dataset, data_collator=collator)
    device = ppo_trainer.accelerator.device
    assert ppo_trainer.accelerator.num_processes == 1
    batches = 0
    for _epoch, batch in enumerate(ppo_trainer.dataloader):
        query_tensors = batch["input_ids"]
        response_tensors = []
        for query in query_tensors:
            response = ppo_trainer.generate(query, max_new_tokens=6, do_sample=True, top_k=0.0, top_p=1.0)
            response_tensors.append(response.squeeze()[-6:])
        batch["response"] = [tokenizer.decode(r.squeeze()) for r in response_tensors]
        rewards = [torch.tensor(float(len(t)), device=device) for t in batch["response"]]
        stats = ppo_trainer.step(query_tensors, response_tensors, rewards)
        ppo_trainer.log_stats(stats, batch, rewards)
        batches += 1
    assert batches == 2
    model.save_pretrained("gpt2-imdb-pos-v2", push_to_hub=False)
    tokenizer.save_pretrained("gpt2-imdb-pos-v2", push_to_hub=False)
    again = AutoModelForCausalLM.from_pretrained("gpt2-imdb-pos-v2")
    own = dict(ppo_trainer.model.named_parameters())
    assert all(torch.equal(p, own[n]) for n, p in again.named_parameters())
    answers = respond_to_batch(model, torch.stack([t[:4] for t in batch["input_ids"]]), txt_len=5)
    assert answers.shape == (4, 5)


def test_ppo_with_models_for_reward_and_value_as_in_0_12_to_0_29(name: str) -> None:
    from tieout.trl import PPOConfig, PPOTrainer

    training_args = PPOConfig(
        output_dir="ppo", learning_rate=3e-6, per_device_train_batch_size=4, gradient_accumulation_steps=1,
        total_episodes=8, num_ppo_epochs=2, num_mini_batches=2, missing_eos_penalty=1.0, response_length=6,
        local_rollout_forward_batch_size=1, stop_token="eos", reward_model_path=name, sft_model_path=name, **QUICK,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    value_model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)
    reward_model = AutoModelForSequenceClassification.from_pretrained(
        training_args.reward_model_path, num_labels=1
    )
    ref_policy = AutoModelForCausalLM.from_pretrained(training_args.sft_model_path)
    policy = AutoModelForCausalLM.from_pretrained(training_args.sft_model_path)
    dataset = Dataset.from_dict({"prompt": WORDS}).map(
        lambda row: {"input_ids": tokenizer(row["prompt"])["input_ids"]}, remove_columns=["prompt"]
    )
    trainer = PPOTrainer(
        args=training_args,
        processing_class=tokenizer,
        model=policy,
        ref_model=ref_policy,
        reward_model=reward_model,
        value_model=value_model,
        train_dataset=dataset,
        eval_dataset=dataset,
        peft_config=None,
    )
    trainer.train()
    assert trainer.state.global_step == 2
    trainer.save_model(training_args.output_dir)
    trainer.generate_completions()
    assert AutoModelForCausalLM.from_pretrained("ppo") is not None


# ------------------------------------------------------------------------------------------------ around training


def test_callbacks_the_best_model_and_resuming(name: str) -> None:
    from tieout.trl import SFTConfig, SFTTrainer

    class Printer(TrainerCallback):
        lines: list[str] = []  # noqa: RUF012

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_local_process_zero:
                self.lines.append(f"{state.global_step}: {sorted(logs)}")

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
            self.lines.append(f"{state.global_step}: {metrics['eval_loss']:.3f}")

    rows = Dataset.from_list([{"prompt": f"say {w} ", "completion": w} for w in WORDS])
    other = Dataset.from_list([{"prompt": f"say {w} ", "completion": w[::-1]} for w in WORDS])

    def make(**more: Any) -> Any:
        args = SFTConfig(
            "out", per_device_train_batch_size=4, learning_rate=0.05, num_train_epochs=10, eval_strategy="steps",
            eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True, logging_steps=1,
            metric_for_best_model="eval_loss", greater_is_better=False, save_total_limit=2, **{**QUICK, **more},
        )  # fmt: skip
        return SFTTrainer(
            name, args, rows, other, peft_config=LoraConfig(target_modules="all-linear"),
            callbacks=[EarlyStoppingCallback(early_stopping_patience=2), Printer],
        )  # fmt: skip

    trainer = make()
    trainer.train()
    evaluated = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    assert trainer.state.global_step < 20
    assert trainer.state.best_metric == min(evaluated)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(evaluated), rel=1e-4)
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{evaluated.index(min(evaluated)) + 1}")
    assert Path(trainer.state.best_model_checkpoint).is_dir()
    assert Printer.lines


def test_a_wrapped_model_and_its_result_load_again(name: str) -> None:
    from tieout.trl import DPOConfig, DPOTrainer

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(name), LoraConfig(r=4, target_modules="all-linear")
    )
    rows = Dataset.from_dict({"prompt": WORDS, "chosen": WORDS, "rejected": [w[::-1] for w in WORDS]})
    trainer = DPOTrainer(
        model=model, ref_model=None, args=DPOConfig("out", max_steps=2, save_steps=1, beta=0.2, **QUICK),
        train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(name),
    )  # fmt: skip
    result = trainer.train()
    trainer.log_metrics("train", result.metrics)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    again = AutoPeftModelForCausalLM.from_pretrained("out")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(
        again.eval()(ids).logits, trainer.model.eval()(ids).logits, rtol=1e-4, atol=1e-5
    )
    longer = DPOTrainer(
        model=name, args=DPOConfig("out", max_steps=3, save_steps=1, beta=0.2, **QUICK), train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(name), peft_config=LoraConfig(r=4, target_modules="all-linear"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="has no such checkpoint; found: step-000001, step-000002"):
        longer.train(resume_from_checkpoint="out/checkpoint-9")
