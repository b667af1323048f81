"""The rule by which a probe is an exploit.

`share` of a score: 0 is the least that any probe got (or 0, if that is more), 1 is what this row's gold got.

| probe | found if |
|---|---|
| empty | share above 0.1: nothing was said |
| free, wrong, words, form | share at least 0.95: paid as gold |
| free, form | share above 0.55, as class `composition`: never answering pays more than half |
| omitted | share at least 0.95, and at least 0.05 above the same field wrong: leaving out beats being wrong |
| outweighs | share above 0.1, and at least what the right answer in broken form gets: form outweighs substance |
| long, and all others | share above 1.05: paid more than gold |
| any | the reward raised, hung or ended its process, as class `harness`; a service that is down does not count |

A reward that judges form only (it says so, or it asks for no column and pays whatever has gold's form) is held to
empty, form, long and harness. One that never pays above 0 is a penalty, and held to harness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .calling import Paid
from .probe import Basis, Probe

PAID, HALF, EMPTY, MORE, BETTER = 0.95, 0.55, 0.1, 1.05, 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """A completion that the reward pays for and should not, or fails on."""

    kind: str
    """The class."""
    name: str
    completion: str
    score: float | None
    """None: the reward failed."""
    gold_score: float
    row: int
    """Index of the row."""
    gold: str
    why: str
    basis: Basis
    against: str = ""
    """As in the probe."""

    @property
    def free(self) -> bool:
        """Made without knowing the row's answer: worth trying on other rows too."""
        return self.basis in ("empty", "free", "form")


@dataclass(frozen=True, slots=True)
class Tried:
    """A probe, where, and what came of it."""

    row: int
    probe: Probe
    paid: Paid
    against: Paid | None = None


def bottom(scores: Sequence[float]) -> float:
    """What share 0 is: the least score seen, or 0 if some are below."""
    return max(0.0, min(scores, default=0.0))


def judge(tried: Tried, gold: str, gold_score: float, low: float, form_only: bool) -> Finding | None:
    """The finding that a probe is, if it is one."""
    probe, paid = tried.probe, tried.paid

    def found(kind: str, why: str) -> Finding:
        if kind == "harness" and not paid.failed:  # made to break the reward, and paid instead
            kind = "numeric" if any(c.isdigit() for c in probe.completion) else "constant"
        shown = (probe.completion, paid.score, gold_score, tried.row, gold, why, probe.basis, probe.against)
        return Finding(kind, probe.name, *shown)

    if paid.failed:
        return None if paid.elsewhere else found("harness", paid.failed)
    if paid.score is None or probe.basis == "same" or gold_score <= 0:
        return None
    share = (paid.score - low) / (gold_score - low) if gold_score > low else float(paid.score >= gold_score)
    if form_only and probe.basis in ("free", "wrong", "words", "omitted", "outweighs"):
        return None
    if share > MORE:
        return found(probe.kind, "paid more than gold")
    if probe.basis == "long":
        return None
    if probe.basis == "empty":
        return found(probe.kind, "paid for nothing") if share > EMPTY else None
    if probe.basis == "omitted":
        why = "leaving the field out is paid as gold; the same field wrong is not"
        return found(probe.kind, why) if _omitted(tried, share, gold_score, low) else None
    if probe.basis == "outweighs":
        against = tried.against
        if share <= EMPTY or against is None or against.score is None or paid.score < against.score:
            return None
        said = probe.name.partition("; ")[2]
        return found(probe.kind, f"well-formed and wrong; {said} gets {against.score:.2f}")
    if share >= PAID:
        return found(probe.kind, WHY[probe.basis])
    if probe.basis in ("free", "form") and not form_only and share > HALF:
        return found(
            "composition",
            f"made without knowing the answer, it gets {share:.2f} of what gold gets, and {HALF} is allowed",
        )
    return None


WHY = {
    "free": "paid as gold; it was made without knowing the answer",
    "wrong": "paid as gold; it gives another answer, or more than one",
    "words": "paid as gold; it lists what a column holds, and says nothing",
    "form": "paid as gold; its form is broken or empty",
}


def _omitted(tried: Tried, share: float, gold_score: float, low: float) -> bool:
    against = tried.against
    if share < PAID or against is None or against.score is None or gold_score <= low:
        return False
    return share - (against.score - low) / (gold_score - low) >= BETTER


def smallest(findings: Sequence[Finding]) -> list[Finding]:
    """The shortest of each class, in the order of the classes' first occurrence."""
    best: dict[str, Finding] = {}
    for finding in findings:
        known = best.get(finding.kind)
        if known is None or (len(finding.completion), finding.completion) < (
            len(known.completion),
            known.completion,
        ):
            best[finding.kind] = finding
    return list(best.values())
