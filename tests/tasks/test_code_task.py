"""The code task: gold passes its hidden tests, flawed programs do not, and no split knows another's programs."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.rewards.library.code import code
from tieout.rewards.scoring.columns import columns_read
from tieout.sandbox import packages
from tieout.sandbox.choose import available
from tieout.tasks import Task, load_task
from tieout.tasks.code import SIZES, corrupt, edge_cases, load, make, parses, solved
from tieout.tasks.code_example import passes_example
from tieout.tasks.code_function import defined
from tieout.tasks.code_tables import families, table

SMALL = {"train": 12, "calibration": 4, "test": 8, "ood": 3}


def scores(reward: Any, row: Any, *programs: str) -> list[float | None]:
    """[K] of a reward that is given the row's columns."""
    count = len(programs)
    return list(reward(list(programs), **{name: [value] * count for name, value in row.items()}))


@pytest.fixture(scope="module", params=["lines", "tables"])
def task(request: pytest.FixtureRequest) -> Task:
    if not any(found.works for found in available()):
        pytest.skip("no namespaces here")
    return make(seed=1, sizes=SMALL, level=request.param)


def test_gold_passes_and_what_passes_the_example_only_does_not(task: Task) -> None:
    for row in [*task.rows("train")[:8], *task.rows("ood")]:
        gold, flawed = scores(code, row, row["completion"], row["flawed"])
        assert gold == 1.0
        assert flawed is not None
        assert flawed < 1.0
        assert scores(solved, row, row["completion"], row["flawed"]) == [1.0, 0.0]
        shown = row["prompt"][0]["content"].split("Example: ")[1].split("\n")[0]
        assert eval(shown, {row["entry"]: defined(row["flawed"], row["entry"])})


def test_edge_cases_are_judged_apart(task: Task) -> None:
    row = task.rows("test")[0]
    assert scores(edge_cases, row, row["completion"], "def f(:") == [1.0, 0.0]
    assert scores(edge_cases, {**row, "kinds": None}, row["completion"]) == [None]
    assert scores(parses, row, row["flawed"], row["completion"].replace("return", "retrun")) == [1.0, 0.0]
    wrong = {corrupt(row, random.Random(i)) for i in range(12)}
    assert len(wrong) == 3
    assert scores(solved, row, *wrong) == [0.0] * 3


def test_a_program_that_computes_nothing_passes_edge_cases_only(task: Task) -> None:
    for split in SMALL:
        for row in task.rows(split):
            for test, kind in zip(row["tests"], row["kinds"], strict=True):
                assert test["expected"] or kind not in ("usual", "boundary")


def test_hidden_tests_are_not_in_the_prompt(task: Task) -> None:
    for split in SMALL:
        for row in task.rows(split):
            for test in row["tests"]:
                call = f"{row['entry']}({', '.join(map(repr, test['args']))}"
                assert call not in row["prompt"][0]["content"]
                assert len({repr(test) for test in row["tests"]}) == len(row["kinds"])


def test_rows_follow_from_the_seed_and_splits_share_no_program(task: Task) -> None:
    level = "lines" if task.max_new_tokens < 100 else "tables"
    assert make(seed=1, sizes=SMALL, level=level).rows("test") == task.rows("test")
    other = make(seed=2, sizes={"train": 60}, level=level)
    assert other.rows("train")[:8] != task.rows("train")[:8]
    train = other.rows("train")
    assert not {row["completion"] for row in train} & {row["completion"] for row in task.rows("test")}
    assert not {row["family"] for row in train} & {row["family"] for row in task.rows("ood")}
    assert len({row["completion"] for row in train}) == len(train)
    assert {split: len(load_task("code").rows(split)) for split in ("calibration", "test")} == {
        "calibration": SIZES["calibration"],
        "test": SIZES["test"],
    }


def test_what_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no split 'dev'"):
        make().rows("dev")
    with pytest.raises(InputError, match="no split dev"):
        make(sizes={"dev": 1})
    with pytest.raises(InputError, match=r"'level' is 'easy' .*; expected one of 'lines', 'tables'"):
        load_task("code", {"level": "easy"})
    with pytest.raises(InputError, match="library pandas is for level tables"):
        make(library="pandas")
    with pytest.raises(InputError, match=r"has \d+ different functions of level tables, and 5000 rows"):
        make(level="tables", sizes={"ood": 5000}).rows("ood")
    monkeypatch.setattr(packages, "KNOWN", {"pandas": ("pandas",)})
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match="not installed here; install it: `pip install pandas`"):
        make(level="tables", library="pandas")


def test_gold_in_pandas_agrees_with_gold_in_plain_python() -> None:
    pytest.importorskip("pandas")
    for family in (*families(False), *families(True)):
        if family.pandas:
            plain, other = (table(family, random.Random(3), library) for library in ("python", "pandas"))
            rng = random.Random(4)
            for kind in plain.kinds:
                args, kwargs = plain.calls[kind](rng)
                one, two = (defined(f.program, f.entry)(*args, **kwargs) for f in (plain, other))
                assert json.dumps(one) == json.dumps(two) or one == pytest.approx(two), family.name


