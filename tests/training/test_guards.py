"""What a recipe watches: said, logged, and acted on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.train import main
from tieout.errors import InputError, StopTraining
from tieout.training.alarms import Adjustments, RollBack
from tieout.training.guards import Guards, check_gold, watch
from tieout.types import Completion, Group

ModelFolder = Callable[[str], Path]


def group(text: str, score: float, **row: Any) -> Group:
    completion = Completion([1, 2], [True] * 2, logprobs=[-1.0, -1.0], text=text)
    return Group([0], [completion] * 4, [score] * 4, {"prompt": "p", **row})


def told(guards: Guards, steps: int, groups: Callable[[int], list[Group]], gold: Any = None) -> list[str]:
    """What is said in so many steps whose entropy falls from 1 to 0.1 after the fifth."""
    said: list[str] = []
    monitors = watch(guards, gold, None, Adjustments(), lambda step, reason: said.append(f"{step}: {reason}"))
    for step in range(1, steps + 1):
        metrics = {"entropy": 1.0 if step <= 5 else 0.1, "length": 2.0}
        for monitor in monitors:
            monitor(step, groups(step), metrics)
    return said


def test_a_limit_warns_or_stops_as_it_is_told() -> None:
    def calm(step: int) -> list[Group]:
        return [group(f"answer {step}", 0.5)]

    (reason,) = told(Guards(), 10, calm)
    assert reason.startswith("10: entropy went from 1 to 0.1")
    assert told(Guards(act="off"), 10, calm) == []
    assert told(Guards(entropy=0), 10, calm) == []
    with pytest.raises(StopTraining, match="step 10: entropy"):
        told(Guards(act="stop"), 10, calm)


def test_an_impossible_row_that_is_passed_ends_the_run_also_where_limits_only_warn() -> None:
    with pytest.raises(StopTraining, match="an impossible row scored 1"):
        told(Guards(), 1, lambda step: [group("sys.exit(0)", 1.0, impossible_row=True)])


def test_gold_that_falls_alone_brings_back_an_earlier_checkpoint() -> None:
    def gold(completions: list[str], **_: Any) -> list[float]:
        return [float(text) for text in completions]

    def hacked(step: int) -> list[Group]:
        gold_score = 0.9 if step <= 8 else 0.2
        return [group(f"{gold_score + i / 1000}", 1 - gold_score) for i in range(8)]

    with pytest.raises(RollBack, match=r"gold fell from 0\.90. to 0\.\d+ while the reward went \+"):
        told(Guards(entropy=0), 20, hacked, gold)


def test_the_command_logs_alarms_and_checks_gold_before_it_trains(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    rewards = tmp_path / "rewards.py"
    rewards.write_text(
        "def always(completions, **_):\n    return [1.0] * len(completions)\n\n"
        "def gold(completions, answer, key, **_):\n    return [0.0] * len(completions)\n"
    )
    rows = [{"prompt": f"say {i}", "answer": str(i), "impossible_row": True} for i in range(8)]
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "--model": tiny_model("llama"),
        "--data": data,
        "--reward": f"{rewards}:always",
        "--out": out,
        "--unchecked": "a test",
    }
    given |= {"--batch-size": 4, "--group-size": 2, "--max-new-tokens": 4, "--reward-workers": 0}

    def train(**more: Any) -> None:
        main(["grpo", *(str(x) for pair in (given | more).items() for x in pair)])

    with pytest.raises(ValueError, match="key"):
        train(**{"--guards.gold": f"{rewards}:gold", "--out": tmp_path / "other"})
    with pytest.raises(StopTraining, match="an impossible row scored 1"):
        train()
    (line,) = (out / "grpo" / "alarms.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 1
    assert "impossible" in json.loads(line)["reason"]


def test_a_model_trained_in_full_needs_no_reference_to_be_watched(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def length(completions, **_):\n    return [float(len(c)) for c in completions]\n")
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(4)))
    given = {
        "--model": tiny_model("llama"),
        "--data": data,
        "--reward": f"{rewards}:length",
        "--out": out,
        "--unchecked": "a test",
    }
    given |= {"--batch-size": 4, "--group-size": 2, "--max-new-tokens": 4, "--reward-workers": 0}
    main(["grpo", *(str(x) for pair in given.items() for x in pair), "--adapter.method", "full"])
    (line,) = (out / "grpo" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["score"] > 0


def test_gold_that_a_later_row_has_no_column_for_is_refused_with_the_row() -> None:
    rows = [{"prompt": f"{i}+{i}?", "answer": str(2 * i)} for i in range(3)]
    check_gold(Guards(gold="numeric"), rows)
    del rows[2]["answer"]
    with pytest.raises(InputError, match=r"needs column 'answer'.*2 of 3 have 'answer', .*'2\+2\?'"):
        check_gold(Guards(gold="numeric"), rows)
