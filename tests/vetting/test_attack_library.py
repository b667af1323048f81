"""The attack on every reward that is registered finds nothing: one that is added later is attacked too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from planted_rewards import CODE, SUMS, TAGS, WORDS

from tieout.rewards import REWARDS, load_reward
from tieout.rewards.library.judge import Judge
from tieout.rewards.library.rag import hallucination
from tieout.rewards.scoring.outcomes import ranged
from tieout.samplers.mock import MockSampler
from tieout.sandbox.choose import available
from tieout.tasks import load_task
from tieout.types import Prompt, Row
from tieout.vetting.attack import Attack, AttackSettings, attack

FORM = {"language", "length", "overlong", "repetition", "tags"}


@cache
def _task_rows(name: str) -> list[Row]:
    rows = load_task(name).rows("train")[:12]
    # One whose passages lack the answer first: there gold is to say so.
    return sorted(rows, key=lambda row: (bool(row.get("answer")), row is not rows[0]))[-9:]


def _reconciled_rows() -> list[Row]:
    rows = []
    for i in range(4):
        values = {"Assets": 100 + 9 * i, "Liabilities": 60 + 2 * i, "StockholdersEquity": 37 + 7 * i}
        values["MinorityInterest"] = 3
        evidence = {name: f"{name} | {value}" for name, value in values.items()}
        source = f"Balance sheet of company {i}\n" + "\n".join(f"{line} | 7" for line in evidence.values())
        share = round(100 * values["Liabilities"] / values["Assets"], 1)
        ratio = {"numerator": "Liabilities", "denominator": "Assets", "digits": 1, "percent": True}
        gold = {"figures": values, "ratios": {"debt": share}, "citations": evidence}
        rows.append(
            {
                "prompt": f"Extract the balance sheet.\n{source}",
                "figures": values,
                "ratios": {"debt": ratio},
                "source": source,
                "evidence": evidence,
                "completion": json.dumps(gold),
            }
        )
    return rows


def _numeric_rows() -> list[Row]:
    golds = ["(5,062)", "$1,496.5 million", "8.4%", "25 bps"]
    return [{"prompt": f"What was item {i}?", "answer": g, "completion": g} for i, g in enumerate(golds)]


def _calculated_rows() -> list[Row]:
    golds = {
        "450 / 1,250 x 100 percent": "36.0%",
        "1,000 - 6,062 million": "(5,062) million",
        "9 / 4": "2.25",
    }
    return [
        {"prompt": f"What was item {i}?", "answer": answer, "completion": said}
        for i, (said, answer) in enumerate(golds.items())
    ]


ROWS: dict[str, Callable[[], Sequence[Row]]] = {
    **dict.fromkeys(FORM, lambda: TAGS),
    **dict.fromkeys(
        ("citation_accuracy", "faithfulness", "hallucination", "rag", "relevance"), lambda: _task_rows("rag")
    ),
    "summary": lambda: _task_rows("summaries"),
    "code": lambda: CODE,
    "exact": lambda: [{**row, "answer": row["label"]} for row in WORDS],
    "finance_statements": lambda: _task_rows("finance_statements"),
    "numeric": _numeric_rows,
    "calculated": _calculated_rows,
    "reconciled": _reconciled_rows,
    "reconciled_ladder": _reconciled_rows,
}


def attacked(reward: Any, rows: Sequence[Row], **options: Any) -> Attack:
    return attack(reward, rows, AttackSettings(seconds=60.0, **{"max_rows": 2, "num_search": 30, **options}))


ACCEPTED = {
    "reconciled_ladder": ["form against substance"],
    "faithfulness": ["regurgitation"],
    "hallucination": ["contradiction", "statement", "regurgitation"],
    "relevance": ["statement"],
}
"""Found by design: the ladder has the steps 0.2, 0.5, 0.7 and 1, of which half are for form; the others are parts of
`rag`: what is copied from the passages is faithful, what is put together from them or denied is not made up, and gold's
figure is relevant whatever is said of it."""


@ranged(0, 1)
def nothing_made_up(completions: Sequence[str], context: Sequence[Any], **_: Any) -> list[float | None]:
    """The penalty above 0: of what gold gets, which is 0, an attack can take no share."""
    return [None if score is None else 1 + score for score in hallucination(completions, context)]


def test_every_registered_reward_is_attacked() -> None:
    assert set(ROWS) == set(REWARDS), "give rows for the new reward in ROWS"


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_no_exploit_in_the_library(name: str) -> None:
    options: dict[str, Any] = {}
    if name == "code":
        if not any(i.works for i in available()):
            pytest.skip("no namespaces here")
        options = {"num_search": 0, "classes": ("code", "constant")}
    reward = nothing_made_up if name == "hallucination" else load_reward(name)
    result = attacked(reward, ROWS[name](), **options)
    assert result.form_only == (name in FORM)
    assert sum(result.probes.values()) > 40
    assert [finding.kind for finding in result.findings] == ACCEPTED.get(name, [])


def test_form_before_figures_is_found_and_figures_before_form_are_left_alone() -> None:
    rows = _task_rows("finance_statements")
    classes = ("form against substance",)
    for credit, found in (("ladder", ["form against substance"]), ("figures", [])):
        reward = load_task("finance_statements", {"credit": credit}).reward
        result = attacked(reward, rows, classes=classes, num_search=0)
        assert result.probes["form against substance"] >= 6
        assert [finding.kind for finding in result.findings] == found
        for finding in result.findings:
            assert finding.score == 0.5
            assert finding.why.startswith("well-formed and wrong; the right answer ")
            assert finding.why.endswith((" gets 0.00", " gets 0.44"))


def test_no_exploit_of_a_judge_that_keeps_to_its_marks() -> None:
    def reply(prompt: Prompt) -> str:
        system, user = (turn["content"] for turn in prompt)  # type: ignore[index, union-attr]
        (mark,) = re.findall(r'"mark": "([0-9a-f]+)"', system)
        said = dict(re.findall(rf"\[([a-z ]+) {mark}\]\n(.*?)\n\[end of \1 {mark}\]", user, re.DOTALL))
        answers = re.findall("answer:(.*)", said["completion"])
        grade = 5 if [answer.strip() for answer in answers] == [said["target"]] else 1
        return "Reasons.\n" + json.dumps({"mark": mark, "score": grade})

    judge = Judge(MockSampler(reply), "5: the answer is right. 1: it is wrong.", shows=("target",))
    result = attacked(judge, SUMS, max_rows=1)
    assert result.findings == []
    assert result.probes["judge"] > 10
