"""`tieout reward check`: the library proves itself, and rewards with a known hole do not."""

from __future__ import annotations

import doctest
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import scripted_rewards as scripted
import tieout.rewards.scoring.outcomes
import tieout.rows.spread
import tieout.tasks.wrong_statements
import tieout.vetting.attack.columns
import tieout.vetting.check
import tieout.vetting.golden_rows
from tieout.cli import reward as command
from tieout.rewards import REWARDS, load_reward
from tieout.rewards.library.exact import exact
from tieout.rewards.library.format import language, length, overlong, repetition, tags
from tieout.rewards.library.numeric import numeric
from tieout.rewards.library.rag import citation_accuracy, faithfulness, groundedness, relevance
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.runner import combine, reward_range
from tieout.rewards.text.figures import figure
from tieout.tasks import load_task
from tieout.trl.rewards import accuracy_reward
from tieout.vetting.check import Proof, prove
from tieout.vetting.golden_rows import with_gold

NUMBERS = [
    {"prompt": "?", "answer": a, "completion": a}
    for a in ("(5,062)", "$1,496.5", "36%", "25 bps", "$(9.8) million")
]
TALK = [
    {
        "prompt": "?",
        "completion": f"<think>The sum of {i} and {i} is what is asked.</think><answer>{2 * i}</answer>",
    }
    for i in range(10, 20)
]


def failing(proof: Proof) -> list[str]:
    return [check.name for check in proof.checks if not check.holds]


def test_the_examples_run() -> None:
    modules = (tieout.rewards.scoring.outcomes, tieout.vetting.check, tieout.vetting.attack.columns)
    for module in (*modules, tieout.vetting.golden_rows, tieout.rows.spread, tieout.tasks.wrong_statements):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("task", ["finance_statements", "rag", "style", "summaries"])
def test_the_reward_of_every_task_proves_itself(task: str) -> None:
    loaded = load_task(task)
    assert loaded.reward is not None
    assert loaded.gold is not None
    rows = [{**row, "completion": loaded.gold(row)} for row in list(loaded.rows("test"))[:40]]
    proof = prove(loaded.reward, rows)
    assert proof.holds, [check for check in proof.checks if not check.holds]
    assert all(check.tried >= 38 for check in proof.checks)


def test_exact_and_numeric_prove_themselves() -> None:
    assert prove(numeric, NUMBERS).holds
    assert prove(exact, NUMBERS).holds
    assert prove(exact, [{"prompt": "?", "answer": w, "completion": w} for w in ("net income", "cost")]).holds


@pytest.mark.parametrize(
    "reward", [tags, language, length, repetition, functools.partial(overlong, max_tokens=300)]
)
def test_rewards_for_form_prove_themselves_on_form(reward: Any) -> None:
    proof = prove(reward, TALK)
    assert proof.holds, [check for check in proof.checks if not check.holds]


def test_parts_of_rag_judge_a_part_and_the_proof_says_which() -> None:
    """Alone, none of them is a reward to train on: faithfulness pays for another fact of the passages."""
    rows = [row for row in load_task("rag").rows("test") if row["answer"]][:20]
    assert failing(prove(relevance, rows)) == ["perturbed"]
    assert failing(prove(faithfulness, rows)) == ["perturbed"]
    assert failing(prove(citation_accuracy, rows)) == []
    assert failing(prove(groundedness, rows)) == ["other gold", "perturbed"]


def test_numeric_proves_itself_on_every_row_of_tatqa(shared_data: Path) -> None:
    """Half of `273 million` is `273 m`, which is right: no perturbation."""
    task = load_task("numeric_qa", {"path": str(shared_data / "tatqa" / "tatqa_dataset_dev.json")})
    rows = [row for split in ("train", "test") for row in task.rows(split)]
    assert any(row["completion"].endswith(" million") and len(row["completion"]) == 11 for row in rows)
    proof = prove(numeric, rows)
    assert proof.holds, [check for check in proof.checks if not check.holds]
    assert {check.name: check.tried for check in proof.checks}["perturbed"] > 1.8 * len(rows)


