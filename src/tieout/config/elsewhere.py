"""What TRL, transformers, Axolotl and others call a setting or a command, for hints; none works under that name."""

from __future__ import annotations

from collections.abc import Container

ELSEWHERE: dict[str, str] = {
    "num_train_epochs": "epochs", "num_epochs": "epochs", "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size", "train_batch_size": "batch_size", "num_generations": "group_size",
    "max_completion_length": "max_new_tokens", "model_name_or_path": "model", "base_model": "model",
    "dataset_name": "data", "train_dataset": "data", "datasets": "data", "eval_dataset": "held_out",
    "output_dir": "out", "lr": "learning_rate", "reward_funcs": "reward", "reward_func": "reward",
    "report_to": "trackers", "eval_strategy": "eval_steps",
    "load_best_model_at_end": "keep_best", "metric_for_best_model": "metric", "early_stopping_patience": "patience",
    "lr_scheduler_type": "schedule.kind", "lr_scheduler": "schedule.kind", "warmup_ratio": "schedule.warmup",
    "lora_r": "adapter.rank", "lora_alpha": "adapter.alpha", "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.targets", "load_in_4bit": "adapter.method", "use_peft": "adapter.method",
    "weight_decay": "learner.weight_decay", "max_grad_norm": "learner.max_grad_norm", "use_vllm": "vllm",
    "bf16": "dtype", "fp16": "dtype", "torch_dtype": "dtype", "vllm_server_base_url": "vllm",
    "gradient_checkpointing": "learner.activation_checkpointing",
}  # fmt: skip
"""A setting's name elsewhere -> ours, as a recipe or `tieout train` has it."""
ANSWERS: dict[str, str] = {
    "enable_thinking": "it is an option of the chat template: chat_template_kwargs enable_thinking=false",
    "max_steps": "the length of a run is given as epochs, which may be a part of one: epochs 0.5",
    "gradient_accumulation_steps": "batch_size is that of the whole step; micro-batches are cut to fit the memory",
    "logging_steps": "every step is logged, in metrics.jsonl",
    "logging_dir": "metrics are in the run folder; trackers sends them elsewhere, too",
    "save_strategy": "checkpoints are kept every save_steps",
    "remove_unused_columns": "a reward is given the columns that it asks for",
    "overwrite_output_dir": "repeating a command resumes; another run needs another folder",
    "push_to_hub": "nothing is uploaded: save or ship the model, then use the client of the hub",
}
"""A setting that has no counterpart -> what is done instead."""
_SERVED = "a merged model is served by others: tieout merge ADAPTER --out MERGED, then vllm serve MERGED"
_HUB = "nothing is uploaded: tieout merge or ship, then hf upload OWNER/NAME FOLDER"
COMMANDS: dict[str, str] = {
    "serve": _SERVED, "deploy": _SERVED, "vllm-serve": _SERVED, "push": _HUB, "upload": _HUB, "hub": _HUB,
    "chat": "tieout sample PROMPT --model ADAPTER asks it; a conversation needs a server: vllm serve MERGED",
    "generate": "tieout sample PROMPT --model ADAPTER", "inference": "tieout sample PROMPT --model ADAPTER",
    "export": "tieout merge ADAPTER --out MERGED", "preprocess": "rows are read as they are: tieout advise DATA",
    "resume": "repeat the command that was interrupted", "evaluate": "tieout eval", "finetune": "tieout train",
}  # fmt: skip
"""A command of another tool -> what does that here."""


def hint(name: str, known: Container[str]) -> str:
    """`; here it is 'epochs'`, or nothing for a name that is not known from elsewhere or is no setting here.

    >>> hint("num_train_epochs", {"epochs"}), hint("lora_r", {"adapter"}), hint("lora_r", {"epochs"})
    ("; here it is 'epochs'", "; here it is 'rank' of 'adapter'", '')
    """
    if name in ANSWERS:
        return f"; {ANSWERS[name]}"
    ours = ELSEWHERE.get(name, "")
    part, _, field = ours.rpartition(".")
    if not ours or (part or field) not in known:
        return ""
    return f"; here it is {field!r} of {part!r}" if part else f"; here it is {ours!r}"
