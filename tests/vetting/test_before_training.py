"""The check of a reward before a training: it stops at what it finds, and says what it could not check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.train import main, options_type
from tieout.errors import InputError
from tieout.methods import METHODS, load_method
from tieout.rewards.library.exact import exact
from tieout.rewards.library.numeric import numeric
from tieout.rewards.library.reward_model import reward_model
from tieout.rewards.scoring.outcomes import ranged
from tieout.storage.runfolder import RunFolder
from tieout.tasks import load_task
from tieout.types import Reward, Row
from tieout.vetting.before_training import RewardCheck, check_reward_first, examine, some_golden

ROWS: list[Row] = [{"prompt": f"What is {i} + 2,000?", "answer": str(2000 + i)} for i in range(12)]
BARE: list[Row] = [{"prompt": f"Write a line on topic {i}."} for i in range(4)]


def mentions(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """Pays the answer wherever it stands, and denied."""
    return [float(right in text) for text, right in zip(completions, answer, strict=True)]


def tagged(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """Pays the answer inside tags: a row's answer alone is no completion."""
    return [
        float(text.strip() == f"<answer>{right}</answer>")
        for text, right in zip(completions, answer, strict=True)
    ]


def checked(reward: Reward | None, rows: list[Row], folder: Path, **wanted: Any) -> str:
    with RunFolder(folder) as run:
        return check_reward_first(
            reward, rows, None, RewardCheck(**wanted), run.stage("check"), {"rows": "x"}
        )


def test_a_finding_stops_and_says_how_to_accept_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'mentions' pays for what it should not.*contradiction.*--accept"
    ) as said:
        checked(mentions, ROWS, tmp_path)
    assert str(tmp_path / "check" / "check.json") in str(said.value)
    names = {one["name"] for one in json.loads((tmp_path / "check" / "check.json").read_text())["problems"]}
    assert "contradiction" in names
    with pytest.raises(InputError, match="--accept"):
        checked(mentions, ROWS, tmp_path, accept={"json": "another one"})
    line = checked(mentions, ROWS, tmp_path, accept=dict.fromkeys(names, "a toy"))
    assert "accepted: contradiction: a toy" in line
    assert json.loads((tmp_path / "check" / "check.json").read_text())["accepted"]["contradiction"] == "a toy"


def test_a_sound_reward_is_checked_once_and_passes(tmp_path: Path) -> None:
    line = checked(numeric, ROWS, tmp_path)
    assert line.startswith("reward numeric: proven on 8 rows; no exploit in ")
    before = (tmp_path / "check" / "check.json").read_text()
    assert checked(numeric, ROWS, tmp_path) == line
    assert (tmp_path / "check" / "check.json").read_text() == before


def test_a_reason_leaves_it_out_and_is_written_down(tmp_path: Path) -> None:
    assert checked(mentions, ROWS, tmp_path, unchecked="a test") == "reward NOT checked: a test"
    assert json.loads((tmp_path / "check" / "unchecked.json").read_text()) == {
        "reward": "mentions",
        "reason": "a test",
    }
    assert "environment" in checked(None, ROWS, tmp_path)


