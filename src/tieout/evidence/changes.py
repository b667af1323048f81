"""Changes between two runs: data, configuration, code, models, environment, rule; and which ones need re-validation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config.plain import changes
from ..rows import digests
from ..storage import manifest
from ..storage.jsonl import read_json, read_jsonl
from .rule import read_rules
from .verify import read_run

Part = Literal["data", "configuration", "code", "models", "environment", "rule", "verdict"]
PAIRS = "pairs.jsonl"
"""In the folder of a stage: the pairs that it made."""
NOTED = ("environment", "code")
"""Parts whose changes alone need no re-validation: outputs are compared, and models by their weights."""


@dataclass(frozen=True)
class Change:
    """One thing that differs."""

    part: Part
    what: str
    """A key, in one line: `stages.dpo.beta: 0.1 -> 0.3`, or what changed in words."""
    revalidate: bool
    """Whether the model has to be validated again because of it."""


@dataclass(frozen=True)
class Facts:
    """What a run folder says of itself, as far as it does."""

    folder: Path
    identity: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Set of rows -> digests of its rows."""
    code: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """Reward, metrics, parts -> SHA-256 of their source."""
    models: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    rule: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def facts_of(folder: Path) -> Facts:
    """What a run folder says. InputError: it is none."""
    evidence = folder / "evidence"
    known, found = read_run(folder, evidence / "report.json")
    report = found or {}
    said, about = report.get("metadata", {}), _attempt(folder)
    scored = read_json(evidence / "scoring.json") if (evidence / "scoring.json").exists() else {}
    sources = {name: one["sha256"] for name, one in scored.get("sources", {}).items()}
    rules = read_rules(evidence)
    return Facts(
        folder,
        known.get("identity") or said.get("recipe", {}),
        known.get("data") or said.get("data", {}),
        {**digests.read(folder / digests.FILE), **_made(folder)},
        about.get("code", {}),
        {**sources, **about.get("sources", {})},
        said.get("models", {}),
        _latest(known).get("environment") or said.get("environment", {}),
        rules[-1]["rule"] if rules else {},
        report,
    )


def _latest(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last attempt that run.json notes."""
    found: Mapping[str, Any] = [known, *known.get("continued", [])][-1]
    return found


def _attempt(folder: Path) -> dict[str, Any]:
    """What the manifest has of the last attempt: code, sources of the reward."""
    found = dict[str, Any]()
    for said in manifest.steps(folder)[0]:
        found |= {key: said[key] for key in ("code", "sources") if key in said}
    return found


def _made(folder: Path) -> dict[str, list[str]]:
    """Pairs that stages of the run made, by row."""
    files = sorted(folder.glob(f"*/{PAIRS}"))
    return {
        f"{path.parent.name} (made)": digests.digests_of([row for _, row in read_jsonl(path)])
        for path in files
    }


def all_changes(a: Facts, b: Facts) -> list[Change]:
    """Everything that differs between two runs, figures aside."""
    return [*_data(a, b), *_configuration(a, b), *_code(a, b), *_models(a, b), *_rest(a, b)]


def _data(a: Facts, b: Facts) -> Iterator[Change]:
    for name in dict.fromkeys([*a.data, *b.data, *a.rows, *b.rows]):
        was, now = a.data.get(name, ""), b.data.get(name, "")
        old, new = a.rows.get(name), b.rows.get(name)
        if was == now and (old == new or None in (old, new)):
            continue
        if old is not None and new is not None:
            said = digests.compare(old, new).in_words
        elif (rows := new if old is None else old) is not None and not (was and now):
            said = f"{len(rows)} rows, only in {'the second' if old is None else 'the first'}"
        else:
            said = f"SHA-256 {was[:16] or 'none'} -> {now[:16] or 'none'}; rows were not kept by digest"
        yield Change("data", f"{name}: {said}", True)


def _configuration(a: Facts, b: Facts) -> Iterator[Change]:
    if not a.identity or not b.identity:
        return
    for line in changes(_short(_by_name(a.identity)), _short(_by_name(b.identity))):
        yield Change("configuration", line, True)


def _by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with stages under their names, so that one more does not move all others; without the model."""
    plain = {key: value for key, value in identity.items() if key not in ("model", "placement", "models")}
    stages = {}
    for stage in identity.get("stages", []):
        settings = stage if "train" in stage else next(iter(stage.values()))
        stages[str(settings.get("name") or next(iter(stage)))] = settings
    return {**plain, "stages": stages} if stages else plain


def _code(a: Facts, b: Facts) -> Iterator[Change]:
    for line in changes(_short(a.code), _short(b.code)) if a.code and b.code else []:
        yield Change("code", f"tieout {line}", False)
    was, now = a.sources, b.sources
    if not (a.report and b.report):  # the sources of controls are noted with the evidence
        was, now = ({k: v for k, v in own.items() if k in a.sources and k in b.sources} for own in (was, now))
    for line in changes(_short(was), _short(now)) if was and now else []:
        yield Change("code", f"source of {line}", True)


def _models(a: Facts, b: Facts) -> Iterator[Change]:
    was, now = (facts.identity.get("model") for facts in (a, b))
    if was and now and was != now:
        yield Change("models", f"base model: {_short(was)} -> {_short(now)}", True)
    if a.models and b.models:
        for line in changes(_short(a.models), _short(b.models)):
            yield Change("models", line, True)


def _rest(a: Facts, b: Facts) -> Iterator[Change]:
    for line in changes(a.environment, b.environment) if a.environment and b.environment else []:
        yield Change("environment", line, False)
    for line in changes(a.rule, b.rule) if a.rule and b.rule else []:
        yield Change("rule", line, True)
    verdicts = [facts.report.get("verdict", {}).get("verdict") for facts in (a, b)]
    if verdicts[0] != verdicts[1]:
        yield Change("verdict", f"{verdicts[0] or 'none yet'} -> {verdicts[1] or 'none yet'}", all(verdicts))


def _short(value: Any) -> Any:
    """Plain values with digests by their first 16 digits, as people compare them."""
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    return value[:16] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value
