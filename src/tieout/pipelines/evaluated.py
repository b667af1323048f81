"""Evidence on models that no recipe trained, as `tieout eval --out` writes it, and the candidate made from it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config.fields import from_plain
from ..errors import InputError
from ..evidence import leakage, reward_checks, scoring
from ..evidence.choice import ChoicePolicy
from ..evidence.evaluate import Case
from ..evidence.gate import GatePolicy
from ..evidence.pass_at_k import Samples
from ..evidence.report import write_report
from ..evidence.rule import put_on_record, rule_of
from ..learner import Model
from ..learner.models.names import resolve
from ..learner.models.precision import DTYPES, name_of
from ..review.document import write_page
from ..rows import data_hash, digests, read_rows
from ..samplers.api.opening import is_api
from ..shipping.candidate import prepare
from ..shipping.reload_check import Behaviour, observe
from ..storage import manifest
from ..storage.jsonl import read_json, stored
from ..storage.machine import environment
from ..storage.runfolder import RunFolder
from ..tasks import Task, load_task
from ..types import Row
from .policy import Policy

EVALUATED = "evaluated.json"
"""In the folder: which policy was evaluated as the candidate, and what it did while it was in memory."""
NUM_OBSERVED = 8
"""Prompts on which a candidate must do what the policy did."""


def policy_of(name: str) -> Policy:
    """The model that a hub id, the folder of a model or an adapter, or the folder of a `tieout train` run names.

    InputError: the run has trained nothing yet, or several models.
    """
    folder = Path(name)
    if is_api(name):
        return Policy(name, None)
    if not (folder / "run.json").exists():
        base, _, own = resolve(name)
        run = own.parent.parent / "run.json" if own else None
        return Policy(base, own, dtype=_trained_in(read_json(run)) if run and run.exists() else "auto")
    trained = sorted(marker.parent / "adapter" for marker in folder.glob("*/done.json"))
    trained = [adapter for adapter in trained if adapter.is_dir()]
    if len(trained) != 1:
        listed = ", ".join(map(str, trained)) or "nothing"
        raise InputError(f"run {folder} has trained {listed}; name the folder of one model or adapter")
    known = read_json(folder / "run.json")
    method = known["identity"].get("adapter", {}).get("method")
    return Policy(resolve(str(trained[0]))[0], trained[0], method == "qlora", _trained_in(known))


def _trained_in(run: Mapping[str, Any]) -> str:
    """fp32 or bf16, if the run's record says so; else auto."""
    dtype = run.get("identity", {}).get("dtype")
    return dtype if dtype in DTYPES else "auto"


