"""Options as people type them who know another library, or who change a long line."""

from __future__ import annotations

from typing import Any

import pytest

from tieout.cli.evaluate import Options as Evaluate
from tieout.cli.options import parse
from tieout.cli.train import options_type
from tieout.config.fields import ConfigError, from_plain
from tieout.errors import InputError
from tieout.methods import METHODS


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("grpo", "--reward=a --reward=b", "given 2 times: --reward=a, --reward=b"),
        ("dpo", "--data=a --data=b --seed 1", "given 2 times: --data=a, --data=b"),
        ("dpo", "--beta=0.1 --beta=0.2", "given 2 times: --beta=0.1, --beta=0.2"),
        ("sft", "--hold-out --no-hold-out", "given 2 times"),
        ("sft", "--adapter.rank 8 --adapter.rank 16", "given 2 times"),
        ("sft", "--max_steps 2", "no option --max_steps: the length of a run is given as epochs"),
        ("sft", "--per-device-train-batch-size 2", "here it is --batch-size"),
        ("grpo", "--num_generations 4", "here it is --group-size"),
        ("sft", "--num_train_epochs=3", "here it is --epochs"),
        ("sft", "--lora-r 8", "here it is --adapter.rank"),
        ("sft", "--output_dir x", "here it is --out"),
    ],
)
def test_what_would_be_ignored_or_has_another_name_here_is_said(method: str, given: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(options_type(METHODS[method]), f"train {method}", ["--out", "o", *given.split()])
    assert said in str(raised.value)


def test_what_takes_several_takes_them_in_either_way() -> None:
    options = ["--task", "t", "--task-option", "a=1", "--task-option", "b=2"]
    apart = parse(Evaluate, "eval", ["--model", "A", *options, "--model", "B"])
    at_once = parse(Evaluate, "eval", ["--model", "A", "B", *options])
    assert apart == at_once
    assert apart.model == ("A", "B")
    assert apart.task_option == ("a=1", "b=2")


@pytest.mark.parametrize(("name", "ours"), [("num_train_epochs", "epochs"), ("max_steps", "epochs 0.5")])
def test_a_recipe_is_told_our_names(name: str, ours: str) -> None:
    settings: dict[str, Any] = {name: 2}
    with pytest.raises(ConfigError, match=f"unknown key .*{ours}"):
        from_plain(METHODS["sft"], settings, "recipe.yaml")
