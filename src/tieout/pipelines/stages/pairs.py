"""Stage `pairs`: preference pairs from one or several sources, and their quality before anything learns from them."""

from __future__ import annotations

import time
from typing import Any

from ...config.plain import to_plain
from ...rows.pairs import weighted
from ...storage.jsonl import write_jsonl
from ...vetting.preferences.report import report
from ..kinds import Pairs
from ..links import BASE
from ..pairing.judged import judged
from ..pairing.making import Making
from ..pairing.people import keep_labels, ranked
from ..pairing.sampling import Ground
from ..pairing.summary import SUMMARY, print_summary
from ..run import Run
from ..training_rows import PAIRS


def pairs(run: Run, stage: Pairs) -> None:
    """Make the rows with prompt, chosen and rejected, kept in pairs.jsonl; pairs.json says what decides them.

    quality.json has their quality. StopTraining: they wait for people. InputError: they are too few, or not right.
    """
    part, inputs = run.folder.stage(stage.name), inputs_of(run, stage)
    if part.is_done(inputs):
        run.console.print(f"[bold]{stage.name}[/]  done before ({part.info().get('pairs')} pairs)")
        return
    run.console.print(f"[bold]{stage.name}[/]")
    keep_labels(part, inputs)
    part.begin(inputs)
    begun = time.monotonic()
    ground = Ground(
        run.task,
        run.recipe.seed,
        run.console,
        run.sampler,
        lambda: run.workers,
    )
    making = Making(ground, stage)
    if "ranked" in stage.sources:  # first: it may have to wait for people
        ranked(making, part, stage.start)
    if "file" in stage.sources:
        making.from_file()
    if "flawed" in stage.sources:
        making.flawed()
    if "sampled" in stage.sources:
        making.sampled(stage.start)
    if "judged" in stage.sources:
        judged(making, stage.start)
    if "base" in stage.sources:
        making.base(BASE)
    made = making.made
    made.limit_form(stage.max_form)
    made.check_enough(stage.min_pairs, making.reported, f"stage {stage.name!r}")
    summary = made.summary(making.reported)
    print_summary(summary, run.console)
    rows = [pair.row for pair in made.pairs]
    write_jsonl(part.path / PAIRS, weighted(rows) if stage.pairs_per_prompt > 1 else rows)
    run.folder.write_json(f"{stage.name}/{SUMMARY}", summary)
    of_program = set(stage.sources) <= {"sampled", "flawed", "base"}
    one_scale = of_program or len(set(stage.sources)) == 1
    report(
        run.folder,
        stage.name,
        rows,
        run.held_rows(),
        run.console,
        **leakage_of(run),
        scale=making.measures.bounds if of_program else None,
        one_scale=one_scale,
        good=[pair.good for pair in made.pairs],
        standard=making.good.words,
        judged=made.judged if "ranked" in stage.sources else None,
    )
    part.finish(inputs, pairs=len(made.pairs), seconds=time.monotonic() - begun)


def leakage_of(run: Run) -> dict[str, Any]:
    """How a run accepts rows that it measures on among pairs, and the seed of its intervals."""
    option = '`accept_leakage: "reason"` in the recipe'
    return {"accept_leakage": run.recipe.accept_leakage, "option": option, "seed": run.recipe.seed}


def inputs_of(run: Run, stage: Pairs) -> dict[str, Any]:
    """What the pairs depend on, once the policy that is sampled is there."""
    sampled = {"sampled": stage.start, "judged": stage.start, "ranked": stage.start, "base": BASE}
    models = {
        source: run.policy(name).identity for source, name in sampled.items() if source in stage.sources
    }
    return {
        "stage": {key: value for key, value in to_plain(stage).items() if key not in ("name", "start")},
        "models": models,
        "data": {split: run.hashes[split] for split in ("train", "pairs")},
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
    }
