"""What people say of a model before it ships: purpose, names, monitoring, whom to call. Never blank."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..config.docs import field_docs
from ..config.fields import from_plain
from ..config.plain import to_plain
from ..config.yaml_file import read_yaml
from ..storage.atomic import write_json
from ..storage.jsonl import read_json

FILE = "review.json"
"""In the evidence folder."""
OPTIONAL = ("materiality", "inventory", "sources", "limits", "oversight", "decommissioning")
"""Fields that a reviewer asks for, and that may be left to be written later: the table says who must."""
NOTHING = re.compile(
    r"[\W_]*(tbd|tba|todo|to do|to be (done|determined|decided|named)|n\W?a|none|null|nobody|no one|unknown|later|"
    r"placeholder|example|xx+|foo|bar|test|name|your name|somebody|someone|owner|developer|validator|reviewer)?[\W_]*",
    re.IGNORECASE,
)
"""Answers that say nothing."""


@dataclass(frozen=True)
class Monitoring:
    """Who watches the model once it is used, by which number, and what happens then."""

    metric: str = ""
    """The number that is watched, such as: share of answers whose figures are all right, of 50 audited a week."""
    threshold: str = ""
    """The value at which something happens, such as: below 0.85."""
    cadence: str = ""
    """How often it is measured, such as: weekly."""
    reviewer: str = ""
    """The name of the person who looks at it."""
    escalation: str = ""
    """Whom they tell, and how fast, when the threshold is crossed."""
    rollback: str = ""
    """What is used instead, and how it is switched to."""


@dataclass(frozen=True)
class Review:
    """What a reviewer asks people for. All of it is asked for before a model ships."""

    purpose: str = ""
    """What the model is for."""
    decision: str = ""
    """The decision that its answers support, and who takes it."""
    prohibited_uses: tuple[str, ...] = ()
    """What it must not be used for."""
    owner: str = ""
    """The name of the person who answers for its use."""
    developer: str = ""
    """The name of the person who trained it."""
    validator: str = ""
    """The name of the person who validates it: neither the owner nor the developer."""
    monitoring: Monitoring = field(default_factory=Monitoring)
    """How it is watched once it is used."""
    incident_contact: str = ""
    """Whom to call when it does harm, and how."""
    materiality: str = ""
    """What a wrong answer costs, and how many there may be; may be written later."""
    inventory: str = ""
    """Its number in the organisation's inventory; may be written later."""
    sources: str = ""
    """Where the data come from, and under which licences; may be written later."""
    limits: tuple[str, ...] = ()
    """Limits and known failures, in addition to those that the run found; may be written later."""
    oversight: str = ""
    """Which person looks at answers before they count; may be written later."""
    decommissioning: str = ""
    """When and how it is taken out of use; may be written later."""


def lacking(review: Review) -> list[str]:
    """What must be said before the model ships and is not, a line per field; none: all is said."""
    found = []
    for name, about in questions():
        value = _at(review, name)
        said = [value] if isinstance(value, str) else list(value)
        if not said or any(NOTHING.fullmatch(one.strip()) for one in said):
            given = f" ({', '.join(said)!r} says nothing)" if any(one.strip() for one in said) else ""
            found.append(f"{name}: {about}{given}")
    names = {name: _at(review, name).strip().casefold() for name in ("owner", "developer", "validator")}
    same = [
        other for other in ("owner", "developer") if names["validator"] and names["validator"] == names[other]
    ]
    if same and not any(line.startswith("validator") for line in found):
        found.append(
            f"validator: {review.validator} is the {' and '.join(same)} too; another person validates"
        )
    return found


def questions() -> list[tuple[str, str]]:
    """(name, question) of every field that may not be blank, in their order; `monitoring.metric` is one inside."""
    found = []
    for cls, prefix in ((Review, ""), (Monitoring, "monitoring.")):
        docs = field_docs(cls)
        own = [f for f in fields(cls) if f.name not in (*OPTIONAL, "monitoring")]
        found += [(f"{prefix}{f.name}", " ".join(docs[f.name].split())) for f in own]
    return found


def form() -> str:
    """All fields as YAML to fill in, each after its question; `read_review` reads it."""
    lines = ["# What a reviewer asks for. Filled in: tieout ship RUN --review review.yaml"]
    for cls, indent in ((Review, ""), (Monitoring, "  ")):
        docs = field_docs(cls)
        for f in sorted(fields(cls), key=lambda f: f.name == "monitoring"):  # what is nested comes last
            lines.append(f"{indent}# {' '.join(docs[f.name].split())}")
            blank = (
                ""
                if f.name == "monitoring"
                else " []"
                if isinstance(getattr(cls(), f.name), tuple)
                else ' ""'
            )
            lines.append(f"{indent}{f.name}:{blank}")
    return "\n".join(lines) + "\n"


def answered(review: Review, name: str, text: str) -> Review:
    """The review with an answer to one of the `questions`; several prohibited uses are parted by semicolons."""
    outer, _, inner = name.partition(".")
    if inner:
        changes: dict[str, Any] = {inner: text.strip()}
        return replace(review, monitoring=replace(review.monitoring, **changes))
    value: Any = text.strip()
    if isinstance(_at(review, name), tuple):
        value = tuple(part.strip() for part in text.split(";") if part.strip())
    return replace(review, **{outer: value})


def merged(review: Review, more: Review) -> Review:
    """The review with everything that `more` says in its place."""
    return _merged(review, more)


def _merged(one: Any, other: Any) -> Any:
    given: dict[str, Any] = {}
    for f in fields(one):
        was, now = getattr(one, f.name), getattr(other, f.name)
        given[f.name] = _merged(was, now) if is_dataclass(was) else now or was
    return replace(one, **given)


def read_review(path: Path) -> Review:
    """The review in a YAML file. ConfigError: an unknown key, a value of another kind."""
    return from_plain(Review, read_yaml(path), str(path))


def kept(evidence: Path) -> Review | None:
    """The review of an evidence folder; None: nothing was said yet."""
    path = evidence / FILE
    return from_plain(Review, read_json(path), str(path)) if path.exists() else None


def keep(evidence: Path, review: Review) -> None:
    """Write the review into an evidence folder."""
    write_json(evidence / FILE, to_plain(review))


def plain(review: Review | None) -> Mapping[str, Any]:
    """As JSON has it; empty for None."""
    found: Mapping[str, Any] = to_plain(review) if review else {}
    return found


def _at(review: Review, name: str) -> Any:
    value: Any = review
    for part in name.split("."):
        value = getattr(value, part)
    return value
