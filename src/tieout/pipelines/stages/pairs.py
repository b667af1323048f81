"""Stage `pairs`: preference pairs from the policy's own completions, from flawed ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ...config.plain import to_plain
from ...rewards.scoring.runner import Call, score_groups
from ...rows.pairs import PairSelection, preferences, scores_of, weighted
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...storage.jsonl import write_jsonl
from ...training.progress import bar
from ...types import Group, Row
from ..kinds import Pairs
from ..pairing.choose import Standard, choose
from ..pairing.measures import Measures, Scored
from ..pairing.summary import SUMMARY, Made, Pair, print_summary
from ..run import Run
from ..training_rows import PAIRS

FROM_FILE = "data.pairs: the file says which is better"
FEW_SCORED = "fewer than two completions were scored"
CHUNK = 64
"""Prompts that are sampled and scored at a time."""


def pairs(run: Run, stage: Pairs) -> None:
    """Make the rows with prompt, chosen and rejected, kept in pairs.jsonl; pairs.json says what decides them."""
    part, inputs = run.folder.stage(stage.name), inputs_of(run, stage)
    if part.is_done(inputs):
        run.console.print(f"[bold]{stage.name}[/]  done before ({part.info().get('pairs')} pairs)")
        return
    run.console.print(f"[bold]{stage.name}[/]")
    part.begin(inputs)
    making = Making(run, stage)
    if "file" in stage.sources:
        making.from_file()
    if "flawed" in stage.sources:
        making.flawed()
    if "sampled" in stage.sources:
        making.sampled()
    made = making.made
    made.limit_form(stage.max_form)
    made.check_enough(stage.min_pairs, making.standard, stage.name)
    summary = made.summary(making.standard)
    print_summary(summary, run.console)
    rows = [pair.row for pair in made.pairs]
    write_jsonl(part.path / PAIRS, weighted(rows) if stage.pairs_per_prompt > 1 else rows)
    run.folder.write_json(f"{stage.name}/{SUMMARY}", summary)
    part.finish(inputs, pairs=len(made.pairs))


def inputs_of(run: Run, stage: Pairs) -> dict[str, Any]:
    """What the pairs depend on, once the policy that is sampled is there."""
    return {
        "stage": {key: value for key, value in to_plain(stage).items() if key not in ("name", "start")},
        "model": run.policy(stage.start).identity if "sampled" in stage.sources else None,
        "data": {split: run.hashes[split] for split in ("train", "pairs")},
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
    }


class Making:
    """The pairs of one stage, source by source."""

    def __init__(self, run: Run, stage: Pairs) -> None:
        self.run, self.stage, self.made = run, stage, Made()
        self.measures = Measures.of(run.task)
        self.standard = Standard.of(run.task, stage.min_chosen, stage.min_gap)

    def sampled(self) -> None:
        """Pairs of several completions per prompt of the policy."""
        run, stage = self.run, self.stage
        sampler = LocalSampler(run.open(run.policy(stage.start)))
        source = Source(run.task, sampler.chat, sampler, seed=run.recipe.seed, workers=run.workers)
        rows = source.take(min(stage.max_prompts or len(source.rows), len(source.rows)))
        rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
        total, count = 0.0, 0
        with bar(run.console, "sampling", len(rows)) as shown:
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                seed = run.recipe.seed * 1_000_003 + start
                params = SamplingParams(run.task.max_new_tokens, stage.temperature, seed=seed)
                groups = source.rollout(part, stage.num_completions, params)
                self._choose([_scored(group) for group in groups], "sampled")
                self.made.dropped[FEW_SCORED] += len(part) - len(groups)
                total += sum(s for group in groups for s in group.scores or [])
                count += sum(len(group.completions) for group in groups)
                shown.advance(len(part), {"score": total / max(1, count)})
        run.console.print(f"  mean score of samples {total / max(1, count):.3f}", highlight=False)

    def flawed(self) -> None:
        """Pairs of the gold completion and a flawed one of the same row."""
        task, rng = self.run.task, random.Random(f"{self.run.recipe.seed}/flawed")
        assert task.corrupt is not None
        assert task.gold is not None
        rows = list(task.rows("train"))[: self.stage.max_prompts or None]
        given = [[task.gold(row), task.corrupt(row, rng)] for row in rows]
        self._choose(self._score(rows, given), "flawed", chosen=1)

    def from_file(self) -> None:
        """Pairs that people or another model made; those with scores must meet min_chosen and min_gap, where given."""
        selection = PairSelection(self.stage.min_chosen, self.stage.min_gap or 0.0)
        found = preferences(self.run.task.rows("pairs"), "data.pairs", selection)
        self.made.dropped.update(found.left_out)
        self.made.prompts += len({repr(row["prompt"]) for row in found})
        for row in found:
            scores = scores_of(row)
            gap = None if scores is None else scores[0] - scores[1]
            self.made.pairs.append(Pair({**row, "source": "file"}, FROM_FILE, None, gap))

    def _score(self, rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> list[Scored]:
        """Completions that were not sampled now, scored; a row of which one has no score is left out and counted."""
        reward = self.run.task.reward
        assert reward is not None
        calls = [Call.of_texts(t, [row["prompt"]] * len(t), row) for row, t in zip(rows, texts, strict=True)]
        found = []
        for call, outcomes in zip(calls, score_groups(reward, calls, self.run.workers), strict=True):
            scores = [outcome.worth for outcome in outcomes]
            known = [score for score in scores if score is not None]
            if len(known) < len(scores):
                self.made.dropped["a completion has no score"] += 1
                continue
            parts = [{k: v for k, v in outcome.parts.items() if v is not None} for outcome in outcomes]
            found.append(Scored(call.row, call.texts, known, parts))
        return found

    def _choose(self, groups: Sequence[Scored], source: str, chosen: int | None = None) -> None:
        """Add the pairs of these groups; `chosen`: only the first so many completions may be chosen."""
        made, stage = self.made, self.stage
        measured = self.measures.candidates(self.run.task, groups, self.run.workers)
        for group, candidates in zip(groups, measured, strict=True):
            better = None if chosen is None else range(chosen)
            found, reason = choose(candidates, self.standard, self.measures, stage.pairs_per_prompt, better)
            made.prompts += 1
            made.best.append(max(group.scores))
            if reason:
                made.dropped[reason] += 1
            made.pairs += [Pair.of(group.row, candidates, choice, source) for choice in found]


def _scored(group: Group) -> Scored:
    """A sampled group; what each part of a combined reward gave is in its columns."""
    assert group.scores is not None
    given = {k.removeprefix("reward/"): v for k, v in group.columns.items() if k.startswith("reward/")}
    parts = [
        {name: values[i] for name, values in given.items() if values[i] is not None}
        for i in range(len(group.completions))
    ]
    return Scored(group.row, [c.text for c in group.completions], group.scores, parts)
