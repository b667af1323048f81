"""`data.general`: rows against forgetting, mixed into the pairs of every stage that has an SFT term for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import DPO, KTO, NO_CHECK, PAIRS, REWARD_MODEL, SFT, lines, run

from tieout.errors import InputError
from tieout.pipelines.recipe import Recipe
from tieout.rows import RowsError

RecipeOf = Callable[..., Recipe]


@pytest.fixture
def general(files: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The data of a recipe, with four general rows."""
    path = tmp_path / "general.jsonl"
    rows = [{"prompt": f"spell {word}", "completion": word} for word in ("audit", "ledger", "cash", "fee")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {**{name: files[name] for name in ("train", "test")}, "general": str(path)}


def test_they_are_mixed_into_the_pairs_of_dpo_and_into_no_reward_model(
    recipe: RecipeOf, general: dict[str, str], tmp_path: Path
) -> None:
    read = recipe([NO_CHECK, SFT, PAIRS, REWARD_MODEL, {**DPO, "sft_anchor": 0.5}], data=general)
    run(read, tmp_path / "run")
    made = len(lines(tmp_path / "run" / "pairs" / "pairs.jsonl"))

    def trained_on(stage: str) -> int:
        done = json.loads((tmp_path / "run" / stage / "done.json").read_text())
        return int(done["inputs"]["data"]["rows"])

    assert trained_on("dpo") == made + 4
    assert trained_on("reward_model") < made  # a tenth is held out, and nothing added
    metrics = lines(tmp_path / "run" / "dpo" / "metrics.jsonl")
    assert any("anchor_loss" in line for line in metrics)
    assert any("anchor_loss" not in line for line in lines(tmp_path / "run" / "sft" / "metrics.jsonl"))


def test_pairs_of_equals_are_refused_where_pairs_become_labels(recipe: RecipeOf, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {i}", "chosen": "a", "rejected": "ab"[i % 2], "answer": "a"} for i in range(8)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = recipe([NO_CHECK, KTO], data={"pairs": str(path)})
    with pytest.raises(
        RowsError, match=r"'chosen' and 'rejected' are the same, and stage 'kto' \(kto\) learns"
    ):
        run(found, tmp_path / "run")


def test_they_are_refused_where_no_stage_has_a_use_for_them(
    recipe: RecipeOf, general: dict[str, str], tmp_path: Path
) -> None:
    for stages in ([SFT], [SFT, PAIRS, {**DPO, "sft_anchor": 0.0}]):
        with pytest.raises(InputError, match=r"data\.general is given, and no stage has an SFT term for it"):
            run(recipe([NO_CHECK, *stages], data=general), tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()
