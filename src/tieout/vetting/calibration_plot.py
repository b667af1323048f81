"""Plot a calibration: how often each range of scores is right, and how scores are spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .calibrate import Calibration
from .reliability import Bin
from .truth import TruthCalibration


def plot(calibration: Calibration, path: Path, fresh: Sequence[float] = ()) -> None:
    """Write a PNG: reliability (labels) or the lead of the preferred one (pairs), and the scores of each kind."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no state between calls

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    scored = [row for row in calibration.rows if row["status"] == "scored"]
    if calibration.kind == "labels":
        _reliability(left, calibration)
        kinds = {
            "right": [r["score"] for r in scored if r["label"] > 0.5],
            "wrong": [r["score"] for r in scored if r["label"] <= 0.5],
        }
    else:
        _curve(left, calibration.bins)
        left.axhline(0.5, color="#8a8a8a", linestyle=":")
        left.set(
            xlabel="distance of the two scores", ylabel="share in the order of people", ylim=(-0.03, 1.03)
        )
        kinds = {
            "preferred": [r["chosen_score"] for r in scored],
            "not preferred": [r["rejected_score"] for r in scored],
        }
    if fresh:
        kinds["fresh samples"] = list(fresh)
    everything = [s for values in kinds.values() for s in values]
    span = (min(everything, default=0.0), max(everything, default=1.0))
    for (name, values), colour in zip(kinds.items(), ("#2f7d4f", "#b3403a", "#8a8a8a"), strict=False):
        right.hist(values, bins=20, range=span, histtype="step", linewidth=1.6, color=colour, label=name)
    right.set(xlabel="score", ylabel="completions")
    right.legend(frameon=False)
    a = calibration.agreement
    if a.value is not None:
        figure.suptitle(f"{calibration.reward}: agreement {a.value:.3f} [{a.low:.3f}, {a.high:.3f}], n={a.n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _reliability(axes: Any, calibration: Calibration) -> None:
    _curve(axes, calibration.bins)
    if calibration.calibration_error is not None:
        axes.plot([0, 1], [0, 1], color="#8a8a8a", linestyle=":")
        axes.set_title(f"ECE {calibration.calibration_error:.3f}", fontsize=9)
    axes.set(xlabel="score", ylabel="share labelled right", ylim=(-0.03, 1.03))


def plot_truth(calibration: TruthCalibration, path: Path) -> None:
    """Write a PNG: how often each range of scores is right, and the scores of each kind of completion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, calibration.bins)
    left.set(xlabel="score", ylabel="share that is right", ylim=(-0.03, 1.03))
    kinds = {
        kind: [row["score"] for row in calibration.rows if row["kind"] == kind and row["score"] is not None]
        for kind in calibration.kinds
    }
    right.boxplot(list(kinds.values()), orientation="horizontal", widths=0.6, flierprops={"markersize": 2})
    right.set_yticks(range(1, len(kinds) + 1), [kind.replace("_", " ") for kind in kinds], fontsize=7)
    right.invert_yaxis()
    right.set(xlabel="score")
    a = calibration.agreement
    if a.value is not None:
        figure.suptitle(
            f"{calibration.reward}: the better completion scores higher in {a.value:.3f} "
            f"[{a.low:.3f}, {a.high:.3f}] of {a.n} pairs\n{calibration.truth}",
            fontsize=9,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _curve(axes: Any, bins: Sequence[Bin]) -> None:
    x, y = [b.mean_score for b in bins], [b.right for b in bins]
    below = [max(0.0, b.right - b.right_low) for b in bins]
    above = [max(0.0, b.right_high - b.right) for b in bins]
    axes.errorbar(x, y, yerr=[below, above], fmt="o-", color="#4a6fa5", capsize=3)
