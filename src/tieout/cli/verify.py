"""tieout verify RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .options import parse


@dataclass(frozen=True)
class Options:
    """Recompute a report from its cases, and list what disagrees: figures, verdict, files, page and curves,
    calibrations of the reward, card.

    Exit status: 0 all agrees, 1 something does not.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, a folder with report.json and cases.jsonl (or cases.jsonl.gz), or a report.json."""


def main(arguments: Sequence[str]) -> None:
    """Parse, recompute, list."""
    options = parse(Options, "verify", arguments)
    from ..evidence.verify import report_at, verify, verify_page
    from ..storage.jsonl import read_json
    from ..vetting.records import REPORT, recompute

    path = report_at(options.run)
    problems = verify(path)
    problems = problems or verify_page(path)
    for calibration in sorted(path.parent.parent.glob(f"**/{REPORT}")):
        problems += recompute(calibration)
    for name in ("candidate", "shipped"):
        if (folder := path.parent.parent / name).exists():
            from ..shipping.candidate import altered, card_differs  # needs torch

            problems += [f"{name}: {line}" for line in altered(folder)]
            if name == "shipped":
                problems += [f"{name}: {line}" for line in card_differs(folder, path.parent)]
    for problem in problems:
        print(problem)
    report = read_json(path)
    if problems:
        print(f"\n{path} does not tie out: {len(problems)} differ")
        raise SystemExit(1)
    models, verdict = ", ".join(report["models"]), report["verdict"]["verdict"]
    print(f"{path} ties out: every number of {models}, and the verdict, {verdict}")
