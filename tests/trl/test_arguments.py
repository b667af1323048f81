"""What trainers and scripts are given, in all the forms that TRL's versions took it, and nothing of it is lost."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from transformers import TrainingArguments

from tieout import trl
from tieout.trl.arguments import arguments
from tieout.trl.configs import CONFIGS, Config
from tieout.trl.plan import plan

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
QUICK: dict[str, Any] = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}


def taken(config: type[Config], args: Any, **more: Any) -> tuple[Any, list[str]]:
    """The configuration that a trainer works with, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = arguments(config, args, more)
    assert not more
    return made, [str(w.message) for w in caught]


# ------------------------------------------------------------------------------------------------ in Python


@pytest.mark.parametrize("name", CONFIGS)
def test_values_that_are_transformers_own_defaults_are_kept_too(name: str) -> None:
    args = TrainingArguments(
        "o", learning_rate=5e-5, bf16=False, logging_steps=500, per_device_train_batch_size=8, use_cpu=True
    )
    config, said = taken(CONFIGS[name], args)
    assert (config.learning_rate, config.logging_steps, config.wants_bf16) == (5e-5, 500, False)
    planned = plan(config)
    assert (planned.method.learning_rate, planned.bf16) == (5e-5, False)
    assert not said, "nothing was set that has no effect"


