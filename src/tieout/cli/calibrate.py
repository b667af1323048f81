"""tieout calibrate REWARD --data FILE, and tieout calibrate --audit SHEETS"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError
from ..vetting.calibrate import CalibrationPolicy
from .options import RewardSpec, parse

if TYPE_CHECKING:
    from rich.console import Console

    from ..evidence.stats import Estimate
    from ..vetting.calibrate import Calibration


@dataclass(frozen=True)
class Options:
    """Calibrate a reward against human labels, or check a judge on filled audit sheets.

    Rows: prompt, completion and label (true or false; labels for those of several people), or prompt, chosen and
    rejected; and the columns that the reward asks for. `model`, or `chosen_model` and `rejected_model`, say who wrote.
    Exit status: 0 pass, 3 hold (not shown to be enough), 4 fail.
    """

    reward: Annotated[RewardSpec, tyro.conf.Positional] = ""
    """A registered name, FILE.py:FUNCTION, several with weights, or `scores`: rows carry `score`
    (or chosen_score, rejected_score)."""
    data: Path | None = None
    """Rows with human labels."""
    audit: Path | None = None
    """Instead: an audit sheet that a person has filled in, or a folder of them."""
    out: Path = Path("calibration")
    """Folder for calibration.json (audit.json), calibration.png and rows.jsonl."""
    policy: Annotated[CalibrationPolicy, tyro.conf.OmitArgPrefixes] = field(default_factory=CalibrationPolicy)
    """What is enough."""
    fresh: Path | None = None
    """Rows of prompt and completion that the policy wrote lately: has it left the calibrated range?"""
    judge_model: str = ""
    """For `scores` of a judge: its model, to see whether it prefers its own family's writing."""


def main(arguments: Sequence[str]) -> None:
    """Parse, calibrate, print, write."""
    options = parse(Options, "calibrate", arguments)
    if options.audit is not None:
        if options.reward or options.data:
            raise InputError("--audit reads filled sheets alone: leave out the reward and --data")
        verdict = _audit(options, options.audit)
    elif options.reward and options.data is not None:
        verdict = _calibrate(options, options.data)
    else:
        raise InputError(
            "calibrate needs a reward and its labelled rows (tieout calibrate REWARD --data FILE), or filled audit "
            "sheets (tieout calibrate --audit FILE)"
        )
    raise SystemExit({"pass": 0, "hold": 3, "fail": 4}[verdict])


def _calibrate(options: Options, data: Path) -> str:
    from rich.console import Console
    from rich.progress import Progress

    from ..rewards import load_reward
    from ..rows import location, read_rows
    from ..vetting.calibrate import calibrate
    from ..vetting.disagreements import better_threshold, worst
    from ..vetting.records import keep

    rows = read_rows(data)
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
            judge_model=options.judge_model,
            progress=lambda done: shown.advance(bar, done),
        )
    keep(options.out, result)
    _print_figures(console, result)
    for line in (*better_threshold(result), *worst(result, [location(rows, i) for i in range(len(rows))])):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if result.drift:
        console.print(
            f"{'drift':<28} distance {result.drift.distance:.3f}, p {result.drift.p_value:.2g}, "
            f"{result.drift.outside:.1%} outside, n={result.drift.n}",
            highlight=False,
        )
    _conclude(console, result.verdict, result.reasons, options.out)
    return result.verdict


def _print_figures(console: Console, result: Calibration) -> None:
    _line(console, "agreement", result.agreement)
    _line(console, "between labellers", result.people)
    extra = {"kappa": result.kappa, "separation (AUC)": result.separation, "ECE": result.calibration_error}
    for name, value in extra.items():
        if value is not None:
            console.print(f"{name:<28} {value:.3f}", highlight=False)
    for bias in result.biases:
        unit = "more often than people" if result.kind == "pairs" else "partial correlation"
        _line(console, f"{bias.trait}", bias.excess, f"  {unit}", "+")
        for name, slice_ in bias.slices.items():
            _line(console, f"  {name}", slice_)


def _line(console: Console, name: str, figure: Estimate, unit: str = "", sign: str = "") -> None:
    if figure.value is not None:
        interval = f"[{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"
        console.print(
            f"{name:<28} {figure.value:{sign}.3f} {interval}  n={figure.n}{unit}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _audit(options: Options, path: Path) -> str:
    from rich.console import Console

    from ..storage.atomic import write_json
    from ..vetting.audit import audit, read_sheets

    console = Console()
    result = audit(read_sheets(path), options.policy)
    write_json(options.out / "audit.json", result.plain())
    _line(console, "people agree", result.agreement)
    for step, figure in result.steps.items():
        _line(console, f"  step {step}", figure)
    if result.scores is not None:
        console.print("scores against those that people gave:", highlight=False)
        _print_figures(console, result.scores)
    if result.open_rows:
        console.print(f"{'not filled in':<28} {result.open_rows} rows", highlight=False)
    _conclude(console, result.verdict, result.reasons, options.out)
    return result.verdict


def _conclude(console: Console, verdict: str, reasons: Sequence[str], out: Path) -> None:
    colour = {"pass": "green", "hold": "yellow", "fail": "red"}[verdict]
    console.print(f"verdict: [bold {colour}]{verdict}[/]")
    for reason in reasons:
        console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"written: {out}", highlight=False)
