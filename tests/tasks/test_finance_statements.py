from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tieout.errors import InputError
from tieout.rewards.library.finance_schema import MAX_ENTRIES, SCHEMA
from tieout.rewards.library.finance_statements import exact, score
from tieout.rewards.text.structured import reconciles
from tieout.tasks import Task, finance_statements
from tieout.tasks.finance_statements import (
    FLAWS,
    SIZES,
    StatementRows,
    corrupt,
    gold,
    make,
    task,
)
from tieout.tasks.flaws import compact
from tieout.tasks.statement_forms import MAX_PARTS
from tieout.tasks.statements import HELD_OUT_LAYOUTS, SEEN_LAYOUTS
from tieout.types import Row

TEST = [task.rows("test")[i] for i in range(120)]
MIXED = [task.rows(split)[i] for split in SIZES for i in range(40)]


def check_disjoint(task: Task = task, splits: Sequence[str] = tuple(SIZES)) -> None:
    """Raise if two splits share a company, a statement, or a statement's rows under another title.

    The names make it so by construction (`COMPANIES`); this looks at the rows themselves. It also refuses
    out-of-distribution rows that have both a layout and a number of distractors of another split.
    """
    traits: dict[str, Callable[[Row], Any]] = {
        "company": lambda row: row["company"],
        "statement": lambda row: row["statement"],
        "statement below the title": lambda row: row["statement"].split("\n", 1)[1],
        "layout and number of distractors": lambda row: (row["layout"], row["distractors"]),
    }
    for trait, of in traits.items():
        seen = {split: set(map(of, task.rows(split))) for split in splits}
        for first, second in combinations(splits, 2):
            if trait == "layout and number of distractors" and "ood" not in (first, second):
                continue
            if shared := seen[first] & seen[second]:
                raise InputError(f"splits {first} and {second} share a {trait}: {min(shared)!r}")


def reward_of(completion: str, row: Row) -> float:
    """Through the public door: columns as lists, one entry a completion."""
    columns = {key: [value] for key, value in row.items() if key not in ("prompt", "completion")}
    assert task.reward is not None
    (value,) = task.reward([completion], prompts=[row["prompt"]], **columns)
    assert value is not None
    return value


def edited(row: Row, edit: Callable[[dict[str, Any]], object]) -> str:
    reply = json.loads(gold(row))
    edit(reply)
    return compact(reply)


# --- what every reward and task must show ---


@pytest.mark.parametrize("split", list(SIZES))
def test_gold_scores_one_and_is_in_the_row(split: str) -> None:
    rows = task.rows(split)
    for i in range(min(len(rows), 400)):
        row = rows[i]
        assert row["completion"] == gold(row)
        assert score(gold(row), row["statement"], row["total"], row["components"]) == 1.0


def test_gold_is_what_the_source_says() -> None:
    for row in MIXED:
        reply = json.loads(gold(row))
        assert reconciles([part["value"] for part in reply["components"]], reply["total"])
        assert 2 <= len(reply["components"]) <= 5
        flat = [" ".join(line.split()) for line in row["statement"].split("\n")]
        for citation in reply["citations"]:
            assert sum(citation in line for line in flat) == 1
        assert row["statement"] in row["prompt"][1]["content"]
        assert row["period"] in row["prompt"][1]["content"].split("\n")[0]


@pytest.mark.parametrize("completion", ["", " ", "\n\n"])
def test_empty_scores_zero(completion: str) -> None:
    assert reward_of(completion, TEST[0]) == 0.0


@pytest.mark.parametrize("flaw", [*FLAWS, "truncated"])
def test_every_flaw_scores_below_gold(flaw: str) -> None:
    rng = random.Random(0)
    for row in MIXED:
        for _ in range(2):
            value = reward_of(corrupt(row, rng, flaw), row)
            assert 0 <= value < 1
            if flaw == "truncated":
                continue
            # Citations alone cost less than a figure does.
            cited = reward_of(corrupt(row, rng, "citation_not_in_source"), row)
            assert value > 0.7 if "citation" in flaw else value < cited


