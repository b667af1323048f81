"""The training section: scores as they were logged, distributions folded into one chart, what matters first."""

from __future__ import annotations

import json
from pathlib import Path

from tieout.evidence.training import read_stage, stage_charts
from tieout.training.monitors import lengths, sampled_rows, scores
from tieout.types import Completion, Group


def groups(step: int) -> list[Group]:
    """Two groups of two whose completions have 1 to 4 tokens; one more is right with every step."""
    sizes = [(1, 2), (3, 4)]
    return [
        Group(
            [0],
            [
                Completion([1] * n, [True] * n, [-1.0] * n, "x", finish_reason="length" if n == 4 else "stop")
                for n in pair
            ],
            [float(step > n) for n in pair],
            {"prompt": str(i)},
        )
        for i, pair in enumerate(sizes)
    ]


def logged(folder: Path, steps: int) -> None:
    with (folder / "metrics.jsonl").open("w") as metrics, (folder / "groups.jsonl").open("w") as rollouts:
        for step in range(1, steps + 1):
            found: dict[str, float] = {}
            for monitor in (scores, lengths):
                monitor(step, groups(step), found)
            metrics.write(json.dumps({"step": step, "loss": 0.1, "scored": 4, **found}) + "\n")
            rollouts.writelines(json.dumps(row) + "\n" for row in sampled_rows(step, groups(step)))
        metrics.write('{"step": 9')  # a line that was torn


def test_a_stage_that_samples_shows_scores_lengths_and_what_was_cut_off(tmp_path: Path) -> None:
    logged(tmp_path, 4)
    rows = read_stage(tmp_path)
    assert [row["scores"] for row in rows] == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert [rows[0][f"length_{name}"] for name in ("min", "q1", "median", "q3", "max")] == [
        1,
        1.75,
        2.5,
        3.25,
        4,
    ]
    names = [chart["name"] for chart in stage_charts("grpo", rows)]
    assert names[:2] == ["scores of completions", "score"]
    assert "length: median, quartiles, least and most" in names
    assert "cut_off" in names
    assert not [name for name in names if name.startswith("length_")]
    assert names.index("scored") > names.index("cut_off")


def test_what_tells_how_a_policy_does_stands_before_a_recalibration() -> None:
    """Else the dozen numbers of a recalibration, which name scores too, would fold the lengths away."""
    names = [
        "calibration/score",
        "calibration/score_change",
        "loss",
        "length",
        "entropy",
        "other_script",
        "valid",
    ]
    names += ["gold", "score", *(f"length_{end}" for end in ("min", "q1", "median", "q3", "max"))]
    rows = [{"step": i, "scores": [0.5], **dict.fromkeys(names, 0.1 * i)} for i in range(3)]
    assert [chart["name"] for chart in stage_charts("grpo", rows)] == [
        *("scores of completions", "score", "gold", "length: median, quartiles, least and most"),
        *(
            "valid",
            "other_script",
            "entropy",
            "calibration/score",
            "calibration/score_change",
            "loss",
            "length",
        ),
    ]


def test_a_stage_that_samples_nothing_has_curves_only(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
    (chart,) = stage_charts("sft", read_stage(tmp_path))
    assert (chart["name"], chart["last"]) == ("loss", "1")
    assert read_stage(tmp_path / "none") == []


def test_a_distribution_that_lacks_a_number_stays_curves() -> None:
    rows = [{"step": i, "x_median": 1.0, "x_min": 0.0} for i in range(3)]
    assert {chart["name"] for chart in stage_charts("s", rows)} == {"x_median", "x_min"}
