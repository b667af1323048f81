"""The recipes for one GPU of 24 GiB, which no test can run: what they ask for, and what the plan counts from shapes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from transformers import Qwen3Config

from tieout.embedded import path
from tieout.pipelines.kinds import Train
from tieout.pipelines.planned import Planned
from tieout.pipelines.planning import elsewhere
from tieout.pipelines.planning.runs import plan_run
from tieout.pipelines.reading import read_recipe
from tieout.pipelines.run import Run
from tieout.storage.runfolder import RunFolder

RECIPES = Path(__file__).parents[2] / "recipes"
STORIES = ("align", "code", "derive", "filings", "rag", "reason", "style", "summaries", "wordle")
GIB = 2**30
FOLDERS = {
    "derive": "sec/statements",
    "filings": "sec/statements",
    "rag": "tatqa/tatqa_dataset_dev.json",
}
"""Recipe -> the data that it reads, in the folder of real data."""
FEW = {"align", "code", "reason", "style", "summaries"}
"""Recipes whose task can make fewer rows; as many as the plan looks at are made."""
LENGTH = {"wordle": 170}
"""Recipe -> tokens of a game: the plan takes a completion for one turn."""


def test_every_story_has_a_recipe_for_a_gpu() -> None:
    assert sorted(p.stem for p in RECIPES.glob("*_8b.yaml")) == [f"{name}_8b" for name in STORIES]


@pytest.mark.parametrize("name", STORIES)
def test_vllm_is_one_line_away(name: str, tmp_path: Path) -> None:
    text = (RECIPES / f"{name}_8b.yaml").read_text(encoding="utf-8")
    assert not read_recipe(RECIPES / f"{name}_8b.yaml").placement.vllm
    with_vllm, lines = re.subn(r"(?m)^# (placement: )", r"\1", text)
    assert lines == 1
    (tmp_path / "recipe.yaml").write_text(with_vllm, encoding="utf-8")
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert recipe.placement.vllm == "http://127.0.0.1:8011"
    for stage in recipe.stages:
        assert not isinstance(stage, Train) or stage.options.adapter.method == "qlora"
    # The server has to hold the base in the same 4 bits, and an adapter of this rank.
    (command,) = re.findall(r"(?m)^#     (vllm serve .*)$", text)
    assert f"vllm serve {recipe.model} --quantization bitsandbytes" in command
    assert f"--max-lora-rank {recipe.adapter.rank} " in command
    assert recipe.placement.vllm.rpartition(":")[2] == command.split("--port ")[1]


@pytest.fixture(scope="module")
def qwen3_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of Qwen3-8B, no weights, and the tokenizer of tieout-base.

    Of these tasks it makes more tokens than SmolLM2's, up to twice as many, so the plan is on the safe side.
    """
    folder = tmp_path_factory.mktemp("qwen") / "8b"
    shutil.copytree(
        path("tieout-base"), folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    Qwen3Config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def planned(qwen3_8b: Path) -> Callable[..., list[Planned]]:
    """`planned(name, memory, *settings)`: of each train stage, for a device with so many bytes."""

    def plan(name: str, memory: int, *settings: str) -> list[Planned]:
        overrides = {"model": str(qwen3_8b)}
        recipe = read_recipe(RECIPES / f"{name}_8b.yaml", overrides, ("placement.device=cpu", *settings))
        with RunFolder(qwen3_8b.parent / "run", writes=False) as folder:
            run = Run(recipe, folder, Console(quiet=True))
            return plan_run(run, LENGTH.get(name, 0), memory, recipe.dtype)

    return plan


@pytest.fixture(scope="module", autouse=True)
def _one_count_of_shapes() -> Iterator[None]:
    """All recipes have one model and one adapter, and its shapes take longer to count than the rest of a plan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elsewhere, "shapes_of", cache(elsewhere.shapes_of))
        yield


@pytest.mark.parametrize(
    "name", [n if n == "style" else pytest.param(n, marks=pytest.mark.slow) for n in STORIES]
)
def test_a_gpu_of_24_gib_holds_it_and_one_of_8_does_not(
    name: str, planned: Callable[..., list[Planned]], request: pytest.FixtureRequest
) -> None:
    settings = []
    if name in FOLDERS:
        settings = [f"task_options.path={request.getfixturevalue('shared_data') / FOLDERS[name]}"]
    if name in FEW:
        settings = ["task_options.sizes={train: 128, calibration: 8, test: 8}"]
    stages = planned(name, 24 * GIB, *settings)
    assert [one.name for one in stages if not one.fits] == []
    peak = max(one.memory or 0 for one in stages) / GIB
    text = (RECIPES / f"{name}_8b.yaml").read_text(encoding="utf-8")
    (said,) = re.findall(r"The plan's peak of memory, from shapes: ([\d.]+) GiB", text)
    assert peak == pytest.approx(float(said), rel=0.02)
    small = planned(name, 8 * GIB, *settings)
    assert [one.name for one in small if one.fits] == []
