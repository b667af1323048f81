"""The report: every number that is claimed, computed from cases and grades on disk, and again on demand.

An evidence folder holds `cases.jsonl`, `human/` (sheet, key, grades that were handed in) and `report.json`:

    settings     what the numbers depend on in addition to the cases: models compared, policy, seed; `primary`, the
                 metric that is judged (null: the reward)
    models       model -> track -> mean, low, high, n, errors, abstained of the reward; the same of each of its
                 `parts`, of each of the `metrics`, and all of it per slice
    comparisons  candidate, baseline, tracks: track -> difference, low, high, n, wins, ties, losses, p, ... in the same
                 order; `gain`: what the gain consists of, in words; `regressions`: the cases that became worse
    usage        model -> prompt tokens, tokens, seconds and, where a price is given, cost per answer
    verdict      ship, hold or reject, the reasons, and the checks
    pass_at_k    model -> pass@k, and the difference of candidate and baseline, if several samples were taken
    choice       which model to take, by rule, and the table that it follows from: `evidence.choice`
    consistency  model -> kind -> share of rows that flip when they are asked again, if any were: `evidence.consistency`
    rule         hashes of the gate's rule as it was first written and as it is; whether that was before any model was
                 evaluated, and what changed
    files        SHA-256 of each file that the numbers come from
    metadata     whatever the run wants to say of itself: configuration, versions
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.atomic import write_json
from ..storage.identity import as_stored
from ..storage.jsonl import content_sha256, read_json, set_aside, stored
from ..tasks import TASKS, load_task
from . import pass_at_k, rule, scoring, stats
from .choice import ChoicePolicy, choose
from .consistency import consistency
from .evaluate import CONSISTENCY, PROGRAMMATIC, TRACKS, Case, read_cases, write_cases
from .figures import Ends, model_figures, pair_figures
from .gains import gain, regressions
from .gate import GatePolicy, demanded, gate, kept
from .human import Grade, read_grades, settled_ties, write_sheet
from .readings import check_primary, slice_of
from .usage import usage_figures

FORMAT = 6
FORMER = 5
"""The same with shorter intervals, see `stats`: read and verified, and written no more."""
HEX = re.compile("[0-9a-f]{64}|")
FILES = (
    "cases.jsonl",
    "cases.usage.jsonl",
    "cases.tokens.jsonl",
    "cases.draws.jsonl",
    "cases.samples.jsonl",
    "human/sheet.jsonl",
    "human/rubric.md",
    "human/key.json",
    "human/grades.jsonl",
    rule.FILE,
    scoring.ROWS,
    scoring.NAMES,
)
"""What the numbers come from, relative to the evidence folder; the human ones may be absent. `cases.jsonl` may be
compressed (`cases.jsonl.gz`); hashes are of the content."""


def build_report(
    cases: Mapping[str, Sequence[Case]],
    grades: Sequence[Grade] = (),
    *,
    candidate: str,
    baseline: str,
    base: str | None = None,
    primary: str | None = None,
    comparisons: Sequence[tuple[str, str]] = (),
    policy: GatePolicy | None = None,
    seed: int = 0,
    prices: Mapping[str, str] | None = None,
    again: Mapping[str, Any] | None = None,
    samples: pass_at_k.Samples | None = None,
    sampled: Mapping[str, Any] | None = None,
    choice: ChoicePolicy | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report as plain values. `cases`: model -> its cases; `comparisons`: further (candidate, baseline).

    The verdict is on `candidate` against `baseline`, with the negative controls against `base` (default: the
    baseline), which is compared with the baseline too. `primary` is the metric that the programmatic track is judged
    by (a task's `primary`); None: the reward. `prices`: model -> its price, as `Price.of` reads it. `again`: how rows
    were asked again: `rows`, `repeats`, `temperature`. `samples`: several of each answer, for pass@k; `sampled`: their
    settings (`pass_at_k.settings`). `choice`: the rule of which model to take. The same arguments give the same report,
    to the last digit.
    """
    base, policy = base or baseline, policy or GatePolicy()
    pairs = compared(candidate, baseline, base, comparisons)
    for model in dict.fromkeys(name for pair in pairs for name in pair):
        if model not in cases:
            raise InputError(f"no cases of model {model!r}; there are cases of: {', '.join(cases)}")
    if candidate in (baseline, base):
        raise InputError(f"candidate {candidate!r} cannot be its own baseline")
    check_primary(cases, primary)
    present = {case.track for model_cases in cases.values() for case in model_cases}
    tracks = [*TRACKS, *sorted(present - {*TRACKS, CONSISTENCY})]
    ends: Ends = {}
    report: dict[str, Any] = {
        "format": FORMAT,
        "settings": {
            "candidate": candidate,
            "baseline": baseline,
            "base": base,
            "primary": primary,
            "comparisons": [list(pair) for pair in pairs],
            "policy": as_stored(policy.stored()),
            "seed": seed,
            "level": stats.LEVEL,
            "resamples": stats.RESAMPLES,
        },
        "models": {
            model: {track: model_figures(cases, grades, model, track, seed, ends) for track in tracks}
            for model in cases
        },
    }
    report["comparisons"] = [
        _comparison(cases, grades, pair, tracks, primary, policy, seed, ends) for pair in pairs
    ]
    if prices:
        report["settings"]["prices"] = dict(prices)
    if usage := usage_figures(cases, baseline, policy.programmatic_slice, prices, seed):
        report["usage"] = usage
    if again:
        report["settings"]["again"] = dict(again)
        report["consistency"] = consistency(cases, primary, again["rows"], seed)
    if sampled:
        report["settings"]["sampled"] = dict(sampled)
        both = (candidate, baseline)
        report["pass_at_k"] = pass_at_k.pass_figures(samples or {}, sampled, both)
    report["verdict"] = asdict(gate(report, candidate, baseline, policy, base))
    report["metadata"] = dict(metadata or {})
    if choice is not None:
        report["settings"]["choice"] = asdict(choice)
        report["choice"] = choose(report, cases, choice, ends)
    return report


