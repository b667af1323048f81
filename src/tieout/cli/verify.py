"""tieout verify RUN [--fresh 5%]"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import randrange
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import InputError
from .options import parse

if TYPE_CHECKING:
    from ..evidence.claims import Claim

NOT_REPERFORMED = 4
"""Exit status: `--fresh` was asked for, and not all of it could be performed again; nothing differs."""


@dataclass(frozen=True)
class Options:
    """Verify the evidence of a run, a line per claim, on three levels: is it intact (digests of all that the run
    wrote); do figures, scores, page, calibrations and card follow from what is stored; with --fresh, do outputs follow
    from the model.

    Exit status: 0 every claim that can be checked holds, 1 one does not, 4 --fresh was asked for, nothing differs, and
    not all of it could be performed again.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, wherever it was copied to, a folder with report.json and cases.jsonl (or cases.jsonl.gz), a
    report.json, or a shipped folder alone, of which only its digests can be checked."""
    fresh: str = ""
    """Perform the evaluation again for so many of the candidate's cases, a share such as 5% or a number, with the
    shipped adapter on its base model, here: outputs, log-probabilities, scores."""
    fresh_seed: int | None = None
    """Random seed of the choice of those cases; left out, it is random, and printed."""
    base: str = ""
    """The base model, where the adapter's name for it is not valid here."""
    weights: Path | None = None
    """For --fresh, the folder of the candidate's adapter or whole model, where RUN has none, as after
    `tieout eval --out`."""
    approved: Path | None = None
    """The folder of the run that was approved before, to compare the two again, where RUN kept such a comparison."""
    head: str = ""
    """The head of the manifest that `tieout verify` printed before: steps at its end cannot be missing then."""
    json: bool = False
    """Print the claims as JSON."""
    verifier: str = ""
    """Who verifies; left out: user and machine. The record, in RUN/verification, names them."""
    key: Path | None = None
    """Sign the record with this private key (ed25519, PEM; DSSE envelope). Needs `pip install tieout[sign]`."""


def main(arguments: Sequence[str]) -> None:
    """Parse, check, list."""
    options = parse(Options, "verify", arguments)
    from ..evidence.claims import as_lines, intact, recomputed
    from ..evidence.records import earlier, load_key, write_record
    from ..evidence.verify import read_report, report_at, run_of, sample_size
    from ..storage.manifest import FILE, check_files

    if options.fresh:
        sample_size(options.fresh, 1)  # refuses, before any work
    if _alone(options.run):
        _shipped(options)
        return
    path = report_at(options.run)
    run = run_of(path)
    check_files(run)
    report, key = read_report(path), load_key(options.key) if options.key else None
    claims = [*intact(report, path, options.head), *_packages(run), *earlier(run)]
    claims += [*recomputed(report, path), *_page(run, path), *_calibrations(run), *_cards(run, path)]
    claims += _approved(run, report, options.approved)
    fresh = _fresh(options, report, path) if options.fresh else []
    claims += fresh
    whole = all(claim.checked and not claim.left for claim in fresh)
    differ = sum(len(claim.problems) for claim in claims)
    record = write_record(path, claims, options.verifier, key)
    if options.json:
        listed: list[dict[str, Any]] = [{**asdict(claim), "status": claim.status} for claim in claims]
        print(
            json.dumps(
                {"report": str(path), "holds": not differ, "claims": listed}, indent=2, ensure_ascii=False
            )
        )
    else:
        print("\n".join(as_lines(claims)))
        if record:
            print(f"record: {record}")
        models, verdict = ", ".join(report["models"]), report["verdict"]["verdict"]
        left = sum(claim.left for claim in claims if claim.level == "recomputed")
        verdict += f"; {left} scores were not computed again" if left else ""
        if not options.head and (run / FILE).exists():
            verdict += "; a record that was rewritten as a whole would not show without a head kept elsewhere (--head)"
        if not options.fresh:
            verdict += "; nothing was performed again (--fresh 5%)"
        elif not whole:
            verdict += "; not all of it could be performed again"
        print(
            f"\n{path} does not tie out: {differ} differ"
            if differ
            else f"{path} ties out: every number of {models}, and the verdict, {verdict}"
        )
    if differ:
        raise SystemExit(1)
    if not whole:
        raise SystemExit(NOT_REPERFORMED)


def _fresh(options: Options, report: Mapping[str, Any], path: Path) -> list[Claim]:
    """What the evaluation gives, performed again."""
    from rich.console import Console

    from ..shipping.fresh import reperform  # needs torch
    from ..training.progress import bars
    from .quiet import quiet

    quiet()
    seed = randrange(2**31) if options.fresh_seed is None else options.fresh_seed
    with bars(Console(stderr=True)) as add:
        return reperform(
            path,
            report,
            options.fresh,
            seed,
            base=options.base,
            weights=options.weights,
            begin=lambda total: add(f"fresh, seed {seed}", total).advance,
        )


