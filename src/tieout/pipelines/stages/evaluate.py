"""The ending that all pipelines share: evaluate -> gate -> ship."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...config.fields import from_plain, to_plain
from ...evidence.evaluate import CONTROLS, PROGRAMMATIC, Case, evaluate, read_cases, write_cases
from ...evidence.report import write_report
from ...samplers.local.sampler import LocalSampler
from ...shipping.candidate import prepare
from ...shipping.reload_check import Behaviour
from ...storage.atomic import fingerprint
from ...storage.jsonl import read_json
from ...storage.runfolder import environment
from ...training.build import open_model
from ...training.fit import BEHAVIOUR
from ...training.progress import Bar, bars
from ...training.spec import adapter_digest
from ..run import Run
from ..show import refresh, ship_run, show


def conclude(run: Run, models: Mapping[str, Path | None], candidate: str, baseline: str) -> str:
    """Evaluate all models on the same cases, judge the candidate, and ship it if the gate says so.

    Args:
        run: the run.
        models: name -> adapter (None: the base). The first is what the negative controls are held against.
        candidate: the model that may ship.
        baseline: the model it must beat.

    Returns:
        The verdict: ship, hold or reject.
    """
    cases = evaluated(run, models)
    base = next(iter(models))
    human = run.recipe.data.human
    names = list(models)
    report = write_report(
        run.folder.path / "evidence",
        cases,
        candidate=candidate,
        baseline=baseline,
        base=base,
        comparisons=[(b, a) for i, a in enumerate(names) for b in names[i + 1 :]],
        grades=Path(human) if human else None,
        num_graded=run.recipe.evaluate.num_graded,
        policy=run.recipe.gate,
        seed=run.recipe.seed,
        metadata={
            "recipe": to_plain(run.recipe),
            "data": run.hashes,
            "adapters": {name: adapter_digest(path) for name, path in models.items()},
            "environment": environment(),
        },
    )
    verdict: str = report["verdict"]["verdict"]
    adapter = models[candidate]
    assert adapter is not None
    _candidate(run, adapter, report)
    if verdict == "ship":
        ship_run(run.folder.path, None, run.console)
    refresh(run.folder.path)
    show(run.folder.path, run.console)
    return verdict


def evaluated(run: Run, models: Mapping[str, Path | None]) -> dict[str, list[Case]]:
    """Stage `evaluate`: every model's cases, one file a model, so that an interrupted evaluation goes on."""
    stage = run.folder.stage("evaluate")
    run.console.print("[bold]evaluate[/]")
    found: dict[str, list[Case]] = {}
    with bars(run.console) as add:
        for name, adapter in models.items():
            inputs = fingerprint(
                {
                    "adapter": adapter_digest(adapter),
                    "model": run.recipe.model,
                    "data": run.hashes,
                    "evaluate": run.recipe.evaluate,
                    "max_new_tokens": run.task.max_new_tokens,
                }
            )
            path, marker = stage.path / f"{name}.jsonl", stage.path / f"{name}.json"
            if marker.exists() and read_json(marker) == {"inputs": inputs}:
                found[name] = read_cases(path)[name]
                run.console.print(f"  {name} done before ({len(found[name])} cases)")
                continue
            found[name] = _cases(run, name, adapter, add)
            write_cases(path, {name: found[name]})
            run.folder.write_json(str(marker.relative_to(run.folder.path)), {"inputs": inputs})
    return found


def _cases(run: Run, name: str, adapter: Path | None, add: Callable[[str, int], Bar]) -> list[Case]:
    model = open_model(run.recipe.model, adapter, device=run.recipe.device)
    task, limits = run.task, run.recipe.evaluate
    splits = {"test": limits.max_test, "ood": limits.max_ood}
    rows = {split: list(task.rows(split))[: limit or None] for split, limit in splits.items()}
    controls = list(run.controls.rows("test")) if run.controls else []
    cases: list[Case] = []
    shown = add(name, sum(map(len, rows.values())) + len(controls))
    # An episode takes several completions for a row.
    sampler = LocalSampler(model, progress=None if task.environment else shown.advance)
    for split, given in rows.items():
        if given:
            cases += evaluate(
                task,
                given,
                sampler,
                track=PROGRAMMATIC,
                slice=split,
                workers=run.workers,
                batch_size=len(given),
            )
            shown.at(len(cases))
    if run.controls and controls:
        cases += evaluate(
            run.controls,
            controls,
            sampler,
            track=CONTROLS,
            slice=lambda row: str(row.get("skill", "controls")),
            workers=run.workers,
            batch_size=len(controls),
        )
        shown.at(len(cases))
    return cases


def _candidate(run: Run, adapter: Path, report: Mapping[str, Any]) -> None:
    """Stage `candidate`: adapter, merged model and card, loaded again and checked against the policy."""
    stage = run.folder.stage("candidate-check")
    inputs = fingerprint({"adapter": adapter_digest(adapter), "report": report["models"]})
    if stage.is_done(inputs) and any((run.folder.path / name).exists() for name in ("candidate", "shipped")):
        return
    stage.begin(inputs)
    run.console.print("[bold]candidate[/]  loaded again from disk and held against the policy")
    seen = from_plain(Behaviour, read_json(adapter.parent / BEHAVIOUR), str(adapter.parent / BEHAVIOUR))
    prepare(
        adapter,
        run.recipe.model,
        run.folder.path / "candidate",
        policy=seen,
        report=report,
        device=run.recipe.device,
    )
    stage.finish(inputs)
