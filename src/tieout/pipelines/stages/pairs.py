"""Stage `pairs`: preference pairs from the policy's own completions, from flawed ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ...config.plain import to_plain
from ...errors import InputError
from ...groups import best_and_worst
from ...rewards.scoring.runner import score
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...storage.jsonl import write_jsonl
from ...training.progress import bar
from ...types import Group, Row
from ..kinds import Pairs
from ..run import Run
from ..training_rows import PAIRS


def pairs(run: Run, stage: Pairs) -> None:
    """Make the rows with prompt, chosen and rejected, kept in pairs.jsonl."""
    part, inputs = run.folder.stage(stage.name), inputs_of(run, stage)
    if part.is_done(inputs):
        run.console.print(f"[bold]{stage.name}[/]  done before ({part.info().get('pairs')} pairs)")
        return
    run.console.print(f"[bold]{stage.name}[/]")
    part.begin(inputs)
    rows: list[Row] = []
    if "file" in stage.sources:
        rows += run.task.rows("pairs")
    if "flawed" in stage.sources:
        rows += flawed_pairs(run, stage)
    if "sampled" in stage.sources:
        rows += sampled_pairs(run, stage)
    if not rows:
        raise InputError(
            f"stage {stage.name!r} made no pairs: every prompt's completions scored alike; sample more "
            "(num_completions), at a higher temperature, or train the policy before it less"
        )
    write_jsonl(part.path / PAIRS, rows)
    part.finish(inputs, pairs=len(rows))


def inputs_of(run: Run, stage: Pairs) -> dict[str, Any]:
    """What the pairs depend on, once the policy that is sampled is there."""
    return {
        "stage": {key: value for key, value in to_plain(stage).items() if key not in ("name", "start")},
        "model": run.policy(stage.start).identity if "sampled" in stage.sources else None,
        "data": {split: run.hashes[split] for split in ("train", "pairs")},
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
    }


def sampled_pairs(run: Run, stage: Pairs, chunk: int = 64) -> list[Row]:
    """Best and worst by reward of several completions per prompt; prompts whose completions tie are dropped."""
    sampler = LocalSampler(run.open(run.policy(stage.start)))
    source = Source(run.task, sampler.chat, sampler, seed=run.recipe.seed, workers=run.workers)
    rows = source.take(min(stage.max_prompts or len(source.rows), len(source.rows)))
    rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
    groups: list[Group] = []
    with bar(run.console, "sampling", len(rows)) as shown:
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            seed = run.recipe.seed * 1_000_003 + start
            params = SamplingParams(run.task.max_new_tokens, stage.temperature, seed=seed)
            groups += source.rollout(part, stage.num_completions, params)
            mean = fmean([s for group in groups for s in group.scores or []] or [0.0])
            shown.advance(len(part), {"score": mean})
    found = [pair for group in groups if (pair := _best_and_worst(group, stage.min_gap))]
    run.console.print(
        f"  {len(found)} pairs; {len(rows) - len(found)} prompts dropped (ties); mean score of samples {mean:.3f}"
    )
    return found


def _best_and_worst(group: Group, min_gap: float) -> Row | None:
    """The pair of a group; None where its scores lie within `min_gap`."""
    pair = best_and_worst(group)
    assert pair.scores is not None
    if pair.scores[0] - pair.scores[1] <= min_gap:
        return None
    chosen, rejected = (completion.text for completion in pair.completions)
    return _pair(group.row, chosen, rejected, pair.scores, "sampled")


def flawed_pairs(run: Run, stage: Pairs) -> list[Row]:
    """The gold completion against a flawed one of the same row."""
    task = run.task
    assert task.corrupt is not None
    assert task.gold is not None
    assert task.reward is not None
    rng = random.Random(f"{run.recipe.seed}/flawed")
    rows = list(task.rows("train"))[: stage.max_prompts or None]
    made = []
    for row in rows:
        chosen, rejected = task.gold(row), task.corrupt(row, rng)
        said = score(task.reward, [chosen, rejected], [row["prompt"]] * 2, row, run.workers)
        good, bad = (outcome.worth for outcome in said)
        if good is None or bad is None or good <= bad:
            raise InputError(
                f"task {task.name!r}: a flawed completion scores {bad}, its gold {good}: {rejected!r}"
            )
        made.append(_pair(row, chosen, rejected, (good, bad), "flawed"))
    return made


def _pair(row: Row, chosen: str, rejected: str, scores: Sequence[float], source: str) -> Row:
    return {
        "prompt": row["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "source": source,
    }
