"""tieout ship RUN [--override REASON]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..errors import InputError
from ..review.answers import Review, keep, kept, lacking, merged, read_review
from ..storage.jsonl import read_json
from .options import parse
from .quiet import quiet
from .review import asked


@dataclass(frozen=True)
class Options:
    """Ship the checked candidate of a run, if its verdict is ship, with a review: what it is for, who answers for it,
    who watches it. What is blank is asked for on a terminal, and refused elsewhere.

    Exit status: 0 shipped, 3 not.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder with a candidate."""
    model: str | None = None
    """Another policy that the run trained, such as sft: it becomes the candidate, and is judged against the model that
    it started from. The report says that the candidate was chosen after models had been evaluated."""
    override: str | None = None
    """Ship against the verdict, for this reason, which is recorded in the evidence."""
    merge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ship the whole model with the adapter merged in, too. Given neither: if the candidate has it; of a folder that
    `tieout eval` wrote: unless the base has over a billion parameters, or was trained in 4 bits."""
    no_merge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ship the adapter alone."""
    review: Path | None = None
    """A YAML file with the answers of the options below, as keys."""
    approved: Path | None = None
    """The run that was approved before: what changed since is kept in the evidence, and stands in the card."""
    said: tyro.conf.OmitArgPrefixes[Review] = field(default_factory=Review)
    """Answers in place of those of the file, which are in place of those that the run has."""


def main(arguments: Sequence[str]) -> None:
    """Parse, ship or refuse."""
    options = parse(Options, "ship", arguments)
    if options.merge and options.no_merge:
        raise InputError("give --merge or --no-merge, not both")
    whole = True if options.merge else False if options.no_merge else None
    from ..evidence.report import evidence_of

    evidence = evidence_of(options.run)  # before torch is loaded
    quiet()
    from ..evidence.approved import keep_approved
    from ..pipelines.evaluated import package
    from ..pipelines.instead import judge_instead
    from ..pipelines.show import ship_run
    from ..review.document import write_page
    from ..storage import manifest
    from ..storage.runfolder import RunFolder

    with RunFolder(options.run):
        if options.approved:
            keep_approved(options.run, options.approved)
        if options.model:
            judge_instead(options.run, options.model, whole, Console())
            write_page(options.run)
            if (options.run / manifest.FILE).exists():
                manifest.append(options.run, "tieout ship --model")
        _keep_review(options, evidence)
        package(options.run, whole, console := Console())
        shipped = ship_run(options.run, options.override, console, whole)
        write_page(options.run)
        if (options.run / manifest.FILE).exists():
            manifest.append(options.run, "tieout ship")
    raise SystemExit(0 if shipped else 3)


def _keep_review(options: Options, evidence: Path) -> None:
    """Keep what people say of the model. InputError: it could ship, and some of it was not said."""
    was = kept(evidence)
    given = read_review(options.review) if options.review else Review()
    review = merged(merged(was or Review(), given), options.said)
    ships = (
        read_json(evidence / "report.json")["verdict"]["verdict"] == "ship"
        or (options.override or "").strip()
    )
    if ships and not (options.run / "shipped").exists():
        review = asked(review)
        if missing := lacking(review):
            raise InputError(
                "what a reviewer asks for is not said, so nothing was shipped:\n  "
                + "\n  ".join(missing)
                + "\n"
                "give it as --review FILE.yaml (`tieout init` writes one to fill in), as options (`tieout ship "
                "--help`), or on a terminal"
            )
    if review not in (was, Review()):
        keep(evidence, review)
