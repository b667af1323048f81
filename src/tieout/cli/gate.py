"""tieout gate RUN [--human FILE]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro
from rich.console import Console

from .options import parse


@dataclass(frozen=True)
class Options:
    """Judge a run's candidate again, from the cases on disk. Exit status: 0 ship, 3 hold, 4 reject."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder with evidence/report.json."""
    human: Path | None = None
    """Graded pairs: the labels of `tieout label` (RUN/labels), the filled sheet of the run or a filled copy of it, as a
    CSV file too, or rows of case, model_a, model_b, preferred."""
    price: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """MODEL=PROMPT,ANSWER per million tokens, or MODEL=HOUR/h: `--price dpo=2.5/h`, for the cost of answers. May be
    given several times."""


def main(arguments: Sequence[str]) -> None:
    """Parse, judge, print."""
    options = parse(Options, "gate", arguments)
    from ..evidence.report import evidence_of

    evidence_of(options.run)  # before torch is loaded
    from ..pipelines.show import show

    report = gate_run(options.run, options.human, options.price)
    show(options.run, Console())
    raise SystemExit({"ship": 0, "hold": 3, "reject": 4}[report["verdict"]["verdict"]])


def gate_run(run: Path, given: Path | None = None, price: Sequence[str] = ()) -> dict[str, Any]:
    """Judge a run folder again by these grades, a file or the folder of labels; returns the report."""
    from ..evidence.report import evidence_of
    from ..labelling.given import graded
    from ..samplers.prices import parse_prices
    from ..storage.jsonl import read_json
    from ..storage.runfolder import RunFolder

    evidence = evidence_of(run)
    with RunFolder(run), TemporaryDirectory() as aside:
        sheet = evidence / "human" / "sheet.jsonl"
        grades = graded(given, sheet, Path(aside)) if given else None
        models = read_json(evidence / "report.json")["models"]
        return judge_again(run, grades, parse_prices(price, [*models]))


def judge_again(run: Path, grades: Path | None, prices: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Judge a run folder that is locked by these grades, or by its filled sheet, on record; returns the report."""
    from ..evidence.report import evidence_of, regate
    from ..review.document import write_page
    from ..storage import manifest

    report = regate(evidence_of(run), grades, prices=prices)
    write_page(run)
    if (run / manifest.FILE).exists():
        manifest.append(run, "tieout gate")
    return report