def test_rows_of_tatqa_as_they_are_prove_numeric(shared_data: Path) -> None:
    """Question, answer and scale, and no completion: gold says the scale, as a completion must."""
    pages = json.loads((shared_data / "tatqa" / "tatqa_dataset_dev.json").read_text("utf-8"))
    asked = [
        q for page in pages for q in page["questions"] if q["answer_type"] in ("arithmetic", "count", "span")
    ]
    rows = [
        {
            "prompt": q["question"],
            "answer": a[0] if isinstance(a := q["answer"], list) else a,
            "scale": q["scale"],
        }
        for q in asked
    ]
    rows = [row for row in rows if figure(f"{row['answer']} {row['scale']}", footnotes=False)]
    assert len(rows) > 1100
    proof = prove(numeric, rows)
    assert proof.holds, [check for check in proof.checks if not check.holds]


def test_reasoning_before_a_marked_answer_is_not_perturbed(shared_data: Path) -> None:
    """Solutions of GSM8K end in `#### 72`: another figure in the reasoning leaves the answer right."""
    lines = (shared_data / "gsm8k" / "train_first_2000.jsonl").read_text("utf-8").splitlines()[:300]
    rows = [
        {"prompt": r["question"], "completion": r["answer"], "answer": r["answer"].rpartition("#### ")[2]}
        for r in map(json.loads, lines)
    ]
    proof = prove(numeric, rows)
    assert proof.holds, [check for check in proof.checks if not check.holds]


def test_nor_are_lines_before_an_answer_that_nothing_marks(shared_data: Path) -> None:
    rows = []
    for line in (shared_data / "gsm8k" / "train_first_2000.jsonl").read_text().splitlines()[:200]:
        row = json.loads(line)
        steps, _, answer = row["answer"].partition("\n#### ")
        gold = f"{steps}\nThe answer is {answer}"
        rows.append({"prompt": row["question"], "answer": answer, "completion": gold})
    assert failing(prove(numeric, rows)) == []
    assert "perturbed" in failing(prove(lambda completions, **_: [1.0] * len(completions), rows))


