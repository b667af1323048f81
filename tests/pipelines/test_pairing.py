"""Pairs: the chosen is good in itself, the gap is large enough, form alone decides few, and what decides is said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import DPO, END, NO_CHECK, SFT, lines, run

from tieout.errors import InputError, TooManyErrors
from tieout.pipelines.pairing.choose import NEAR, NOT_GOOD, TIED, Standard, choose
from tieout.pipelines.pairing.making import _flaw
from tieout.pipelines.pairing.measures import Candidate, Measures, Scored
from tieout.pipelines.pairing.summary import (
    FEW_SCORED,
    FORM_ALONE,
    NO_FLAW,
    NOT_LOWER,
    Made,
    Pair,
    print_summary,
)
from tieout.pipelines.recipe import Recipe
from tieout.rewards.scoring.combine import combine
from tieout.rewards.scoring.outcomes import ranged
from tieout.tasks import Task, load_task

ROW = {"prompt": "1 + 1?", "answer": "2"}


def figures(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [0.8 * (a in c) for c, a in zip(completions, answer, strict=True)]


def schema(completions: list[str], **_: Any) -> list[float]:
    return [0.2 * c.startswith("{") for c in completions]


@ranged(0, 1)
def both(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [sum(p) for p in zip(figures(completions, answer), schema(completions), strict=True)]


def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(a in c) for c, a in zip(completions, answer, strict=True)]


def task(**changes: Any) -> Task:
    parts = {"figures": figures, "schema": schema}
    given = {"reward": both, "metrics": {"right": right}, "primary": "right", "parts": parts}
    return Task("sums", lambda split: [ROW], **{**given, **changes})


def candidates(of: Task, texts: list[str], row: Mapping[str, Any] = ROW) -> list[Candidate]:
    scores = of.reward(texts, answer=[row["answer"]] * len(texts))  # type: ignore[misc]
    group = Scored(row, texts, scores, [{} for _ in texts])
    return Measures.of(of).candidates(of, [group], None)[0]


def chosen(
    of: Task, texts: list[str], most: int = 1, **bounds: Any
) -> tuple[list[tuple[str, str, str]], str]:
    """(chosen, rejected, what decides) of each pair, and why there is none."""
    own = candidates(of, texts)
    standard = Standard.of(of, bounds.get("min_chosen"), bounds.get("min_gap"))
    found, reason = choose(own, standard, Measures.of(of), most)
    return [(texts[c.chosen], texts[c.rejected], c.decision.label) for c in found], reason


def test_the_chosen_must_be_right_unless_the_bound_is_lowered() -> None:
    wrong = ["{3", "4", "{5"]
    assert chosen(task(), wrong) == ([], NOT_GOOD)
    assert chosen(task(), wrong, min_chosen=0.2)[0] == [("{3", "4", "form alone: schema")]
    assert chosen(task(), [*wrong, "2"])[0][0][0] == "2"  # badly formed, and right


def test_without_a_primary_metric_the_chosen_is_at_the_top_of_the_declared_range() -> None:
    of = task(primary=None)
    assert chosen(of, ["2", "{3", "4"]) == ([], NOT_GOOD)  # 0.8
    assert chosen(of, ["{2", "{3", "4"])[0][0][0] == "{2"  # 1.0
    undeclared = task(primary=None, reward=lambda completions, **columns: both(completions, **columns))
    assert chosen(undeclared, ["2", "4"])[0] == [("2", "4", "figures: more against less")]
    assert Standard.of(undeclared, None, None).min_gap == 0


def test_a_gap_that_is_too_small_is_another_reason_than_a_tie() -> None:
    assert chosen(task(), ["{2", "{2!", "{2?"]) == ([], TIED)
    assert chosen(task(), ["{2", "2"], min_gap=0.3) == ([], NEAR)
    assert chosen(task(), ["{2", "2"], min_gap=0.2)[0] == [("{2", "2", "form alone: schema")]
    assert Standard.of(task(), None, None).min_gap == 0.1  # a tenth of the range


def test_substance_comes_before_form_and_the_same_form_before_the_larger_gap() -> None:
    found, _ = chosen(task(), ["{2", "2", "{3", "4"], most=9)
    assert [pair[1:] for pair in found if pair[0] == "{2"] == [
        ("{3", "right against wrong, same form"),
        ("4", "right against wrong, form differs too"),
        ("2", "form alone: schema"),
    ]
    assert found[:2] == [
        ("{2", "{3", "right against wrong, same form"),
        ("2", "4", "right against wrong, same form"),  # not "{2" again
    ]
    assert found[-1][2] == "form alone: schema"
    assert len(found) == 5
    assert chosen(task(), ["{2", "2", "{3", "4"])[0] == found[:1]


def test_a_pair_that_the_primary_metric_contradicts_is_none() -> None:
    def hacked(completions: list[str], **_: Any) -> list[float]:
        return [float(c.count("!")) for c in completions]

    of = task(reward=hacked, parts={})
    assert chosen(of, ["2", "3!!"], min_chosen=1)[1] in (TIED, NEAR)
    assert chosen(of, ["2!", "3"], min_chosen=1)[0] == [("2!", "3", "right against wrong")]


def test_form_that_outweighs_substance_counts_as_form() -> None:
    def formal(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [f / 8 + s for f, s in zip(figures(completions, answer), schema(completions), strict=True)]

    of = task(reward=formal, primary=None)
    own = candidates(of, ["{3", "2"])
    decision = Measures.of(of).decision(*own)
    assert (decision.label, decision.form_alone) == ("form against substance: schema", True)


def test_copies_of_a_text_are_one_candidate() -> None:
    found, _ = chosen(task(), ["{2", "{2", "{3", "{3 ", "{3"], most=9)
    assert found == [("{2", "{3", "right against wrong, same form")]


def test_a_primary_metric_that_fails_is_named_and_no_completion_called_bad() -> None:
    def broken(completions: list[str], **_: Any) -> list[float]:
        raise KeyError("unit")

    of = task(metrics={"right": broken})
    group = Scored(ROW, [f"{{{i}" for i in range(20)], [0.0] * 20, [{}] * 20)
    with pytest.raises(TooManyErrors, match="measure 'right' failed on 20 of 20 completions"):
        Measures.of(of).candidates(of, [group], None)


def test_an_empty_completion_is_on_no_side_of_a_pair() -> None:
    assert chosen(task(), ["", "{2", " \n"], most=9) == ([], TIED)
    found, _ = chosen(task(), ["", "{2", "{3"], most=9)
    assert [pair[:2] for pair in found] == [("{2", "{3")]


def test_a_rule_may_have_no_flaw_for_a_row_and_must_give_text() -> None:
    rng = random.Random(0)
    assert (_flaw(lambda row, rng: None, ROW, rng), _flaw(lambda row, rng: "3", ROW, rng)) == ("", "3")
    with pytest.raises(InputError, match="returned 7; expected text"):
        _flaw(lambda row, rng: 7, ROW, rng)


def test_parts_of_a_combined_reward_and_metrics_stand_in_for_declared_parts() -> None:
    of = task(reward=combine({figures: 1.0, schema: 1.0}), parts={}, primary=None)
    known = Measures.of(of)
    assert (known.form, known.substance, dict(known.functions)) == (
        frozenset({"schema"}),
        frozenset({"figures"}),
        {},
    )
    by_metrics = task(parts={}, metrics={"right": right, "valid_json": schema, "close": figures})
    known = Measures.of(by_metrics)
    assert (known.form, known.substance) == (frozenset({"valid_json"}), frozenset({"close"}))
    neither = Measures.of(task(parts={}, metrics={}, primary=None))
    own = candidates(task(parts={}, metrics={}, primary=None), ["{2", "{3"])
    assert neither.decision(*own).form_alone is None
    assert "cannot be told" in neither.decision(*own).label
    assert neither.decision(own[0], Candidate("4", 0.0, {})).label == "right against wrong, by the reward"


def made_of(of: Task, prompts: list[list[str]], **bounds: Any) -> Made:
    made, known = Made(), Measures.of(of)
    for texts in prompts:
        own = candidates(of, texts)
        found, reason = choose(own, Standard.of(of, bounds.get("min_chosen"), None), known)
        made.prompts += 1
        made.best.append(max(c.score for c in own))
        made.dropped.update([reason] if reason else [])
        made.pairs += [Pair.of(ROW, own, choice, "sampled") for choice in found]
    return made


def test_pairs_that_form_alone_decides_are_limited_and_counted() -> None:
    made = made_of(task(), [["{2", "{3"]] * 9 + [["{2", "2"]] * 4)
    assert sum(map(bool, (pair.form_alone for pair in made.pairs))) == 4
    made.limit_form(0.1)
    assert [pair.form_alone for pair in made.pairs] == [False] * 9 + [True]
    assert made.dropped[FORM_ALONE] == 3
    summary = made.summary(Standard.of(task(), None, None))
    assert summary["form_alone"] == 0.1
    assert summary["decided_by"] == {"right against wrong, same form": 9, "form alone: schema": 1}
    assert summary["chosen"] == "right is at least 1"
    whole = made_of(task(), [["{2", "2"]] * 4)
    whole.limit_form(1.0)
    assert len(whole.pairs) == 4
    whole.limit_form(0.1)  # there is no substance that they could be a tenth of
    assert whole.pairs == []


def test_too_few_pairs_stop_with_what_to_do_and_a_small_set_that_lost_nothing_does_not() -> None:
    made = made_of(task(), [["{2", "{3"]] * 3 + [["{3", "4"]] * 9)
    standard = Standard.of(task(), None, None)
    with pytest.raises(
        ValueError, match=r"made 3 pairs of 12 prompts, and min_pairs is 16 \(9 x no completion"
    ) as e:
        made.check_enough(16, standard, "pairs")
    assert "scores 0.2 in the median and 1 or more for a tenth" in str(e.value)
    assert all(word in str(e.value) for word in ("Lower min_chosen", "num_completions", "by SFT"))
    made.check_enough(3, standard, "pairs")
    made_of(task(), [["{2", "{3"]] * 3).check_enough(16, standard, "pairs")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (TIED, "harder prompts"),
        (NEAR, "Lower min_gap"),
        (f"{FEW_SCORED} by the judge (RuntimeError: down)", "what the judge says"),
        (FEW_SCORED, "what the reward gives"),
        (NO_FLAW, "Give a rule"),
        (NOT_LOWER, "does not see these flaws"),
        (FORM_ALONE, "Raise max_form"),
    ],
)
def test_what_to_do_about_too_few_pairs_follows_from_why_they_are_few(reason: str, says: str) -> None:
    made = Made(prompts=9)
    made.dropped.update({reason: 8, NOT_GOOD: 1})
    with pytest.raises(InputError, match=says) as e:
        made.check_enough(16, Standard.of(task(), None, None), "pairs")
    assert "min_chosen" not in str(e.value)


def test_gaps_on_scales_of_their_own_have_no_common_mean() -> None:
    made = made_of(task(), [["{2", "{3"]] * 4)
    one = made.summary(Standard.of(task(), None, None))["mean_gap"]
    assert one == pytest.approx(made.pairs[0].gap)
    made.pairs[0].row["source"], made.judge_gap = "judged", 2.0
    both = made.summary(Standard.of(task(), None, None))
    assert (set(both["mean_gap"]), both["min_gap"]) == ({"judged", "sampled"}, 2.0)
    console = Console(record=True, width=120)
    print_summary(both, console)
    assert f"mean gap judged {one:.3f}, sampled {one:.3f}, least 2" in console.export_text()


def test_what_decides_is_printed() -> None:
    console = Console(record=True, width=120)
    made = made_of(task(), [["{2", "{3"]] * 3 + [["{2", "3"]])
    print_summary(made.summary(Standard.of(task(), None, None)), console)
    said = console.export_text()
    assert "what decides the 4 pairs" in said
    assert "right against wrong, same form" in said
    assert "75%" in said
    assert "cannot be told" not in said
    blind = task(parts={}, metrics={}, primary=None)
    print_summary(made_of(blind, [["{2", "{3"]]).summary(Standard.of(blind, None, None)), console)
    assert "cannot be told" in console.export_text()


def test_the_finance_task_tells_form_from_substance() -> None:
    of = load_task("finance_statements")
    row = of.rows("train")[0]
    assert of.gold is not None
    gold = json.loads(of.gold(row))
    wrong = {**gold, "total": gold["total"] + 1}
    texts = [json.dumps(gold), json.dumps(wrong), json.dumps(wrong)[:-9]]
    group = Scored(row, texts, [1.0, 0.6, 0.3], [{}] * 3)
    known = Measures.of(of)
    own = known.candidates(of, [group], None)[0]
    assert known.tell_form
    found, _ = choose(own, Standard.of(of, None, None), known, 9)
    assert [(c.chosen, c.rejected) for c in found] == [(0, 1), (0, 2)]
    assert all(c.decision.label.startswith("right against wrong") for c in found)


TASK = """
from tieout import Task
from tieout import ranged

