"""Views of a run in the terminal: its stages, the table of models, the verdict, the next command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..evidence import rule, usage
from ..evidence.challengers import about, how_made
from ..evidence.consistency import flips_in_words
from ..evidence.evaluate import PROGRAMMATIC
from ..evidence.lines import principal, short_place, summary
from ..evidence.pass_at_k import in_words
from ..evidence.reward_checks import rows_of
from ..review.curves import alarms_of
from ..review.progress import states
from ..review.stored import alarms_in
from ..review.verdict import leaks_of, next_command, steps_after
from ..shipping.candidate import ShippingError
from ..shipping.ship import ship
from ..storage.jsonl import read_json
from .planned import planned_of


def print_next(folder: Path, report: Mapping[str, Any], console: Console) -> None:
    """Print what to do now, and the command for it."""
    steps, command = steps_after(folder, report), next_command(folder, report)
    for step in steps:
        console.print(f"next: {step}", markup=False, highlight=False)
    if command:
        console.print(
            f"{'then' if steps else 'next'}: {command}", markup=False, highlight=False, soft_wrap=True
        )


def show(folder: Path, console: Console) -> None:
    """Print the table of models and tracks, the comparisons, the verdict, and where the report is."""
    report = read_json(folder / "evidence" / "report.json")
    console.print()
    models = [(name, tracks) for name, tracks in report["models"].items()]
    console.print(_table("mean, 95% interval", report, models, console.width))
    pairs = [(f"{pair['candidate']} - {pair['baseline']}", pair["tracks"]) for pair in principal(report)]
    console.print(_table("paired difference, 95% interval", report, pairs, console.width))
    if passed := report.get("pass_at_k"):
        print_passed(passed, report["settings"]["sampled"], console)
    print_usage(report.get("usage", {}), console)
    for model in report["models"]:
        if said := how_made(about(report, model)):
            console.print(f"{model}: {said}", markup=False, highlight=False, soft_wrap=True)
    for pair in principal(report):
        said = f"{pair['candidate']} - {pair['baseline']}: {pair['gain']}{_won(report, pair)}"
        console.print(said, markup=False, highlight=False)
    print_consistency(report, console)
    verdict = report["verdict"]
    colour = {"ship": "green", "hold": "yellow", "reject": "red"}[verdict["verdict"]]
    shipped = (folder / "shipped").exists()
    console.print(f"\nverdict: [bold {colour}]{verdict['verdict']}[/]" + ("  (shipped)" if shipped else ""))
    for check in verdict["checks"]:
        console.print(f"  {check['status']:<5} {check['reason']}", highlight=False)
    for note in (*rule.in_words(report.get("rule", {})), *leaks_of(report)):
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    if checked := rows_of(report):
        console.print("\nreward:")
    for row in checked:
        said = f"  {row['verdict']:<5} {row['stage']}: {row['what']}: {row['said']}"
        console.print(said, markup=False, highlight=False)
    if chosen := report.get("choice"):
        console.print(f"\n{chosen['why'][0]}", markup=False, highlight=False, soft_wrap=True)
    for note in planned_of(folder):
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    for note in alarms_of(alarms_in(folder)):
        console.print(f"  alarm {note.removeprefix('Alarm ')}", markup=False, highlight=False)
    console.print(f"\nreport: {folder}/evidence/report.html", highlight=False)
    where = "shipped" if shipped else "candidate"
    console.print(f"{where}: {folder}/{where}", highlight=False)
    print_next(folder, report, console)


def print_consistency(report: Mapping[str, Any], console: Console) -> None:
    """Print how often each model's answers flip; nothing where no row was asked again."""
    found = report.get("consistency", {})
    if found:
        rows = report["settings"]["again"]["rows"]
        console.print(f"\nconsistency, {rows} test rows asked again:", highlight=False)
    for model, kinds in found.items():
        for kind, figure in kinds.items():
            console.print(f"  {model}, {flips_in_words(kind, figure)}", markup=False, highlight=False)


