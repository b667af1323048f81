"""The rule of a gate, on record before the held-out rows are opened: `evidence/rule.jsonl`, a line per version.

A line has the rule (which models are compared, by which metric, with which policy), its SHA-256, whether a model had
been evaluated when it was written, and the SHA-256 of the line before. Lines are only added: a rule that changes
later shows as changed, in the report and wherever the verdict is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..config.plain import changes
from ..errors import InputError
from ..storage.identity import as_stored
from ..storage.jsonl import append_jsonl, read_jsonl, sha256_text
from .choice import ChoicePolicy
from .gate import GatePolicy

FILE = "rule.jsonl"
"""In the evidence folder."""


def rule_of(
    policy: GatePolicy,
    candidate: str,
    baseline: str,
    base: str | None,
    primary: str | None,
    choice: ChoicePolicy | None = None,
) -> dict[str, Any]:
    """The rule as plain values; with that of the choice, if there is one."""
    names = {"candidate": candidate, "baseline": baseline, "base": base or baseline, "primary": primary}
    more = {} if choice is None else {"choice": asdict(choice)}
    plain: dict[str, Any] = as_stored({**names, "policy": policy.stored(), **more})
    return plain


def digest(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return sha256_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def put_on_record(evidence: Path, rule: Mapping[str, Any], *, opened: bool) -> None:
    """Add the rule to the record, unless it is the last one there. `opened`: a model was evaluated already."""
    lines = read_rules(evidence)
    if lines and lines[-1]["sha256"] == digest(rule):
        return
    line = {"rule": dict(rule), "sha256": digest(rule), "opened": opened}
    append_jsonl(evidence / FILE, [{**line, "previous": digest(lines[-1]) if lines else ""}])


def read_rules(evidence: Path) -> list[dict[str, Any]]:
    """Every version, the first one first. InputError: a line is not what was written, or one is gone."""
    path = evidence / FILE
    lines = [line for _, line in read_jsonl(path)] if path.exists() else []
    previous = ""
    for number, line in enumerate(lines, 1):
        if line.get("sha256") != digest(line.get("rule")) or line.get("previous") != previous:
            raise InputError(
                f"{path}:{number}: the rule is not the one that was written, or one before it is gone"
            )
        previous = digest(line)
    return lines


def summary(evidence: Path) -> dict[str, Any]:
    """What the report says of its rule: the hashes of the first and the last, when they were written, what changed."""
    lines = read_rules(evidence)
    if not lines:
        return {}
    first, last = lines[0], lines[-1]
    changed = [
        {"opened": line["opened"], "changes": changes(before["rule"], line["rule"])}
        for before, line in pairwise(lines)
    ]
    return {
        "first": first["sha256"],
        "sha256": last["sha256"],
        "before_evaluation": not first["opened"],
        "changed": changed,
    }


def in_words(said: Mapping[str, Any]) -> list[str]:
    """Sentences on a rule that was written late, or changed; none for one that was fixed first and kept."""
    if not said:
        return []
    found = []
    if not said["before_evaluation"]:
        found.append("The gate's rule was first written when models had been evaluated already")
    for change in said["changed"]:
        when = "after models had been evaluated" if change["opened"] else "before any model was evaluated"
        found.append(f"The gate's rule was changed {when} (was -> is): {'; '.join(change['changes'])}")
    return found
