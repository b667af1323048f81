"""Recipes are plain values; whatever is wrong with one is said with its nearest cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.config.fields import ConfigError
from tieout.pipelines.recipe import read_recipe

SHIPPED = sorted(
    [
        *Path(__file__).parents[2].glob("recipes/*.yaml"),
        *Path(__file__).parents[2].glob("src/tieout/pipelines/recipes/*.yaml"),
    ]
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_every_recipe_that_ships_is_valid(path: Path) -> None:
    read_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pipeline: align\nsft: {lerning_rate: 1}", "learning_rate"),
        ("pipeline: aling", "align"),
        ("pipeline: align\nsft: {epochs: many}", "epochs"),
        ("pipeline: align\nmodle: x", "model"),
        ("model: x", "pipeline"),
        ("pipeline: reason\ngrpo: {group_size: 1}", "at least 2"),
        ("pipeline: align\npipeline: align", "pipeline"),
    ],
)
def test_a_wrong_recipe_says_what_was_meant(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises((ConfigError, ValueError), match=message):
        read_recipe(path)
