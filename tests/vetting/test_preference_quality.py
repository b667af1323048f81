"""Quality of pairs: every figure against a count by hand, noise against simulated labels, and real pairs."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.cli import main
from tieout.evidence.stats import Estimate
from tieout.rows import RowsError
from tieout.rows.pairs import PairSelection, preferences
from tieout.storage.jsonl import write_jsonl
from tieout.vetting.preferences.advice import checks, plain, refusals
from tieout.vetting.preferences.noise import BETWEEN, ITSELF, ROWS, flip_rate, judgements
from tieout.vetting.preferences.quality import Quality, measure


def pair(i: int, chosen: str = "", rejected: str = "", **more: Any) -> dict[str, Any]:
    named = f"item {i} of the ledger, written {'out ' * (i % 3)}as {'abcdefghij'[i % 10] * (2 + i)}"
    return {"prompt": named, "chosen": chosen or "yes", "rejected": rejected or "no", **more}


def status(quality: Quality) -> dict[str, str]:
    return {check.name: check.status for check in checks(quality)}


def said(quality: Quality, name: str) -> str:
    return next(check.said for check in checks(quality) if check.name == name)


def judgement(person: str, item: str, value: Any, round: int = 0) -> dict[str, Any]:
    made = {"what": "judgement", "annotator": person, "item": item, "round": round, "value": value}
    return {"id": f"{person}-{item}-{round}", **made}


def width(value: Estimate) -> float:
    assert value.low is not None
    assert value.high is not None
    return value.high - value.low


def test_gaps_and_good_chosen_ones_are_as_counted_by_hand() -> None:
    scores = [(1.0, 0.0), (1.0, 0.95), (0.9, 0.1), (0.5, 0.6)]
    rows = [pair(i, chosen_score=a, rejected_score=b) for i, (a, b) in enumerate(scores)]
    found = measure(rows, good=[True, True, False, None], standard="the figure is right", scale=(0, 1))
    assert found.gaps is not None
    assert found.gaps.quantiles["50"] == pytest.approx((0.05 + 0.8) / 2)
    assert found.gaps.mean.value == pytest.approx((1 + 0.05 + 0.8 - 0.1) / 4)
    assert found.gaps.small.value == 0.5  # 0.05 and -0.1
    assert found.gaps.turned == 1
    assert found.good is not None
    assert (found.good.share.value, found.good.share.n) == (pytest.approx(2 / 3), 3)
    assert [status(found)[name] for name in ("gap", "chosen", "scores against labels")] == ["warn"] * 3
    assert "the figure is right" in said(found, "chosen")
    high = measure([pair(i, chosen_score=9, rejected_score=1) for i in range(9)])
    assert high.gaps is not None
    assert (high.gaps.scale, status(high)["gap"]) == ((1, 9), "ok")  # the scale that was seen


@pytest.mark.parametrize(("turned", "says"), [(2, "Look at these"), (10, "hardly agree"), (18, "swapped")])
def test_scores_that_contradict_labels_mean_one_thing_or_another_by_their_share(
    turned: int, says: str
) -> None:
    rows = [pair(i, chosen_score=float(i >= turned), rejected_score=float(i < turned)) for i in range(20)]
    found = next(one for one in checks(measure(rows)) if one.name == "scores against labels")
    assert f"in {turned} pairs ({turned / 20:.0%})" in found.said
    assert says in found.advice


def test_lengths_have_an_interval_and_warn_beyond_chance_only() -> None:
    longer = [pair(i, "yes, it is so", "no") for i in range(40)]
    found = measure(longer)
    assert found.lengths.longer.value == 1
    assert found.lengths.difference.value == pytest.approx(11)
    assert found.lengths.medians == (13, 2)
    assert status(found)["length"] == "warn"
    balanced = measure(
        [pair(i, *(("yes, it is so", "no") if i % 2 else ("no", "yes, it is so"))) for i in range(40)]
    )
    assert balanced.lengths.longer.value == 0.5
    assert status(balanced)["length"] == "ok"
    few = measure(longer[:3])
    assert status(few)["length"] == "ok"  # three of three is chance
    assert few.lengths.longer.low is not None
    assert few.lengths.longer.low < 0.5


def test_all_turns_of_a_completion_are_compared_and_its_reasoning(tmp_path: Path) -> None:
    def looked_up(what: str, thought: str = "") -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": "look_up", "arguments": {"row": what}}}
        first = {"role": "assistant", "content": "", "tool_calls": [call]}
        last = {
            "role": "assistant",
            "content": "It is 12.",
            **({"reasoning_content": thought} if thought else {}),
        }
        return [first, {"role": "tool", "content": "12"}, last]

    asked = [{"role": "user", "content": "How much was it?"}]
    rows = [
        {
            "prompt": asked,
            "chosen": looked_up("revenue of the segment"),
            "rejected": looked_up("number of employees"),
        },
        {
            "prompt": asked,
            "chosen": looked_up("revenue", "The segment is asked for."),
            "rejected": looked_up("revenue"),
        },
    ]
    found = measure(preferences(rows))
    assert (found.copies.exact, found.copies.turned, found.copies.wordless) == (0, 0, 0)
    assert found.lengths.longer.n == 2
    test = {"test": [{"prompt": "Which row has the revenue of the segment in millions of euros?"}]}
    told = {**rows[0], "chosen": looked_up("Which row has the revenue of the segment in millions of euros?")}
    assert "near" in refusals(measure(preferences([told, rows[1]]), test))[0]


def test_pairs_of_one_prompt_are_no_independent_evidence() -> None:
    apart = measure([pair(i, "yes, it is so" if i % 4 else "y", "not") for i in range(60)])
    together = [
        {**pair(i // 10, "yes, it is so" if i // 10 % 4 else "y", f"not{'x' * (i % 10)}")} for i in range(60)
    ]
    one = measure(together)
    assert one.prompts == 6
    assert width(one.lengths.longer) > 1.5 * width(apart.lengths.longer)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_flip_rate_and_its_interval_hold_in_simulation(rate: float) -> None:
    rng, inside, values = random.Random(3), 0, []
    for _ in range(100):
        rows = []
        for i in range(150):
            own = [judgement(who, str(i), "b" if rng.random() < rate else "a") for who in ("ann", "bob")]
            rows.append(pair(i, judgements=own))
        flips = measure(rows[:1], judged=judgements(rows)).noise[BETWEEN].flips
        inside += (flips.low or 0.0) <= rate <= (flips.high or 0.0)
        values.append(flips.value or 0.0)
    assert sum(values) / 100 == pytest.approx(rate, abs=0.015)
    assert inside >= 89  # 95 expected; 88 or fewer would be a chance of one in three hundred


@given(st.floats(0, 1))
def test_the_flip_rate_is_the_root_of_its_equation(differ: float) -> None:
    e = flip_rate(differ)
    assert 0 <= e <= 0.5
    assert 2 * e * (1 - e) == pytest.approx(min(differ, 0.5))


def test_people_their_repeats_ties_and_rankings_are_told_apart() -> None:
    own = [
        judgement("ann", "1", "a"),
        judgement("bob", "1", "b"),
        judgement("ann", "1", "a", 1),
        judgement("ann", "2", "tie"),
        judgement("bob", "2", "a"),
        judgement("ann", "3", "skip"),
        judgement("bob", "3", "a"),
        {**judgement("eve", "1", "b"), "what": "verdict"},
    ]
    found = measure([pair(0, judgements=own), pair(1, judgements=own)])
    between = found.noise[BETWEEN]
    assert (between.agree.n, between.agree.value, between.undecided, between.at_least) == (1, 0, 1, True)
    assert (found.noise[ITSELF].agree.n, found.noise[ITSELF].agree.value) == (1, 1)
    assert not measure([pair(0)], judged=own).noise[BETWEEN].at_least
    ranks = [judgement("ann", "1", [[0], [1], [2]]), judgement("bob", "1", [[1], [0], [2]])]
    ranked = measure([pair(0)], judged=ranks).noise[BETWEEN]
    assert (ranked.agree.n, ranked.agree.value) == (3, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    "column",
    [
        "text",
        ["a"],
        [{"what": "judgement"}],
        [judgement("a", "1", {"right": "1"}), judgement("b", "1", 7)],
        3,
    ],
)
def test_a_column_of_this_name_that_is_not_ours_is_left_alone(column: Any) -> None:
    assert measure([pair(0, judgements=column)]).noise == {}


def test_rows_that_contradict_each_other_are_labels_and_copies_are_not() -> None:
    copies = [pair(i % 10) for i in range(20)]
    assert measure(copies).noise == {}
    assert status(measure(copies))["copies"] == "warn"
    turned = measure([*copies, *(pair(i, "no", "yes") for i in range(2))])
    assert turned.copies.turned == 2
    assert status(turned)["contradictions"] == "warn"
    assert turned.noise[ROWS].agree.n == 8 + 2 * 3
    assert turned.noise[ROWS].agree.value == pytest.approx((8 + 2) / 14)
    assert "at least" in said(turned, "label noise")


def test_an_export_of_what_two_people_agree_on_is_no_measure_of_their_agreement() -> None:
    """Of two people who differ, an export has no pair: that all the others agree says nothing."""
    own = [judgement(who, str(i), "a") for i in range(30) for who in ("ann", "bob")]
    rows = [pair(i, judgements=own[2 * i : 2 * i + 2]) for i in range(30)]
    found = measure(rows)
    assert found.noise == {}
    assert [c.status for c in checks(found) if c.name == "label noise"] == ["unknown"]
    assert "--labels" in next(c.advice for c in checks(found) if c.name == "label noise")
    assert measure(rows, judged=own).noise[BETWEEN].agree.value == 1  # all that was said
    third = measure(
        [*rows, pair(40, judgements=[judgement(who, "x", v) for who, v in zip("abc", "aab", strict=True)])]
    )
    assert third.noise[BETWEEN].agree.value == pytest.approx(31 / 33)  # of three, one may differ
    again = measure([pair(1, judgements=[*own[:2], judgement("ann", "0", "b", 1)])])
    assert list(again.noise) == [ITSELF]
    assert "at most" in said(again, "count")


def test_contradictions_without_any_copy_are_no_measure_of_noise() -> None:
    """Of a file whose copies were taken out, the labels that agree are missing."""
    rows = [pair(i) for i in range(100)]
    found = measure([*rows, *(pair(i, "no", "yes") for i in range(5))])
    assert found.noise == {}
    assert "worth" not in said(found, "count")
    assert "row 101 contradicts" in said(found, "contradictions")


def test_what_noisy_labels_are_worth_has_an_interval() -> None:
    own = [
        judgement(who, str(i), "b" if who == "bob" and i < 6 else "a")
        for i in range(40)
        for who in ("ann", "bob")
    ]
    settled = said(measure([pair(i) for i in range(40)], judged=own), "count")
    assert settled == "40 pairs of 40 prompts, worth 28 [16, 35] without label noise"  # (1 - 2d) x 40, d 6/40
    exported = said(measure([pair(i, judgements=own) for i in range(40)]), "count")
    assert exported == settled.replace("worth", "worth at most")  # what nobody settled is missing


@pytest.mark.parametrize(
    "scores",
    [
        {"chosen_score": 1.0},
        {"chosen_score": "1.0", "rejected_score": "0"},
        {"chosen_score": float("nan"), "rejected_score": 0},
    ],
    ids=["one of two", "text", "NaN"],
)
def test_scores_that_cannot_be_read_are_named_and_none_is_assumed(scores: dict[str, Any]) -> None:
    bad = pair(2, **scores)
    found = measure([pair(1, chosen_score=1, rejected_score=0), bad, pair(3)])
    assert found.unread == ("rows, row 2",)
    assert "rows, row 2" in said(found, "scores")
    assert "of the 1 pairs with scores" in said(found, "gap")
    with pytest.raises(RowsError, match="this row has none"):
        preferences([bad], selection=PairSelection(min_gap=0.5))


def test_pairs_that_differ_in_no_word_are_counted() -> None:
    rows = [pair(1, "Net income", "net income\u200b,"), *(pair(i) for i in range(2, 8))]
    found = measure(preferences(rows))
    assert found.copies.wordless == 1
    assert status(found)["same words"] == "warn"
    assert "same words" not in status(measure(preferences(rows[1:])))


def test_what_cannot_be_right_is_refused_and_general_rows_are_not() -> None:
    general = pair(3, "same", "same")
    assert refusals(measure([pair(1), general])) == []
    assert measure([pair(1), general]).general == 1
    scored = measure([pair(1), {**general, "chosen_score": 1.0, "rejected_score": 0.0}])
    assert "rows, row 2" in refusals(scored)[0]
    assert "none of 1 rows has a preference" in refusals(measure([general]))[0]
    held = {"test": [{"prompt": pair(1)["prompt"]}]}
    leaked = measure([pair(1), pair(2)], held, option="--accept-leakage")
    assert "--accept-leakage" in refusals(leaked)[0]
    assert leaked.leakage is not None
    assert leaked.leakage["held"]["test"]["exact"] == 1
    accepted = measure([pair(1), pair(2)], held, accept_leakage="a rehearsal")
    assert (refusals(accepted), status(accepted)["leakage"]) == ([], "warn")
    assert status(measure([pair(1)], {"test": []}))["leakage"] == "unknown"
    hidden = {"test": [{"prompt": "Who signs the accounts of the group in the end?"}]}
    said_in = pair(1, "Who signs the accounts of the group in the end? The chair does.")
    assert "near" in refusals(measure([said_in], hidden))[0]  # in a completion, too


def test_all_of_it_is_plain_json() -> None:
    rows = [pair(i, chosen_score=1, rejected_score=0, source="sampled") for i in range(3)]
    found = json.loads(
        json.dumps(plain(measure(rows, {"test": [pair(9)]}, good=[True] * 3, standard="right")))
    )
    assert found["sources"] == {"sampled": 3}
    assert found["gaps"]["mean"]["value"] == 1
    assert {check["name"] for check in found["checks"]} >= {"count", "gap", "chosen", "length", "leakage"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1?", "chosen": "2", "rejected": "three"},
        {
            "prompt": [{"role": "user", "content": "1+1?"}],
            "chosen": [{"role": "assistant", "content": "2"}],
            "rejected": [{"role": "assistant", "content": "three"}],
        },
        {
            "chosen": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}],
            "rejected": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "three"}],
        },
        {"prompt": "1+1?", "completions": ["2", "three"], "scores": [1, 0]},
    ],
    ids=["plain", "conversational", "implicit prompt", "ranking"],
)
def test_every_form_of_a_pair_gives_the_same_figures(row: dict[str, Any]) -> None:
    found = measure(preferences([row]))
    assert (found.pairs, found.prompts, found.lengths.difference.value) == (1, 1, -4)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tieout", "pairs", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_measures_a_file_and_refuses_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, test, out = tmp_path / "pairs.jsonl", tmp_path / "test.jsonl", tmp_path / "quality.json"
    write_jsonl(path, [{**pair(i, "12", "13!"), "answer": "12"} for i in range(5)])
    write_jsonl(test, [pair(30)])
    assert call(monkeypatch, path, "--test", test, "--reward", "exact", "--out", out) == 0
    found = json.loads(out.read_text())
    assert found["gaps"]["mean"]["value"] == found["good"]["share"]["value"] == 1
    assert found["gaps"]["scale"] == [0, 1]
    assert "quality of" in capsys.readouterr().out
    write_jsonl(test, [pair(2)])
    assert call(monkeypatch, path, "--test", test, "--out", out) == 1
    assert "cannot be right" in capsys.readouterr().err
    assert json.loads(out.read_text())["leaked"]  # the measurement is kept
    assert call(monkeypatch, path, "--min-chosen", 1) == 1
    assert "name a --reward" in capsys.readouterr().err


def test_a_reward_that_fails_is_named_and_one_that_abstains_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, rewards = tmp_path / "pairs.jsonl", tmp_path / "rewards.py"
    write_jsonl(path, [pair(i, rejected="none" if i % 2 else "no") for i in range(12)])
    rewards.write_text(
        "def down(completions, **_):\n    raise RuntimeError('out of credit')\n"
        "def shy(completions, **_):\n    return [None if c == 'none' else 1.0 for c in completions]\n"
        "def mute(completions, **_):\n    return [None] * len(completions)\n"
        "mute.__reward_range__ = (0.0, 1.0)\n"
    )
    assert call(monkeypatch, path, "--reward", f"{rewards}:down") == 1
    assert "failed on 16 of 16 completions" in " ".join(capsys.readouterr().err.split())
    assert call(monkeypatch, path, "--reward", f"{rewards}:shy") == 0
    assert "gave no score to a completion of 6 of 12 pairs" in " ".join(capsys.readouterr().out.split())
    assert call(monkeypatch, path, "--reward", f"{rewards}:mute") == 0  # nobody asked for a min_chosen
    assert "gave no score to a completion of 12 of 12 pairs" in " ".join(capsys.readouterr().out.split())
    assert call(monkeypatch, path, "--reward", f"{rewards}:mute", "--min-chosen", "0.5") == 1
    assert "no row has any: name another --reward" in " ".join(capsys.readouterr().err.split())


def test_real_pairs_that_people_marked(shared_data: Path) -> None:
    """LLMBar: the adversarial half was built so that the worse one is longer and more polished; the natural one not."""
    found = {}
    for name in ("Natural", "Adversarial_GPTInst"):
        rows = json.loads((shared_data / "llmbar" / f"{name}.json").read_text())
        made = [
            {
                "prompt": row["input"],
                "chosen": row[f"output_{row['label']}"],
                "rejected": row[f"output_{3 - row['label']}"],
            }
            for row in rows
        ]
        found[name] = measure(preferences(made))
        sizes = [(len(row["chosen"]), len(row["rejected"])) for row in made]
        unlike = [one > other for one, other in sizes if one != other]
        assert found[name].lengths.longer.value == pytest.approx(sum(unlike) / len(unlike))
    assert status(found["Natural"])["length"] == "ok"
    assert status(found["Adversarial_GPTInst"])["length"] == "warn"
    assert (found["Adversarial_GPTInst"].lengths.longer.high or 1) < 0.25


def test_real_completions_labelled_right_or_wrong_as_rankings(shared_data: Path) -> None:
    """GSM8K: four models' solutions of one question, right or wrong."""
    lines = (shared_data / "gsm8k" / "labelled_completions_first_650.jsonl").read_text().splitlines()[:200]
    rows, decided = [], 0
    for line in lines:
        row = json.loads(line)
        said = [one for one in row.values() if isinstance(one, dict)]
        scores = [float(one["is_correct"]) for one in said]
        decided += sum(scores) in (1, 2, 3)
        rows.append(
            {"prompt": row["question"], "completions": [x["solution"] for x in said], "scores": scores}
        )
    quality = measure(preferences(rows), {"test": rows[:3]})
    assert quality.prompts == decided
    assert quality.gaps is not None
    assert quality.gaps.mean.value == 1
    assert quality.copies.turned == 0
    assert "exact" in refusals(quality)[0]