def test_a_trainer_is_given_training_arguments_as_in_0_8(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = Dataset.from_dict({"prompt": WORDS, "chosen": WORDS, "rejected": [w[::-1] for w in WORDS]})
    args = TrainingArguments(
        str(tmp_path),
        learning_rate=5e-5,
        max_steps=3,
        logging_steps=500,
        lr_scheduler_type="constant",
        **QUICK,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.DPOTrainer(
            str(tiny_model("llama")), None, args, train_dataset=rows, beta=0.3, label_pad_token_id=-100
        )
    assert trainer.learner.optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert (trainer.plan.method.learning_rate, trainer.plan.method.beta) == (5e-5, 0.3)  # type: ignore[attr-defined]
    trainer.train()
    assert len([entry for entry in trainer.state.log_history if "loss" in entry]) == 1


def test_what_is_set_and_has_no_effect_is_said_once_and_what_follows_from_it_is_not() -> None:
    args = TrainingArguments(
        "o", use_cpu=True, eval_strategy="epoch", gradient_checkpointing=True, dataloader_num_workers=2
    )
    _, (said,) = taken(trl.SFTConfig, args)
    assert "dataloader_num_workers (" in said
    for silent in ("dataloader_pin_memory", "do_eval", "activation_checkpointing", "logging", "report_to"):
        assert silent not in said
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1"):
        taken(trl.SFTConfig, TrainingArguments("o", use_cpu=True, label_smoothing_factor=0.1))


def test_options_of_a_trainer_are_laid_over_its_configuration() -> None:
    with pytest.warns(UserWarning, match="packing"):
        args = trl.SFTConfig("o", bf16=False, logging_steps=10, packing=True, run_name="mine", use_cpu=True)
    config, said = taken(trl.SFTConfig, args, max_seq_length=32, dataset_text_field="content")
    assert (config.wants_bf16, config.max_length, config.dataset_text_field) == (False, 32, "content")
    assert (config.packing, config.run_name, args.max_length) == (True, "mine", 1024)
    assert not any("packing" in text for text in said), "said when it was made"
    assert any("max_seq_length (now max_length)" in text for text in said)
    other, _ = taken(trl.SFTConfig, trl.SFTConfig("o", use_cpu=True), bf16=False)
    assert not other.wants_bf16
    with pytest.raises(ValueError, match="reference_free=True: CPOTrainer"):
        taken(trl.DPOConfig, trl.DPOConfig("o", use_cpu=True), reference_free=True)


def test_another_configuration_gives_what_both_know_and_the_rest_is_named() -> None:
    args = trl.SFTConfig(
        "o", learning_rate=2e-5, bf16=False, completion_only_loss=True, max_length=1024, use_cpu=True
    )
    config, (said,) = taken(trl.DPOConfig, args)
    assert (config.learning_rate, config.wants_bf16, config.max_length) == (2e-5, False, 1024)
    assert "leaves them out: completion_only_loss" in said
    assert taken(trl.DPOConfig, trl.SFTConfig("o", use_cpu=True))[0].wants_bf16


def test_arguments_of_scripts_with_options_of_their_own() -> None:
    @dataclass
    class Mine(TrainingArguments):
        cache_dir: str | None = None
        model_max_length: int = field(default=512)

    config, (said,) = taken(trl.SFTConfig, Mine("o", model_max_length=99, use_cpu=True))
    assert config.learning_rate == 5e-5
    assert "Mine" in said
    assert "leaves them out: model_max_length" in said


def test_configurations_of_trl_itself_are_taken() -> None:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    peer = pytest.importorskip("trl")
    config, said = taken(trl.SFTConfig, peer.SFTConfig("o", use_cpu=True, bf16=False, max_length=77))
    assert (config.max_length, config.learning_rate, config.wants_bf16) == (77, 2e-5, False)
    assert not any("checkpointing" in text for text in said)


# ------------------------------------------------------------------------------------------------ in scripts

HANDBOOK = """
# Model arguments
model_name_or_path: mistralai/Mistral-7B-v0.1
torch_dtype: bfloat16
attn_implementation: flash_attention_2
use_peft: true
lora_target_modules:
- q_proj
- v_proj

# SFT trainer config
dataset_name: HuggingFaceH4/ultrachat_200k
bf16: false
do_eval: true
evaluation_strategy: epoch
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: False
learning_rate: 2.0e-05
logging_steps: 5
lr_scheduler_type: cosine
max_seq_length: 2048
max_steps: -1
num_train_epochs: 1
output_dir: data/zephyr-7b-sft-full
overwrite_output_dir: true
group_by_length: true
per_device_train_batch_size: 16
report_to:
- tensorboard
save_strategy: "no"
use_cpu: true
warmup_ratio: 0.1
warmup_steps: 0
"""


def parsed(
    tmp_path: Path, *line: str, text: str = "", config: type[Config] = trl.SFTConfig
) -> tuple[Any, str]:
    path = tmp_path / "config.yaml"
    path.write_text(text or "output_dir: o\n", encoding="utf-8")
    parser = trl.TrlParser((trl.ScriptArguments, config, trl.ModelConfig))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = parser.parse_args_and_config(["--config", str(path), *line])
    said = " ".join(str(w.message) for w in caught if issubclass(w.category, FutureWarning))
    return made, said


def test_a_file_of_the_alignment_handbook(tmp_path: Path) -> None:
    (script, config, model), said = parsed(tmp_path, "--learning_rate", "1e-4", text=HANDBOOK)
    assert (config.max_length, config.max_seq_length, config.learning_rate) == (2048, 2048, 1e-4)
    assert (config.warmup_steps, str(config.eval_strategy.value), config.wants_bf16) == (0.1, "epoch", False)
    assert (script.dataset_name, model.dtype) == ("HuggingFaceH4/ultrachat_200k", "bfloat16")
    for name in (
        "max_seq_length",
        "evaluation_strategy",
        "warmup_ratio",
        "overwrite_output_dir",
        "group_by_length",
    ):
        assert name in said


def test_older_names_on_the_command_line(tmp_path: Path) -> None:
    line = ["--max_seq_length", "512", "--use_cpu", "--evaluation_strategy=no", "--warmup_ratio", "0.1",
            "--warmup_steps", "0", "--overwrite_output_dir", "--group-by-length", "false",
            "--chars_per_token", "3.6"]  # fmt: skip
    (_, config, _), said = parsed(tmp_path, *line, text="output_dir: o\nmax_seq_length: 99\n")
    assert (config.max_length, config.warmup_steps, config.eval_strategy.value) == (512, 0.1, "no")
    assert config.use_cpu
    assert "chars_per_token (gone: " in said
    assert "group_by_length (gone)" in said
    (_, config, _), _ = parsed(
        tmp_path, "--no_cuda", "--loss_type", "ipo", "--label_pad_token_id", "-100", config=trl.DPOConfig
    )
    assert (config.use_cpu, config.loss_type, config.label_pad_token_id) == (True, ["ipo"], -100)


def test_what_is_refused_or_unknown_in_a_script_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reference_free=True: CPOTrainer"):
        parsed(tmp_path, "--reference_free", "True", "--use_cpu", config=trl.DPOConfig)
    with pytest.raises(ValueError, match="reference_free=True: CPOTrainer"):
        parsed(tmp_path, text="output_dir: o\nreference_free: true\n", config=trl.DPOConfig)
    with pytest.raises(TypeError, match="'max_seq_length' is the older name of 'max_length'"):
        parsed(tmp_path, text="output_dir: o\nmax_seq_length: 9\nmax_length: 9\n")
    with pytest.raises(ValueError, match="unknown options: --max_seq_lenght 9 --nothing"):
        parsed(tmp_path, "--use_cpu", "--nothing", text="output_dir: o\nmax_seq_lenght: 9\n")
    parser = trl.TrlParser((trl.SFTConfig,), ignore_extra_args=True)
    (config,) = parser.parse_args_and_config(
        ["--output_dir", "o", "--use_cpu", "--max_length", "9", "--nothing"]
    )
    assert config.max_length == 9
    *_, unknown = trl.TrlParser(trl.SFTConfig).parse_args_and_config(
        ["--output_dir", "o", "--use_cpu", "--nothing"], return_remaining_strings=True
    )
    assert unknown == ["--nothing"]


def test_flags_that_are_on_can_be_turned_off_in_a_file_and_dictionaries_given_on_the_line(
    tmp_path: Path,
) -> None:
    (_, config, _), _ = parsed(
        tmp_path, text="output_dir: o\nuse_cpu: true\nuse_bias_correction_kl: false\n", config=trl.GRPOConfig
    )
    assert config.use_bias_correction_kl is False
    (_, config, _), _ = parsed(tmp_path, "--use_cpu", "--model_init_kwargs", '{"dtype": "float32"}')
    assert config.model_init_kwargs == {"dtype": "float32"}


def test_a_mixture_of_datasets(tmp_path: Path) -> None:
    for name, count in (("a", 6), ("b", 2)):
        Dataset.from_dict({"text": [f"{name}{i}" for i in range(count)], "other": [0] * count}).to_json(
            tmp_path / f"{name}.jsonl"
        )
    text = f"""
datasets:
- path: json
  data_files: {tmp_path}/a.jsonl
  columns: [text]
- path: json
  data_files: {tmp_path}/b.jsonl
  columns: [text]
test_split_size: 0.25
"""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    (mixture,) = trl.TrlParser(trl.DatasetMixtureConfig).parse_args_and_config(["--config", str(path)])
    made = trl.get_dataset(mixture)
    assert (len(made["train"]), len(made["test"]), made["train"].column_names) == (6, 2, ["text"])
    mixture.test_split_size = None
    assert trl.get_dataset(mixture)["train"]["text"] == [*(f"a{i}" for i in range(6)), "b0", "b1"]
    mixture.datasets[0].fraction, mixture.datasets[1].fraction = 2.0, 2.0
    assert trl.get_dataset(mixture)["train"]["text"] == ["a0", "a1", "b0", "b1"]
    mixture.datasets[1].fraction = None
    with pytest.raises(ValueError, match="either all datasets in the mixture or none"):
        trl.get_dataset(mixture)
    with pytest.raises(ValueError, match="No datasets were loaded"):
        trl.get_dataset(trl.DatasetMixtureConfig())
    assert isinstance(made, DatasetDict)


def test_of_another_trainers_configuration_only_what_was_chosen_is_taken() -> None:
    """Each method has its own defaults: DPO's loss is none of KTO's, and GRPO's beta of 0 would end RLOO's KL."""
    given = trl.DPOConfig(output_dir="out", use_cpu=True, learning_rate=3e-4, beta=0.7)
    kto = arguments(trl.KTOConfig, given, {})
    assert (kto.loss_type, kto.beta, kto.learning_rate) == ("kto", 0.7, 3e-4)
    rloo = arguments(trl.RLOOConfig, trl.GRPOConfig(output_dir="out", use_cpu=True), {})
    assert rloo.beta == trl.RLOOConfig(output_dir="out", use_cpu=True).beta > 0
