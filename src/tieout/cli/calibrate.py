"""tieout calibrate REWARD --data FILE"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ..vetting.calibrate import CalibrationPolicy
from .options import parse


@dataclass(frozen=True)
class Options:
    """Calibrate a reward against human labels. Exit status: 0 pass, 3 hold (not shown to be enough), 4 fail.

    Rows: prompt, completion and label (true or false; labels for those of several people), or prompt, chosen and
    rejected; and the columns that the reward asks for.
    """

    reward: Annotated[str, tyro.conf.Positional]
    """A registered name, FILE.py:FUNCTION, or `scores`: rows carry `score` (or chosen_score, rejected_score)."""
    data: Path
    """Rows with human labels."""
    out: Path = Path("calibration")
    """Folder for calibration.json, calibration.png and rows.jsonl."""
    policy: Annotated[CalibrationPolicy, tyro.conf.OmitArgPrefixes] = field(default_factory=CalibrationPolicy)
    """What is enough."""
    fresh: Path | None = None
    """Rows of prompt and completion that the policy wrote lately: has it left the calibrated range?"""


def main(arguments: Sequence[str]) -> None:
    """Parse, calibrate, print, write."""
    options = parse(Options, "calibrate", arguments)
    from rich.console import Console
    from rich.progress import Progress

    from ..rewards import load_reward
    from ..rows import read_rows
    from ..storage.atomic import write_json
    from ..storage.jsonl import write_jsonl
    from ..vetting.calibrate import calibrate
    from ..vetting.calibration_plot import plot

    rows = list(read_rows(options.data))
    fresh = list(read_rows(options.fresh)) if options.fresh else []
    reward = None if options.reward == "scores" else load_reward(options.reward)
    console = Console()
    with Progress(console=console, transient=True) as shown:
        bar = shown.add_task("calibrate", total=len(rows))
        result = calibrate(
            options.reward,
            reward,
            rows,
            options.policy,
            fresh=fresh,
            progress=lambda done: shown.advance(bar, done),
        )
    write_json(options.out / "calibration.json", result.to_plain())
    write_jsonl(options.out / "rows.jsonl", result.rows)
    plot(result, options.out / "calibration.png")
    lines = {"agreement": result.agreement, "between labellers": result.people}
    for name, figure in lines.items():
        if figure.value is not None:
            console.print(
                f"{name:<18} {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]  n={figure.n}",
                highlight=False,
            )
    extra = {"kappa": result.kappa, "separation (AUC)": result.separation, "ECE": result.calibration_error}
    for name, value in extra.items():
        if value is not None:
            console.print(f"{name:<18} {value:.3f}", highlight=False)
    if result.drift:
        console.print(
            f"{'drift':<18} distance {result.drift.distance:.3f}, p {result.drift.p_value:.2g}, "
            f"{result.drift.outside:.1%} outside, n={result.drift.n}",
            highlight=False,
        )
    colour = {"pass": "green", "hold": "yellow", "fail": "red"}[result.verdict]
    console.print(f"verdict: [bold {colour}]{result.verdict}[/]")
    for reason in result.reasons:
        console.print(f"  {reason}", highlight=False)
    console.print(f"written: {options.out}", highlight=False)
    raise SystemExit({"pass": 0, "hold": 3, "fail": 4}[result.verdict])
