"""The terminal shows primary metric, reward and parts in that order, and offers what helps, never the override."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from rich.console import Console

from tieout.evidence.evaluate import CONTROLS, PROGRAMMATIC, Case
from tieout.evidence.report import write_report
from tieout.pipelines.show import ship_run, show
from tieout.review.document import write_page
from tieout.review.verdict import next_command
from tieout.storage.jsonl import read_json


def made_run(folder: Path, form: float, right: float) -> Path:
    """A run of base, sft and dpo: dpo has gained `form` points, and is right in a share `right` of the cases."""
    luck = [random.Random(i).random() for i in range(80)]
    cases: dict[str, list[Case]] = {}
    for model in ("base", "sft", "dpo"):
        share, more = (right, form) if model == "dpo" else (0.5, 0.0)
        cases[model] = []
        for i in range(80):  # the same cases are right, and more or fewer
            exact = float(luck[i] < share)
            parts = {"form": 0.2 + more, "figures": 0.5 * exact}
            case = Case(
                f"t/{i}", PROGRAMMATIC, "test", f"q {i}", model, sum(parts.values()), {"exact": exact}
            )
            cases[model].append(Case(**{**vars(case), "parts": parts}))
            cases[model].append(Case(f"c/{i}", CONTROLS, "copy", f"q {i}", model, 1.0))
    write_report(
        folder / "evidence",
        cases,
        candidate="dpo",
        baseline="sft",
        base="base",
        primary="exact",
        metadata={"recipe": {"stages": [{"train": name, "name": name} for name in ("sft", "dpo")]}},
    )
    write_page(folder)
    return folder


def shown(folder: Path, width: int = 140) -> str:
    console = Console(record=True, width=width, force_terminal=False)
    show(folder, console)
    return console.export_text()


def test_the_primary_metric_the_reward_and_its_parts_in_that_order(tmp_path: Path) -> None:
    text = shown(made_run(tmp_path, form=0.1, right=0.5))
    for start in (text.index("mean, 95%"), text.index("paired difference, 95%")):
        labels = [
            text.index(label, start)
            for label in ("exact (primary)", "reward", "– form", "– figures", "controls: ")
        ]
        assert labels == sorted(labels)
    assert "dpo - sft: exact, the primary metric, is not shown to have changed" in text
    assert "most of the gain is form" in text
    assert "dpo - base" in text
    assert "sft - base" in text
    assert "by reward dpo wins" in text
    assert all(len(line) <= 80 for line in shown(tmp_path, 80).splitlines() if "tieout" not in line)


@pytest.mark.parametrize(
    ("form", "right", "verdict", "step"),
    [
        (0.1, 0.5, "hold", "Make the reward pay for exact and train again"),
        (
            0.0,
            0.95,
            "hold",
            "Grade pairs with `tieout label`, or fill in `preferred` (a, b or tie)",
        ),
        (0.1, 0.1, "reject", "What changed from sft to dpo: exact, the primary metric, fell"),
    ],
)
def test_shipping_against_the_verdict_is_never_offered(
    tmp_path: Path, form: float, right: float, verdict: str, step: str
) -> None:
    folder = made_run(tmp_path, form, right)
    report = read_json(folder / "evidence" / "report.json")
    assert report["verdict"]["verdict"] == verdict
    console = Console(record=True, width=200, force_terminal=False)
    assert not ship_run(folder, None, console)
    page = (folder / "evidence" / "report.html").read_text()
    for text in (shown(folder, 200), console.export_text(), page, next_command(folder, report)):
        assert "override" not in text
    assert f"next: {step}" in shown(folder, 200)
    assert step.replace("`", "") in re.sub("</?code>", "", page)
    offered = next_command(folder, report)
    assert offered == (f"tieout label {folder}" if verdict == "hold" else "")


def test_what_passed_may_ship(tmp_path: Path) -> None:
    folder = made_run(tmp_path, 0.0, 0.95)
    report = read_json(folder / "evidence" / "report.json")
    report["verdict"]["verdict"] = "ship"
    assert next_command(folder, report) == f"tieout ship {folder}"
