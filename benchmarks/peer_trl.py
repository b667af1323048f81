"""The step by TRL, on the works of `works.py`: its own trainers with their defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from works import ALPHA, RANK, DecodeJob, padded, reward_of, sequences, text


def trl_trainer(
    work: DecodeJob,
    model: Path,
    out: Path,
    steps: int,
    plain: bool,
    callbacks: list[Any],
    device: str = "cpu",
) -> Any:
    """TRL's trainer with its own defaults, but for fp32 on the CPU, the paper's GRPO loss, and no reports."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import trl

    options: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": [],
        "use_cpu": device == "cpu",
        "bf16": device != "cpu",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "learning_rate": 0.0,
        "max_steps": steps,
        "per_device_train_batch_size": work.groups,
        "max_grad_norm": 1.0,
    }
    if plain:
        options["gradient_checkpointing"] = False
    rows = sequences(work)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    common: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(model, dtype=dtype),
        "processing_class": AutoTokenizer.from_pretrained(model),
        "peft_config": LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        "callbacks": callbacks,
    }
    if work.method == "dpo":
        # TRL ends every completion with the end token itself
        data = [{"prompt": text(p), "chosen": text(c[:-1]), "rejected": text(r[:-1])} for p, (c, r) in rows]
        args = trl.DPOConfig(**options, beta=work.beta, max_length=None)
        return trl.DPOTrainer(args=args, train_dataset=Dataset.from_list(_spaced(data)), **common)
    if work.method == "sft":
        data = [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, (c,) in rows]
        size = sum(len(r["input_ids"]) for r in data)
        options |= {"packing": True, "max_length": size, "per_device_train_batch_size": 1}
        args = trl.SFTConfig(**options)
        return trl.SFTTrainer(args=args, train_dataset=Dataset.from_list(data), **common)
    data = [{"prompt": text(p)} for p, _ in rows]
    options["per_device_train_batch_size"] = work.groups * work.group_size
    args = trl.GRPOConfig(
        **options,
        beta=work.beta,
        num_generations=work.group_size,
        max_completion_length=work.completion,
        loss_type="grpo",
        use_bias_correction_kl=False,
        shuffle_dataset=False,
        generation_kwargs={"min_new_tokens": work.completion},
    )
    return trl.GRPOTrainer(args=args, train_dataset=Dataset.from_list(data), reward_funcs=_reward, **common)


def _spaced(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """TRL joins prompt and completion as they stand: the words' space belongs to the completion."""
    return [{k: v if k == "prompt" else f" {v} " for k, v in row.items()} for row in rows]


def _reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [reward_of(ids) for ids in completion_ids]


def trl_logprobs(trainer: Any, groups: Sequence[Any]) -> Any:
    """[T] of the completion tokens, from TRL's own forward with its fused head, padded on the right as TRL pads."""
    import torch

    rows = [(g.prompt, c.tokens) for g in groups for c in g.completions]
    ids, mask, labels = padded(rows)
    device = trainer.model.device
    with torch.no_grad():
        out = trainer.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            labels=labels.to(device),
            fused_lm_head=True,
            use_cache=False,
        ).log_probs
    kept = labels[:, 1:] != -100
    return out[:, -kept.shape[1] :].cpu()[kept]


def rows_of(work: DecodeJob, trainer: Any) -> list[tuple[list[int], list[list[int]]]]:
    """The tokens of TRL's last step, group by group."""
    if work.method != "grpo":
        return sequences(work)
    ids = [c.tolist() for c in trainer.seen["completion_ids"]]
    prompts = [p.tolist() for p in trainer.seen["prompt_ids"]]
    k = work.group_size
    return [(prompts[i], ids[i : i + k]) for i in range(0, len(ids), k)]


def spy(trainer: Any, clock: Callable[[], float]) -> None:
    """Time TRL's generation apart from the rest of its step, and keep what it sampled."""
    trainer.generation_seconds, trainer.seen = 0.0, {}
    if not hasattr(trainer, "_generate_and_score_completions"):
        return
    generate, score = trainer._generate, trainer._generate_and_score_completions

    def timed(prompts: Any) -> Any:
        started = clock()
        result = generate(prompts)
        trainer.generation_seconds = clock() - started
        return result

    def kept(inputs: Any) -> Any:
        trainer.seen = score(inputs)
        return trainer.seen

    trainer._generate, trainer._generate_and_score_completions = timed, kept