def print_passed(figures: Mapping[str, Any], sampled: Mapping[str, Any], console: Console) -> None:
    """Print pass@k of every model, and of the candidate minus the baseline. `sampled`: the settings of the samples."""
    shown = Table(
        title=f"{in_words(sampled)}; mean and 95% interval", title_justify="left", box=box.SIMPLE_HEAD
    )
    shown.add_column("")
    columns = {name: (own, "mean", "") for name, own in figures["models"].items()}
    if "difference" in figures:
        name = f"{figures['candidate']} minus {figures['baseline']}"
        columns[name] = (figures["difference"], "difference", "+")
    for name, (own, _, _) in columns.items():
        shown.add_column(f"{escape(name)}, n {next(iter(own.values()))['n']}", justify="right")
    for k in next(iter(figures["models"].values())):
        cells = [
            "-" if not (e := own[k])["n"] else f"{e[what]:{s}.3f} [{e['low']:{s}.3f}, {e['high']:{s}.3f}]"
            for own, what, s in columns.values()
        ]
        shown.add_row(k, *map(escape, cells))
    console.print(shown)


def print_usage(figures: Mapping[str, Any], console: Console) -> None:
    """Print tokens, seconds and cost per answer of each model; nothing where none was counted."""
    header, rows = usage.table(figures)
    shown = Table(
        title="per answer: tokens of the prompt, tokens written, seconds",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for i, name in enumerate(header):
        shown.add_column(name, justify="right" if i else "left", no_wrap=i > 0)
    for row in rows:
        shown.add_row(*map(escape, row))
    if rows:
        console.print(shown)


def ship_run(folder: Path, override: str | None, console: Console, merged: bool | None = None) -> bool:
    """Ship the candidate if the verdict allows it or `override` gives a reason; says what happened."""
    if (folder / "shipped").exists():
        console.print(f"shipped before: {folder}/shipped", highlight=False)
        return True
    try:
        ship(folder / "candidate", folder / "shipped", folder / "evidence", override=override, merged=merged)
    except ShippingError as error:
        report = read_json(folder / "evidence" / "report.json")
        console.print(f"not shipped: {error}", highlight=False)
        print_next(folder, report, console)
        return False
    console.print(f"shipped: {folder}/shipped", highlight=False)
    if without := read_json(folder / "shipped" / "card.json")["facts"].get("not_merged"):
        console.print(f"  {without}", highlight=False, soft_wrap=True)
    return True


def stages(folder: Path, console: Console) -> None:
    """Print how far every stage is."""
    for name, state in states(folder, read_json(folder / "run.json")):
        console.print(f"  {name:<16} {state}", highlight=False)


def _table(
    title: str, report: Mapping[str, Any], columns: list[tuple[str, Mapping[str, Any]]], width: int
) -> Table:
    """A line per number, a column per model or comparison; intervals below their number where it is narrow."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    between = " " if 28 + 26 * len(columns) <= width else "\n"
    before = ""
    for line in summary(report):
        where = short_place(line)
        alone = line.track != PROGRAMMATIC
        if where != before and not alone:
            table.add_row(f"[bold]{escape(where)}[/]")
        label = f"[bold]{escape(where)}[/]: {line.label}" if alone else f"  {escape(line.label)}"
        table.add_row(label, *(_figure(line.of(tracks), between) for _, tracks in columns))
        before = where
    return table


def _won(report: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """How often each model has the higher reward."""
    figure = next(line for line in summary(report) if line.kind == "reward").of(pair["tracks"])
    if not figure["n"]:
        return ""
    shares = [f"{figure[what] / figure['n']:.0%}" for what in ("wins", "ties", "losses")]
    return f"; by reward {pair['candidate']} wins {shares[0]}, ties {shares[1]}, loses {shares[2]}"


def _figure(figure: Mapping[str, Any], between: str) -> str:
    if not figure["n"]:
        return "-"
    low, high = figure["low"], figure["high"]
    if "difference" in figure:
        return escape(f"{figure['difference']:+.3f}{between}[{low:+.3f}, {high:+.3f}]")
    return escape(f"{figure['mean']:.3f}{between}[{low:.3f}, {high:.3f}]")
