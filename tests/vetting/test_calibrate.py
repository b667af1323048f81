from __future__ import annotations

import itertools
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.library.numeric import numeric
from tieout.vetting.calibrate import Calibration, CalibrationPolicy, calibrate
from tieout.vetting.calibration_plot import plot
from tieout.vetting.reliability import calibration_error, drift, faults, kappa, reliability, separation


def given_score(completions: list[str], **_: Any) -> list[float]:
    return [float(c) for c in completions]


def labelled(n: int, right: Any, seed: int = 0) -> list[dict[str, Any]]:
    """n rows whose completion is its own score; a person calls it right with probability `right(score)`."""
    rng = random.Random(seed)
    scores = [rng.random() for _ in range(n)]
    return [
        {"prompt": f"p{i}", "completion": f"{s:.12f}", "label": rng.random() < right(s)}
        for i, s in enumerate(scores)
    ]


def judged(rows: list[dict[str, Any]], **policy: Any) -> Calibration:
    return calibrate("given", given_score, rows, CalibrationPolicy(**policy))


def test_a_calibrated_reward_passes_and_its_numbers_are_those_of_its_making() -> None:
    found = judged(labelled(4000, lambda s: s), floor=0.7)
    assert found.verdict == "pass", found.reasons
    # A score s that is right with probability s: agreement at 1/2 is the integral of max(s, 1 - s), 3/4.
    assert found.agreement.value == pytest.approx(0.75, abs=0.02)
    assert found.calibration_error is not None
    assert found.calibration_error < 0.03
    # P(right outscores wrong) = 2 * integral over s of s * (s - s^2 / 2) ... = 5/6.
    assert found.separation == pytest.approx(5 / 6, abs=0.02)
    assert len(found.bins) == 10


@pytest.mark.parametrize(
    ("right", "verdict", "reason"),
    [
        (lambda s: 0.5, "fail", "flat"),
        (lambda s: 1 - s, "fail", "not monotone: scores .* are right"),
        (lambda s: 1.0 if 0.3 < s < 0.8 else 0.0, "fail", "not monotone"),
        (lambda s: 0.3 + 0.4 * s, "fail", "below the floor of 0.7"),
    ],
)
def test_rewards_that_do_not_pay_for_what_people_want_fail(right: Any, verdict: str, reason: str) -> None:
    found = judged(labelled(1500, right))
    assert found.verdict == verdict
    assert re.search(reason, " ".join(found.reasons))


def test_too_few_rows_or_too_wide_an_interval_show_nothing() -> None:
    few = judged(labelled(20, lambda s: float(s > 0.5)))
    assert (few.verdict, few.agreement.value) == ("hold", 1.0)
    rows = labelled(60, lambda s: float(s > 0.5))
    for row in rows[::7]:  # 9 of 60: agreement 0.85, and an interval about 0.1 to each side
        row["label"] = not row["label"]
    wide = judged(rows, floor=0.78)
    assert wide.verdict == "hold"
    assert "not shown to be above" in wide.reasons[0]


@pytest.mark.parametrize("crashes", [False, True])
def test_what_errs_is_counted_and_no_number_but_a_crash_is_a_wrong_answer(crashes: bool) -> None:
    def breaks(completions: list[str], **_: Any) -> list[float]:
        if float(completions[0]) > 0.8:
            if crashes:
                raise ValueError("planted")
            return [math.nan]
        return given_score(completions)

    rows = labelled(400, lambda s: float(s > 0.5))
    found = calibrate("breaks", breaks, rows)
    high = sum(float(row["completion"]) > 0.8 for row in rows)
    assert found.errored == high
    assert found.agreement.n == (400 if crashes else 400 - high)
    assert found.agreement.value == (1 - high / 400 if crashes else 1.0)
    assert found.verdict != "pass"
    assert f"({high} errored)" in " ".join(found.reasons)


def test_the_marks_of_people_are_hidden_from_the_reward() -> None:
    def cheats(completions: list[str], label: list[bool], **_: Any) -> list[float]:
        return [float(x) for x in label]

    with pytest.raises(ValueError, match="needs column 'label'"):
        calibrate("cheats", cheats, labelled(60, lambda s: s))
    seen: list[set[str]] = []
    calibrate("spy", lambda completions, **c: seen.append(set(c)) or [0.0], labelled(2, lambda s: s))
    assert seen == [{"prompts"}, {"prompts"}]


