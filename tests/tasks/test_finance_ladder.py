"""The ladder of `finance_statements`: 0.2 for JSON, 0.5 for the schema, 0.7 for right figures, 1 with citations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.tasks import load_task
from tieout.tasks.finance_statements import FLAWS, SIZES, corrupt, gold
from tieout.tasks.flaws import compact
from tieout.types import Row

task = load_task("finance_statements", {"credit": "ladder"})
TEST = [task.rows("test")[i] for i in range(120)]
MIXED = [task.rows(split)[i] for split in SIZES for i in range(40)]


def reward_of(completion: str, row: Row) -> float:
    columns = {key: [value] for key, value in row.items() if key not in ("prompt", "completion")}
    assert task.reward is not None
    (value,) = task.reward([completion], prompts=[row["prompt"]], **columns)
    parts = [part([completion], **columns)[0] for part in task.parts.values()]
    assert value == pytest.approx(sum(part for part in parts if part is not None), abs=1e-12)
    assert value is not None
    return value


def edited(row: Row, edit: Callable[[dict[str, Any]], object]) -> str:
    reply = json.loads(gold(row))
    edit(reply)
    return compact(reply)


def test_an_unknown_credit_is_refused() -> None:
    with pytest.raises(InputError, match=r"'credit' is 'steps' .*; expected one of 'figures', 'ladder'"):
        load_task("finance_statements", {"credit": "steps"})


def test_gold_scores_one() -> None:
    for row in MIXED:
        assert reward_of(gold(row), row) == 1.0


def test_gold_of_another_row_fails() -> None:
    for i, row in enumerate(TEST):
        assert 0.5 <= reward_of(gold(TEST[i - 1]), row) < 0.7


def test_another_question_on_the_same_statement_fails() -> None:
    for row in TEST:
        other = {**row["total"], "value": row["total"]["other_value"]}
        swapped = [{**part, "value": part["other_value"]} for part in row["components"]]
        if other["value"] != row["total"]["value"]:
            assert reward_of(gold({**row, "total": other, "components": swapped}), row) < 0.7


@pytest.mark.parametrize("flaw", [*FLAWS, "truncated"])
def test_every_flaw_scores_below_gold(flaw: str) -> None:
    rng = random.Random(0)
    for row in MIXED:
        for _ in range(2):
            value = reward_of(corrupt(row, rng, flaw), row)
            assert value < 1
            if "citation" in flaw:
                assert value >= 0.7
            elif flaw == "truncated":
                assert value == 0
            else:
                assert 0.5 < value < 0.7


# --- holes ---


def all_zero(reply: dict[str, Any]) -> None:
    reply["total"] = 0
    for part in reply["components"]:
        part["value"] = 0


def made_up(reply: dict[str, Any]) -> None:
    reply.update(
        components=[{"name": "A", "value": 3}, {"name": "B", "value": 4}], total=7, citations=["A 3", "B 4"]
    )


def plug(reply: dict[str, Any]) -> None:
    reply["components"][1:] = [{"name": "Other", "value": reply["total"] - reply["components"][0]["value"]}]


def one_letter(reply: dict[str, Any]) -> None:
    reply["citations"] = [citation[0] for citation in reply["citations"]]


def crossed(reply: dict[str, Any]) -> None:
    reply["citations"] = [" ".join(reply["citations"])]


def figures_only(reply: dict[str, Any]) -> None:
    reply["citations"] = [citation.rsplit(" ", 1)[-1] for citation in reply["citations"]]


HOLES: dict[str, tuple[Callable[[dict[str, Any]], object], float, float]] = {
    "components missing": (lambda r: r.pop("components"), 0.2, 0.5),
    "components null": (lambda r: r.update(components=None), 0.2, 0.5),
    "components empty": (lambda r: r.update(components=[]), 0.2, 0.5),
    "components empty, total 0": (lambda r: r.update(components=[], total=0), 0.2, 0.5),
    "total missing": (lambda r: r.pop("total"), 0.2, 0.5),
    "total null": (lambda r: r.update(total=None), 0.2, 0.5),
    "total a bool": (lambda r: r.update(total=True), 0.2, 0.5),
    "total a string": (lambda r: r.update(total=str(r["total"])), 0.2, 0.5),
    "value a string": (lambda r: r["components"][0].update(value="12"), 0.2, 0.5),
    "value a bool": (lambda r: r["components"][0].update(value=False), 0.2, 0.5),
    "name empty": (lambda r: r["components"][0].update(name=""), 0.2, 0.5),
    "name blank": (lambda r: r["components"][0].update(name=" \n"), 0.2, 0.5),
    "citations missing": (lambda r: r.pop("citations"), 0.2, 0.5),
    "citations of numbers": (lambda r: r.update(citations=[1]), 0.2, 0.5),
    "a key too many": (lambda r: r.update(note="ok"), 0.2, 0.5),
    "key in capitals": (lambda r: r.update(Total=r.pop("total")), 0.2, 0.5),
    "flood of citations": (lambda r: r.update(citations=r["citations"] * 30), 0.2, 0.5),
    "flood of components": (lambda r: r.update(components=r["components"] * 30), 0.2, 0.5),
    "all zeros": (all_zero, 0.5, 0.7),
    "adds up, not in the source": (made_up, 0.5, 0.51),
    "plug line": (plug, 0.5, 0.7),
    "the total as its own component": (
        lambda r: r.update(components=[{"name": "Total", "value": r["total"]}]),
        0.5,
        0.7,
    ),
    "a component twice, and its negative": (
        lambda r: r["components"].extend(
            [r["components"][0], {"name": "Correction", "value": -r["components"][0]["value"]}]
        ),
        0.5,
        0.7,
    ),
    "no citations": (lambda r: r.update(citations=[]), 0.7, 0.7),
    "empty citations": (lambda r: r.update(citations=[""] * len(r["citations"])), 0.7, 0.7),
    "one-letter citations": (one_letter, 0.7, 0.7),
    "all citations in one": (crossed, 0.7, 0.7),
    "figures without labels": (figures_only, 0.7, 0.7),
    "one citation for all": (lambda r: r.update(citations=r["citations"][:1] * 3), 0.7, 0.85),
    "a citation too many": (lambda r: r["citations"].append(r["citations"][0]), 0.7, 0.99),
}


@pytest.mark.parametrize("name", list(HOLES))
def test_holes_get_at_most_what_they_deserve(name: str) -> None:
    edit, low, high = HOLES[name]
    for row in TEST[:60]:
        value = reward_of(edited(row, edit), row)
        assert low <= value <= high
        assert value < 0.5 or high > 0.5, value


def test_the_whole_source_is_no_citation() -> None:
    for row in TEST[:60]:
        everything = {
            "whole": [row["statement"]] * 4,
            "every line": row["statement"].split("\n"),
            "a window for each figure": [row["statement"][:-1], row["statement"][1:]],
        }
        for name, citations in everything.items():
            value = reward_of(edited(row, lambda r, c=citations: r.update(citations=c)), row)
            assert value <= 0.7 if name != "every line" else 0.7 < value < 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + text,
        lambda text: text + " The total is right.",
        lambda text: "Sure: " + text,
        lambda text: "[" + text + "]",
        lambda text: text[:-1] + ',"total":1}',
        lambda text: text.replace('"total":', '"total":1,"total":', 1),
        lambda text: text.replace('"total":', '"total":NaN,"x":', 1),
        lambda text: text.replace('"total":', '"total":Infinity,"x":', 1),
        lambda text: text.replace('"total":', '"total":1e999,"x":', 1),
        lambda text: text.replace('"total":', '"total":' + "9" * 5000 + ',"x":', 1),
        lambda text: text.replace('"total":', '"total":' + "[" * 3000 + "]" * 3000 + ',"x":', 1),
        lambda text: f"```json\n{text}\n```\n```json\n{text}\n```",
        lambda text: text.replace('"', "'"),
        lambda text: text + " " * 30_000,
    ],
)
def test_what_is_not_one_clean_object_scores_zero(spoil: Callable[[str], str]) -> None:
    for row in TEST[:20]:
        assert reward_of(spoil(gold(row)), row) == 0.0


def test_a_row_under_another_rows_name_is_not_right() -> None:
    for row in TEST[:60]:

        def swap_names(reply: dict[str, Any]) -> None:
            first, second = reply["components"][:2]
            first["name"], second["name"] = second["name"], first["name"]

        values = [part["value"] for part in row["components"][:2]]
        if values[0] != values[1]:
            assert reward_of(edited(row, swap_names), row) < 0.7


def test_more_right_figures_score_more() -> None:
    """From nothing to gold one figure at a time, then one citation at a time: never down, at last 1."""
    for row in MIXED[::3]:
        reply = json.loads(gold(row))
        wrong = [{"name": f"Row {i}", "value": 1} for i in range(len(reply["components"]))]
        named = [{"name": part["name"], "value": 1} for part in reply["components"]]
        steps = [{"components": wrong, "total": 1, "citations": []}]
        for i in range(len(wrong)):
            done = reply["components"][: i + 1]
            steps.append(
                {"components": done[:-1] + named[i : i + 1] + wrong[i + 1 :], "total": 1, "citations": []}
            )
            steps.append({"components": done + wrong[i + 1 :], "total": 1, "citations": []})
        for i in range(len(reply["citations"]) + 1):
            steps.append({**reply, "citations": reply["citations"][:i]})
        values = [reward_of(compact(step), row) for step in steps]
        assert values[0] == 0.5
        assert values == sorted(values)
        assert len(set(values)) == len(values)
        assert values[-1] == 1.0
        right = 2 * len(wrong) + 1
        assert all(value < 0.7 for value in values[:right])
        assert values[right] == 0.7
