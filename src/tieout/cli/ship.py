"""tieout ship RUN [--override REASON]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..errors import InputError
from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Ship the checked candidate of a run, if its verdict is ship. Exit status: 0 shipped, 3 not."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder with a candidate."""
    override: str | None = None
    """Ship against the verdict, for this reason, which is recorded in the evidence."""
    merge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ship the whole model with the adapter merged in, too. Given neither: if the candidate has it; of a folder that
    `tieout eval` wrote: unless the base has over a billion parameters, or was trained in 4 bits."""
    no_merge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ship the adapter alone."""


def main(arguments: Sequence[str]) -> None:
    """Parse, ship or refuse."""
    options = parse(Options, "ship", arguments)
    if options.merge and options.no_merge:
        raise InputError("give --merge or --no-merge, not both")
    merged = True if options.merge else False if options.no_merge else None
    quiet()
    from ..evidence.report import evidence_of
    from ..pipelines.evaluated import package
    from ..pipelines.show import ship_run
    from ..review.document import write_page
    from ..storage import manifest
    from ..storage.runfolder import RunFolder

    evidence_of(options.run)
    with RunFolder(options.run):
        package(options.run, merged, console := Console())
        shipped = ship_run(options.run, options.override, console, merged)
        write_page(options.run)
        if (options.run / manifest.FILE).exists():
            manifest.append(options.run, "tieout ship")
    raise SystemExit(0 if shipped else 3)
