"""Names that options had in earlier versions of TRL and transformers, and those that are gone: see `options.yaml`."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from ...errors import InputError
from ..options import INSTEAD, REFUSED, ROLLOUTS, SAME, gone, unsaid

RENAMED: dict[str, dict[str, str]] = {
    "": {
        "evaluation_strategy": "eval_strategy",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "no_cuda": "use_cpu",
        "warmup_ratio": "warmup_steps",
        "push_to_hub_model_id": "hub_model_id",
        "push_to_hub_token": "hub_token",
    },
    "rollouts": {
        "max_new_tokens": "max_completion_length",
        "vllm_max_model_len": "vllm_max_model_length",
        "vllm_guided_decoding_regex": "vllm_structured_outputs_regex",
        "wandb_log_unique_prompts": "log_unique_prompts",
    },
    "SFTConfig": {"max_seq_length": "max_length", "use_liger": "use_liger_kernel"},
    "PPOConfig": {
        "ppo_epochs": "num_ppo_epochs",
        "max_new_tokens": "response_length",
        "steps": "max_steps",
        "log_with": "report_to",
        "forward_batch_size": "mini_batch_size",
        "exp_name": "run_name",
    },
    "RLOOConfig": {
        "rloo_k": "num_generations",
        "kl_coef": "beta",
        "response_length": "max_completion_length",
        "num_ppo_epochs": "num_iterations",
        "cliprange": "epsilon",
        "normalize_advantage": "normalize_advantages",
        "exp_name": "run_name",
    },
}
"""Class, or what several share -> older name -> today's."""


def renamed(config: str) -> dict[str, str]:
    """Older name -> today's."""
    shared = RENAMED["rollouts"] if config in ROLLOUTS else {}
    return {**RENAMED[""], **shared, **RENAMED.get(config, {})}


def older(config: str) -> set[str]:
    """All names that a configuration knows beside its own."""
    return {*renamed(config), *gone(config)}


def translated(config: str, options: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options by today's names, with one warning that says what became of the older ones.

    TypeError: an option that never was, or two names of one. ValueError: one that is gone, and did change numbers.
    """
    new_names, past = renamed(config), gone(config)
    said = ["warmup_ratio (gone: warmup_steps says it)"] if _both_warmups(options) else []
    options = _one_warmup(options)
    result: dict[str, Any] = {}
    refused: list[str] = []
    for option, value in options.items():
        if option not in known and option in past:
            what = _became(option, value, *past[option], options)
            (refused if what.startswith(REFUSED) else said).append(what.removeprefix(REFUSED))
            continue
        new = option if option in known else new_names.get(option)
        if new is None:
            raise TypeError(f"{config} has no option {option!r}{_hint(option, [*known, *new_names])}")
        if new != option:
            said.append(f"{option} (now {new})")
        if new in result or (new != option and new in options):
            raise TypeError(f"{config}: {option!r} is the older name of {new!r}; give one of the two")
        result[new] = value
    if refused:
        raise InputError(f"{config} asks for what is not done here:\n" + "\n".join(refused))
    if said:
        warnings.warn(
            f"{config}: older names are still taken: {'; '.join(said)}", FutureWarning, stacklevel=3
        )
    return result


def remember(made: Any, older: Mapping[str, Any]) -> None:
    """Programs read `args.max_seq_length` where they have given it."""
    vars(made).update({name: value for name, value in older.items() if not hasattr(type(made), name)})


def _became(option: str, value: Any, what: str, default: Any, options: Mapping[str, Any]) -> str:
    same_as_policy = option == "ref_model_init_kwargs" and value == options.get("model_init_kwargs")
    if what.startswith(SAME):
        return f"{option} (gone: {what.removeprefix(SAME)})"
    if value is None or unsaid(value, default) or same_as_policy:
        return f"{option} (gone)"
    if what.startswith(INSTEAD):
        return f"{option}={value!r} (gone; instead: {what.removeprefix(INSTEAD)})"
    return f"{REFUSED}  {option}={value!r}: {what.removeprefix(REFUSED)}"


def _both_warmups(options: Mapping[str, Any]) -> bool:
    return options.get("warmup_ratio") is not None and bool(options.get("warmup_steps"))


def _one_warmup(options: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' rule: the steps count if there are any, else the share."""
    out = {"warmup_ratio"} if _both_warmups(options) or options.get("warmup_ratio", 0) is None else set()
    if "warmup_ratio" in options and not out:
        out = {"warmup_steps"}
    return {name: value for name, value in options.items() if name not in out}


def _hint(option: str, names: Iterable[str]) -> str:
    near = get_close_matches(option, [*names], n=1, cutoff=0.8)
    return f"; did you mean {near[0]!r}?" if near else ""
