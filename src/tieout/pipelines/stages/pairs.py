"""Pairs for preference training, from the policy's own completions, from flawed ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ...errors import InputError
from ...groups import best_and_worst
from ...rewards.scoring.runner import score
from ...rows import read_rows
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...storage.atomic import fingerprint
from ...storage.jsonl import write_jsonl
from ...training.build import open_model
from ...training.progress import bar
from ...training.spec import adapter_digest
from ...types import Group, Row
from ..run import Run


def preferences(run: Run, adapter: Path) -> list[Row]:
    """Stage `preferences`: rows with prompt, chosen and rejected, kept in pairs.jsonl."""
    recipe = run.recipe.preferences
    stage = run.folder.stage("preferences")
    inputs = fingerprint(
        {
            "recipe": recipe,
            "adapter": adapter_digest(adapter),
            "data": run.hashes,
            "seed": run.recipe.seed,
            "max_new_tokens": run.task.max_new_tokens,
        }
    )
    path = stage.path / "pairs.jsonl"
    if stage.is_done(inputs):
        run.console.print(f"[bold]preferences[/]  done before ({stage.info().get('pairs')} pairs)")
        return list(read_rows(path))
    run.console.print("[bold]preferences[/]")
    stage.begin(inputs)
    rows: list[Row] = []
    if "file" in recipe.sources:
        rows += run.pairs
    if "flawed" in recipe.sources:
        rows += flawed_pairs(run)
    if "sampled" in recipe.sources:
        rows += sampled_pairs(run, adapter)
    if not rows:
        raise InputError(
            "no preference pairs: every prompt's completions scored alike; sample more (num_completions), "
            "at a higher temperature, or train SFT less"
        )
    write_jsonl(path, rows)
    stage.finish(inputs, pairs=len(rows))
    return list(read_rows(path))


def sampled_pairs(run: Run, adapter: Path, chunk: int = 64) -> list[Row]:
    """Best and worst by reward of several completions per prompt; prompts whose completions tie are dropped."""
    recipe = run.recipe.preferences
    model = open_model(run.recipe.model, adapter, device=run.recipe.device)
    sampler = LocalSampler(model)
    source = Source(run.task, sampler.chat, sampler, seed=run.recipe.seed, workers=run.workers)
    rows = source.take(min(recipe.max_prompts or len(source.rows), len(source.rows)))
    rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
    groups: list[Group] = []
    with bar(run.console, "sampling", len(rows)) as shown:
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            seed = run.recipe.seed * 1_000_003 + start
            params = SamplingParams(run.task.max_new_tokens, recipe.temperature, seed=seed)
            groups += source.rollout(part, recipe.num_completions, params)
            mean = fmean([s for group in groups for s in group.scores or []] or [0.0])
            shown.advance(len(part), {"score": mean})
    pairs = [pair for group in groups if (pair := _best_and_worst(group, recipe.min_gap))]
    run.console.print(
        f"  {len(pairs)} pairs; {len(rows) - len(pairs)} prompts dropped (ties); mean score of samples {mean:.3f}"
    )
    return pairs


def _best_and_worst(group: Group, min_gap: float) -> Row | None:
    """The pair of a group; None where its scores lie within `min_gap`."""
    pair = best_and_worst(group)
    assert pair.scores is not None
    if pair.scores[0] - pair.scores[1] <= min_gap:
        return None
    chosen, rejected = (completion.text for completion in pair.completions)
    return _pair(group.row, chosen, rejected, pair.scores, "sampled")


def flawed_pairs(run: Run) -> list[Row]:
    """The gold completion against a flawed one of the same row."""
    task = run.task
    assert task.corrupt is not None
    assert task.gold is not None
    assert task.reward is not None
    rng = random.Random(f"{run.recipe.seed}/flawed")
    rows = list(task.rows("train"))[: run.recipe.preferences.max_prompts or None]
    pairs = []
    for row in rows:
        chosen, rejected = task.gold(row), task.corrupt(row, rng)
        said = score(task.reward, [chosen, rejected], [row["prompt"]] * 2, row, run.workers)
        good, bad = (outcome.worth for outcome in said)
        if good is None or bad is None or good <= bad:
            raise InputError(
                f"task {task.name!r}: a flawed completion scores {bad}, its gold {good}: {rejected!r}"
            )
        pairs.append(_pair(row, chosen, rejected, (good, bad), "flawed"))
    return pairs


def _pair(row: Row, chosen: str, rejected: str, scores: Sequence[float], source: str) -> Row:
    return {
        "prompt": row["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "source": source,
    }