def test_rows_of_a_file(tmp_path: Path) -> None:
    test = {"args": [2], "expected": 4}
    given = [{"prompt": f"double, {i}", "entry": "f", "tests": [test], "split": ""} for i in range(40)]
    path = tmp_path / "rows.jsonl"

    def written(*rows: Any) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    task = load(written(*given))
    sizes = [len(task.rows(split)) for split in SIZES]
    assert sum(sizes) == 40
    assert sizes[0] > sizes[2] > 0 == sizes[3]
    named = load_task("tieout.tasks.code:load", {"path": str(written({**given[0], "split": "ood"}))})
    assert len(named.rows("ood")) == 1
    assert named.gold is not None
    assert named.gold(given[0]) is None
    script = {"prompt": "add", "tests": [{"stdin": "1", "stdout": "1"}], "completion": "print(input())\n"}
    (row,) = load(written({**script, "split": "train"})).rows("train")
    assert {corrupt(row, random.Random(i)) for i in range(9)} == {"print(input())\n\n)"}
    method = {"entry": "A.f", "completion": "class A:\n    def f(self): ..."}
    assert len({corrupt(method, random.Random(i)) for i in range(9)} - {method["completion"]}) == 2
    with pytest.raises(InputError, match=r"row 2: split is 'dev'"):
        load(written(given[0], {**given[1], "split": "dev"}))
    with pytest.raises(InputError, match="row 2: its prompt is that of row 1"):
        load(written(given[0], given[0]))
    with pytest.raises(InputError, match=r"row 1: test 1 of 1: has args; expected the keys args, expected"):
        load(written({**given[0], "tests": [{"args": [2]}]}))
    for column, value, said in (
        ("kinds", "usual", "kinds is 'usual'; expected a list with the kind of each of the 1 tests"),
        ("kinds", ["usual", "edge"], "expected a list with the kind of each of the 1 tests"),
        ("tolerance", "1e-6", "tolerance is '1e-6'; expected a number"),
        ("packages", "scipy", "programs cannot import package 'scipy'; they can import"),
        ("packages", ["numpy"], r"packages is \['numpy'\]; expected text"),
        ("tests", None, "needs column 'tests'"),
    ):
        with pytest.raises(InputError, match=f"rows.jsonl, row 2: .*{said}"):
            load(written(given[0], {**given[1], column: value}))


def test_edge_cases_are_found_in_tests_of_every_form() -> None:
    if not any(found.works for found in available()):
        pytest.skip("no namespaces here")
    script = {"inputs": ["1", "2"], "outputs": ["1", "0"]}
    tests = [{"args": [1], "expected": 1}, {"args": [2], "expected": 0}]
    kinds = ["usual", "edge"]
    assert edge_cases(["print(input())"] * 2, [script] * 2, [kinds, kinds[::-1]]) == [0.0, 1.0]
    wrong = "def f(x):\n    return x"
    assert edge_cases([wrong], [json.dumps(tests)], [kinds], entry=["f"]) == [0.0]


def test_options_of_another_type_are_refused_before_rows_are_made() -> None:
    for name, options, said in (
        ("summaries", {"words": 110.5}, r"task 'summaries': 'words' is 110\.5 \(float\); expected int"),
        ("rag", {"path": "documents", "withheld": float("nan")}, "'withheld' is nan"),
        ("code", {"sizes": {"train": "8"}}, "'sizes.train' is '8'"),
        ("code", {"sizes": {"train": -8}}, r"task code: sizes\.train is -8; expected 0 or more"),
    ):
        with pytest.raises(InputError, match=said):
            load_task(name, options)


def test_the_example_of_a_prompt_chooses_without_hidden_tests(task: Task) -> None:
    for row in [*task.rows("train")[:6], *task.rows("ood")]:
        said = [row["completion"], row["flawed"], f"def {row['entry']}(*a, **k):\n    return 'no'"]
        assert passes_example(said, [row["prompt"]] * 3) == [1.0, 1.0, 0.0]
    assert passes_example(["x"], ["Write a function. Example: none"]) == [None]
    assert columns_read(passes_example, {"tests", "entry", "prompt"}) == []


def test_a_program_one_number_or_condition_away_fails_a_hidden_test() -> None:
    number, condition = re.compile(r"(?<=[<>=] )-?\d+"), re.compile(r' and r\["\w+"\] \S+ -?["\w]+')
    rows = make(sizes={"train": 60}).rows("train")
    wrong = [
        (row, row["completion"][: at.start()] + other + row["completion"][at.end() :])
        for row in rows
        for form in (number, condition)
        for at in form.finditer(row["completion"])
        for other in ([""] if form is condition else [str(int(at[0]) - 1), str(int(at[0]) + 1)])
    ]
    assert len(wrong) > 80
    for row, program in wrong:
        function = defined(program, row["entry"])
        assert any(function(*test["args"]) != test["expected"] for test in row["tests"]), program
