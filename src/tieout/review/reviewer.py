"""The sixteen rows of an independent reviewer: each filled from the run, or with the person who must fill it.

The table supports independent validation. It is none, and says nothing of any rule.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evidence.approved import approved_in
from ..evidence.challengers import BEST_OF_N, PROMPT, about, how_made, kind_of
from ..evidence.consistency import flips_in_words
from ..evidence.consistency_rows import FORMATTING, SAME_PROMPT
from ..evidence.evaluate import CONTROLS, PROGRAMMATIC
from ..evidence.leakage import in_words
from ..evidence.lines import principal
from ..evidence.readings import NONE, judged, slice_of
from ..evidence.reward_checks import rows_of
from ..storage.jsonl import read_json, sha256_text
from ..storage.manifest import RECORDS
from .answers import Review, lacking
from .attempts import BEGINS
from .stored import Stored

NO_ROWS = (None, "", sha256_text(""))
"""In the place of a digest where there was no such data."""
KINDS = ("paraphrase", "order", FORMATTING, SAME_PROMPT)
LISTED = 12
"""Reasons for a re-validation that the table has; others are counted."""
SAID = "Supports independent validation: what the run has on record, and who must say the rest."


@dataclass(frozen=True)
class ReviewRow:
    """One thing that a reviewer asks for."""

    number: int
    asked: str
    found: tuple[str, ...]
    """What is on record, a sentence or figure each."""
    open: tuple[str, ...]
    """What is not, with who must say or do it; none: the row is complete."""


def seen_of(run: Stored) -> dict[str, Any]:
    """What a run folder has on record in addition to its report, as plain values."""
    cards = [run.folder / name / "card.json" for name in ("shipped", "candidate")]
    card = next((path for path in cards if path.exists()), None)
    facts = read_json(card)["facts"] if card else {}
    steps = [{"step": one["step"], "failed": one.get("failed", "")} for one in run.steps]
    return {
        "steps": steps,
        "alarms": {stage: len(found) for stage, found in run.alarms.items() if found},
        "checked": {key: facts[key] for key in ("check", "parts") if key in facts},
        "approved": approved_in(run.evidence, run.judged),
    }


def verified_in(run: Path) -> dict[str, Any]:
    """Verifications on record, which are no part of the page: they come after it, and check it."""
    return {"verified": [_verified(path) for path in sorted((run / RECORDS).glob("*.json"))]}


def _verified(path: Path) -> dict[str, Any]:
    """Who verified, when, and whether every claim that was checked holds."""
    record = read_json(path)
    signed = "payload" in record
    if signed:
        record = json.loads(base64.b64decode(record["payload"]))
    said = record["predicate"]
    differ = [claim["what"] for claim in said["claims"] if claim["status"] == "differs"]
    return {"verifier": said["verifier"], "time": said["time"], "differ": differ, "signed": signed}


def review_rows(
    report: Mapping[str, Any], review: Review | None, seen: Mapping[str, Any] | None = None
) -> list[ReviewRow]:
    """The table. `seen`: what `seen_of` and `verified_in` found in the run folder."""
    said, found = review or Review(), seen or {}
    named = {name: getattr(said, name) or f"the {name}" for name in ("owner", "developer", "validator")}
    blank = {line.partition(":")[0] for line in lacking(said)}
    parts = [
        _purpose(said, named, blank),
        _identity(report, said, named),
        _data(report, said, named),
        _soundness(report, named),
        _attempted(report, found, named),
        _outcomes(report, named),
        _sensitivity(report, named),
        _stress(report, named),
        _bias(report, named),
        _limits(report, said, named),
        _implementation(found, named),
        _monitoring(said, found, named, blank),
        _changes(found, named),
        _oversight(said, named, blank),
        _performed(found, named),
        _signed(named),
    ]
    return [
        ReviewRow(number, asked, tuple(there), tuple(left))
        for number, (asked, there, left) in enumerate(parts, 1)
    ]


Part = tuple[str, list[str], list[str]]


def _purpose(said: Review, named: Mapping[str, str], blank: set[str]) -> Part:
    listed = {
        "purpose": said.purpose,
        "decision": said.decision,
        "materiality": said.materiality,
        "prohibited_uses": "; ".join(said.prohibited_uses),
        **{name: getattr(said, name) for name in ("owner", "developer", "validator")},
    }
    there = [f"{_words(name)}: {value}" for name, value in listed.items() if value and name not in blank]
    left = [f"{_words(name)}: asked for at `tieout ship`" for name in listed if name in blank]
    if not said.materiality:
        left.append(f"materiality: {named['owner']}")
    return (
        "Purpose, decision supported, materiality, prohibited uses; owner, developer, validator",
        there,
        left,
    )


def _identity(report: Mapping[str, Any], said: Review, named: Mapping[str, str]) -> Part:
    metadata, candidate = report["metadata"], report["settings"]["candidate"]
    known = metadata.get("models", {}).get(candidate) or {}
    version = metadata.get("environment", {}).get("versions", {}).get("tieout")
    base = known.get("base") or metadata.get("recipe", {}).get("model")
    there = [f"Inventory: {said.inventory}"] if said.inventory else []
    there += [f"Base model: {base}"] if base else []
    there += (
        [f"Adapter or weights of {candidate}: SHA-256 {known['trained']}"] if known.get("trained") else []
    )
    there += [f"Made with tieout {version}"] if version else []
    left = [] if said.inventory else [f"inventory id: {named['owner']}"]
    left += [] if known.get("trained") else [f"digest of the adapter or weights: {named['developer']}"]
    left.append(
        f"licence of the base model, and its revision where a hub's name is given: {named['developer']}"
    )
    return "Inventory id, version, base model with revision and licence, adapter digest", there, left


def _data(report: Mapping[str, Any], said: Review, named: Mapping[str, str]) -> Part:
    metadata = report["metadata"]
    leaks, hashes = metadata.get("leakage", {}), metadata.get("data", {})
    there = [f"Sources and licences: {said.sources}"] if said.sources else []
    counts = {**leaks.get("train", {}), **{k: v["rows"] for k, v in leaks.get("held", {}).items()}}
    if counts:
        there.append(f"Rows: {', '.join(f'{name} {count}' for name, count in counts.items())}")
        there.append(f"Training rows among held-out ones: {in_words(leaks)}")
    there += [f"{name}: SHA-256 {digest}" for name, digest in hashes.items() if digest not in NO_ROWS]
    for stage, pairs in (metadata.get("pairs") or {}).items():
        dropped = ", ".join(f"{why} {count}" for why, count in (pairs.get("dropped") or {}).items())
        there.append(f"{stage}: {pairs.get('pairs')} pairs{f'; dropped: {dropped}' if dropped else ''}")
    left = [] if said.sources else [f"sources and licences: {named['developer']}"]
    left += [] if counts else [f"overlap of training and test rows was not looked for: {named['developer']}"]
    left.append(
        f"what was filtered before the run, by which rule rows were split, their refresh: {named['developer']}"
    )
    asked = "Data: sources, licences, rows, hashes, what was filtered, split rule, overlap with test, refresh"
    return asked, there, left


def _soundness(report: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    recipe = report["metadata"].get("recipe", {}).get("stages", ())
    stages = [f"{stage['name']} ({stage['train']})" for stage in recipe if "train" in stage]
    checks = [f"{row['what']}: {row['verdict']}: {row['said']}" for row in rows_of(report)]
    there = ([f"Trained by {', '.join(stages)}"] if stages else []) + checks
    left = [f"why this method and not another one: {named['developer']}"]
    left += [] if checks else [f"why the reward measures the goal: it was not checked: {named['developer']}"]
    return (
        "Conceptual soundness: the method and its alternatives; why the reward measures the goal",
        there,
        left,
    )


def _attempted(report: Mapping[str, Any], seen: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    steps: Sequence[Mapping[str, str]] = seen.get("steps", ())
    there = []
    if steps:
        starts = sum(one["step"] in BEGINS for one in steps)
        failed = [f"{one['step']}: {one['failed']}" for one in steps if one["failed"]]
        there = [
            f"{starts} attempts in this folder, {len(steps)} steps on record, {len(failed)} failed",
            *failed,
        ]
    seed = report["metadata"].get("recipe", {}).get("seed")
    there += [f"Seed {seed}, one of those that could have been taken"] if seed is not None else []
    return (
        "Developmental evidence: attempts, seeds, settings, failed runs",
        there,
        [f"runs in other folders, and other seeds: {named['developer']}"],
    )


def _outcomes(report: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    settings = report["settings"]
    there, slice = [], settings["policy"]["programmatic_slice"]
    for pair in principal(report):
        whole = slice_of(pair["tracks"].get(PROGRAMMATIC, NONE), slice)
        figure = judged(whole, settings["primary"])
        if figure["n"]:
            there.append(
                f"{pair['candidate']} minus {pair['baseline']}, {settings['primary'] or 'reward'}: "
                f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}], n {figure['n']}"
            )
    there.append(f"Verdict: {report['verdict']['verdict']}; models compared: {', '.join(report['models'])}")
    left = [f"{track.replace('_', ' ')}: not measured: {named['developer']}" for track in _empty(report)]
    made = {model: how_made(about(report, model)) for model in report["models"]}
    there += [f"{model}: {said}" for model, said in made.items() if said]
    kinds = {kind_of(report, model) for model in report["models"]}
    asked = {PROMPT: "prompt only", BEST_OF_N: "best-of-N", "sft": "SFT"}
    if missing := [what for kind, what in asked.items() if kind not in kinds]:
        left.append(f"challengers not among the models: {', '.join(missing)}: {named['developer']}")
    return "Outcomes on held-out rows with intervals, by slice; challengers", there, left


def _empty(report: Mapping[str, Any]) -> Iterator[str]:
    own = report["models"][report["settings"]["candidate"]]
    yield from (track for track, figure in own.items() if not figure["n"])


def _sensitivity(report: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    there = [
        f"{model}, {flips_in_words(kind, figure)}"
        for model, kinds in (report.get("consistency") or {}).items()
        for kind, figure in kinds.items()
        if figure["n"]
    ]
    models = (report.get("consistency") or {}).values()
    known = {kind for kinds in models for kind, figure in kinds.items() if figure["n"]}
    missing = [_words(kind).lower() for kind in KINDS if kind not in known]
    left = [f"other temperatures and seeds: not measured: {named['developer']}"]
    if missing:
        how = "not measured: `consistency` of an evaluate stage"
        left.insert(0, f"{', '.join(missing)}: {how}: {named['developer']}")
    return (
        "Sensitivity: paraphrase, order, formatting, temperature, seed; the same prompt K times",
        there,
        left,
    )


def _stress(report: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    attacks = [row for row in rows_of(report) if "attack" in row["what"]]
    there = [
        f"{row['stage']}, {row['what']} on the reward: {row['verdict']}: {row['said']}" for row in attacks
    ]
    figure = report["models"][report["settings"]["candidate"]].get(CONTROLS, NONE)
    if figure["n"]:
        there.append(
            f"Negative controls: {figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}], n {figure['n']}"
        )
    left = [] if attacks else [f"the reward was not attacked: `tieout attack`: {named['developer']}"]
    left.append(
        f"hallucination, groundedness and refusal, beyond what the reward measures: {named['developer']}"
    )
    return "Stress: attack, hallucination and groundedness, refusal", there, left


def _bias(report: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    slices = report["models"][report["settings"]["candidate"]].get(PROGRAMMATIC, NONE).get("slices", {})
    there = [f"Slices: {', '.join(slices)}"] if len(slices) > 1 else []
    for check in report["metadata"].get("reward_checks", ()):
        if biases := check.get("biases"):
            there.append(
                f"{check['stage']}, biases of what scores: {json.dumps(biases, ensure_ascii=False)[:300]}"
            )
    left = [f"groups of people in the data, and figures by group: {named['developer']}"]
    left.append(
        "position and length bias of judges and of the people who graded (key `f` of `tieout label`): "
        f"{named['developer']}"
    )
    return "Bias by declared groups; position and length bias of judges and annotators", there, left


def _limits(report: Mapping[str, Any], said: Review, named: Mapping[str, str]) -> Part:
    worse = report["comparisons"][0]["regressions"]
    baseline = report["settings"]["baseline"]
    there = [*said.limits, f"{len(worse)} cases became worse than {baseline}'s by more than the rule's drop"]
    there.append(
        "Nothing was measured beyond the cases of the report: other prompts, languages and longer texts"
    )
    return (
        "Limits and known failures, with examples",
        there,
        [] if said.limits else [f"limits that people know: {named['developer']}"],
    )


def _implementation(seen: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    there, checked = [], seen.get("checked", {})
    if check := checked.get("check"):
        there.append(
            f"{' and '.join(checked['parts'])} loaded again from disk: log-probabilities within "
            f"{max(check['worst'].values(), default=0):.1e} nats of the policy's on {check['tokens']} tokens, "
            f"{check['near_ties']} near-ties"
        )
    left = [] if there else [f"no candidate was built and loaded again: {named['developer']}"]
    left.append(f"that what is served is this folder: {named['owner']}")
    return "Implementation: merged is adapter; served is evaluated", there, left


def _monitoring(said: Review, seen: Mapping[str, Any], named: Mapping[str, str], blank: set[str]) -> Part:
    plan = vars(said.monitoring)
    there = [f"{_words(k)}: {v}" for k, v in plan.items() if v and f"monitoring.{k}" not in blank]
    left = [f"{_words(k)}: asked for at `tieout ship`" for k in plan if f"monitoring.{k}" in blank]
    alarms = seen.get("alarms", {})
    if alarms:
        listed = ", ".join(f"{stage} {count}" for stage, count in alarms.items())
        there.append(f"Alarms that fired while training: {listed}")
    else:
        left.append(f"evidence that alarms fire: none fired while training: {named['owner']}")
    return (
        "Monitoring: metric, threshold, cadence, named reviewer, escalation, rollback; alarms fire",
        there,
        left,
    )


def _changes(seen: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    asked = "Change log: what changed since the approved version, is re-validation due"
    known, how = seen.get("approved"), "`tieout report RUN --approved APPROVED`"
    if not known:
        return asked, [], [f"the approved run, if there is one, given as {how}: {named['validator']}"]
    parts = ", ".join(f"{part} {count}" for part, count in known["parts"].items()) or "none"
    there = [
        f"Approved: {known['candidate']}, verdict {known['verdict']}, report SHA-256 {known['report']}",
        f"Changes since: {parts}",
        known["said"],
        *known["reasons"][:LISTED],
        *known["notes"],
    ]
    if more := known["reasons"][LISTED:]:
        there.append(f"and {len(more)} more, in evidence/approved.json")
    left = [f"re-validation: {named['validator']}"] if known["due"] else []
    if not known["current"]:
        left.append(f"compared before this report was made; {how} compares again: {named['developer']}")
    return asked, there, left


def _oversight(said: Review, named: Mapping[str, str], blank: set[str]) -> Part:
    there = [f"Incident contact: {said.incident_contact}"] if "incident_contact" not in blank else []
    if "monitoring.rollback" not in blank:
        there.append(f"Stop procedure: {said.monitoring.rollback}")
    left = ["incident contact: asked for at `tieout ship`"] if "incident_contact" in blank else []
    if "monitoring.rollback" in blank:
        left.append("stop procedure: the rollback, asked for at `tieout ship`")
    for name in ("oversight", "decommissioning"):
        if value := getattr(said, name):
            there.append(f"{name.capitalize()}: {value}")
        else:
            left.append(f"{name}: {named['owner']}")
    return "Human oversight, stop procedure, incident contact, decommissioning", there, left


def _performed(seen: Mapping[str, Any], named: Mapping[str, str]) -> Part:
    there = [
        f"{one['verifier']}, {one['time']}: "
        + (f"differs: {', '.join(one['differ'])}" if one["differ"] else "every claim that was checked holds")
        + (", signed" if one["signed"] else "")
        for one in seen.get("verified", ())
    ]
    left = [f"`tieout verify RUN --verifier NAME`, on another machine: {named['validator']}"]
    return "Independent re-performance", there, [] if there else left


def _signed(named: Mapping[str, str]) -> Part:
    asked = "Sign-offs with dates, findings, remediation"
    left = [f"date and signature: {named[name]}" for name in ("owner", "developer", "validator")]
    return asked, [], [*left, f"findings: {named['validator']}", f"their remediation: {named['developer']}"]


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
