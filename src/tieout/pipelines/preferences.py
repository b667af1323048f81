"""Pairs for preference training, from the policy's own completions, from flawed ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from ..atomic import fingerprint
from ..groups import best_and_worst
from ..rewards.runner import score
from ..rows import read_rows, write_jsonl
from ..samplers import SamplingParams
from ..samplers.local import LocalSampler
from ..source import Source
from ..types import Group, Row
from .fit import adapter_digest, open_model
from .progress import bar
from .run import Run
from .side_by_side import Check, num_jobs, side_by_side


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
        raise ValueError(
            "no preference pairs: every prompt's completions scored alike; sample more (num_completions), "
            "at a higher temperature, or train SFT less"
        )
    write_jsonl(path, rows)
    stage.finish(inputs, pairs=len(rows))
    return list(read_rows(path))


def sampled_pairs(run: Run, adapter: Path, chunk: int = 24) -> list[Row]:
    """Best and worst by reward of several completions per prompt; prompts whose completions tie are dropped."""
    recipe = run.recipe.preferences
    count = num_jobs(run.recipe.device)

    def a_source() -> Source:
        model = open_model(run.recipe.model, adapter, device=run.recipe.device)
        sampler = LocalSampler(model, batch_size=chunk * recipe.num_completions // count)
        return Source(run.task, sampler.chat, sampler, seed=run.recipe.seed, workers=run.workers)

    sources = [
        a_source() for _ in range(count)
    ]  # each with weights of its own: sampling folds the adapter in
    rows = sources[0].take(min(recipe.max_prompts or len(sources[0].rows), len(sources[0].rows)))
    rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
    sampled: dict[int, list[Group]] = {}
    starts = range(0, len(rows), chunk)
    with bar(run.console, "sampling", len(rows)) as shown:

        def job(check: Check, own: int = 0) -> None:
            for start in starts[own::count]:
                check()
                part = rows[start : start + chunk]
                # What is drawn follows from the place of the chunk, whoever draws it.
                seed = run.recipe.seed * 1_000_003 + start
                params = SamplingParams(run.task.max_new_tokens, recipe.temperature, seed=seed)
                sampled[start] = sources[own].rollout(part, recipe.num_completions, params)
                scores = [s for groups in list(sampled.values()) for g in groups for s in g.scores or []]
                shown.advance(len(part), {"score": fmean(scores or [0.0])})

        side_by_side([partial(job, own=i) for i in range(count)], count)
    groups = [group for start in starts for group in sampled[start]]
    pairs = [pair for group in groups if (pair := _best_and_worst(group, recipe.min_gap))]
    mean = fmean([s for group in groups for s in group.scores or []] or [0.0])
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
        said = score(task.reward, [chosen, rejected], [task.prompt(row)] * 2, row, run.workers)
        good, bad = (outcome.score for outcome in said)
        if good is None or bad is None or good <= bad:
            raise ValueError(
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
