"""Consistency: what flips when a row is asked again, where these cases count, and that they are verified."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.claims import recomputed
from tieout.evidence.consistency import AMOUNT, asked, consistency, flips_in_words
from tieout.evidence.consistency_rows import SAME_PROMPT, Consistency, asked_again
from tieout.evidence.evaluate import CONSISTENCY, CONTROLS, PROGRAMMATIC, Case, evaluate, write_cases
from tieout.evidence.report import build_report, write_report
from tieout.evidence.scoring import keep
from tieout.evidence.verify import read_report
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task
from tieout.types import Row

Answers = Mapping[str, tuple[float | None, Sequence[float | None]]]
"""Row -> whether its answer is right, and those to what was asked again; None: the metric errored."""


def case(name: str, track: str, slice: str, right: float | None, cluster: str = "") -> Case:
    metrics = {} if right is None else {"right": right}
    errors = {"right": "the parser crashed"} if right is None else {}
    return Case(name, track, slice, f"{name}?", "7", right or 0.0, metrics, errors, cluster)


def cases_of(answers: Answers, kind: str = "order") -> list[Case]:
    found = []
    for name, (first, again) in answers.items():
        found.append(case(name, PROGRAMMATIC, "test", first))
        found += [case(f"{name}/{i}", CONSISTENCY, kind, value, name) for i, value in enumerate(again)]
    return found


def figure(answers: Answers, kind: str = "order", rows: int = 0) -> dict[str, Any]:
    return consistency({"m": cases_of(answers, kind)}, "right", rows or len(answers))["m"][kind]


def test_a_row_flips_if_one_of_its_variants_is_judged_otherwise() -> None:
    found = figure(
        {"a": (1.0, [1.0, 0.0]), "b": (1.0, [1.0, 1.0]), "c": (0.0, [0.0, 1.0]), "d": (0.0, [0.0, 0.0])}
    )
    assert (found["mean"], found["n"], found["worse"], found["better"]) == (0.5, 4, 1, 1)
    assert found["right"]["n"] == 2
    assert found["right"]["mean"] == 0.5
    assert found["low"] < 0.5 < found["high"]
    assert (found["before"], found["after"]) == (0.5, 0.5)


def test_samples_flip_if_they_are_not_all_judged_alike_whatever_the_greedy_answer_is() -> None:
    answers: Answers = {"a": (1.0, [0.0, 0.0, 0.0]), "b": (0.0, [0.0, 1.0, 0.0]), "c": (1.0, [1.0, 1.0, 1.0])}
    found = figure(answers, SAME_PROMPT)
    assert (round(found["mean"], 3), found["worse"], found["better"], found["answers"]) == (0.333, 1, 1, 3)
    assert found["right"]["mean"] == 0.5
    assert figure(answers, "order")["mean"] == 2 / 3


def test_a_model_that_is_wrong_everywhere_never_flips_and_that_is_said() -> None:
    found = figure({name: (0.0, [0.0]) for name in "abcdef"})
    assert found["mean"] == 0.0
    assert found["right"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert "0 were right at first, so that none could be lost" in flips_in_words("order", found)
    right = figure({name: (1.0, [1.0]) for name in "abcdef"})
    assert "6 were right at first, of which 100.0% stay right" in flips_in_words("order", right)


def test_rows_without_a_number_or_a_variant_are_counted_and_not_taken_for_consistent() -> None:
    found = figure({"a": (1.0, [1.0]), "b": (None, [1.0]), "c": (1.0, [None])}, rows=7)
    assert (found["n"], found["errors"], found["abstained"], found["without"]) == (1, 2, 0, 4)
    lost = [one for one in cases_of({"a": (1.0, [1.0]), "b": (1.0, [1.0])}) if one.id != "b"]
    found = consistency({"m": lost}, "right", 2)["m"]["order"]
    assert (found["n"], found["errors"]) == (1, 1)


def scored(name: str, track: str, score: float, cluster: str = "") -> Case:
    return Case(name, track, "formatting" if cluster else "test", "?", "7", score, cluster=cluster)


def test_without_a_primary_metric_scores_differ_by_an_amount_that_is_stated() -> None:
    own = [scored(name, PROGRAMMATIC, 0.5) for name in "abc"]
    own += [scored(f"{n}/1", CONSISTENCY, s, n) for n, s in (("a", 0.55), ("b", 0.75), ("c", 0.25))]
    found = consistency({"m": own}, None, 3)["m"]["formatting"]
    assert (round(found["mean"], 3), found["worse"], found["better"]) == (0.667, 1, 1)
    assert found["amount"] == AMOUNT
    assert found["right"] is None
    assert "mean score 0.500, asked again 0.517" in flips_in_words("formatting", found)
    plain = [scored("a", PROGRAMMATIC, 1.0), scored("a/1", CONSISTENCY, 0.0, "a")]
    found = consistency({"m": plain}, None, 1)["m"]["formatting"]
    assert found["amount"] is None
    assert found["right"]["n"] == 1


def test_rows_of_one_document_are_no_independent_rows() -> None:
    answers: Answers = {f"{i}": (1.0, [float(i % 2)]) for i in range(40)}
    alone = figure(answers)
    own = [
        Case(**{**vars(c), "cluster": f"document {int(c.id) // 20}"}) if c.track == PROGRAMMATIC else c
        for c in cases_of(answers)
    ]
    shared = consistency({"m": own}, "right", 40)["m"]["order"]
    assert shared["mean"] == alone["mean"] == 0.5
    assert shared["high"] - shared["low"] > alone["high"] - alone["low"]


def test_what_is_asked_again_is_in_no_track_no_comparison_and_no_regression(tmp_path: Path) -> None:
    answers: Answers = {f"r{i}": (float(i % 3 == 0), [float(i % 2)]) for i in range(30)}
    better: Answers = {name: (1.0, [0.0]) for name in answers}
    controls = [case(f"k{i}", CONTROLS, "copy", 1.0) for i in range(30)]
    once = {
        model: [c for c in cases_of(of) if c.track != CONSISTENCY] + controls
        for model, of in (("base", answers), ("new", better))
    }
    twice = {model: cases_of(of) + controls for model, of in (("base", answers), ("new", better))}
    settings: dict[str, Any] = {"candidate": "new", "baseline": "base", "primary": "right"}
    again = {"rows": 30, "repeats": 0, "temperature": 0.7}
    without, found = build_report(once, **settings), build_report(twice, again=again, **settings)
    assert set(found) - set(without) == {"consistency"}
    assert found["consistency"]["new"]["order"]["right"]["mean"] == 0.0
    for part in ("models", "comparisons", "verdict"):
        assert found[part] == without[part]
    write_report(tmp_path, twice, again=again, **settings)
    sheet = (tmp_path / "human" / "sheet.jsonl").read_text()
    assert sheet.count("\n") == 30
    assert "r0/0" not in sheet


# ---------------------------------------------------------------- what is asked again


def shouted(row: Row, rng: random.Random) -> Row | None:
    """Capital letters, of questions with a letter."""
    return {**row, "prompt": row["prompt"].upper()} if row["n"] % 2 else None


ROWS: list[Row] = [{"prompt": f"Write {n}.", "answer": str(n), "n": n} for n in range(20)]


def right(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float | None]:
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


TASK = Task(
    "numbers",
    lambda split: ROWS,
    right,
    metrics={"right": right},
    primary="right",
    variants={"case": shouted},
)

OWN = """
def vary(row, rng):
    return {"polite": {**row, "prompt": "Please " + row["prompt"]}, "case": None}

