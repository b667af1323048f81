"""The reward of `finance_statements` pays for right figures: no form outweighs one of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.library.finance_ladder import ladder
from tieout.rewards.library.finance_statements import score, score_parts
from tieout.rewards.text.loose_json import read_loose
from tieout.tasks.finance_statements import SIZES, gold, task
from tieout.tasks.flaws import compact
from tieout.types import Row

ROWS = [task.rows(split)[i] for split in SIZES for i in range(40)]


def paid(completion: str, row: Row) -> float:
    return score(completion, row["statement"], row["total"], row["components"])


def answer(
    row: Row, right: Sequence[bool], citations: Sequence[str] = (), names: bool = True
) -> dict[str, Any]:
    """An answer with these components right, the last of them being the total; the others have a wrong value."""
    components = [
        {
            "name": part["name"] if good or names else f"Row {i}",
            "value": part["value"] if good else part["value"] + 12_345_678,
        }
        for i, (part, good) in enumerate(zip(row["components"], right[:-1], strict=True))
    ]
    total = row["total"]["value"]
    return {
        "components": components,
        "total": total if right[-1] else total + 12_345_678,
        "citations": [*citations],
    }


def evidence(row: Row) -> list[str]:
    return [figure["evidence"] for figure in (*row["components"], row["total"])]


BREAKS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "fence": lambda a: f"```json\n{compact(a)}\n```",
    "indented": lambda a: json.dumps(a, indent=2),
    "prose around": lambda a: f"Here you are: {compact(a)}. Is that right?",
    "prose and a fence": lambda a: f"Here you are:\n```json\n{compact(a)}\n```\nThe sum holds.",
    "a quote before": lambda a: f'A 5" pipe: {compact(a)}',
    "thinking": lambda a: f"<think>I look for the rows {{of the sum}}.</think>{compact(a)}",
    "twice": lambda a: compact(a) + compact(a),
    "in a list": lambda a: f"[{compact(a)}]",
    "end cut off": lambda a: compact({**a, "citations": []})[:-5],
    "single quotes": lambda a: str(a),
    "a key too many": lambda a: compact({**a, "note": "as asked"}),
    "keys in capitals": lambda a: compact({key.upper(): value for key, value in a.items()}),
    "no citations": lambda a: compact({"components": a["components"], "total": a["total"]}),
    "wrong citations": lambda a: compact({**a, "citations": ["Nothing like it | 1"] * 20}),
    "too many citations": lambda a: compact({**a, "citations": ["A line | 1"] * 30}),
    "figures as text": lambda a: compact(
        {
            **a,
            "components": [{**c, "value": f"{c['value']:,}"} for c in a["components"]],
            "total": f"({-a['total']:,})" if a["total"] < 0 else f"{a['total']:,}",
        }
    ),
    "other keys": lambda a: compact(
        {
            "rows": [{"label": c["name"], "amount": c["value"]} for c in a["components"]],
            "sum": {"value": a["total"]},
        }
    ),
    "a list of components and a total": lambda a: f'{compact(a["components"])} {{"total": {a["total"]}}}',
    "a comma too many": lambda a: compact(a)[:-1] + ",}",
    "a bracket missing": lambda a: compact(a).replace("]", "", 1),
}


@st.composite
def compared(draw: st.DrawFn) -> tuple[Row, list[bool], list[bool]]:
    """A row, and which figures are right in a first answer and in a second that has at least one more right."""
    row = draw(st.sampled_from(ROWS))
    count = len(row["components"]) + 1
    fewer = draw(st.integers(0, count - 1))
    more = draw(st.integers(fewer + 1, count))
    flags = [draw(st.permutations([i < n for i in range(count)])) for n in (fewer, more)]
    return row, flags[0], flags[1]


@given(compared(), st.sampled_from([*BREAKS]), st.booleans(), st.integers(0, 7))
def test_at_equal_form_more_right_figures_score_higher(
    case: tuple[Row, list[bool], list[bool]], form: str, names: bool, cited: int
) -> None:
    row, fewer, more = case
    low, high = (
        paid(BREAKS[form](answer(row, right, evidence(row)[:cited], names)), row) for right in (fewer, more)
    )
    assert low < high


@given(compared(), st.sampled_from([*BREAKS]))
def test_no_form_outweighs_one_right_figure(case: tuple[Row, list[bool], list[bool]], form: str) -> None:
    row, fewer, more = case
    best = paid(compact(answer(row, fewer, evidence(row))), row)
    worst = paid(BREAKS[form](answer(row, more, [], names=False)), row)
    assert best < worst


@pytest.mark.parametrize("form", [*BREAKS])
def test_every_right_figure_is_read_from_broken_forms(form: str) -> None:
    for row in ROWS[::3]:
        reply = json.loads(gold(row))
        points = score_parts(BREAKS[form](reply), row["statement"], row["total"], row["components"])
        whole = score_parts(gold(row), row["statement"], row["total"], row["components"])
        assert points["figures"] == whole["figures"], form
        assert points["names"] == whole["names"]


def test_the_ladder_pays_form_over_figures() -> None:
    """The planted opposite of the property: what these tests would say of it."""
    row = ROWS[0]
    columns = {name: [row[name]] for name in ("statement", "total", "components")}
    count = len(row["components"]) + 1
    (best,) = ladder([compact(answer(row, [False] * count, names=False))], **columns)
    (worst,) = ladder([BREAKS["prose around"](answer(row, [True] * count))], **columns)
    assert best == 0.5
    assert worst == 0.0


# --- guesses ---


@given(st.sampled_from(ROWS), st.data())
def test_another_wrong_figure_never_raises_the_score(row: Row, data: st.DataObject) -> None:
    count = len(row["components"]) + 1
    right = [data.draw(st.booleans()) for _ in range(count)]
    reply = answer(row, right, evidence(row))
    before = paid(compact(reply), row)
    for extra in range(1, 4):
        padded = [*reply["components"], *({"name": f"Row {i}", "value": i} for i in range(extra))]
        after = paid(compact({**reply, "components": padded}), row)
        assert after < before
        before = after


def test_guessing_every_value_of_every_row_does_not_pay() -> None:
    for row in ROWS:
        figures = [*row["components"], row["total"]]
        both = [
            {"name": figure["name"], "value": figure[value]}
            for figure in figures
            for value in ("value", "other_value")
        ]
        many = compact({"components": both, "total": row["total"]["value"], "citations": evidence(row)})
        assert paid(many, row) < 0.6


@pytest.mark.parametrize(
    "hedge",
    [
        lambda right, wrong: right + wrong,
        lambda right, wrong: f"```json\n{right}\n```\n```json\n{wrong}\n```",
        lambda right, wrong: right[:-1] + "," + wrong[1:],
        lambda right, wrong: f"Not {wrong} but {right}",
    ],
)
def test_two_answers_are_not_paid_as_the_right_one(hedge: Callable[[str, str], str]) -> None:
    for row in ROWS[::3]:
        count = len(row["components"]) + 1
        wrong = compact(answer(row, [False] * count))
        half = [True, *[False] * (count - 1)]
        assert paid(hedge(gold(row), wrong), row) < 0.6
        assert paid(hedge(gold(row), wrong), row) < paid(gold(row), row) - 0.3
        assert paid(hedge(compact(answer(row, half)), wrong), row) < paid(compact(answer(row, half)), row)


def test_several_totals_count_as_figures() -> None:
    row = ROWS[0]
    reply = json.loads(gold(row))
    guesses = [row["total"]["value"] + i for i in range(10)]
    assert paid(compact({**reply, "total": guesses}), row) < 0.4


# --- citations ---


def test_a_wrong_citation_is_worse_than_none_and_a_right_one_better() -> None:
    for row in ROWS:
        reply, cited = json.loads(gold(row)), evidence(row)
        none, wrong, another, one, every = (
            paid(compact({**reply, "citations": citations}), row)
            for citations in ([], ["Made up | 1,234"], [row["statement"].split("\n")[0]], cited[:1], cited)
        )
        assert max(wrong, another) < none < one < every == 1
        mixed = paid(compact({**reply, "citations": [cited[0], "Made up | 1,234"]}), row)
        assert wrong < mixed < one


# --- parts ---


@given(st.sampled_from(ROWS), st.sampled_from([*BREAKS]), st.data())
def test_the_parts_add_up_to_the_reward(row: Row, form: str, data: st.DataObject) -> None:
    right = [data.draw(st.booleans()) for _ in range(len(row["components"]) + 1)]
    text = BREAKS[form](answer(row, right, data.draw(st.lists(st.sampled_from(evidence(row))))))
    columns = {key: [value] for key, value in row.items() if key not in ("prompt", "completion")}
    assert set(task.parts) == {"form", "schema", "figures", "names", "citations", "whole"}
    assert task.reward is not None
    points = {name: part([text], **columns)[0] or 0.0 for name, part in task.parts.items()}
    assert sum(points.values()) == task.reward([text], **columns)[0]
    assert min(points[name] for name in ("form", "schema", "figures", "names")) >= 0
    assert (points["figures"] > 0) == any(right)


def test_the_parts_say_what_is_paid() -> None:
    row = ROWS[0]
    count = len(row["components"]) + 1

    def points(text: str) -> dict[str, float]:
        return score_parts(text, row["statement"], row["total"], row["components"])

    broken = points(BREAKS["prose around"](answer(row, [True] * count, evidence(row))))
    assert broken["form"] == broken["schema"] == 0
    assert broken["figures"] > 0.5
    assert broken["whole"] == 0
    empty = points(compact(answer(row, [False] * count, names=False)))
    assert empty["form"] > 0 < empty["schema"]
    assert empty["figures"] == empty["names"] == empty["citations"] == 0


def test_gold_is_one_and_nothing_is_zero() -> None:
    for row in ROWS:
        assert paid(gold(row), row) == 1.0
        assert paid("", row) == 0.0


# --- reading ---

SCRAPS = st.lists(
    st.sampled_from(
        [
            *('{"components":[', '{"name":"', '"value":', "1,234", "(5)", '"', "'", "\\", "{", "}", "[", "]"),
            *(",", ":", '"total":', "9" * 60, "1e999", "-", "null", "true", "NaN", '"citations":["', " "),
        ]
    ),
    max_size=40,
).map("".join)


@given(SCRAPS | st.text())
def test_no_scraps_make_it_raise(text: str) -> None:
    assert 0 <= paid(text, ROWS[0]) <= 1


@given(
    st.recursive(
        st.none() | st.integers(-(10**9), 10**9) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=12,
    )
)
def test_what_is_json_is_read_as_json(value: Any) -> None:
    def plain(node: Any) -> Any:
        items = getattr(node, "items", None)
        if items is None:
            return node
        return {k: plain(v) for k, v in items} if node.opened == "{" else [plain(v) for _, v in items]

    (read,) = read_loose(json.dumps({"a": value}))
    assert plain(read) == {"a": value}


def test_deep_and_long_texts_take_no_time() -> None:
    start = time.process_time()
    for text in (
        "{" * 20_000,
        "{" * 10_000 + "]" * 10_000,
        '{"a":[' * 4000,
        '{"' * 10_000,
        "{" + "9" * 19_000,
    ):
        assert paid(text, ROWS[0]) < 0.01
    assert time.process_time() - start < 10
