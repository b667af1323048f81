"""Every option of TRL's configurations is honoured, without effect and said so, or refused. Nothing is silent."""

from __future__ import annotations

import dataclasses
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from transformers.utils import logging

from tieout import trl
from tieout.trl import plan as plan_module
from tieout.trl.configs import CONFIGS
from tieout.trl.older import gone, renamed
from tieout.trl.options import HONOURED, INSTEAD, REFUSED, SAME, table

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
peer = pytest.importorskip("trl")

THEIRS = {
    **dict.fromkeys(
        ("SFTConfig", "DPOConfig", "KTOConfig", "RewardConfig", "GRPOConfig", "RLOOConfig"), "trl"
    ),
    "ORPOConfig": "trl.experimental.orpo",
    "CPOConfig": "trl.experimental.cpo",
}


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """transformers says whatever it likes: the default of `disable_tqdm` follows what other tests have silenced."""
    before = logging.get_verbosity()
    logging.set_verbosity_warning()
    yield
    logging.set_verbosity(before)


def theirs(name: str) -> Any:
    return getattr(importlib.import_module(THEIRS[name]), name)


def made(name: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CONFIGS[name](**{"output_dir": "out", "use_cpu": True, **options})


def method_of(name: str, **options: Any) -> Any:
    return plan_module.plan(made(name, **options)).method


def defaults(config: Any) -> dict[str, Any]:
    return {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(config)
    }


@pytest.mark.parametrize("name", THEIRS)
def test_every_option_of_trl_exists_with_its_default_and_a_disposition(name: str) -> None:
    ours, other = defaults(CONFIGS[name]), defaults(theirs(name))
    assert not set(other) - set(ours), "options of TRL that are not here"
    differing = {
        n: (ours[n], other[n])
        for n in other
        if ours[n] != other[n] and n not in ("bf16", "pad_to_multiple_of")
    }
    assert not differing
    undecided = [n for n in ours if n not in table(name)]
    assert not undecided, "options that options.yaml does not name"
    for what in table(name).values():
        assert what == HONOURED or what.startswith((SAME, INSTEAD, REFUSED)), what


CHANGED: dict[str, Any] = {
    "output_dir": "elsewhere", "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 2},
    "logging_strategy": "epoch", "eval_strategy": "epoch", "save_strategy": "epoch", "eval_steps": 7,
    "save_total_limit": 3, "report_to": ["tensorboard"], "train_sampling_strategy": "sequential",
    "resume_from_checkpoint": "some/checkpoint-1", "disable_tqdm": True, "bf16": False, "max_length": 77,
    "max_prompt_length": 33, "max_completion_length": 44, "truncation_mode": "keep_end", "eos_token": "<end>",
    "pad_token": "<pad>", "chat_template_path": "template.jinja", "model_init_kwargs": {"dtype": "float32"},
    "completion_only_loss": True, "dataset_text_field": "content", "f_divergence_type": "js_divergence",
    "ld_alpha": 0.5,
    "rpo_alpha": 1.0, "center_rewards_coefficient": 0.01, "epsilon_high": 0.28, "reward_weights": [0.5],
    "scale_rewards": "none", "importance_sampling_level": "sequence", "reward_clip_range": (-1.0, 1.0),
    "missing_eos_penalty": 1.0, "target_kl": 0.2, "batch_size": 16, "mini_batch_size": 4, "init_kl_coef": 0.3,
    "reward_model_path": "reward", "kl_estimator": "k3", "vllm_server_base_url": "http://127.0.0.1:9",
    "vllm_mode": "server", "vllm_server_host": "elsewhere", "vllm_importance_sampling_mode": "token_truncate",
    "vllm_importance_sampling_cap": 1.5, "warmup_steps": 3, "data_seed": 5, "num_generations": 4,
    "loss_weights": [0.5, 2.0], "total_episodes": 96, "num_generations_eval": 2, "stop_token": "eos",
    "entropy_floor": 1.0, "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip
"""Another value than the default, where adding one or negating makes none."""
LOSSES = {
    "SFTConfig": "chunked_nll",
    "DPOConfig": "ipo",
    "KTOConfig": "apo_zero_unpaired",
    "CPOConfig": "hinge",
    "GRPOConfig": "grpo",
}
WITH: dict[str, dict[str, Any]] = {
    "label_smoothing": {}, "discopop_tau": {"loss_type": "discopop"},
    "f_alpha_divergence_coef": {"f_divergence_type": "alpha_divergence"},
    "sapo_temperature_neg": {"loss_type": "sapo"}, "sapo_temperature_pos": {"loss_type": "sapo"},
    "simpo_gamma": {"loss_type": "simpo"}, "use_bias_correction_kl": {"beta": 0.1},
    "vllm_mode": {"use_vllm": True, "vllm_server_base_url": None, "other": "colocate"},
    **{n: {"use_vllm": True, "vllm_mode": "server"} for n in (
        "vllm_server_host", "vllm_server_port", "vllm_importance_sampling_correction",
        "vllm_importance_sampling_clip_max", "vllm_importance_sampling_cap")},
    "vllm_server_base_url": {"use_vllm": True, "vllm_server_base_url": "http://127.0.0.1:1"},
    "loss_weights": {"loss_type": ["sigmoid", "sft"]}, "shuffle_dataset": {"train_sampling_strategy": "sequential"},
    "target": {"adap_kl_ctrl": True}, "horizon": {"adap_kl_ctrl": True}, "entropy_floor": {"entropy_coef": 0.1},
}  # fmt: skip
"""What an option needs beside it to matter."""
FLOW = "test_events: transformers' own flow reads it"
BATCH = "test_batches_are_counted_as_trl_counts_them"
ELSEWHERE = {
    **dict.fromkeys((
        "logging_strategy", "logging_steps", "logging_first_step", "eval_strategy", "eval_steps", "eval_on_start",
        "eval_delay", "save_strategy", "save_steps", "load_best_model_at_end", "metric_for_best_model",
        "greater_is_better", "output_dir"), FLOW),
    "resume_from_checkpoint": "test_trainers: a run goes on only if asked",
    "model_name": "test_trainers: PPO by steps", "sft_model_path": "test_trainers: PPO over a dataset",
    "generation_batch_size": BATCH, "steps_per_generation": BATCH, "use_cpu": "test_trainers: all of it",
    "use_vllm": "below, with vllm_mode", "vllm_importance_sampling_mode": "test_vllm_weights_are_of_tokens",
}  # fmt: skip
"""Honoured outside the plan, and by which test."""


@pytest.mark.parametrize("name", CONFIGS)
def test_every_honoured_option_changes_the_plan(name: str) -> None:
    def planned(**options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return plan_module.plan(made(name, **{"per_device_train_batch_size": 8, **options}))

    without_effect = []
    for option, default in defaults(CONFIGS[name]).items():
        if table(name)[option] != HONOURED or option in ELSEWHERE:
            continue
        beside = {k: v for k, v in WITH.get(option, {}).items() if k in table(name)}
        value = (
            LOSSES[name]
            if option == "loss_type"
            else CHANGED[option]
            if option in CHANGED
            else changed(default, option)
        )
        if option == "vllm_mode":
            beside = {"use_vllm": True}
            with pytest.raises(ValueError, match="no engine in this process"):
                planned(**beside)
            assert planned(**beside, vllm_mode="server").vllm == "http://0.0.0.0:8000"
            continue
        if name == "SFTConfig" and option == "loss_type":
            with pytest.raises(ValueError, match="SFT here is nll"):
                planned(loss_type=value)
            continue
        if option == "stop_token":
            with pytest.raises(ValueError, match="'eos'"):
                planned(stop_token="period")
            continue
        if option == "train_sampling_strategy":
            value = {"random": "sequential", "sequential": "random"}[default]
        if option == "per_device_train_batch_size":
            value = 16
        if planned(**beside) == planned(**{**beside, option: value}):
            without_effect.append(option)
    assert not without_effect


def changed(default: Any, option: str = "") -> Any:
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return default + 0.125
    raise AssertionError(f"no other value is known for {option}={default!r}: add one to CHANGED")


@pytest.mark.parametrize("name", CONFIGS)
def test_what_cannot_be_honoured_is_an_error_and_what_has_no_effect_a_warning(name: str) -> None:
    for option, default in defaults(CONFIGS[name]).items():
        what = table(name)[option]
        value = CHANGED.get(option, "something else" if default is None else None)
        if value is None:
            value = changed(default) if isinstance(default, bool | int | float) else "something else"
        if what.startswith(REFUSED):
            with pytest.raises(ValueError, match=option):
                CONFIGS[name](output_dir="out", use_cpu=True, **{option: value})
        elif what.startswith((SAME, INSTEAD)) and isinstance(default, bool):
            with pytest.warns(UserWarning, match=option):
                CONFIGS[name](output_dir="out", use_cpu=True, **{option: value})


def heard_of(name: str, **options: Any) -> tuple[Any, str]:
    """A configuration, and what its older names made it say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = CONFIGS[name](**{"output_dir": "out", "use_cpu": True, **options})
    return config, " ".join(str(w.message) for w in caught if issubclass(w.category, FutureWarning))


SAID: dict[str, Any] = {"evaluation_strategy": "no", "warmup_ratio": 0.1, "log_with": [], "exp_name": "x"}
"""Values of older names for which 3 makes no sense."""


@pytest.mark.parametrize("name", CONFIGS)
def test_older_names_are_taken_once_and_typing_errors_are_found(name: str) -> None:
    for older, new in renamed(name).items():
        value = True if new == "use_cpu" else SAID.get(older, 3)
        if table(name)[new].startswith(REFUSED):
            with pytest.raises(ValueError, match=new):
                CONFIGS[name](output_dir="out", use_cpu=True, **{older: value})
            continue
        if new == "use_cpu":
            assert CONFIGS[name](output_dir="out", no_cuda=True).use_cpu
            continue
        config, said = heard_of(name, **{older: value})
        assert f"{older} (now {new})" in said
        assert getattr(config, new) == getattr(config, older) == value
    with pytest.raises(TypeError, match="no option 'learning_rat'; did you mean 'learning_rate'"):
        CONFIGS[name](output_dir="out", learning_rat=1.0)
    with pytest.raises(TypeError, match=r"no option 'group_rows'$"):
        CONFIGS[name](output_dir="out", group_rows=True)
    with pytest.raises(TypeError, match="give one of the two"):
        CONFIGS[name](output_dir="out", no_cuda=True, use_cpu=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_options_that_are_gone_say_so_and_are_refused_where_they_changed_numbers(name: str) -> None:
    fields = defaults(CONFIGS[name])
    for option, (what, unsaid) in gone(name).items():
        if option in fields:
            continue
        config, said = heard_of(name, **{option: unsaid})
        assert f"{option} (gone" in said
        assert hasattr(config, option)
        other = not unsaid if isinstance(unsaid, bool) else "something else"
        if what.startswith(REFUSED):
            with pytest.raises(ValueError, match=f"{option}=.*: "):
                heard_of(name, **{option: other})
        else:
            reason = what.removeprefix(SAME).removeprefix(INSTEAD)
            assert reason in heard_of(name, **{option: other})[1]


OLDER_PROGRAMS: dict[str, dict[str, Any]] = {
    "SFTConfig": {
        "max_seq_length": 512, "num_of_sequences": 1024, "chars_per_token": 3.6, "use_liger": True,
        "group_by_length": True, "overwrite_output_dir": True, "save_safetensors": True,
        "half_precision_backend": "auto", "logging_dir": "logs", "push_to_hub_model_id": "me/mine",
        "dispatch_batches": None, "use_mps_device": False,
        "include_inputs_for_metrics": False},
    "DPOConfig": {
        "label_pad_token_id": -100, "padding_value": 0, "is_encoder_decoder": False, "force_use_ref_model": True,
        "reference_free": False, "use_logits_to_keep": True, "max_target_length": 128, "generate_during_eval": True,
        "model_init_kwargs": {"dtype": "bfloat16"}, "ref_model_init_kwargs": {"dtype": "bfloat16"}},
    "KTOConfig": {"truncation_mode": "keep_end", "label_pad_token_id": -100, "padding_value": 0,
                  "generate_during_eval": False, "is_encoder_decoder": None, "ref_model_init_kwargs": None},
    "ORPOConfig": {"truncation_mode": "keep_end", "label_pad_token_id": -100, "is_encoder_decoder": False},
    "CPOConfig": {"truncation_mode": "keep_end", "label_pad_token_id": -100, "is_encoder_decoder": False},
    "GRPOConfig": {"vllm_dtype": "auto", "use_liger_loss": True, "wandb_log_unique_prompts": True,
                   "vllm_max_model_len": None, "vllm_guided_decoding_regex": None, "vllm_device": "cuda:1"},
    "RLOOConfig": {"token_level_kl": True, "normalize_reward": False, "normalize_advantage": False, "stop_token": "eos",
                   "reward_model_path": "reward", "sft_model_path": "sft", "rloo_k": 4},
    "PPOConfig": {"is_peft_model": True, "backward_batch_size": 4, "use_seq2seq": False, "early_stopping": True,
                  "forward_batch_size": 2, "optimize_cuda_cache": True},
}  # fmt: skip
"""What programs of 0.7 to 0.29 gave, and what changed no number."""


@pytest.mark.parametrize("name", OLDER_PROGRAMS)
def test_programs_with_options_of_earlier_versions(name: str) -> None:
    config, said = heard_of(name, **OLDER_PROGRAMS[name])
    for option, value in OLDER_PROGRAMS[name].items():
        assert getattr(config, option) == value, "programs read what they have given"
        assert option in said or option in defaults(config)


@pytest.mark.parametrize(
    ("name", "options", "advice"),
    [
        ("DPOConfig", {"reference_free": True}, "CPOTrainer compares without a reference"),
        (
            "DPOConfig",
            {"model_adapter_name": "train", "ref_adapter_name": "reference"},
            "load the adapter once",
        ),
        ("DPOConfig", {"is_encoder_decoder": True}, "causal language models only"),
        ("DPOConfig", {"ref_model_init_kwargs": {"revision": "x"}}, "give it as ref_model"),
        ("DPOConfig", {"tools": [print]}, "apply_chat_template"),
        ("KTOConfig", {"ref_adapter_name": "reference"}, "load the adapter once"),
        ("RLOOConfig", {"normalize_advantage": True}, "minus the mean of the others"),
        ("RLOOConfig", {"normalize_reward": True}, "reward_clip_range"),
        ("RLOOConfig", {"stop_token": "period"}, "'eos'"),
        ("GRPOConfig", {"vllm_dtype": "half"}, "vllm_server_base_url"),
        ("GRPOConfig", {"vllm_guided_decoding_regex": "a+"}, "vllm_server_base_url"),
        ("SFTConfig", {"include_inputs_for_metrics": True}, "predictions and labels"),
        ("SFTConfig", {"adafactor": True}, "AdamW"),
        ("PPOConfig", {"use_seq2seq": True}, "causal language models only"),
    ],
)
def test_what_changed_numbers_is_refused_with_what_to_do(
    name: str, options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(ValueError, match=advice) as error:
        made(name, **options)
    assert (
        next(iter(options)) in str(error.value)
        or "advantages" in str(error.value)
        or "regex" in str(error.value)
    )


def test_a_warmup_is_of_steps_if_there_are_any_else_of_a_share() -> None:
    for options, expected in (
        ({"warmup_ratio": 0.1, "warmup_steps": 0}, 0.1),
        ({"warmup_ratio": 0.1, "warmup_steps": 7}, 7),
        ({"warmup_ratio": None, "warmup_steps": 7}, 7),
        ({"warmup_ratio": 0.03}, 0.03),
    ):
        assert made("DPOConfig", **options).warmup_steps == expected
    assert (
        "warmup_ratio (gone: warmup_steps says it)"
        in heard_of("DPOConfig", warmup_ratio=0.1, warmup_steps=7)[1]
    )


def test_a_truncation_of_the_prompt_is_honoured_where_it_was_an_option() -> None:
    for name in ("KTOConfig", "ORPOConfig", "CPOConfig"):
        assert plan_module.plan(made(name, truncation_mode="keep_end")).limits.truncation == "keep_end"


def test_packing_says_that_batches_count_examples() -> None:
    with pytest.warns(
        UserWarning, match=r"done otherwise: packing=True \(.*raise per_device_train_batch_size"
    ):
        CONFIGS["SFTConfig"](output_dir="out", use_cpu=True, packing=True)


def test_the_dataset_kwargs_of_tutorials_change_nothing() -> None:
    for harmless in (
        {"add_special_tokens": False, "append_concat_token": False},
        {"skip_prepare_dataset": True},
    ):
        with pytest.warns(UserWarning, match=r"done otherwise: dataset_kwargs=.*\(text gets the bos"):
            CONFIGS["SFTConfig"](output_dir="out", use_cpu=True, dataset_kwargs=harmless)
    with pytest.raises(ValueError, match="rows are prepared in one way"):
        made("SFTConfig", dataset_kwargs={"skip_prepare_dataset": True, "something": 1})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("cosine", {}),
        ("constant_with_warmup", {}),
        ("inverse_sqrt", {}),
        ("polynomial", {"lr_end": 4e-4}),
        ("cosine_with_min_lr", {"min_lr": 5e-4}),
    ],
)
def test_schedules_are_those_of_transformers(kind: str, options: dict[str, float]) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = get_scheduler(kind, optimizer, 3, 12, scheduler_specific_kwargs=options)
    given = {
        "lr_scheduler_type": kind,
        "lr_scheduler_kwargs": options,
        "warmup_steps": 3,
        "learning_rate": 1e-3,
    }
    planned = plan_module.plan(made("SFTConfig", **given)).schedule
    for step in range(12):
        assert 1e-3 * planned.rate(step, 12) == pytest.approx(optimizer.param_groups[0]["lr"]), step
        optimizer.step()
        schedule.step()


def test_batches_are_counted_as_trl_counts_them() -> None:
    plan = plan_module.plan(
        made("DPOConfig", per_device_train_batch_size=2, gradient_accumulation_steps=3), world=2
    )
    assert plan.groups_per_step == 12
    assert plan.steps(25) == 3 * 3
    grpo = made("GRPOConfig", per_device_train_batch_size=8, gradient_accumulation_steps=2, num_generations=4)
    assert plan_module.plan(grpo).groups_per_step == 4
    for wrong in ({"steps_per_generation": 7}, {"generation_batch_size": 64}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            plan_module.plan(made("GRPOConfig", num_generations=4, **wrong))


def test_updates_that_trl_counts_as_steps_are_said() -> None:
    with pytest.warns(UserWarning, match="num_iterations=3: a step samples once and makes so many updates"):
        assert plan_module.plan(made("GRPOConfig", num_iterations=3)).method.updates_per_batch == 3  # type: ignore[attr-defined]


def test_a_batch_smaller_than_a_group_counts_prompts_as_in_0_14() -> None:
    small = made("GRPOConfig", per_device_train_batch_size=2, num_generations=8)
    with pytest.warns(UserWarning, match=r"as in TRL 0\.14.* 2 prompts of 8 completions per step") as caught:
        planned: Any = plan_module.plan(small)
    assert len(caught) == 1
    assert (planned.groups_per_step, planned.method.batch_size, planned.method.group_size) == (2, 2, 8)
    with pytest.warns(UserWarning, match="as 4 prompts of 8 completions"):
        assert plan_module.plan(small, world=2).groups_per_step == 4
    with warnings.catch_warnings():  # today's meaning wherever it has one
        warnings.simplefilter("error")
        accumulated = made("GRPOConfig", per_device_train_batch_size=2, gradient_accumulation_steps=4)
        assert plan_module.plan(accumulated).groups_per_step == 1
    for wrong in ({"gradient_accumulation_steps": 2}, {"per_device_train_batch_size": 3}):
        options = {"per_device_train_batch_size": 2, "num_generations": 8, **wrong}
        with pytest.raises(ValueError, match="are not whole groups of num_generations=8"):
            plan_module.plan(made("GRPOConfig", **options))


def test_episodes_are_completions() -> None:
    """PPO and RLOO of earlier versions counted what they sampled."""
    for name, size in (("PPOConfig", 8), ("RLOOConfig", 8)):
        assert plan_module.plan(made(name, per_device_train_batch_size=8, total_episodes=41)).steps(3) == -(
            -41 // size
        )
    by_steps = method_of("PPOConfig", batch_size=16, mini_batch_size=2, gradient_accumulation_steps=4)
    assert by_steps.num_mini_batches == 2
    with pytest.raises(ValueError, match="no multiple of the 6 completions of an update"):
        method_of("PPOConfig", batch_size=16, mini_batch_size=3, gradient_accumulation_steps=2)


def test_an_alpha_divergence_is_the_one_that_trl_means() -> None:
    method = method_of("DPOConfig", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7)
    assert method.divergence_alpha == pytest.approx(0.3)  # see test_trl_parity_preferences
    with pytest.raises(ValueError, match="divergence_alpha is for"):
        plan_module.plan(made("DPOConfig", f_alpha_divergence_coef=0.7))


def test_several_losses_of_dpo() -> None:
    method = method_of("DPOConfig", loss_type=["ipo", "sft"], loss_weights=[1.0, 0.3], rpo_alpha=0.2)
    assert (method.loss_type, method.rpo_alpha) == ("ipo", 0.5)
    several = method_of(
        "DPOConfig", loss_type=["robust", "hinge"], loss_weights=[0.4, 0.6], label_smoothing=0.1
    )
    assert [(w, p.loss_type, p.label_smoothing) for w, p in several.parts] == [
        (0.4, "robust", 0.1),
        (0.6, "hinge", 0.0),
    ]
    for wrong, message in (
        ({"loss_type": ["ipo", "hinge"], "loss_weights": [1.0]}, "1 loss_weights for 2 losses"),
        ({"loss_type": "aot"}, "loss_type 'aot' is not here"),
        ({"loss_type": "sft"}, "compares nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            method_of("DPOConfig", **wrong)


def test_vllm_weights_are_of_tokens() -> None:
    config = made("GRPOConfig", use_vllm=True, vllm_server_base_url="http://127.0.0.1:1")
    with pytest.warns(
        UserWarning, match=r"'sequence_mask': instead, weights of tokens are truncated at 3\.0"
    ):
        method: Any = plan_module.plan(config).method
    assert method.tis_cap == 3.0


def test_names_of_adamw_are_the_optimizer_there_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("adamw_torch", "paged_adamw_32bit"):
            CONFIGS["SFTConfig"](output_dir="out", use_cpu=True, optim=name)
    with pytest.warns(UserWarning, match="AdamW in full precision; an adapter's state is small"):
        CONFIGS["SFTConfig"](output_dir="out", use_cpu=True, optim="paged_adamw_8bit")
    with pytest.raises(ValueError, match="is the optimizer there is"):
        CONFIGS["SFTConfig"](output_dir="out", use_cpu=True, optim="sgd")


def test_exported_names() -> None:
    others = {"ModelConfig", "PPOv2Config", "DatasetConfig", "DatasetMixtureConfig"}
    assert {n for n in trl.__all__ if n.endswith("Config")} == {*CONFIGS, *others}
    for name in trl.__all__:
        assert getattr(trl, name) is not None


def test_ppos_scores_are_standardised_per_batch_where_trl_scales_them_by_running_moments() -> None:
    with pytest.warns(UserWarning, match="standardised within each batch"):
        config = CONFIGS["PPOConfig"](use_cpu=True, use_score_scaling=True, use_score_norm=True)
    method: Any = plan_module.plan(config).method
    assert method.standardize_rewards
    assert not method.whiten_rewards
    with pytest.warns(UserWarning, match="standardised within each batch"):
        half = CONFIGS["PPOConfig"](use_cpu=True, use_score_scaling=True)
    with pytest.raises(ValueError, match="give both"):
        plan_module.plan(half)
