"""What a run found out about its reward: proof, attack, calibration, and its drift while policies trained.

The gate puts it into the metadata of the report, from the files of the run folder, whose hashes it keeps: report, page
and card say the same. `verify` reads the files again; figures of a calibration are computed again from its rows by
`vetting.records`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage.atomic import sha256
from ..storage.jsonl import read_json, read_log

KEY = "reward_checks"
"""Of the report's metadata."""
DRIFT = ("calibration/score", "calibration/primary", "calibration/agreement")
FILES = (
    "*/check.json",
    "*/proof/proof.json",
    "*/attack/attack.json",
    "*/calibration/calibration.json",
    "*/calibration.json",
)
APART = 0.05
"""Up to which a reward that gained more than the primary metric, while it trained, is taken not to have drifted."""


def collect(folder: Path) -> list[dict[str, Any]]:
    """An entry per file that says something of the reward, in the order of the stages, and what drifted while they
    trained. (Times of files say no order: a copy has others, and clocks are set back.)"""
    order = {name: place for place, name in enumerate(_stages(folder))}

    def there(*kinds: str) -> list[Path]:
        files = [path for kind in kinds for path in sorted(folder.glob(kind))]
        return sorted(files, key=lambda path: order.get(path.relative_to(folder).parts[0], 0))

    found = [_entry(folder, path) for path in there(*FILES)]
    return found + [entry for path in there("*/metrics.jsonl") if (entry := _drift(path))]


def _stages(folder: Path) -> list[str]:
    """Names of the stages of a run of a recipe; none of any other folder."""
    if not (folder / "run.json").exists():
        return []
    stages = read_json(folder / "run.json").get("identity", {}).get("stages", ())
    return [stage["name"] if "name" in stage else next(iter(stage.values()))["name"] for stage in stages]


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    report = read_json(path)
    says = {
        "check.json": _check,
        "proof.json": _proof,
        "attack.json": _attack,
        "calibration.json": _calibration,
    }[path.name]
    place = path.relative_to(folder)
    return {"stage": place.parts[0], **says(report), "file": str(place), "sha256": sha256(path)}


def _check(report: Mapping[str, Any]) -> dict[str, Any]:
    """Attack and proof in one, as `tieout train` does them."""
    said, accepted = report["done"], report.get("accepted", {})
    if accepted:
        said += f"; accepted: {'; '.join(f'{name}: {reason}' for name, reason in accepted.items())}"
    return {"what": "attack and proof", "verdict": "fail" if report["problems"] else "pass", "said": said}


def _proof(report: Mapping[str, Any]) -> dict[str, Any]:
    broken = [check["name"] for check in report["checks"] if check["failures"]]
    tries = sum(check["passed"] + len(check["failures"]) for check in report["checks"])
    said = f"{report['num_rows']} rows with gold, {tries} tries"
    if not report["holds"]:
        said += f"; does not hold: {', '.join(broken) or 'no gold was scored'}; accepted with a reason in the recipe"
    return {"what": "proof", "verdict": "pass" if report["holds"] else "fail", "said": said}


def _attack(report: Mapping[str, Any]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(finding["class"] for finding in report["findings"]))
    said = str(report["verdict"])
    if kinds:
        said += f"; accepted by name in the recipe: {', '.join(kinds)}"
    return {
        "what": "attack",
        "verdict": "fail" if kinds else "pass",
        "said": said,
        "findings": report["findings"],
    }


def in_words(report: Mapping[str, Any]) -> str:
    """The reasons of a calibration's verdict, with its AUC and its rank agreement with each metric of the task."""
    said = list(report["reasons"])
    if report.get("separation") is not None:
        said.append(f"AUC {report['separation']:.3f}")
    ranks = {k: v for k, v in (report.get("rank_agreement") or {}).items() if k != "truth" and v is not None}
    if ranks:
        said.append(
            "rank agreement with " + ", ".join(f"{name} {value:.2f}" for name, value in ranks.items())
        )
    return "; ".join(said)


def _calibration(report: Mapping[str, Any]) -> dict[str, Any]:
    said = in_words(report)
    if report.get("override"):
        said += f"; accepted with the reason: {report['override']}"
    against = report.get("truth") or ("held-out pairs" if report.get("kind") == "pairs" else "human labels")
    kept = (
        "agreement",
        "pairs",
        "kinds",
        "separation",
        "rank_agreement",
        "bins",
        "biases",
        "drift",
        "labels",
    )
    return {
        "what": "calibration",
        "against": against,
        "verdict": report["verdict"],
        "said": said,
        **{key: report[key] for key in kept if report.get(key) not in (None, [], {})},
    }