def wrong(row, rng):
    return [row]

def fails(row, rng):
    return {"polite": row["question"]}

def same(row, rng):
    return {"same_prompt": row}

def less(row, rng):
    return {"polite": {"prompt": "Write a number."}}
"""


def ids(kind: str, **settings: Any) -> list[str]:
    return [one.original for one in asked_again(TASK, ROWS, Consistency(**settings), 0) if one.kind == kind]


def test_rows_are_spread_and_what_has_no_variant_is_left_out() -> None:
    picked = ids("formatting", max_rows=5)
    assert len(picked) == 5
    assert int(picked[0].split("/")[-1]) < 4
    assert int(picked[-1].split("/")[-1]) >= 16
    assert ids("case", max_rows=20) == [f"numbers/test/{n}" for n in range(1, 20, 2)]
    assert len(ids(SAME_PROMPT, max_rows=3, repeats=4)) == 12
    assert asked_again(TASK, ROWS, Consistency(), 0) == []
    only = asked_again(TASK, ROWS, Consistency(max_rows=20, repeats=0, kinds=("case",)), 0)
    assert {one.kind for one in only} == {"case"}
    assert len({one.id for one in only}) == 10


def test_a_variant_that_the_model_is_told_alike_is_none() -> None:
    settings = Consistency(max_rows=20, repeats=0)
    trimmed = asked_again(TASK, ROWS, settings, 0, lambda prompt: str(prompt).strip())
    assert {one.kind for one in trimmed} == {"case"}


def test_variants_of_your_own_take_the_place_of_the_tasks(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    found = asked_again(TASK, ROWS, Consistency(max_rows=20, repeats=0, variants=f"{file}:vary"), 0)
    assert {one.kind for one in found} == {"polite", "formatting"}
    assert found[-1].row["prompt"].startswith("Please ")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("wrong", "gave a list; expected kind -> row"),
        ("fails", "fails on a row: KeyError: 'question'"),
        ("same", "names a kind 'same_prompt'"),
        ("less", "needs column 'answer'"),
        ("gone", "has no 'gone'"),
    ],
)
def test_variants_of_your_own_that_are_none(tmp_path: Path, function: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    settings = Consistency(max_rows=4, repeats=0, variants=f"{file}:{function}", kinds=("polite",))
    with pytest.raises(InputError, match=said):
        asked_again(TASK, ROWS, settings, 0)


@pytest.mark.parametrize(
    "settings",
    [{"max_rows": -1}, {"repeats": 1}, {"temperature": 0.0}, {"kinds": ("same_prompt",)}],
)
def test_settings_that_measure_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings)) if "kinds" not in settings else "repeats"):
        Consistency(**settings)


def test_a_kind_that_no_row_has_is_refused() -> None:
    with pytest.raises(InputError, match="kind 'paraphrase'; there are: formatting, case"):
        asked_again(TASK, ROWS, Consistency(max_rows=4, kinds=("paraphrase",)), 0)


# ---------------------------------------------------------------- verified


def evidence(folder: Path) -> Path:
    """A folder with the cases of two models, on rows that were asked again."""
    again = asked_again(TASK, ROWS, Consistency(max_rows=10, repeats=2), 0)
    source = folder / "mine.py"
    source.write_text(
        "from tieout.tasks import Task\n"
        f"ROWS = {ROWS!r}\n"
        "def right(completions, answer, **_):\n"
        "    return [float(c == a) for c, a in zip(completions, answer)]\n"
        "task = Task('numbers', lambda split: ROWS, right, metrics={'right': right}, primary='right')\n"
    )
    cases = {}
    for model, knows in (("base", 5), ("new", 12)):
        said = MockSampler([row["answer"] if row["n"] < knows else "?" for row in ROWS])
        own = evaluate(TASK, ROWS, said)
        for one in again:
            text = one.row["answer"] if one.row["n"] < knows - (one.kind == "formatting") * 3 else "?"
            (found,) = evaluate(
                TASK, [one.row], MockSampler([text]), track=CONSISTENCY, slice=one.kind, ids=[one.id]
            )
            own.append(Case(**{**vars(found), "cluster": one.original}))
        cases[model] = own
    names = {"task": f"{source}:task", "task_options": {}, "reward": None, "controls": None}
    keep(folder / "evidence", TASK, {"test": ROWS}, None, names, again)
    settings: dict[str, Any] = {"rows": 10, "repeats": 2, "temperature": 0.7}
    write_report(
        folder / "evidence", cases, candidate="new", baseline="base", primary="right", again=settings
    )
    return folder / "evidence"


def problems(folder: Path) -> list[str]:
    path = folder / "report.json"
    return [line for claim in recomputed(read_report(path), path) for line in claim.problems]


def edited(folder: Path, change: Any, keep: Any = lambda line: True) -> None:
    path = folder / "cases.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["track"] == CONSISTENCY and line["slice"] == "formatting":
            change(line)
            break
    path.write_text("".join(json.dumps(line) + "\n" for line in lines if keep(line)))


def test_scores_and_shares_are_computed_again(tmp_path: Path) -> None:
    folder = evidence(tmp_path)
    assert problems(folder) == []
    found = json.loads((folder / "report.json").read_text())["consistency"]
    assert found["new"]["formatting"]["mean"] > 0
    assert found["new"][SAME_PROMPT]["mean"] == 0


def test_an_answer_that_was_changed_is_named(tmp_path: Path) -> None:
    folder = evidence(tmp_path)

    def other(line: dict[str, Any]) -> None:
        line["models"]["new"]["completion"] = "no number"

    edited(folder, other)
    assert any("/consistency/formatting/" in line and "score of new" in line for line in problems(folder))


def test_a_case_that_was_given_to_another_row_is_named(tmp_path: Path) -> None:
    folder = evidence(tmp_path)
    edited(folder, lambda line: line.update(cluster="numbers/test/19"))
    assert any("cluster of new is 'numbers/test/19'" in line for line in problems(folder))


def test_cases_that_were_dropped_are_named(tmp_path: Path) -> None:
    folder = evidence(tmp_path)
    edited(folder, lambda line: None, lambda line: line["slice"] != "formatting")
    assert any("has no such case" in line and "/formatting/" in line for line in problems(folder))


def test_a_share_that_was_changed_is_named(tmp_path: Path) -> None:
    folder = evidence(tmp_path)
    report = json.loads((folder / "report.json").read_text())
    report["consistency"]["new"]["formatting"]["mean"] = 0.0
    (folder / "report.json").write_text(json.dumps(report))
    assert any(line.startswith("consistency.new.formatting.mean") for line in problems(folder))


def test_rows_that_flip_can_be_looked_at() -> None:
    own = cases_of({"a": (1.0, [0.0]), "b": (1.0, [1.0])})
    flipped = [one for one in asked({"m": own}, "m", "right")["order"] if one.flips]
    assert [one.original.id for one in flipped] == ["a"]
    assert asked({"m": [c for c in own if c.track == PROGRAMMATIC]}, "m", "right") == {}


def test_models_are_asked_the_same_again(tmp_path: Path) -> None:
    one, other = ([case("x", CONSISTENCY, "order", 1.0, name)] for name in "ab")
    with pytest.raises(InputError, match="differs between models in its cluster"):
        write_cases(tmp_path / "cases.jsonl", {"m": one, "n": other})
