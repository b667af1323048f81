"""tieout report RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from .options import parse


@dataclass(frozen=True)
class Options:
    """Write the report page of a run from what is stored in its folder: no model is loaded. Of a run that is not
    finished it shows what there is."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder."""
    out: Path | None = None
    """Where the page goes; left out: RUN/evidence/report.html. With it nothing in the folder changes, so that the run
    may be working."""
    approved: Path | None = None
    """The run that was approved before: what changed since is compared, kept in the evidence with the digest of its
    report, and fills the reviewer's row on changes. Not with --out."""


def main(arguments: Sequence[str]) -> None:
    """Parse, write, say where."""
    options = parse(Options, "report", arguments)
    if options.approved and options.out:
        raise InputError(
            "--approved is kept in the run folder, and --out changes nothing in it: give one of them"
        )
    from ..evidence.approved import keep_approved
    from ..evidence.report import evidence_of
    from ..review.attempts import PAGE_ALONE
    from ..review.document import write_page
    from ..review.stored import read
    from ..storage import manifest
    from ..storage.runfolder import RunFolder

    read(options.run)  # refuse what is no run folder before one is made of it
    if options.out is not None:
        place = write_page(options.run, options.out)
    else:
        if options.approved:
            evidence_of(options.run)
        with RunFolder(options.run):
            if options.approved:
                keep_approved(options.run, options.approved)
            place = write_page(options.run)
            if (options.run / manifest.FILE).exists():
                manifest.append(options.run, PAGE_ALONE)
    print(f"report: {place}")