def _drift(path: Path) -> dict[str, Any] | None:
    """First and last calibration while a stage trained, the alarms that it gave, and the audit sheets there are."""
    rows = read_log(path)
    measured = [_measured(row) for row in rows if DRIFT[0] in row]
    sheets = len(list(path.parent.glob("audit/*.jsonl")))
    if not measured and not sheets:
        return None
    said, alarms = list[str](), _alarms(path.with_name("alarms.jsonl"))
    within = None
    if measured:
        first, last = measured[0], measured[-1]
        moves = [_moved(key, first, last) for key in DRIFT]
        count = f"{last['calibration/prompts']:.0f} " if "calibration/prompts" in last else ""
        said.append(f"same {count}prompts, step {first['step']} → {last['step']}: {', '.join(moves)}")
        within = last.get("calibration/gap_change_high")
    if alarms:
        said.append(f"alarm at step {alarms[0]['step']}: {alarms[0]['reason']}")
    elif within is not None:
        said.append(_apart(last))
    if sheets:
        said.append(f"{sheets} audit sheets for a person to fill in ({path.parent.name}/audit)")
    shown = within is None or within < APART  # runs of before there were intervals have none
    verdict = "fail" if alarms else "pass" if measured and shown else "info"
    return {
        "stage": path.parent.name,
        "what": "calibration while it trained",
        "against": "the task's primary metric, not people" if measured else "",
        "verdict": verdict,
        "said": "; ".join(said),
        "measured": measured,
    }


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Step, figures and, since runs have them, intervals of one measurement."""
    own = {key: value for key, value in row.items() if key.startswith("calibration/")}
    return {"step": row["step"], **dict.fromkeys(DRIFT), **own}


def _moved(key: str, first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """A figure then and now; with the interval of each, or of what it moved on the same prompts."""
    ends = [f" {span}" if (span := _span(one, key)) else "" for one in (first, last)]
    said = f"{_name(key)} {_number(first[key])}{ends[0]} → {_number(last[key])}{ends[1]}"
    change = f"{key}_change"
    return f"{said} ({last[change]:+.3f} {_span(last, change, '+')})" if change in last else said


def _span(row: Mapping[str, Any], key: str, sign: str = "") -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _apart(last: Mapping[str, Any]) -> str:
    """What the last measurement shows of a reward that parts from the truth."""
    key = "calibration/gap_change"
    figures = f"{last[key]:+.3f} {_span(last, key, '+')}"
    if last[f"{key}_low"] > 0:
        return f"the reward gained more than the primary metric: {figures}"
    if last[f"{key}_high"] < APART:
        return f"the reward gained at most {APART:g} more than the primary metric: {figures}"
    return f"that the reward gained more than the primary metric is neither shown nor ruled out: {figures}"


def _alarms(path: Path) -> list[dict[str, Any]]:
    return [row for row in read_log(path) if "calibration" in row["reason"]]


def _name(key: str) -> str:
    return {"score": "reward", "primary": "primary metric"}.get(key.split("/")[1], key.split("/")[1])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def changed(report: Mapping[str, Any], folder: Path) -> list[str]:
    """A line per file of the run that is no longer what the report was made from, and per finding that is not its
    file's; files that are not there are passed over.
    """
    found = []
    for number, check in enumerate(report.get("metadata", {}).get(KEY, ())):
        path = folder / (check.get("file") or f"{check['stage']}/metrics.jsonl")
        if not path.exists():
            continue
        if "file" in check and sha256(path) != check["sha256"]:
            found.append(f"{path}: changed since the report (SHA-256 {sha256(path)}, was {check['sha256']})")
            continue
        again = _entry(folder, path) if "file" in check else _drift(path)
        found += differences(f"metadata.{KEY}[{number}]", check, json.loads(json.dumps(again)))
    return found


def differences(where: str, said: Any, found: Any) -> list[str]:
    """A line per number or word that differs between a report and what was computed again."""
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        keys = dict.fromkeys([*said, *found])
        return [line for key in keys for line in differences(f"{where}.{key}", said.get(key), found.get(key))]
    if isinstance(said, list) and isinstance(found, list | tuple) and len(said) == len(found):
        rows = enumerate(zip(said, found, strict=True))
        return [line for i, (a, b) in rows for line in differences(f"{where}[{i}]", a, b)]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (said, found))
    if said == found or (numbers and abs(said - found) <= 1e-9 * max(1.0, abs(found))):
        return []
    return [f"{where}: the report says {said!r}, the cases give {found!r}"]


def rows_of(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows for page, card and terminal: stage, what (and against what), verdict, finding."""
    checks: Sequence[Mapping[str, Any]] = report.get("metadata", {}).get(KEY, ())
    return [
        {
            "stage": check["stage"],
            "what": f"{check['what']}, against {check['against']}" if check.get("against") else check["what"],
            "verdict": check["verdict"],
            "said": check["said"],
        }
        for check in checks
    ]


def found_of(report: Mapping[str, Any], key: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(stage and what was done, its `bins` or `findings`) of each check that has some."""
    checks: Sequence[Mapping[str, Any]] = report.get("metadata", {}).get(KEY, ())
    return [(f"{check['stage']}: {check['what']}", check[key]) for check in checks if check.get(key)]


def pairs_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of every kind of pair that a calibration compared: stage, kind, share in the right order and interval, n."""
    checks: Sequence[Mapping[str, Any]] = report.get("metadata", {}).get(KEY, ())
    return [
        {"stage": check["stage"], "kind": kind.replace("_", " "), **figure}
        for check in checks
        for kind, figure in check.get("pairs", {}).items()
    ]
