"""`general` and `data.general`: rows against forgetting, mixed into those of SFT and of methods with an SFT term."""

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

TASK = """
from tieout.tasks import Task

ROWS = {"train": [{"prompt": f"spell {w}", "completion": w} for w in ("audit", "cash")]}
task = Task("spelling", rows=lambda split: ROWS.get(split, []))
"""


@pytest.fixture
def general(files: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The data of a recipe, with four general rows."""
    path = tmp_path / "general.jsonl"
    rows = [{"prompt": f"spell {word}", "completion": word} for word in ("audit", "ledger", "cash", "fee")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {**{name: files[name] for name in ("train", "test")}, "general": str(path)}


def test_sft_and_dpo_train_on_them_and_a_reward_model_does_not(
    recipe: RecipeOf, general: dict[str, str], tmp_path: Path
) -> None:
    read = recipe([NO_CHECK, SFT, PAIRS, REWARD_MODEL, {**DPO, "sft_anchor": 0.5}], data=general)
    run(read, tmp_path / "run")
    made = len(lines(tmp_path / "run" / "pairs" / "pairs.jsonl"))

    def trained_on(stage: str) -> int:
        done = json.loads((tmp_path / "run" / stage / "done.json").read_text())
        return int(done["inputs"]["data"]["rows"])

    demonstrations = len(lines(Path(general["train"])))
    assert trained_on("sft") == demonstrations + 4
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
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "say fee", "chosen": "fee", "rejected": "fees"}) + "\n")
    given = recipe([NO_CHECK, {**DPO, "sft_anchor": 0.0, "data": str(pairs)}], data=general)
    with pytest.raises(InputError, match="general rows are given, and no stage trains on them"):
        run(given, tmp_path / "run")
    assert not (tmp_path / "run" / "dpo").exists()


def test_a_task_may_bring_them(
    recipe: RecipeOf, files: dict[str, str], general: dict[str, str], tmp_path: Path
) -> None:
    task = tmp_path / "spelling.py"
    task.write_text(TASK)
    data = {name: files[name] for name in ("train", "test")}
    run(recipe([NO_CHECK, SFT], data=data, general=f"{task}:task"), tmp_path / "run")
    done = json.loads((tmp_path / "run" / "sft" / "done.json").read_text())
    assert done["inputs"]["data"]["rows"] == len(lines(Path(files["train"]))) + 2

    with pytest.raises(InputError, match=r"general and data\.general both name general rows"):
        run(recipe([NO_CHECK, SFT], data=general, general=f"{task}:task"), tmp_path / "both")
    with pytest.raises(InputError, match="general is 'controls', and this task has no training rows"):
        run(recipe([NO_CHECK, SFT], data=data, general="controls"), tmp_path / "none")


def test_a_control_among_them_is_refused(recipe: RecipeOf, general: dict[str, str], tmp_path: Path) -> None:
    controls = tmp_path / "controls.jsonl"
    controls.write_text(json.dumps({"prompt": "spell audit", "answer": "audit"}) + "\n")
    with pytest.raises(InputError, match=r"(?s)rows that are measured on are trained on too.*controls"):
        run(recipe([NO_CHECK, SFT], data={**general, "controls": str(controls)}), tmp_path / "run")


def test_a_kl_in_place_of_their_cross_entropy_needs_some(
    recipe: RecipeOf, general: dict[str, str], tmp_path: Path
) -> None:
    sft = {**SFT, "general_kl": 2.0}
    run(recipe([NO_CHECK, sft], data=general), tmp_path / "run")
    found = [line["general_kl"] for line in lines(tmp_path / "run" / "sft" / "metrics.jsonl")]
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert max(found) > 1e-6

    without = {name: path for name, path in general.items() if name != "general"}
    with pytest.raises(InputError, match=r"stage 'sft': general_kl is 2, and there are no general rows"):
        run(recipe([NO_CHECK, sft], data=without), tmp_path / "none")
    assert not (tmp_path / "none" / "sft").exists()