ROWS = [{"prompt": f"say {i}", "completion": "a", "answer": "a"} for i in range(30)]
TEST = [{"prompt": f"Write the word {w}.", "completion": w, "answer": w} for w in ("tax", "fee", "bond", "debt")]

def right(completions, **_):
    return [float(sum(map(ord, c)) % 3 == 0) for c in completions]

def schema(completions, **_):
    return [0.2 * (len(c) % 2) for c in completions]

@ranged(0, 1.2)
def reward(completions, **_):
    return [a + b for a, b in zip(right(completions), schema(completions))]

task = Task(
    "thirds", lambda split: {"train": ROWS, "test": TEST}.get(split, []), reward, metrics={"right": right},
    primary="right", parts={"figures": right, "schema": schema}, max_new_tokens=6,
)
"""


def test_a_run_keeps_and_reports_what_decides_its_pairs(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "thirds.py").write_text(TASK)
    changes: dict[str, Any] = {"task": f"{tmp_path / 'thirds.py'}:task", "data": {}, "reward": None}
    several = {"pairs": {"num_completions": 6, "pairs_per_prompt": 3, "temperature": 1.0}}
    _, said = run(recipe([NO_CHECK, SFT, several, DPO, *END], **changes), tmp_path / "run")
    summary = json.loads((tmp_path / "run/pairs/pairs.json").read_text())
    rows = lines(tmp_path / "run/pairs/pairs.jsonl")
    assert "what decides the" in said
    assert summary["pairs"] == len(rows) > 30
    assert all(row["chosen_score"] >= 1 and row["decided_by"].startswith("right against") for row in rows)
    weights: dict[str, float] = {}
    for row in rows:
        weights[row["prompt"]] = weights.get(row["prompt"], 0.0) + row["pair_weight"]
    assert max(weights.values()) == pytest.approx(min(weights.values()))
    assert sum(weights.values()) == pytest.approx(len(rows))
    report = json.loads((tmp_path / "run/evidence/report.json").read_text())
    assert report["metadata"]["pairs"] == {"pairs": summary}


CLOSE = '''
from tieout import ranged

@ranged(0, 1)
def close(completions, answer, **_):
    """1 for the answer; half where only its spaces differ."""
    same = [c.replace(" ", "") == a.replace(" ", "") for c, a in zip(completions, answer)]
    return [1.0 if c == a else 0.5 * s for c, a, s in zip(completions, answer, same)]

def spaced(row, rng):
    return row["completion"].replace("up", rng.choice(["up ", "up"]))
'''


def test_gold_of_a_file_is_paired_with_flawed_copies_and_with_what_the_base_says(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "close.py").write_text(CLOSE)
    texts = [f"It is up {i} million." if i % 3 else "audit" for i in range(1, 31)]
    rows = [{"prompt": f"say {i}", "completion": t, "answer": t} for i, t in enumerate(texts)]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": "Write a word.", "answer": "tax"}) + "\n")
    changes: dict[str, Any] = {
        "data": {"train": str(tmp_path / "gold.jsonl"), "test": str(tmp_path / "test.jsonl")},
        "reward": f"{tmp_path / 'close.py'}:close",
    }
    made = {"name": "flaws", "sources": ["flawed", "base"], "num_completions": 2, "min_pairs": 1}
    own = {"name": "own", "sources": ["flawed"], "flaws": f"{tmp_path / 'close.py'}:spaced", "min_gap": 0.6}
    own |= {"num_completions": 4}
    stages = [NO_CHECK, SFT, {"pairs": made}, DPO]
    _, said = run(recipe(stages, **changes), tmp_path / "run")
    pairs = lines(tmp_path / "run/flaws/pairs.jsonl")
    summary = json.loads((tmp_path / "run/flaws/pairs.json").read_text())
    assert summary["sources"] == {"flawed": 20, "base": 30}
    assert summary["dropped"] == {"no rule flaws the gold completion": 10}
    assert all(row["chosen"] in texts and row["chosen"] != row["rejected"] for row in pairs)
    assert all(row["chosen_score"] == 1 > row["rejected_score"] for row in pairs)
    assert {row["decided_by"] for row in pairs if row["source"] == "flawed"} <= {
        f"flaw: another {what}" for what in ("digit", "sign", "scale")
    } | {"flaw: the opposite"}
    assert "dropped: 10 x no rule flaws" in said
    with pytest.raises(ValueError, match="no flawed completion scores lower than gold by min_gap"):
        run(recipe([NO_CHECK, SFT, {"pairs": own}], **changes), tmp_path / "other")


def test_pairs_of_a_file_meet_the_bounds_where_they_have_scores(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    words = ["tax", "fee", "bond", "debt", "share", "cash"]
    rows: list[dict[str, Any]] = [
        {"prompt": f"Write {w} twice.", "chosen": w, "rejected": "x"} for w in words
    ]
    for row, score in zip(rows[:4], (0.9, 0.9, 0.9, 0.2), strict=True):
        row |= {"chosen_score": score, "rejected_score": 0.1}
    rows[5] = {"prompt": "Any word?", "completions": ["cash", "y", "z"], "scores": [0.9, 0.5, 0.1]}
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(
        json.dumps({"prompt": "Say something else.", "answer": "tax"}) + "\n"
    )
    changes = {"data": {name: str(tmp_path / f"{name}.jsonl") for name in ("pairs", "test")}, "reward": None}
    bounds = {"sources": ["file"], "min_chosen": 0.5, "min_gap": 0.6, "min_pairs": 1}
    run(recipe([NO_CHECK, {"pairs": bounds}], **changes), tmp_path / "run")
    summary = json.loads((tmp_path / "run/pairs/pairs.json").read_text())
    kept = [row["chosen"] for row in lines(tmp_path / "run/pairs/pairs.jsonl")]
    assert kept == ["tax", "fee", "bond", "cash", "share"]
    assert summary["dropped"] == {
        "the scores differ by less than min_gap (0.6)": 2,
        "the chosen scores below min_chosen (0.5)": 1,
    }
    assert summary["form_alone"] is None
    assert (summary["chosen"], summary["min_gap"]) == ("the score is at least 0.5", 0.6)
    bounds |= {"min_chosen": 2, "min_pairs": 3}
    with pytest.raises(ValueError, match="no pair is left"):
        run(recipe([NO_CHECK, {"pairs": bounds}], **changes), tmp_path / "none")
