"""Stage `gate`: the report over all evaluated models, and the verdict on the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...evidence import reward_checks, scoring
from ...evidence.report import prices_at, write_report
from ...review.document import write_page
from ...storage.jsonl import read_json
from ...storage.machine import environment
from ...vetting.preferences.quality import FILE as QUALITY
from ..kinds import Evaluate, Gate, Pairs
from ..links import BASE
from ..made import made_of
from ..pairing.summary import SUMMARY
from ..remote import prices_of
from ..run import Run
from .challengers import identity_of, policy_of
from .consistency import again_of
from .evaluate import evaluated_before, read_evaluated


def gate(run: Run, stage: Gate) -> str:
    """Write `evidence/`; returns the verdict: ship, hold or reject."""
    evaluation = evaluated_before(run, stage)
    keep_scoring(run, evaluation)
    names, human = list(evaluation.evaluated), run.recipe.data.human
    report = write_report(
        run.folder.path / "evidence",
        read_evaluated(run, evaluation),
        candidate=stage.candidate,
        baseline=stage.baseline,
        base=BASE if BASE in names else stage.baseline,
        primary=run.task.primary,
        comparisons=[
            *((b, a) for i, a in enumerate(evaluation.models) for b in evaluation.models[i + 1 :]),
            *((stage.candidate, name) for name in evaluation.challenged),
        ],
        grades=Path(human) if human else None,
        num_graded=stage.num_graded,
        rubric=stage.rubric,
        policy=stage.policy,
        choice=stage.choice,
        prices={
            **prices_of(run.recipe, {name: policy_of(run, evaluation, name).base for name in names}),
            **prices_at(run.folder.path / "evidence"),
        },
        seed=run.recipe.seed,
        again=again_of(run, evaluation),
        metadata={
            "recipe": run.recipe.plain(),
            "data": run.hashes,
            "models": {name: identity_of(run, evaluation, name) for name in names},
            "made": {name: made_of(run, evaluation, name) for name in names},
            "pairs": _decided_by(run),
            "pair_quality": {
                path.parent.name: read_json(path) for path in sorted(run.folder.path.glob(f"*/{QUALITY}"))
            },
            "leakage": run.leakage,
            reward_checks.KEY: reward_checks.collect(run.folder.path),
            "environment": environment(),
        },
    )
    write_page(run.folder.path)
    verdict: str = report["verdict"]["verdict"]
    run.console.print(
        f"[bold]{stage.name}[/]  {stage.candidate} against {stage.baseline}: {verdict}", highlight=False
    )
    return verdict


def keep_scoring(run: Run, stage: Evaluate) -> None:
    """Keep what the scores were computed from: see `evidence.scoring`."""
    recipe = run.recipe
    names = {
        "task": recipe.task,
        "task_options": recipe.task_options,
        "reward": recipe.reward,
        "controls": "file" if recipe.data.controls else recipe.controls,
        **({"selector": stage.selector} if _selects(run, stage) else {}),
        "max_new_tokens": run.task.max_new_tokens,
    }
    scoring.keep(
        run.folder.path / "evidence", run.task, run.asked(stage), run.controls, names, run.again(stage)
    )


def _selects(run: Run, stage: Evaluate) -> bool:
    """Whether a program chooses among samples, which can be asked again."""
    chosen = any(one.best_of_n for one in stage.challenged.values())
    return chosen and stage.selector not in {one.name for one in run.recipe.stages}


def _decided_by(run: Run) -> dict[str, Any]:
    """Pairs stage -> what decides its pairs."""
    stages = [stage.name for stage in run.recipe.stages if isinstance(stage, Pairs)]
    files = {name: run.folder.path / name / SUMMARY for name in stages}
    return {name: read_json(file) for name, file in files.items() if file.exists()}
