"""Another policy of a finished run in place of its candidate: judged by the stored cases, and packaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config.fields import from_plain, nearest
from ..errors import InputError
from ..evidence.report import evidence_of, regate
from ..learner.models.names import resolve
from ..shipping.candidate import prepare
from ..shipping.reload_check import Behaviour
from ..storage.jsonl import read_json
from ..training.fit import BEHAVIOUR


def judge_instead(run: Path, name: str, merged: bool | None, console: Console) -> dict[str, Any]:
    """Make a policy that the run trained its candidate, against the one that it started from; returns the report.

    The gate's rule is on record with the candidate that it was written for: reports say that it was changed after the
    models had been evaluated. InputError: the run did not train and evaluate such a policy, or has shipped.
    """
    report = read_json(evidence_of(run) / "report.json")
    if name == report["settings"]["candidate"]:
        return report
    trained = [one for one in report["models"] if (run / one / BEHAVIOUR).exists()]
    if name not in trained:
        hint = nearest(name, trained) or ";"
        raise InputError(
            f"{run} evaluated no policy {name!r} that it trained{hint} there are: {', '.join(trained)}"
        )
    if (run / "shipped").exists():
        raise InputError(f"{run}/shipped is there already: {report['settings']['candidate']} was shipped")
    baseline = started_from(report, name)
    report = regate(evidence_of(run), compared=(name, baseline))
    console.print(f"judged: {name} against {baseline}; candidate loaded again from disk", highlight=False)
    adapter, metadata = run / name / "adapter", report["metadata"]
    whole = not (adapter / "adapter_config.json").exists()
    base = metadata["recipe"]["model"] if whole else resolve(str(adapter))[0]
    prepare(
        adapter,
        base,
        run / "candidate",
        policy=from_plain(Behaviour, read_json(run / name / BEHAVIOUR), str(run / name / BEHAVIOUR)),
        report=report,
        four_bits=metadata["models"][name]["four_bits"],
        merged=merged,
    )
    return report


def started_from(report: Mapping[str, Any], name: str) -> str:
    """The evaluated model that a policy of a recipe started from; else the base."""
    stages = report["metadata"].get("recipe", {}).get("stages", ())
    start = next((str(stage.get("from")) for stage in stages if stage.get("name") == name), "")
    return start if start in report["models"] else str(report["settings"]["base"])
