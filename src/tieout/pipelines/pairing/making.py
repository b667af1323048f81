"""Make pairs source by source: of sampled completions, of gold against flawed or base ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...chat.template import Chat
from ...config.attribute import load_attribute
from ...rewards.scoring.runner import Call, score_groups
from ...rows.pairs import PairSelection, Preferences, scores_of, selected
from ...rows.spread import spread
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...tasks import Task
from ...tasks.flaws import flawed
from ...training.progress import bar
from ...types import Group, Row
from ..kinds import Pairs
from ..run import Run
from .choose import NEAR, TIED, Choice, Standard, choose
from .measures import Candidate, Measures, Scored
from .summary import Made, Pair

FROM_FILE = "data.pairs: the file says which is better"
NO_FLAW = "no rule flaws the gold completion"
NOT_LOWER = "no flawed completion scores lower than gold by min_gap"
FEW_SCORED = "fewer than two completions were scored"
CHUNK = 64
"""Prompts that are sampled and scored at a time."""


class Making:
    """The pairs of one stage so far, and what all of its sources share."""

    def __init__(self, run: Run, stage: Pairs) -> None:
        self.run, self.stage, self.made = run, stage, Made()
        self.measures = Measures.of(run.task)
        self.standard = Standard.of(run.task, stage.min_chosen, stage.min_gap)
        self.good = Standard.of(run.task, None, None)
        """What the task calls good, whatever bounds the stage was given."""

    def batches(self, policy: str) -> Iterator[tuple[list[Scored], Chat]]:
        """Groups of sampled and scored completions, some prompts at a time."""
        run, stage = self.run, self.stage
        sampler = LocalSampler(run.open(run.policy(policy)), drafts=run.recipe.placement.drafts)
        given = Source(run.task, sampler.chat, sampler, seed=run.recipe.seed, workers=run.workers)
        rows = given.take(min(stage.max_prompts or len(given.rows), len(given.rows)))
        rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
        total, count = 0.0, 0
        with bar(run.console, "sampling", len(rows)) as shown:
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                seed = run.recipe.seed * 1_000_003 + start
                params = SamplingParams(run.task.max_new_tokens, stage.temperature, seed=seed)
                groups = given.rollout(part, stage.num_completions, params)
                yield [_scored(group) for group in groups], sampler.chat
                self.made.dropped[FEW_SCORED] += len(part) - len(groups)
                total += sum(s for group in groups for s in group.scores or [])
                count += sum(len(group.completions) for group in groups)
                shown.advance(len(part), {"score": total / max(1, count)})
        run.console.print(f"  mean score of samples {total / max(1, count):.3f}", highlight=False)

    def sampled(self, policy: str) -> None:
        """Pairs of several completions per prompt."""
        for groups, chat in self.batches(policy):
            for group, candidates in zip(groups, self.candidates(groups), strict=True):
                found, reason = choose(candidates, self.standard, self.measures, self.stage.pairs_per_prompt)
                pairs = [self.pair(group.row, candidates, c, "sampled") for c in found]
                self.record(group, as_sampled(pairs, group, chat), reason)

    def base(self, policy: str) -> None:
        """Pairs in which a completion of the base loses to the gold completion."""
        for sampled, chat in self.batches(policy):
            groups = self._behind_gold(sampled)
            for group, candidates in zip(groups, self.candidates(groups), strict=True):
                most = self.stage.pairs_per_prompt
                found, reason = choose(candidates, self.standard, self.measures, most, better=(0,))
                pairs = [self.pair(group.row, candidates, c, "base") for c in found]
                self.record(group, as_sampled(pairs, group, chat, ("rejected",)), reason)

    def flawed(self) -> None:
        """Pairs of gold and flawed copies that score lower; further copies are tried where one does not."""
        run, stage, rng = self.run, self.stage, random.Random(f"{self.run.recipe.seed}/flawed")
        corrupt, gold = (
            flaws_of(run.task, stage),
            self._gold(spread(run.task.rows("train"), stage.max_prompts)),
        )
        found: list[list[Pair]] = [[] for _ in gold]
        reasons = [NO_FLAW] * len(gold)
        for _ in range(stage.num_completions):
            left = [i for i, pairs in enumerate(found) if len(pairs) < stage.pairs_per_prompt]
            tried = {id(gold[i].row): (i, corrupt(gold[i].row, rng)) for i in left}
            tried = {k: (i, t) for k, (i, t) in tried.items() if t.strip() not in _texts(gold[i], found[i])}
            copies = self.score([gold[i].row for i, _ in tried.values()], [[t] for _, t in tried.values()])
            groups = [_together(gold[tried[id(copy.row)][0]], copy) for copy in copies]
            for group, candidates in zip(groups, self.candidates(groups), strict=True):
                i, text = tried[id(group.row)]
                choices, reason = choose(candidates, self.standard, self.measures, better=(0,))
                reasons[i] = {TIED: NOT_LOWER, NEAR: NOT_LOWER}.get(reason, reason)
                found[i] += [self.pair(group.row, candidates, c, "flawed", text) for c in choices]
        for group, pairs, reason in zip(gold, found, reasons, strict=True):
            self.record(group, pairs, "" if pairs else reason)

    def from_file(self) -> None:
        """Pairs that people or another model made; those with scores must meet min_chosen and min_gap, where given."""
        selection = PairSelection(self.stage.min_chosen, self.stage.min_gap or 0.0)
        rows = self.run.task.rows("pairs")
        scored = [row for row in rows if "chosen" not in row or scores_of(row) is not None]
        found = selected(scored, "data.pairs", selection) if scored else Preferences()
        unscored = [row for row in rows if "chosen" in row and scores_of(row) is None]
        self.made.dropped.update(found.left_out)
        self.made.prompts += len({repr(row["prompt"]) for row in rows})
        for row in [*found, *unscored]:
            scores = scores_of(row)
            gap = None if scores is None else scores[0] - scores[1]
            self.made.pairs.append(Pair({**row, "source": "file"}, FROM_FILE, None, gap))

    # ------------------------------------------------------------ what the sources share

    def candidates(self, groups: Sequence[Scored]) -> list[list[Candidate]]:
        """[group][completion] with every measure of the task."""
        return self.measures.candidates(self.run.task, groups, self.run.workers)

    def is_good(self, candidate: Candidate) -> bool | None:
        """Whether the task calls a completion good; None: it does not say what good is."""
        return None if self.good.min_chosen is None else self.good.admits(candidate)

    def pair(
        self, row: Row, candidates: Sequence[Candidate], choice: Choice, source: str, text: str = ""
    ) -> Pair:
        """The pair of a choice, with whether its chosen is good."""
        return Pair.of(row, candidates, choice, source, text, self.is_good(candidates[choice.chosen]))

    def as_written(
        self, groups: Sequence[Scored], chat: Chat
    ) -> Iterator[tuple[Scored, list[Candidate], list[Any]]]:
        """Each group with what is measured of its completions, and these as the policy writes them after the prompt."""
        for group, candidates in zip(groups, self.candidates(groups), strict=True):
            yield group, candidates, [chat.as_sampled(group.prompt, text) for text in group.texts]

    def record(self, group: Scored, pairs: Sequence[Pair], reason: str) -> None:
        """Count a prompt with its pairs, or with the reason why it has none."""
        self.made.prompts += 1
        self.made.best.append(max(group.scores))
        self.made.pairs += pairs
        self.made.dropped.update([reason] if reason else [])

    def score(self, rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> list[Scored]:
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

    def _gold(self, rows: Sequence[Row]) -> list[Scored]:
        gold = self.run.task.gold
        assert gold is not None
        texts = [(row, text) for row in rows if (text := gold(row)) is not None]
        return self.score([row for row, _ in texts], [[text] for _, text in texts])

    def _behind_gold(self, groups: Sequence[Scored]) -> list[Scored]:
        """The groups with the gold completion of their row as the first."""
        gold = {id(group.row): group for group in self._gold([group.row for group in groups])}
        return [_together(gold[id(group.row)], group) for group in groups if id(group.row) in gold]


def flaws_of(task: Task, stage: Pairs) -> Callable[[Row, random.Random], str]:
    """The function that flaws the gold completion of a row: the stage's own, the task's, or the general rules."""
    if stage.flaws:
        own: Callable[[Row, random.Random], str] = load_attribute(stage.flaws)
        return own
    gold = task.gold
    assert gold is not None
    return task.corrupt or (lambda row, rng: flawed(gold(row) or "", rng))  # only rows with gold are flawed


def as_sampled(
    pairs: Sequence[Pair], group: Scored, chat: Chat, sides: Sequence[str] = ("chosen", "rejected")
) -> Sequence[Pair]:
    """The pairs with completions as the policy writes them after its prompt."""
    for pair in pairs:
        for side in sides:
            pair.row[side] = chat.as_sampled(group.prompt, pair.row[side])
    return pairs


def _texts(gold: Scored, found: Sequence[Pair]) -> set[str]:
    """The gold completion, and the flawed ones that were taken."""
    return {gold.texts[0].strip(), *(str(pair.row["rejected"]).strip() for pair in found)}


def _together(first: Scored, second: Scored) -> Scored:
    """The completions of two groups of one row."""
    parts = [*first.parts, *second.parts]
    opened = [tag for group in (first, second) for tag in group.opened or [""] * len(group.texts)]
    return Scored(first.row, [*first.texts, *second.texts], [*first.scores, *second.scores], parts, opened)


def _scored(group: Group) -> Scored:
    """A sampled group; what each part of a combined reward gave is in its columns."""
    assert group.scores is not None
    given = {k.removeprefix("reward/"): v for k, v in group.columns.items() if k.startswith("reward/")}
    parts = [
        {name: values[i] for name, values in given.items() if values[i] is not None}
        for i in range(len(group.completions))
    ]
    opened = [c.opened for c in group.completions]
    return Scored(group.row, [c.text for c in group.completions], group.scores, parts, opened)