def one_template(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the chat template that all models of a comparison are asked with: as given, or as their runs were
    trained. InputError: their runs were trained with different ones.
    """
    runs = {name: told for name in names if (told := _told(name)) is not None}
    if given or not runs:
        return dict(given)
    first, *others = runs.values()
    if any(told != first for told in others):
        listed = "; ".join(f"{name}: {told or 'none'}" for name, told in runs.items())
        raise InputError(
            f"the models were trained with different options of the chat template ({listed}), and one set of prompts "
            "is asked: say which, --chat-template-kwargs KEY=VALUE"
        )
    return dict(first)


def _told(name: str) -> dict[str, Any] | None:
    """Options of the chat template that a model's run was trained with; None: it is of no run."""
    folder = Path(name)
    if not folder.exists():
        return None
    places = [folder / "run.json", *(p / "run.json" for p in folder.absolute().parents[:2])]
    run = next((p for p in places if p.is_file()), None)
    return None if run is None else dict(read_json(run).get("identity", {}).get("chat_template_kwargs") or {})


def one_dtype(names: Sequence[str], policies: Sequence[Policy], asked: str) -> str:
    """The precision that all models of a comparison are loaded in: as asked, or as their runs were trained.

    InputError: their runs were trained in different ones.
    """
    known = {n: p.dtype for n, p in zip(names, policies, strict=True) if p.dtype != "auto"}
    if asked == "auto" and len(set(known.values())) > 1:
        listed = ", ".join(f"{name} in {dtype}" for name, dtype in known.items())
        raise InputError(
            f"the models were trained in different precisions ({listed}), and differences of rounding would be among "
            "those of the models: say what to load all of them in, --dtype fp32 or --dtype bf16"
        )
    return asked if asked != "auto" else next(iter(known.values()), "auto")


def labels_of(names: Sequence[str]) -> list[str]:
    """What the models are called in a report: the last part of a path that says something, if no two are alike.

    >>> labels_of(["tieout-base", "runs/mine/dpo/adapter"])
    ['tieout-base', 'dpo']
    """
    found = [_label(name) for name in names]
    return found if len(set(found)) == len(found) else list(names)


def _label(name: str) -> str:
    path = Path(name)
    return (path.parent if path.name == "adapter" else path).name if path.exists() or "/" in name else name


def check_trained_on(
    names: Sequence[str], given: Path | None, held: Mapping[str, Sequence[Row]], accept: str
) -> dict[str, Any]:
    """Counts of training rows among those that are evaluated; empty if the candidate's rows are not known.

    The rows of the other models are looked for, too: a run that continued from another one learned from both.

    Args:
        names: of the models; the last one is the candidate.
        given: a file of the rows that it was trained on; None: what its run folder says.
        held: source -> rows.
        accept: a reason to accept some.
    """
    rows = read_rows(given) if given else _trained_on(Path(names[-1]))
    if rows is None:
        return {}
    others = {name: found for name in names[:-1] if (found := _trained_on(Path(name))) is not None}
    return leakage.check_leakage({**others, "train": rows}, held, accept, '--accept-leakage "reason"')


def _trained_on(model: Path) -> Sequence[Row] | None:
    """The training rows of a `tieout train` run or of its adapter, if they are where they were and the same."""
    run = model.parent.parent if (model / "adapter_config.json").exists() else model
    file = run / leakage.FILE
    source = read_json(file).get("trained_on") if file.exists() else None
    if not source:
        return None
    if source["task"]:
        rows: Sequence[Row] = leakage.rows_of(load_task(source["task"], source["options"]), "train")
    elif Path(source["data"]).exists():
        rows = read_rows(source["data"])
    else:
        return None
    if data_hash(rows) != source["sha256"]:
        return None
    asked = {one.partition(":")[0] for one in digests.read(run / digests.FILE).get("train", ())}
    both = zip(rows, digests.digests_of(rows), strict=True)
    return [
        row for row, digest in both if digest.partition(":")[0] in asked
    ] or rows  # converted rows have other ones


def record_rule(out: Path, names: Sequence[str], split: str, primary: str | None) -> None:
    """Put on record how the last model will be judged against the first, before one of them is evaluated."""
    _refuse_recipe(out)
    labels, evidence = labels_of(names), out / "evidence"
    rule = rule_of(GatePolicy(programmatic_slice=split), labels[-1], labels[0], None, primary, ChoicePolicy())
    put_on_record(evidence, rule, opened=stored(evidence / "cases.jsonl").exists())


def write_evidence(
    out: Path,
    cases: Mapping[str, Sequence[Case]],
    task: Task,
    rows: Sequence[Row],
    split: str,
    policies: Sequence[Policy],
    candidate: Model | None,
    leaks: Mapping[str, Any],
    prices: Mapping[str, str] | None = None,
    controls: Task | None = None,
    names: Mapping[str, Any] | None = None,
    samples: Samples | None = None,
    sampled: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a folder that gate, show and ship take; returns the report.

    Args:
        out: the folder; the run folder of the candidate, or another one.
        cases: label -> its cases: first the baseline, last the candidate.
        task: that they were evaluated on.
        rows: of the split, for the prompts that the candidate is checked on.
        split: of the task.
        policies: in the order of the cases.
        candidate: in memory; None: it is behind an API.
        leaks: counts of training rows among the evaluated ones.
        prices: label -> what the model costs.
        controls: that they were evaluated on, too.
        names: of task, reward and controls, to compute scores again with: see `evidence.scoring.keep`.
        samples: label -> samples for pass@k.
        sampled: their settings.
    """
    baseline, *_, last = cases
    hashes = {split: data_hash(rows)}
    precision = name_of(candidate.causal.dtype) if candidate else "not known (API)"
    with RunFolder(out) as folder:
        _refuse_recipe(out)
        shutil.rmtree(out / "candidate", ignore_errors=True)  # of an earlier evaluation
        if not (out / "run.json").exists():
            models = {label: policy.identity for label, policy in zip(cases, policies, strict=True)}
            folder.record({"models": models, "task": task.name}, hashes, precision=precision)
        if names:
            scoring.keep(out / "evidence", task, {split: rows}, controls, names)
        report = write_report(
            out / "evidence",
            cases,
            candidate=last,
            baseline=baseline,
            primary=task.primary,
            policy=GatePolicy(programmatic_slice=split),
            choice=ChoicePolicy(),
            prices=prices,
            samples=samples,
            sampled=sampled,
            metadata={
                "recipe": {"model": policies[0].base, "task": task.name, "stages": _trained_by(out, last)},
                "data": hashes,
                "models": {label: policy.identity for label, policy in zip(cases, policies, strict=True)},
                "leakage": dict(leaks),
                "precision": precision,
                reward_checks.KEY: reward_checks.collect(out),
                "environment": environment(),
            },
        )
        policy = policies[-1]
        prompts = [row["prompt"] for row in rows[:NUM_OBSERVED]]
        kept = candidate and {
            "base": policy.base,
            "trained": str(policy.trained),
            "four_bits": policy.four_bits,
            "behaviour": observe(candidate, candidate.chat, prompts, task.max_new_tokens),
        }
        folder.write_json(EVALUATED, kept if policy.trained else None)
        write_page(out)
        manifest.append(out, "tieout eval", {"code": manifest.code(), "environment": environment()})
    return report


def _refuse_recipe(out: Path) -> None:
    """InputError: the folder has the evidence of a recipe, which another evaluation would replace."""
    known = out / "run.json"
    if known.exists() and "stages" in read_json(known)["identity"]:
        raise InputError(
            f"{out} is the run of a recipe, with evidence of its own; give another folder as --out"
        )


def _trained_by(run: Path, name: str) -> list[dict[str, Any]]:
    """What made the candidate, in the form of a recipe's stage, as far as the run folder says."""
    identity = read_json(run / "run.json")["identity"]
    method = identity.get("method")
    if not isinstance(method, dict):
        return []
    settings = {key: value for key, value in method.items() if key != "name"}
    return [{"train": method.get("name", name).lower(), "name": name, **settings}]


def package(folder: Path, merged: bool | None, console: Console) -> None:
    """Make the candidate of an evaluated folder, unless one is there. ShippingError: it is not what was evaluated."""
    kept = read_json(folder / EVALUATED) if (folder / EVALUATED).exists() else None
    if kept is None or any((folder / part).exists() for part in ("candidate", "shipped")):
        return
    console.print("candidate loaded again from disk and compared with the policy")
    prepare(
        Path(kept["trained"]),
        kept["base"],
        folder / "candidate",
        policy=from_plain(Behaviour, kept["behaviour"], str(folder / EVALUATED)),
        report=read_json(folder / "evidence" / "report.json"),
        four_bits=kept["four_bits"],
        merged=merged,
    )