def test_flaws_are_drawn_and_named() -> None:
    texts = {corrupt(TEST[0], random.Random(seed)) for seed in range(60)}
    assert len(texts) > 10
    assert corrupt(TEST[0], random.Random(3)) == corrupt(TEST[0], random.Random(3))
    with pytest.raises(ValueError, match="no flaw 'typo'; there are: wrong_column"):
        corrupt(TEST[0], random.Random(0), "typo")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: f"  \n{text}\n",
        lambda text: f"```json\n{text}\n```",
        lambda text: f"```\n{text}\n```\n",
        lambda text: json.dumps(json.loads(text), indent=2),
        lambda text: json.dumps(json.loads(text), ensure_ascii=True),
        lambda text: json.dumps(dict(reversed(json.loads(text).items()))),
        lambda text: edit_text(text, lambda reply: reply["components"].reverse()),
        lambda text: edit_text(text, lambda reply: reply["citations"].reverse()),
        lambda text: edit_text(
            text,
            lambda reply: [part.update(name=f" {part['name'].upper()} (1)") for part in reply["components"]],
        ),
        lambda text: edit_text(text, lambda reply: reply.update(total=float(reply["total"]))),
        lambda text: edit_text(
            text, lambda reply: reply.update(citations=[c.replace(" ", " \t ") for c in reply["citations"]])
        ),
    ],
)
def test_reformatted_gold_still_scores_one(rewrite: Callable[[str], str]) -> None:
    for row in MIXED[::4]:
        assert reward_of(rewrite(gold(row)), row) == 1.0


def edit_text(text: str, edit: Callable[[dict[str, Any]], object]) -> str:
    reply = json.loads(text)
    edit(reply)
    return json.dumps(reply)


def test_whole_lines_are_citations_too() -> None:
    for row in MIXED[::4]:
        lines = [" ".join(line.split()) for line in row["statement"].split("\n")]
        figures = [*row["components"], row["total"]]
        whole = [next(line for line in lines if figure["evidence"] in line) for figure in figures]
        assert reward_of(edited(row, lambda reply, whole=whole: reply.update(citations=whole)), row) == 1.0


# --- never raises ---

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["components", "total", "citations", "name", "value", ""]), children, max_size=4
        )
    ),
    max_leaves=15,
)


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    assert 0 <= reward_of(text, TEST[0]) < 0.1


@given(JUNK)
def test_no_json_makes_it_raise(junk: object) -> None:
    assert 0 <= reward_of(json.dumps(junk), TEST[0]) < 0.2


@given(
    st.lists(st.fixed_dictionaries({"name": st.text(min_size=1), "value": st.integers() | st.floats()})),
    st.integers() | st.floats(),
    st.lists(st.text()),
)
def test_nothing_of_the_right_shape_makes_it_raise(
    components: list, total: float, citations: list[str]
) -> None:
    reply = {"components": components, "total": total, "citations": citations}
    assert 0 <= reward_of(json.dumps(reply), TEST[0]) < 0.2


@given(st.integers(0, 119), st.data())
def test_no_cut_or_spliced_gold_beats_gold(index: int, data: st.DataObject) -> None:
    row, text = TEST[index], gold(TEST[index])
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    insert = data.draw(st.text(alphabet='0123456789"{}[],:. -', max_size=4))
    value = reward_of(text[:start] + insert + text[end:], row)
    assert 0 <= value <= 1


# --- metrics ---


def test_metrics() -> None:
    row = TEST[0]
    texts = [gold(row), edited(row, lambda r: r.update(total=r["total"] + 1)), "{}", "no", gold(TEST[1])]
    columns = {key: [value] * len(texts) for key, value in row.items() if key not in ("prompt", "completion")}
    read = {name: metric(texts, **columns) for name, metric in task.metrics.items()}
    assert read["valid_json"] == [1, 1, 1, 0, 1]
    assert read["exact"] == [1, 0, 0, 0, 0]
    count = len(row["components"])
    assert read["figures_right"] == [1, count / (count + 1), 0, 0, 0]
    assert task.metrics["figures_right"](
        ["So: " + gold(row)], **{key: of[:1] for key, of in columns.items()}
    ) == [1]
    assert task.primary == "exact"


# --- rows ---