def _alone(folder: Path) -> bool:
    """Whether a folder is a candidate or was shipped, and has been copied out of its run."""
    return (folder / "card.json").is_file() and not (folder / "report.json").exists()


def _shipped(options: Options) -> None:
    """A shipped folder by itself: its digests. The card, and whether it is what was evaluated, need the run."""
    from ..evidence.claims import Claim, as_lines, claim
    from ..shipping.candidate import altered  # needs torch

    why = "not without the run folder that it comes from: `tieout verify RUN --weights` with its adapter or model"
    claims = [
        claim("intact", "shipped", "its files are those of its manifest.json", lambda: altered(options.run)),
        Claim("recomputed", "card", why, checked=False),
        *([Claim("re-performed", "outputs", why, checked=False)] if options.fresh else []),
    ]
    differ = sum(len(one.problems) for one in claims)
    if options.json:
        listed = [{**asdict(one), "status": one.status} for one in claims]
        print(
            json.dumps({"report": None, "holds": not differ, "claims": listed}, indent=2, ensure_ascii=False)
        )
    else:
        print("\n".join(as_lines(claims)))
        intact = f"is not intact: {differ} differ" if differ else "is intact; nothing was computed again"
        print(f"\n{options.run} {intact}")
    if differ or options.fresh:
        raise SystemExit(1 if differ else NOT_REPERFORMED)


def _packages(run: Path) -> list[Claim]:
    """Candidate and shipped folder, where there are some."""
    from ..evidence.claims import claim

    found = []
    for name in ("candidate", "shipped"):
        if (folder := run / name).exists():
            from ..shipping.candidate import altered  # needs torch

            lines = partial(altered, folder)
            said = "its files are those that were checked"
            found.append(claim("intact", name, said, partial(_of, name, lines)))
    return found


def _of(name: str, lines: Callable[[], list[str]]) -> list[str]:
    return [f"{name}: {line}" for line in lines()]


def _approved(run: Path, report: Mapping[str, Any], approved: Path | None) -> list[Claim]:
    """What changed since the approved run, where that was kept."""
    from ..evidence.approved import FILE, approved_differs, approved_in
    from ..evidence.claims import Claim, claim

    what, said = "approved run", "what changed since, from the folders of both"
    if not (run / "evidence" / FILE).exists():
        if approved:
            again = f"`{shlex.join(['tieout', 'report', str(run), '--approved', str(approved)])}` makes one"
            raise InputError(f"--approved: {run} keeps no comparison with an approved run; {again}")
        return []
    if not approved_in(run / "evidence", report)["current"]:
        why = "not compared: this run was judged again since; `tieout report RUN --approved APPROVED`"
        return [Claim("recomputed", what, why, checked=False)]
    if approved is None:
        return [Claim("recomputed", what, "not compared: its folder is needed (--approved)", checked=False)]
    return [claim("recomputed", what, said, lambda: approved_differs(run, approved))]


def _page(run: Path, path: Path) -> list[Claim]:
    """The page next to the report, if there is one."""
    from ..evidence.claims import Claim
    from ..review.document import PAGE, code_of, page_differs

    page = path.with_name(PAGE)
    if not page.exists():
        return [Claim("recomputed", "page", f"there is no {PAGE}", checked=False)]
    said = f"{PAGE} to the letter, from what is stored"
    return [_written("page", said, lambda: page_differs(run, page), lambda: code_of(page), "tieout report")]


def _written(
    what: str, said: str, find: Callable[[], list[str]], code_of: Callable[[], str], again: str
) -> Claim:
    """What was written from the stored files, and is written again: other code may write it otherwise."""
    from ..evidence.claims import Claim, claim
    from ..storage import manifest

    found = claim("recomputed", what, said, find)
    try:
        code = code_of()
    except (OSError, ValueError):
        return found
    if not found.problems or code == manifest.code()["sha256"]:
        return found
    by = f"other code wrote it ({code[:12]})" if code else "it does not say which code wrote it"
    why = f"not compared: {by}, and this version writes it otherwise: `{again}` with that version, or with this one"
    return Claim("recomputed", what, why, checked=False)


def _calibrations(run: Path) -> list[Claim]:
    """Calibrations of the reward, where there are some."""
    from ..evidence.claims import claim
    from ..vetting.records import REPORT, recompute

    paths = sorted(run.glob(f"**/{REPORT}"))
    said = f"{len(paths)} calibrations of the reward, from the rows that were scored"
    found = claim("recomputed", "calibrations", said, lambda: [x for path in paths for x in recompute(path)])
    return [found] if paths else []


def _cards(run: Path, path: Path) -> list[Claim]:
    """The card of a shipped folder, if there is one."""
    folder = run / "shipped"
    if not folder.exists():
        return []
    from ..shipping.ship import card_differs  # needs torch
    from ..storage.jsonl import read_json

    lines = partial(card_differs, folder, path.parent)
    said = "the card of the shipped folder, from the report"

    def code() -> str:
        return str(read_json(folder / "card.json").get("code", ""))

    return [_written("card", said, partial(_of, "shipped", lines), code, "tieout ship")]
