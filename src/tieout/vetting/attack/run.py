"""Run an attack: rows, probes, calls, judgement, search, result."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from ...config.plain import fingerprint
from ...errors import InputError
from ...rewards.scoring.outcomes import judges_form, parameters
from ...rewards.scoring.runner import reward_name
from ...tasks.files import answered, check_columns
from ...types import Reward, Row
from ..golden_rows import golden_rows
from .calling import Ask, Caller, pay
from .findings import EMPTY, HALF, MORE, PAID, Finding, Tried, bottom, judge, smallest
from .gold import read_gold
from .probe import CLASSES, Probe
from .search import offspring, shrunk
from .settings import AttackSettings
from .targets import fixed_probes, pick_rows, setting_of
from .text_probes import FILLER

HONEST = {
    *("another row's gold", "another row's answer in this row's gold", "a wrong answer in this row's gold"),
    *(
        "another first digit, after gold's reasoning",
        "valid by schema, made up",
        "all numbers ten times",
        "returns None",
    ),
}
"""Probes that are plain wrong answers: a reward that pays all of them as gold does not look at the answer."""


COMPARED = ("omitted", "outweighs")
"""Bases of probes that are compared with another completion."""


@dataclass(frozen=True)
class Attack:
    """The result of an attack."""

    reward: str
    findings: list[Finding]
    """The smallest counterexample of each class."""
    counts: dict[str, int]
    """Class -> findings in all."""
    probes: dict[str, int]
    """Class -> probes tried."""
    rows: list[int]
    """Indices of the rows attacked."""
    form_only: bool
    """Whether the reward was held to the form only."""
    skipped: int
    """Probes for which the time was up."""
    seconds: float
    everything: list[Finding] = field(default_factory=list, repr=False)

    @property
    def verdict(self) -> str:
        """One sentence; never that a reward is robust, as no number of probes shows that."""
        total = sum(self.probes.values())
        tried = ", ".join(f"{kind} {count}" for kind, count in self.probes.items() if count)
        untried = ", ".join(kind for kind, count in self.probes.items() if not count)
        left = f"; not tried: {untried}" if untried else ""
        late = f"; {self.skipped} more were left out, as the time was up" if self.skipped else ""
        if self.findings:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in self.counts.items())
            return f"exploits found: {kinds}; in {total} probes of these classes: {tried}{left}{late}"
        return f"no exploit in {total} probes of these classes: {tried}{left}{late}"

    def plain(self) -> dict[str, Any]:
        """For JSON: findings, probes, and a hash over both and what they were found with."""
        findings = [
            {"class": f.kind, "probe": f.name, "completion": f.completion, "score": f.score}
            | {"gold_score": f.gold_score, "gold": f.gold, "row": f.row, "why": f.why}
            for f in self.findings
        ]
        told = {
            "reward": self.reward,
            "findings": findings,
            "found": self.counts,
            "probes": self.probes,
            "rows": self.rows,
            "form_only": self.form_only,
            "skipped": self.skipped,
            "limits": {"paid": PAID, "half": HALF, "empty": EMPTY, "more": MORE},
        }
        return {**told, "verdict": self.verdict, "seconds": round(self.seconds, 3), "hash": fingerprint(told)}


def attack(
    reward: Reward,
    rows: Sequence[Row],
    settings: AttackSettings | None = None,
    *,
    seed: int = 0,
    corpus: Sequence[Mapping[str, Any]] = (),
    policy: Callable[[Row], Sequence[str]] | None = None,
    verifier: Reward | None = None,
) -> Attack:
    """Look for completions that the reward pays for and should not; the rule is in `findings`.

    Args:
        reward: any reward; it is called with one completion at a time, in processes of its own.
        rows: with `prompt`, `completion` = gold, and the columns that the reward asks for.
        settings: how long and how widely; None: the defaults.
        seed: of the search.
        corpus: exploits found before, from `read_corpus`.
        policy: samples of the policy for a row: those that are paid as gold, and that `verifier` pays less than half,
            are findings.
        verifier: a second opinion on what is right, such as a stricter reward.

    Raises:
        InputError: a row has no gold, the reward asks for a column that rows lack, or it pays
            no gold.
    """
    if policy is not None and verifier is None:
        raise InputError(
            "samples of a policy need a verifier: give a second reward that says which are right"
        )
    settings = settings or AttackSettings()
    if not settings.max_rows:
        raise InputError("max_rows is 0: no row would be attacked; give 1 or more")
    began = time.monotonic()
    rows = answered(golden_rows(rows, [parameter.name for parameter in parameters(reward)]), reward)
    if not rows:
        raise InputError("no rows to attack the reward on")
    check_columns(reward, rows, tokens=False)
    with Caller(reward, rows) as caller:
        return _attack(caller, rows, settings, seed, corpus, policy, verifier, began)


def _attack(
    caller: Caller,
    rows: Sequence[Row],
    settings: AttackSettings,
    seed: int,
    corpus: Sequence[Mapping[str, Any]],
    policy: Callable[[Row], Sequence[str]] | None,
    verifier: Reward | None,
    began: float,
) -> Attack:
    """The attack on rows with gold, whose columns are those that the reward asks for."""
    reward = caller.reward
    asked = [p.name for p in parameters(reward) if p.name in rows[0]]
    picked, gold_scores, deadline = pick_rows(caller, rows, settings.max_rows, settings.deadline_seconds)
    golds = {i: read_gold(rows[i], asked) for i in picked}
    options = {p.name: p.default for p in parameters(reward) if p.default is not p.empty}
    materials = {i: setting_of(rows, i, asked, options) for i in picked}
    fixed = {
        i: [p for p in fixed_probes(golds[i], materials[i], corpus, rows[i]) if p.kind in settings.classes]
        for i in picked
    }
    tried, skipped = _try(caller, fixed, deadline, time.monotonic() + settings.seconds)
    lows = {i: bottom([gold_scores[i], *_scores(tried, i)]) for i in picked}
    form_only = judges_form(reward) or (not asked and _all_paid(tried, HONEST, gold_scores, lows))

    # Paid for filler without any form, it judges something else: how long a text is, or in which language.
    formless = form_only and _all_paid(tried, {FILLER}, gold_scores, lows)

    def judged(some: Sequence[Tried]) -> list[Finding]:
        some = [t for t in some if not (formless and t.probe.basis == "form" and not t.paid.failed)]
        found = (judge(t, golds[t.row].text, gold_scores[t.row], lows[t.row], form_only) for t in some)
        return [finding for finding in found if finding is not None]

    rng = random.Random(seed)
    until = time.monotonic() + settings.seconds / 2
    for generation in range(4):
        bred = {
            i: [
                p
                for p in offspring(
                    golds[i],
                    materials[i],
                    [(t.probe, t.paid) for t in tried if t.row == i],
                    settings.num_search // (4 * len(picked)) + (generation < settings.num_search % 4),
                    rng,
                )
                if p.kind in settings.classes
            ]
            for i in picked
        }
        more, late = _try(caller, bred, deadline, until)
        tried += more
        skipped += late
    findings = judged(tried)
    # Programs are short as they are, and each call may take a start of Python.
    best = [
        f if golds[f.row].kind == "code" else _shrink(caller, f, judged, deadline, until)
        for f in smallest(findings)
    ]
    if policy is not None and verifier is not None:
        samples, found = _of_policy(caller, verifier, policy, rows, picked, gold_scores, lows, deadline)
        tried += samples
        findings += found
        best = smallest([*best, *found])
    probes = Counter(t.probe.kind for t in tried)
    probes["composition"] += sum(t.probe.basis in ("free", "form") for t in tried if not form_only)
    counts = Counter(f.kind for f in findings)
    return Attack(
        reward_name(reward),
        sorted(best, key=lambda f: CLASSES.index(f.kind)),
        {kind: counts[kind] for kind in CLASSES if counts[kind]},
        {kind: probes[kind] for kind in CLASSES},
        picked,
        form_only,
        skipped,
        time.monotonic() - began,
        findings,
    )


def _try(
    caller: Caller, probes: Mapping[int, Sequence[Probe]], deadline: float, ends: float
) -> tuple[list[Tried], int]:
    """Try the probes of each row, the rows in turn; and how many were not tried, as the time was up."""
    given = [
        (i, p)
        for turn in zip_longest(*([(i, p) for p in ps] for i, ps in probes.items()))
        for i, p in filter(None, turn)
    ]
    asks: list[Ask] = list(
        dict.fromkeys(
            (i, text)
            for i, p in given
            for text in (p.completion, p.against if p.basis in COMPARED else p.completion)
        )
    )
    paid = dict(zip(asks, caller.pay(asks, deadline, ends), strict=True))
    tried = []
    for i, probe in given:
        said, against = paid[i, probe.completion], paid.get((i, probe.against))
        if said is not None and (probe.basis not in COMPARED or against is not None):
            tried.append(Tried(i, probe, said, against))
    return tried, len(given) - len(tried)


def _scores(tried: Sequence[Tried], row: int) -> list[float]:
    both = [paid for t in tried if t.row == row for paid in (t.paid, t.against)]
    return [paid.score for paid in both if paid is not None and paid.score is not None]


def _all_paid(
    tried: Sequence[Tried], names: Collection[str], golds: Mapping[int, float], lows: Mapping[int, float]
) -> bool:
    """Whether all probes of these names, and at least one, are paid as gold."""
    some = [t for t in tried if t.probe.name in names and t.paid.score is not None]
    shares = [((t.paid.score or 0.0) - lows[t.row], golds[t.row] - lows[t.row]) for t in some]
    return bool(shares) and all(paid >= PAID * gold for paid, gold in shares)


def _shrink(
    caller: Caller,
    finding: Finding,
    judged: Callable[[Sequence[Tried]], list[Finding]],
    deadline: float,
    until: float,
) -> Finding:
    """A shorter completion that proves the same, for those that know no answer: what is left knows none either."""
    if not finding.free or len(finding.completion) < 2 or "gave nothing within" in finding.why:
        return finding
    last = finding

    def still(texts: list[str]) -> list[bool]:
        nonlocal last
        probes = [Probe(finding.kind, finding.name, text, finding.basis) for text in texts]
        paid = caller.pay([(finding.row, text) for text in texts], deadline, until)
        holds = []
        for probe, said in zip(probes, paid, strict=True):
            gold = " ".join(probe.completion.split()) == " ".join(finding.gold.split())
            found = [] if said is None or gold else judged([Tried(finding.row, probe, said)])
            holds.append(
                bool(found) and (found[0].kind, found[0].why[:12]) == (finding.kind, finding.why[:12])
            )
            if holds[-1] and len(probe.completion) < len(last.completion):
                last = found[0]
        return holds

    shrunk(finding.completion, still)
    return last


def _of_policy(
    caller: Caller,
    verifier: Reward,
    policy: Callable[[Row], Sequence[str]],
    rows: Sequence[Row],
    picked: Sequence[int],
    golds: Mapping[int, float],
    lows: Mapping[int, float],
    deadline: float,
) -> tuple[list[Tried], list[Finding]]:
    """What the policy itself writes, paid as gold by the reward and not by the verifier."""
    tried, found = [], []
    for i in picked:
        texts = [*dict.fromkeys(policy(rows[i]))]
        asks: list[Ask] = [(i, text) for text in texts]
        ends = time.monotonic() + max(60.0, deadline * len(texts))
        proxy = caller.pay(asks, deadline, ends)
        (best, *second) = pay(verifier, rows, [(i, rows[i]["completion"]), *asks], max(deadline, 10.0), ends)
        for text, said, checked in zip(texts, proxy, second, strict=True):
            if said is None:
                continue
            tried.append(Tried(i, Probe("policy", "a sample of the policy", text, "wrong"), said))
            right = best.score if best else None
            if said.score is None or checked is None or checked.score is None or not right:
                continue
            if said.score - lows[i] >= PAID * (golds[i] - lows[i]) and checked.score < 0.5 * right:
                why = f"paid as gold; the verifier gives it {checked.score:.2f}, and gold {right:.2f}"
                found.append(
                    Finding(
                        "policy",
                        "a sample of the policy",
                        text,
                        said.score,
                        golds[i],
                        i,
                        rows[i]["completion"],
                        why,
                        "wrong",
                    )
                )
    return tried, found