def test_people_among_themselves_stand_beside_the_reward() -> None:
    rows = [{"prompt": str(i), "completion": "1", "labels": [1, 1, i % 2]} for i in range(100)]
    found = calibrate("given", given_score, rows)
    # Odd rows agree on all three pairs of people, even rows on one of three.
    assert found.people.value == pytest.approx((1 + 1 / 3) / 2)
    assert found.people.n == 300


def test_pairs_count_ties_as_halves_and_know_the_two_thresholds() -> None:
    def rows(right: int, ties: int, n: int) -> list[dict[str, str]]:
        pairs = [("2", "1")] * right + [("1", "1")] * ties + [("1", "2")] * (n - right - ties)
        return [{"prompt": str(i), "chosen": a, "rejected": b} for i, (a, b) in enumerate(pairs)]

    even = calibrate("given", given_score, rows(60, 80, 200))
    assert even.agreement.value == pytest.approx(0.5)
    assert even.verdict == "fail"
    usable = calibrate("given", given_score, rows(160, 0, 200))
    assert usable.verdict == "pass"
    assert "thousands" not in usable.reasons[0]
    good = calibrate("given", given_score, rows(190, 0, 200))
    assert "above 0.85: good for thousands of steps" in good.reasons[0]


def test_fresh_samples_outside_the_calibrated_range_fail() -> None:
    rows = labelled(500, lambda s: float(s > 0.5))
    same = [{"prompt": "p", "completion": r["completion"]} for r in labelled(300, lambda s: s, seed=1)]
    fine = calibrate("given", given_score, rows, fresh=same)
    assert fine.drift is not None
    assert not fine.drift.drifted
    assert fine.verdict == "pass"
    moved = calibrate("given", given_score, rows, fresh=[{"prompt": "p", "completion": "1.7"}] * 30 + same)
    assert moved.drift is not None
    assert moved.drift.outside == pytest.approx(30 / 330, abs=0.01)
    assert "drifted" in " ".join(moved.reasons)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"prompt": "p", "completion": "c"}], "must have prompt, completion and label"),
        ([{"prompt": "p", "chosen": "c"}], "the first has: prompt, chosen"),
        ([{"prompt": "p", "completion": "1", "label": "yes"}], "a label is 'yes'; expected true, false"),
    ],
)
def test_rows_of_no_kind_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate("given", given_score, rows)


scores_and_labels = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=80,
)


@given(scores_and_labels, st.integers(1, 12), st.randoms(use_true_random=False))
def test_bins_hold_every_score_once_in_order_and_part_no_ties(
    rows: list[tuple[float, bool]], num_bins: int, rng: random.Random
) -> None:
    bins = reliability(*zip(*rows, strict=True), num_bins=num_bins)  # type: ignore[arg-type]
    assert sum(b.n for b in bins) == len(rows)
    assert all(b.low <= b.mean_score + 1e-12 and b.mean_score <= b.high + 1e-12 for b in bins)
    assert all(earlier.high < later.low for earlier, later in itertools.pairwise(bins))
    assert 0 <= calibration_error(bins) <= 1
    shuffled = rows[:]
    rng.shuffle(shuffled)
    assert [b.n for b in reliability(*zip(*shuffled, strict=True), num_bins=num_bins)] == [b.n for b in bins]  # type: ignore[arg-type]


@given(st.integers(2, 400), st.integers(1, 12))
def test_bins_of_scores_that_differ_are_of_even_size(n: int, num_bins: int) -> None:
    sizes = [b.n for b in reliability([i / n for i in range(n)], [1.0] * n, num_bins)]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(n, num_bins)


@given(scores_and_labels)
def test_separation_is_the_share_of_pairs_in_order(rows: list[tuple[float, bool]]) -> None:
    right, wrong = ([s for s, y in rows if y is kind] for kind in (True, False))
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong]
    found = separation([s for s, _ in rows], [float(y) for _, y in rows])
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_kappa_is_1_for_the_same_0_for_chance_and_none_without_choice() -> None:
    one = [True, True, False, False]
    assert kappa(one, one) == 1
    assert kappa(one, [True, False, True, False]) == 0
    assert kappa([True] * 4, [True] * 4) is None


