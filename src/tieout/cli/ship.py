"""tieout ship RUN [--override REASON]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Ship the checked candidate of a run, if its verdict is ship. Exit status: 0 shipped, 3 not."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder with a candidate."""
    override: str | None = None
    """Ship against the verdict, for this reason, which is recorded in the evidence."""


def main(arguments: Sequence[str]) -> None:
    """Parse, ship or refuse."""
    options = parse(Options, "ship", arguments)
    quiet()
    from ..evidence.report import evidence_of
    from ..pipelines.show import refresh, ship_run
    from ..storage.runfolder import RunFolder

    evidence_of(options.run)
    with RunFolder(options.run):
        shipped = ship_run(options.run, options.override, Console())
        refresh(options.run)
    raise SystemExit(0 if shipped else 3)