def test_text_gold_is_perturbed_in_what_it_says() -> None:
    """A reward that looks for the same words does not see a denial or a direction."""

    def words(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
        pairs = zip(completions, answer, strict=True)
        return [float(set(a.lower().split()) <= {"rose", "fell", *c.lower().split()}) for c, a in pairs]

    rows = [
        {"prompt": "?", "answer": a, "completion": a} for a in ("Sales rose in June", "Costs at Acme fell")
    ]
    (check,) = [c for c in prove(words, rows).checks if c.name == "perturbed"]
    assert any("fell in June" in failure for failure in check.failures)
    assert prove(exact, rows).holds


def first_number(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
    """The hole that everyone writes: any text with the right digits somewhere."""
    return [
        float(bool(set(re.findall(r"[0-9.]+", c)) & set(re.findall(r"[0-9.]+", a))))
        for c, a in zip(completions, answer, strict=True)
    ]


@pytest.mark.parametrize(
    ("reward", "fails"),
    [
        (lambda completions, **_: [1.0] * len(completions), ["empty", "other gold", "perturbed"]),
        (lambda completions, **_: [0.0] * len(completions), ["gold", "other gold", "perturbed"]),
        (lambda completions, **_: [float(bool(c)) for c in completions], ["other gold", "perturbed"]),
        (lambda completions, answer, **_: [float(c == a) for c, a in zip(completions, answer, strict=True)],
         ["re-formatted"]),
        (lambda completions, answer, **_: [float(a[:1] in c) for c, a in zip(completions, answer, strict=True)],
         ["perturbed"]),
        (lambda completions, **_: [float(len(completions) == 1 or i == 0) for i, _c in enumerate(completions)],
         ["empty", "other gold", "perturbed", "steady"]),
        (scripted.raises, ["gold", "empty", "other gold", "perturbed", "re-formatted"]),
        (scripted.not_a_number, ["gold"]),
    ],
)  # fmt: skip
def test_rewards_with_holes_do_not_pass(reward: Any, fails: list[str]) -> None:
    found = failing(prove(reward, NUMBERS))
    assert found
    assert set(found) & set(fails)


def test_a_combined_reward_is_proven_as_a_whole() -> None:
    assert prove(combine({exact: 1.0, length: 0.1}), NUMBERS).holds
    unproven = prove(combine({exact: 1.0, numeric: -0.5}), NUMBERS)
    assert not unproven.holds


def test_rows_without_gold_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"row 1 has no gold in column 'completion' or answer, .*; it has: prompt, answer"
    ):
        prove(exact, [{"prompt": "?", "answer": None}])
    with pytest.raises(ValueError, match="no rows"):
        prove(exact, [])
    with pytest.raises(ValueError, match="needs column 'question'"):
        prove(relevance, TALK)


def test_every_reward_of_the_library_declares_its_range_and_says_what_it_is() -> None:
    for name in REWARDS:
        reward = load_reward(name)
        assert reward_range(reward) is not None, name
        assert len((reward.__doc__ or "").split()) > 5, name


# ---- the command


def rows_file(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_proves_a_reward_of_the_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [{"prompt": row["prompt"], "answer": row["answer"]} for row in NUMBERS]  # gold is the answer
    out = tmp_path / "out.json"
    command.main(["check", "numeric", "--data", rows_file(tmp_path, answers), "--json", str(out)])
    assert "proven on these rows" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["holds"]
    assert {check["name"]: len(check["failures"]) for check in found["checks"]} == dict.fromkeys(
        tieout.vetting.check.CHECKS, 0
    )


def test_the_command_takes_rows_from_all_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def short(completions, answer, **_):\n"
        "    return [(c.strip() == a) * (1.0 if len(a) < 5 else 0.5) for c, a in zip(completions, answer)]\n"
    )
    rows = [{"prompt": "?", "answer": f"{i}"} for i in range(1000, 1060)]
    rows += [{"prompt": "?", "answer": f"{i}"} for i in range(10_000, 10_020)]  # here gold is not paid
    arguments = ["check", f"{file}:short", "--data", rows_file(tmp_path, rows), "--workers", "0"]
    with pytest.raises(SystemExit):
        command.main([*arguments, "--max-rows", "12"])
    assert "gold: '100" in capsys.readouterr().out


def test_the_command_fails_a_reward_with_a_hole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def cheap(completions, **_):\n    return [1.0 if c else 0.0 for c in completions]\n")
    with pytest.raises(SystemExit) as stop:
        command.main(["check", f"{file}:cheap", "--data", rows_file(tmp_path, NUMBERS), "--workers", "1"])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "NOT proven" in shown
    assert "other gold: " in shown


def test_the_command_names_the_one_that_lists_the_library() -> None:
    with pytest.raises(ValueError, match=r"no command 'reward prove'\n.*`tieout rewards` lists"):
        command.main(["prove"])


def test_a_declared_range_is_kept_through_partial_and_workers() -> None:
    assert reward_range(functools.partial(length, max_words=3)) == (-1.0, 0.0)
    with Workers(1) as workers:
        assert prove(functools.partial(length, max_words=40), TALK, workers).holds


@pytest.mark.parametrize(
    "row",
    [
        {"completion": "7"},
        {"completion": [{"role": "assistant", "content": "7"}]},
        {"answer": 7},
        {"solution": "7"},
        {"answer": None, "ground_truth": "7"},
        {"answer": float("nan"), "solution": ["8"], "ground_truth": 7},
        {"answer": "8", "solution": "7", "question": None, "asked": "solution"},
        {"question": "gold of the task"},
    ],
)
def test_gold_is_the_completion_else_the_tasks_else_the_answer(row: dict[str, Any]) -> None:
    golden = with_gold(row, (lambda _: "7") if row.get("question") else None, [row.get("asked", "")])
    assert golden is not None
    assert golden["completion"] == "7"
    assert with_gold({"prompt": "?", "completion": " "}) is None
    assert prove(exact, [{"prompt": "?", "answer": w} for w in ("net income", "cost")]).holds
    solved = [{"prompt": f"{n} + {n}?", "solution": f"It is \\boxed{{{2 * n}}}"} for n in (14, 23, 31, 46)]
    assert prove(accuracy_reward, solved).num_rows == 4, "TRL's reward and its column"