def test_few_unequal_bins_are_no_fault_and_one_score_is_flat() -> None:
    assert "every completion scores 1" in faults(reliability([1.0] * 9, [1.0] * 9))[0]
    assert faults(reliability([0.0] * 50 + [1.0] * 50, [0.0] * 40 + [1.0] * 60)) == []
    assert not drift([0.0, 0.5, 1.0] * 20, [0.0, 0.5, 1.0] * 20).drifted


def gsm8k(folder: Path) -> list[dict[str, Any]]:
    rows = []
    with open(folder / "gsm8k" / "labelled_completions_first_650.jsonl") as file:
        for line in file:
            row = json.loads(line)
            gold = row["ground_truth"].split("A:")[-1].strip()
            for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
                own = row[model]
                rows.append(
                    {
                        "prompt": row["question"],
                        "completion": own["solution"],
                        "answer": gold,
                        "label": own["is_correct"],
                    }
                )
    return rows


def test_on_real_solutions_the_right_reader_passes_and_two_naive_ones_are_told_apart(
    shared_data: Path,
) -> None:
    numbers = re.compile(r"-?\d[\d,]*(?:\.\d+)?")

    def at(place: int) -> Any:
        def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
            found = [(numbers.findall(c) or [""])[place].replace(",", "") for c in completions]
            return [float(f == a.replace(",", "")) for f, a in zip(found, answer, strict=True)]

        return reward

    rows = gsm8k(shared_data)
    assert len(rows) == 2600
    last, first = calibrate("last", at(-1), rows), calibrate("first", at(0), rows)
    assert last.verdict == "pass"
    assert last.agreement.low is not None
    assert last.agreement.low > 0.99
    assert first.verdict == "fail"
    assert any("flat" in reason for reason in first.reasons)
    contains = calibrate(
        "contains",
        lambda completions, answer, **_: [float(a in c) for a, c in zip(answer, completions, strict=True)],
        rows,
    )
    assert contains.agreement.value is not None
    assert 0.8 < contains.agreement.value < last.agreement.low  # pays for the number anywhere


def test_our_numeric_reward_agrees_with_the_labels_of_real_solutions(shared_data: Path) -> None:
    rows = [{**row, "completion": row["completion"].replace("\nA:", "\n####")} for row in gsm8k(shared_data)]
    found = calibrate("numeric", numeric, rows)
    assert found.verdict == "pass"
    assert found.agreement.low is not None
    assert found.agreement.low > 0.99


def test_on_pairs_marked_by_people_length_is_no_reward(shared_data: Path) -> None:
    rows = []
    for name in ("Natural", "Adversarial_GPTInst"):
        for pair in json.loads((shared_data / "llmbar" / f"{name}.json").read_text()):
            chosen, rejected = (pair[f"output_{k}"] for k in (pair["label"], 3 - pair["label"]))
            rows.append({"prompt": pair["input"], "chosen": chosen, "rejected": rejected})
    found = calibrate("length", lambda completions, **_: [float(len(c)) for c in completions], rows)
    assert found.agreement.n == 192
    assert found.verdict == "fail"


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tieout.cli.calibrate import main

    reward = tmp_path / "mine.py"
    reward.write_text("def given(completions, **_):\n    return [float(c) for c in completions]\n")
    for name, right, status in (("good", lambda s: float(s > 0.5), 0), ("flat", lambda s: 0.5, 4)):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in labelled(300, right)))
        with pytest.raises(SystemExit) as ended:
            main([f"{reward}:given", "--data", str(data), "--out", str(tmp_path / name)])
        assert ended.value.code == status
        report = json.loads((tmp_path / name / "calibration.json").read_text())
        assert report["verdict"] == {0: "pass", 4: "fail"}[status]
        assert (tmp_path / name / "calibration.png").read_bytes().startswith(b"\x89PNG")
        assert len((tmp_path / name / "rows.jsonl").read_text().splitlines()) == 300
    assert "verdict: fail" in capsys.readouterr().out


def test_pairs_have_a_picture_too(tmp_path: Path) -> None:
    rows = [{"prompt": str(i), "chosen": str(i + 1), "rejected": str(i)} for i in range(60)]
    plot(calibrate("given", given_score, rows), tmp_path / "p.png", fresh=[1.0, 2.0])
    assert (tmp_path / "p.png").stat().st_size > 5000