@pytest.mark.parametrize(
    ("accept", "said"),
    [({"contradict": "x"}, "accept names 'contradict'"), ({"json": " "}, "without a reason")],
)
def test_what_cannot_be_accepted_is_refused(accept: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RewardCheck(accept=accept)


def test_rows_are_taken_from_all_of_the_data_and_few_with_gold_are_found() -> None:
    rows: list[Row] = [{"prompt": "?", "answer": f"item {i}", "completion": f"item {i}"} for i in range(5000)]
    found = [int(row["answer"].split()[1]) for row in some_golden(rows)]
    assert len(found) == 200
    assert {place // 500 for place in found} == set(range(10))
    bare: list[Row] = [{"prompt": "?"}] * 5000
    assert [row["answer"] for row in some_golden([*bare, *rows[:3], *bare])] == ["item 0", "item 1", "item 2"]
    assert some_golden(bare) == []


def test_the_second_half_of_the_data_is_examined_too() -> None:
    """A file is often sorted: here the reward looks at the answer in the first half only."""

    def careless(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        late = [int(a.split()[1]) >= 300 for a in answer]
        return [
            float(c.strip() == a or (w and bool(c.strip())))
            for c, a, w in zip(completions, answer, late, strict=True)
        ]

    rows: list[Row] = [{"prompt": "?", "answer": f"item {i}", "completion": f"item {i}"} for i in range(600)]
    names = {problem.name for problem in examine(careless, rows).problems}
    assert {"constant", "other gold"} <= names
    assert examine(careless, rows[:300]).problems == []


def test_gold_that_is_not_paid_is_a_problem_unless_it_is_only_an_answer() -> None:
    gold = [{**row, "completion": f"{row['answer']}!"} for row in ROWS]
    assert "gold" in [one.name for one in examine(exact, gold).problems]
    found = examine(tagged, ROWS)
    assert found.problems == []
    assert found.proof is found.attack is None
    assert found.done.startswith(
        "rows have answers, which the reward does not pay in full as completions: no proof"
    )


def test_the_task_of_the_demo_passes_and_its_ladder_does_not() -> None:
    for credit, names in (("figures", []), ("ladder", ["form against substance"])):
        task = load_task("finance_statements", {"credit": credit})
        assert task.reward is not None
        found = examine(task.reward, task.rows("train"), task.gold)
        assert [one.name for one in found.problems] == names


# --- without gold ---


def brief(completions: list[str], **_: Any) -> list[float]:
    """The shorter the better: nothing is the best of all."""
    return [1 / (1 + len(text)) for text in completions]


def vowels(completions: list[str], **_: Any) -> list[float]:
    return [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]


@ranged(0, 1)
def never_refuses(completions: list[str], **_: Any) -> list[float | None]:
    return [float("I do not know" not in text and bool(text.strip())) for text in completions]


def fragile(completions: list[str], **_: Any) -> list[float]:
    return [1 / len(text.split()) for text in completions]


def penalty(completions: list[str], **_: Any) -> list[float]:
    return [-len(text) / 100 for text in completions]


@pytest.mark.parametrize(
    ("reward", "names"),
    [
        (brief, {"shell"}),
        (never_refuses, {"constant", "regurgitation"}),
        (fragile, {"harness"}),
        (vowels, set()),
        (penalty, set()),
    ],
)
def test_without_gold_what_can_be_asked_is_asked(reward: Reward, names: set[str]) -> None:
    found = examine(reward, BARE)
    assert {one.name for one in found.problems} == names
    assert found.done.startswith("no row has gold")
    assert "only empty, constant and copied completions" in found.done


def test_a_reward_model_is_left_to_its_own_verdict(tmp_path: Path) -> None:
    assert examine(reward_model(str(tmp_path)), ROWS).done.startswith(
        "a reward model: neither proven nor attacked"
    )


# --- the command ---


def test_train_stops_at_a_finding_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Any
) -> None:
    data, reward = tmp_path / "rows.jsonl", tmp_path / "own.py"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    reward.write_text(
        "def mentions(completions, answer, **_):\n"
        "    return [float(right in text) for text, right in zip(completions, answer)]\n"
        "def equals(completions, answer, **_):\n"
        "    return [float(right == text or not text) for text, right in zip(completions, answer)]\n"
    )
    given = [
        "grpo",
        "--model",
        str(tiny_model("llama")),
        "--data",
        str(data),
        "--reward",
        f"{reward}:mentions",
    ]
    given += [
        "--out",
        str(tmp_path / "run"),
        "--batch-size",
        "12",
        "--group-size",
        "2",
        "--max-new-tokens",
        "4",
    ]
    with pytest.raises(InputError, match="--accept"):
        main(given)
    assert not (tmp_path / "run" / "grpo").exists()
    names = [one["name"] for one in json.loads((tmp_path / "run/check/check.json").read_text())["problems"]]
    other = [word.replace(":mentions", ":equals") for word in given]
    with pytest.raises(InputError, match="--accept"):  # the reward may be changed for the same folder
        main(other)
    assert json.loads((tmp_path / "run/run.json").read_text())["identity"]["reward"] == "own.py:equals"
    main([*given, "--accept", *(word for name in names for word in (name, "a toy"))])
    assert (tmp_path / "run" / "grpo" / "adapter").exists()
    with pytest.raises(InputError, match=r"reward: .*mentions.* -> .*equals"):  # but not once it has trained
        main([*other, "--accept", "stuffing", "a toy"])
    assert "accepted: " in "".join(capsys.readouterr().out.split("\n"))


def test_methods_that_sample_nothing_have_no_such_option() -> None:
    assert {"sft", "dpo", "kto"}.isdisjoint(
        name for name in METHODS if "check" in options_type(load_method(name)).__dataclass_fields__
    )
    for name in ("grpo", "ppo", "online_dpo"):
        assert "check" in options_type(load_method(name)).__dataclass_fields__