def test_splits_are_disjoint() -> None:
    check_disjoint()
    check_disjoint(make(seed=7, sizes={"train": 1000}))


def test_the_check_for_disjointness_finds_what_is_planted() -> None:
    def planted(split: str, row: Row) -> Task:
        return Task(
            name="planted",
            rows=lambda name: [*list(task.rows(name))[:50], *([row] if name == split else [])],
        )

    train = task.rows("train")[3]
    with pytest.raises(ValueError, match="splits train and test share a company"):
        check_disjoint(planted("test", train))
    renamed = {**train, "company": "New", "statement": "New, " + train["statement"].split(", ", 1)[1]}
    with pytest.raises(ValueError, match="splits train and test share a statement below the title"):
        check_disjoint(planted("test", renamed))
    for ood in task.rows("ood")[:2]:  # one of each kind
        alike = {**train, "company": "New", "statement": "New\nother"}
        alike |= {"layout": ood["layout"], "distractors": ood["distractors"]}
        with pytest.raises(ValueError, match="splits train and ood share a layout and number of distractors"):
            check_disjoint(planted("train", alike))


def test_rows_of_a_split_differ() -> None:
    for split in SIZES:
        statements = [row["statement"] for row in task.rows(split)]
        assert len(set(statements)) == len(statements)


def test_layouts() -> None:
    assert {row["layout"] for row in task.rows("train")} == set(SEEN_LAYOUTS)
    assert {row["layout"] for row in task.rows("ood")[1::2]} == set(HELD_OUT_LAYOUTS)
    assert {row["layout"] for row in task.rows("ood")[::2]} == set(SEEN_LAYOUTS)
    assert min(row["distractors"] for row in task.rows("ood")[::2]) > max(
        row["distractors"] for row in task.rows("train")
    )


def test_sizes_and_seed() -> None:
    assert {split: len(task.rows(split)) for split in SIZES} == SIZES
    other = make(seed=1, sizes={"train": 5})
    assert len(other.rows("train")) == 5
    assert len(other.rows("test")) == SIZES["test"]
    assert other.rows("train")[0] != task.rows("train")[0]
    assert list(make(seed=1).rows("train")[:5]) == list(other.rows("train"))


def test_unknown_splits_are_named() -> None:
    with pytest.raises(
        ValueError, match="no split 'dev'; finance_statements has: train, calibration, test, ood"
    ):
        task.rows("dev")
    with pytest.raises(ValueError, match="no split dev"):
        make(sizes={"dev": 3})


def test_rows_are_a_sequence() -> None:
    rows = StatementRows("test", 4, seed=0)
    assert rows[-1] == rows[3] == list(rows)[3] == rows[1:][-1]
    for outside in (4, -5):
        with pytest.raises(IndexError, match="has 4 rows"):
            rows[outside]


def test_rows_are_made_fast() -> None:
    start = time.process_time()
    assert len(list(StatementRows("train", 1000, seed=5))) == 1000
    assert time.process_time() - start < 10


def test_rows_depend_on_the_seed_only() -> None:
    code = (
        "import hashlib, json; from tieout.tasks.finance_statements import task, corrupt; import random, sys;"
        "rows = [task.rows(s)[i] for s in ('train', 'ood') for i in range(20)];"
        "texts = [json.dumps(r) + corrupt(r, random.Random(1)) for r in rows];"
        "assert 'torch' not in sys.modules;"
        "print(hashlib.sha256(''.join(texts).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_row_in_the_docstring_is_real() -> None:
    row = task.rows("test")[58]
    assert finance_statements.__doc__ is not None
    squeezed = "".join(finance_statements.__doc__.split())
    assert "".join(row["prompt"][1]["content"].split()) in squeezed
    assert "".join(row["completion"].split()) in squeezed


def test_the_reward_reads_four_times_the_parts_of_any_sum() -> None:
    assert MAX_ENTRIES == 4 * MAX_PARTS


def test_a_primary_that_is_no_metric_is_refused() -> None:
    with pytest.raises(InputError, match="primary is 'exat', which is none of its metrics: exact"):
        Task("mine", lambda split: [], metrics={"exact": exact}, primary="exat")