def compared(
    candidate: str, baseline: str, base: str, more: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """The pairs of a report, each once: candidate and baseline, candidate and base, baseline and base, and more."""
    last = [] if base == baseline else [(baseline, base)]
    return list(dict.fromkeys([(candidate, baseline), (candidate, base), *last, *map(_pair, more)]))


def _pair(names: Sequence[str]) -> tuple[str, str]:
    one, other = names
    return one, other


def _comparison(
    cases: Mapping[str, Sequence[Case]],
    grades: Sequence[Grade],
    pair: tuple[str, str],
    tracks: Sequence[str],
    primary: str | None,
    policy: GatePolicy,
    seed: int,
    ends: Ends,
) -> dict[str, Any]:
    one, other = pair
    figures = {
        track: pair_figures(
            cases, grades, one, other, track, seed, ends, demanded(policy, track), kept(policy, track)
        )
        for track in tracks
    }
    shown = slice_of(figures[PROGRAMMATIC], policy.programmatic_slice)
    return {
        "candidate": one,
        "baseline": other,
        "tracks": figures,
        "gain": gain(shown, primary),
        "regressions": regressions(_once(cases[one]), cases[other], primary, policy.regression_drop),
    }


def _once(cases: Sequence[Case]) -> list[Case]:
    """Without the cases that ask a row again: it would be listed several times."""
    return [case for case in cases if case.track != CONSISTENCY]


def write_report(
    folder: Path,
    cases: Mapping[str, Sequence[Case]],
    *,
    candidate: str,
    baseline: str,
    grades: Path | None = None,
    num_graded: int = 100,
    rubric: str = "",
    policy: GatePolicy | None = None,
    seed: int = 0,
    compress: bool = False,
    samples: pass_at_k.Samples | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the evidence folder: the cases, a sheet for people to grade, and the report made from both.

    `grades` is a file of graded pairs that name their models (see `read_grades`). The sheet asks for `num_graded` cases
    of each comparison of candidate, baseline and base, by `rubric`. `compress` writes `cases.jsonl.gz`. Other options
    are `build_report`'s.
    """
    policy = policy or GatePolicy()
    path, kept = folder / f"cases.jsonl{'.gz' if compress else ''}", folder / "human" / "grades.jsonl"
    there = stored(folder / "cases.jsonl")
    before = content_sha256(there) if there.exists() else ""
    write_cases(path, cases)
    pass_at_k.write_samples(path, samples or {})
    if there != path:
        there.unlink(missing_ok=True)
    if kept.exists() and content_sha256(path) != before:
        set_aside(kept)  # people graded other outputs than these
    pairs = compared(candidate, baseline, options.get("base") or baseline)
    gradable = {model: [case for case in own if _gradable(case, policy)] for model, own in cases.items()}
    if gradable[candidate]:
        write_sheet(folder / "human", gradable, pairs, num_graded, seed, rubric)
    settings = dict(candidate=candidate, baseline=baseline, policy=policy, seed=seed, **options)
    return _write(folder, grades, settings)


def prices_at(folder: Path) -> dict[str, str]:
    """The prices that the report in an evidence folder was given; none where there is no report yet."""
    path = folder / "report.json"
    found: dict[str, str] = read_json(path)["settings"].get("prices", {}) if path.exists() else {}
    return found


def evidence_of(run: Path) -> Path:
    """The evidence folder of a run. InputError: the run has no report yet."""
    evidence = run / "evidence"
    if not (evidence / "report.json").exists():
        raise InputError(f"{run} has no evidence/report.json: {how_to_evaluate(run)}")
    return evidence


def how_to_evaluate(run: Path) -> str:
    """What gives a folder its evidence."""
    known = run / "run.json"
    if not known.exists():
        return "it is no run folder; evaluate a model into one with `tieout eval --out`"
    stages = read_json(known).get("identity", {}).get("stages")
    if stages is not None and not any("gate" in stage for stage in stages):
        return (
            "its recipe has no gate, which writes it: add `- gate: {}` to the stages and run it into another folder, "
            "or evaluate its models with `tieout eval --out`"
        )
    if stages is not None:
        return "finish the run first (repeat its command)"
    return f"evaluate what it trained against what it started from first: `{evaluation_of(run)}`"


def evaluation_of(run: Path, start: str = "") -> str:
    """The command that evaluates a `tieout train` folder against what it started from; in capitals what to fill in.

    `start`: the name of that model, where it is known.
    """
    identity = read_json(run / "run.json").get("identity", {})
    task, reward = identity.get("task"), identity.get("reward") or "REWARD"
    rows = ["--task", task] if task else ["--data", "TEST.jsonl", "--reward", reward]
    if not start and identity.get("start") is None:
        start = identity.get("model") or ""
        start = _folder_of(run) if HEX.fullmatch(start) else start  # a folder is known by its digest
    command = ["tieout", "eval", "--model", start or "BASE", str(run), *rows]
    return shlex.join([*command, "--controls", "CONTROLS", "--out", str(run)])


def _folder_of(run: Path) -> str:
    """The base's folder, as the adapter of a `tieout train` folder names it; BASE where it does not, or it is gone."""
    config = next(run.glob("*/adapter/adapter_config.json"), None)
    base = Path(read_json(config).get("base_model_name_or_path") or "") if config else Path()
    if not (base / "config.json").exists():
        return "BASE"
    return str(base.relative_to(Path.cwd()) if base.is_relative_to(Path.cwd()) else base)


def regate(
    folder: Path,
    grades: Path | None = None,
    policy: GatePolicy | None = None,
    prices: Mapping[str, str] | None = None,
    compared: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Build the report in `folder` again, from its cases and the grades that are there by now.

    With other prices, and `compared`, another candidate and baseline, if they are given.
    """
    old = read_json(folder / "report.json")
    old["settings"].setdefault("primary", _primary_of(old["metadata"]))  # format 1 names none
    settings = arguments_of(old)
    if policy is not None:
        settings["policy"] = policy
    settings["prices"] |= prices or {}
    if compared is not None:
        settings["candidate"], settings["baseline"] = compared
    return _write(folder, grades, settings)


def _primary_of(metadata: Mapping[str, Any]) -> str | None:
    """The primary metric of the task of the package that a run's recipe names."""
    name = metadata.get("recipe", {}).get("task")
    return load_task(name).primary if name in TASKS else None


def note(folder: Path, key: str, value: Any) -> None:
    """Put a value into the metadata of the report in `folder`; the figures and the verdict stay."""
    report = read_json(folder / "report.json")
    report["metadata"][key] = value
    write_json(folder / "report.json", report)


def _write(folder: Path, grades: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    if grades is not None:
        if not grades.exists():
            raise InputError(f"the file of graded pairs {grades} does not exist")
        read_grades(grades, models=read_cases(stored(folder / "cases.jsonl")))  # refuse it before it is kept
        kept = folder / "human" / "grades.jsonl"
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists() or not kept.samefile(grades):
            shutil.copyfile(grades, kept)
    own = settings["policy"], settings["candidate"], settings["baseline"], settings.get("base")
    given = rule.rule_of(*own, settings.get("primary"), settings.get("choice"))
    rule.put_on_record(folder, given, opened=True)
    report = from_folder(folder, settings)
    files = {name: stored(folder / name) for name in FILES}
    report["files"] = {name: content_sha256(path) for name, path in files.items() if path.exists()}
    write_json(folder / "report.json", report)
    return report


def from_folder(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The report that the files of an evidence folder give."""
    cases, human = read_cases(stored(folder / "cases.jsonl")), folder / "human"
    grades = read_grades(human / "sheet.jsonl", human / "key.json", models=cases)
    grades += read_grades(human / "grades.jsonl", models=cases)
    grades += settled_ties(human / "sheet.jsonl", human / "key.json", grades)
    samples = pass_at_k.read_samples(folder / "cases.jsonl")
    return {**build_report(cases, grades, samples=samples, **settings), "rule": rule.summary(folder)}


def arguments_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `build_report` was given in addition to cases and grades."""
    settings = {key: report["settings"][key] for key in ("candidate", "baseline", "base", "seed")}
    settings["primary"] = report["settings"]["primary"]
    settings["comparisons"] = [tuple(pair) for pair in report["settings"]["comparisons"]]
    settings["policy"] = GatePolicy(**report["settings"]["policy"])
    settings["prices"] = report["settings"].get("prices", {})
    settings["again"] = report["settings"].get("again")
    settings["sampled"] = report["settings"].get("sampled")
    settings["metadata"] = report["metadata"]
    kept = report["settings"].get("choice")
    settings["choice"] = ChoicePolicy(**kept) if kept else None
    return settings


def _gradable(case: Case, policy: GatePolicy) -> bool:
    return case.track == PROGRAMMATIC and policy.programmatic_slice in (None, case.slice)
