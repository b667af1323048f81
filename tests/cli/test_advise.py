"""`tieout advise`: what it says of rows, and that the recipe it writes is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.advise import main
from tieout.errors import InputError
from tieout.pipelines.reading import read_recipe
from tieout.storage.jsonl import write_jsonl

SUMS = [{"prompt": f"{i} + {i}?", "completion": str(2 * i), "answer": str(2 * i)} for i in range(11, 41)]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "sums.jsonl", SUMS)
    return tmp_path / "sums.jsonl"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main([*arguments, "--json"])
    return dict(json.loads(capsys.readouterr().out))


def test_demonstrations_with_a_reward_are_sampled_and_a_recipe_is_written(
    sums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "recipe.yaml"
    asked = [
        str(sums),
        "--reward",
        "numeric",
        "--model",
        "tieout-base",
        "--max-new-tokens",
        "8",
        "--samples",
        "16",
    ]
    found = said(capsys, *asked, "--out", str(out))
    assert found["found"]["kind"] == "demonstration"
    assert found["found"]["problems"] == []
    assert [len(group) for group in found["found"]["samples"]["scores"]] == [2] * 8
    assert found["found"]["samples"]["gold"] == [1.0] * 8
    assert found["advice"][-1]["method"] == "grpo"
    recipe = read_recipe(str(out), [], [])
    assert [type(stage).__name__ for stage in recipe.stages[:2]] == ["Check", "Train"]
    assert recipe.model == "tieout-base"
    with pytest.raises(InputError, match="exists already"):
        main([*asked, "--out", str(out)])


def test_what_the_reward_asks_for_and_the_rows_lack_is_refused_before_anything_is_sampled(
    sums: Path, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "bare.jsonl", [{"prompt": "1 + 1?"}])
    with pytest.raises(InputError, match="needs column 'answer'"):
        main([str(tmp_path / "bare.jsonl"), "--reward", "numeric", "--model", "tieout-base"])
    with pytest.raises(InputError, match="--out needs --reward"):
        main([str(sums), "--out", str(tmp_path / "recipe.yaml")])
    with pytest.raises(InputError, match="at least twice each"):
        main([str(sums), "--samples", "8"])


def test_the_completion_is_the_answer_where_the_reward_asks_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a training by the reward."""
    write_jsonl(tmp_path / "rows.jsonl", [{k: row[k] for k in ("prompt", "completion")} for row in SUMS])
    found = said(capsys, str(tmp_path / "rows.jsonl"), "--reward", "numeric")
    assert found["found"]["problems"] == []
    assert found["found"]["tried"].startswith("proven on 8 rows")


@pytest.mark.parametrize(
    ("row", "kind", "first"),
    [
        ({"prompt": "a?", "chosen": "yes", "rejected": "no"}, "preference", "dpo"),
        ({"prompt": "a?", "completion": "yes", "label": True}, "label", "kto"),
        ({"prompt": "a?", "completions": ["yes", "no"], "scores": [1, 0]}, "ranking", "dpo"),
        ({"instruction": "Answer.", "input": "a?", "output": "yes"}, "demonstration", "sft"),
        (
            {"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "yes"}]},
            "demonstration",
            "sft",
        ),
        ({"prompt": "a?"}, "prompt", "grpo"),
    ],
)
def test_rows_are_recognised_by_their_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], kind: str, first: str
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [row] * 3)
    found = said(capsys, str(tmp_path / "rows.jsonl"))
    assert found["found"]["kind"] == kind
    assert found["advice"][0]["method"] == first


def test_real_pairs_of_people(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LLMBar's natural set: 100 pairs are few."""
    rows = json.loads((shared_data / "llmbar" / "Natural.json").read_text())
    pairs = []
    for row in rows:
        both = row["output_1"], row["output_2"]
        chosen, rejected = both if row["label"] == 1 else both[::-1]
        pairs.append({"prompt": row["input"], "chosen": chosen, "rejected": rejected})
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    main([str(tmp_path / "pairs.jsonl")])
    shown = capsys.readouterr().out
    assert "100 pairs; below 1,000 it is noisy" in " ".join(shown.split())


def test_samples_are_told_from_json_where_the_rows_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"total of {i}?", "completion": f'{{"total": {i}}}'} for i in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--reward", "exact", "--model", "tieout-base", "--max-new-tokens", "4", "--samples", "16"]
    found = said(capsys, str(path), *asked)
    assert found["found"]["samples"]["formed"] == 0
    assert "teach the form" in [one["method"] for one in found["advice"] if one["verdict"] == "first"]
