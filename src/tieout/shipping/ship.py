"""Ship a checked candidate that the gate let pass, or that a person let pass in spite of it.

A run folder has at most one `shipped/`: the files of its candidate, with a card that says what was decided. It appears
by a rename, whole and with a manifest, or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config.fields import from_plain
from ..evidence.verify import verify as verify_report
from ..review.answers import Review, kept, lacking
from ..review.reviewer import review_rows, seen_of, verified_in
from ..review.stored import read
from ..storage import manifest
from ..storage.atomic import MANIFEST, appearing, sha256, write_json
from ..storage.jsonl import read_json
from .candidate import ShippingError, altered, not_merged
from .card import Card, render


def ship(
    candidate: Path,
    shipped: Path,
    evidence: Path,
    *,
    override: str | None = None,
    merged: bool | None = None,
) -> Path:
    """Move the checked candidate to `shipped` if the verdict in `evidence`/report.json is `ship`, or overridden.

    An override is written to `evidence`/override.json first, and into the card. `merged`: False leaves the merged model
    of the candidate behind, True asks for it. Returns `shipped`.

    Raises:
        ShippingError: the verdict is hold or reject and no reason is given; `evidence`/review.json lacks something; the
            report does not tie out; the candidate is missing or not as it was when checked, and stays where it is.
    """
    report, review = read_json(evidence / "report.json"), kept(evidence) or Review()
    verdict = report["verdict"]
    reason = (override or "").strip()
    if verdict["verdict"] != "ship" and not reason:
        listed = "".join(f"\n  {line}" for line in verdict["reasons"])
        empty = "" if override is None else " The reason given for the override is empty."
        raise ShippingError(f"the verdict is {verdict['verdict']}, so nothing was shipped.{empty}{listed}")
    if missing := lacking(review):
        listed = "".join(f"\n  {line}" for line in missing)
        raise ShippingError(
            f"what a reviewer asks for is not said, so nothing was shipped; give it to `tieout ship`:{listed}"
        )
    if problems := verify_report(evidence / "report.json"):
        raise ShippingError(f"{evidence / 'report.json'} does not tie out: {'; '.join(problems[:3])}")
    if problems := altered(candidate):
        raise ShippingError(f"{candidate} is not as it was checked: {'; '.join(problems[:3])}")
    made_from = read_json(candidate / "card.json")
    words, facts = from_plain(Card, made_from["card"], str(candidate / "card.json")), made_from["facts"]
    parts = _parts_asked(facts, merged, candidate)
    overridden = verdict["verdict"] != "ship"
    if overridden:
        _record(evidence, reason, verdict, candidate)
    if parts != facts["parts"]:
        facts = {**facts, "parts": parts, "not_merged": not_merged("as was asked")}
    with appearing(shipped) as aside:
        shutil.copytree(candidate, aside, copy_function=_link_or_copy, dirs_exist_ok=True)
        for part in set(made_from["facts"]["parts"]) - set(parts):
            shutil.rmtree(aside / part)
        for name in (MANIFEST, "README.md", "card.json"):
            (aside / name).unlink()  # not overwritten: the candidate has the same files
        seen = seen_of(read(evidence)) | verified_in(evidence.parent)
        made = {"card": words, "facts": facts, "review": review, "seen": seen}
        write_json(aside / "card.json", {**made, "code": manifest.code()["sha256"]})
        text = render(words, facts, report, reason if overridden else None, review_rows(report, review, seen))
        (aside / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(candidate)
    return shipped


def card_differs(shipped: Path, evidence: Path) -> list[str]:
    """How the card of a shipped folder differs from what its report gives; none: it says the same."""
    report, made_from = read_json(evidence / "report.json"), read_json(shipped / "card.json")
    overrides = read_json(path) if (path := evidence / "override.json").exists() else []
    reason = overrides[-1]["reason"] if overrides and report["verdict"]["verdict"] != "ship" else None
    words = from_plain(Card, made_from["card"], str(shipped / "card.json"))
    said = (shipped / "README.md").read_text("utf-8").splitlines()
    review = from_plain(Review, made_from.get("review", {}), str(shipped / "card.json"))
    rows = review_rows(report, review, made_from["seen"]) if "review" in made_from else ()
    found = render(words, made_from["facts"], report, reason, rows).splitlines()
    return [f"README.md: the card is not that of the report: {line!r}" for line in said if line not in found][
        :3
    ] or ([] if said == found else ["README.md: the card leaves out or moves what the report says"])


def _parts_asked(facts: Mapping[str, Any], merged: bool | None, candidate: Path) -> list[str]:
    """The parts of the candidate that are shipped. ShippingError: there is none that was asked for."""
    parts = list(facts["parts"])
    if merged and "merged" not in parts:
        raise ShippingError(
            f"{candidate} has no merged copy: repeat the run with `--set stages.ship.merged=true`, or, where `tieout "
            "eval` made the evidence, delete the candidate and ship again with --merge"
        )
    if merged is False and parts == ["merged"]:
        raise ShippingError(
            f"{candidate} is a whole model, after full fine-tuning: there is no adapter to ship alone"
        )
    return [part for part in parts if part != "merged"] if merged is False else parts


def _record(evidence: Path, reason: str, verdict: Mapping[str, Any], candidate: Path) -> None:
    """Append to override.json: who reads the evidence sees what was overridden, when and why."""
    path = evidence / "override.json"
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": reason,
        "verdict": verdict["verdict"],
        "reasons": verdict["reasons"],
        "report": sha256(evidence / "report.json"),
        "candidate": sha256(candidate / MANIFEST),
    }
    write_json(path, [*(read_json(path) if path.exists() else []), entry])


def _link_or_copy(source: str, target: str) -> object:
    """A second name for the same file where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
