"""Make pairs source by source: of sampled completions, of gold against flawed or base ones, or from a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...chat.template import Chat
from ...config.attribute import load_attribute
from ...errors import InputError
from ...rewards.processes.workers import Workers
from ...rewards.scoring.failures import Failures
from ...rewards.scoring.runner import Call, score_groups
from ...rows.carried import carried
from ...rows.messages import TOLD
from ...rows.pairs import PairSelection, Preferences, scores_of, selected
from ...rows.spread import spread
from ...tasks import Task
from ...tasks.flaws import flawed
from ...types import Row
from ..kinds import Pairs
from .choose import NEAR, TIED, Choice, Standard, choose
from .measures import Candidate, Measures, Scored
from .sampling import Ground, batches
from .summary import FEW_SCORED, NO_FLAW, NO_SCORE, NOT_LOWER, Made, Pair

FROM_FILE = "data.pairs: the file says which is better"


def backed(task: Task, stage: Pairs) -> Task:
    """The task with the stage's backstop as its primary metric. InputError: it has no such metric."""
    return replace(task, primary=stage.backstop) if stage.backstop else task


class Making:
    """The pairs of one stage so far, and what all of its sources share."""

    def __init__(self, ground: Ground, stage: Pairs) -> None:
        self.ground, self.stage, self.made = ground, stage, Made()
        self.failures = Failures("the reward")
        self.task = backed(ground.task, stage)
        self.measures = Measures.of(self.task)
        self.standard = Standard.of(self.task, stage.min_chosen, stage.min_gap)
        self.good = Standard.of(self.task, None, None)
        """What the task calls good, whatever bounds the stage was given."""

    @property
    def reported(self) -> Standard:
        """What the pairs had to meet: those of people and of files only what the stage was given."""
        given, own = self.stage.min_chosen, [s for s in self.stage.sources if s in ("ranked", "file")]
        if not own:
            return self.standard
        said = f"the score is at least {given:g}" if given is not None else "as preferred, good or not"
        if len(own) == len(self.stage.sources):
            return Standard("", given, self.stage.min_gap or 0.0, said)
        return replace(self.standard, said=f"{self.standard.words}; of {' and '.join(own)}: {said}")

    @property
    def workers(self) -> Workers | None:
        """Where rewards run."""
        return self.ground.workers()

    def batches(self, policy: str) -> Iterator[tuple[list[Scored], Chat | None]]:
        """Groups of sampled and scored completions, some prompts at a time."""
        for batch, chat in batches(self.ground, self.stage, policy):
            yield batch.groups, chat
            self.made.prompts += batch.asked - len(batch.groups)
            self.made.dropped[FEW_SCORED] += batch.asked - len(batch.groups)

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
        task, stage, rng = self.task, self.stage, random.Random(f"{self.ground.seed}/flawed")
        corrupt, gold = (
            flaws_of(task, stage),
            self._gold(spread(task.rows("train"), stage.max_prompts)),
        )
        found: list[list[Pair]] = [[] for _ in gold]
        reasons = [NO_FLAW] * len(gold)
        for _ in range(stage.num_completions):
            left = [i for i, pairs in enumerate(found) if len(pairs) < stage.pairs_per_prompt]
            made = {i: text for i in left if (text := _flaw(corrupt, gold[i].row, rng)).strip()}
            tried = {
                id(gold[i].row): (i, text)
                for i, text in made.items()
                if text.strip() not in _texts(gold[i], found[i])
            }
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
        rows = self.task.rows("pairs")
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
        return self.measures.candidates(self.task, groups, self.workers)

    def is_good(self, candidate: Candidate) -> bool | None:
        """Whether the task calls a completion good; None: it does not say what good is."""
        return None if self.good.min_chosen is None else self.good.admits(candidate)

    def pair(
        self, row: Row, candidates: Sequence[Candidate], choice: Choice, source: str, text: str = ""
    ) -> Pair:
        """The pair of a choice, with whether its chosen is good."""
        return Pair.of(row, candidates, choice, source, text, self.is_good(candidates[choice.chosen]))

    def as_written(
        self, groups: Sequence[Scored], chat: Chat | None
    ) -> Iterator[tuple[Scored, list[Candidate], list[Any]]]:
        """Each group with what is measured of its completions, and these as the policy writes them after the prompt."""
        for group, candidates in zip(groups, self.candidates(groups), strict=True):
            written = [chat.as_sampled(group.prompt, text) if chat else text for text in group.texts]
            yield group, candidates, written

    def record(self, group: Scored, pairs: Sequence[Pair], reason: str) -> None:
        """Count a prompt with its pairs, or with the reason why it has none."""
        self.made.prompts += 1
        self.made.best.append(max(group.scores))
        if self.ground.carry:
            for pair in pairs:
                others = {k: v for k, v in group.row.items() if k not in TOLD}
                pair.row.update(carried(others, pair.row.keys() - {"prompt"}))
        self.made.pairs += pairs
        self.made.dropped.update([reason] if reason else [])

    def score(self, rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> list[Scored]:
        """Completions that were not sampled now, scored; a row of which one has no score is left out and counted."""
        reward = self.task.reward
        assert reward is not None
        calls = [Call.of_texts(t, [row["prompt"]] * len(t), row) for row, t in zip(rows, texts, strict=True)]
        found = []
        for call, outcomes in zip(calls, score_groups(reward, calls, self.workers), strict=True):
            self.failures.count(outcomes)
            self.failures.check()
            scores = [outcome.worth for outcome in outcomes]
            known = [score for score in scores if score is not None]
            if len(known) < len(scores):
                self.made.dropped[NO_SCORE] += 1
                continue
            parts = [{k: v for k, v in outcome.parts.items() if v is not None} for outcome in outcomes]
            found.append(Scored(call.row, call.texts, known, parts))
        return found

    def _gold(self, rows: Sequence[Row]) -> list[Scored]:
        gold = self.task.gold
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


def _flaw(corrupt: Callable[[Row, random.Random], Any], row: Row, rng: random.Random) -> str:
    """A flawed completion of a row, as its rule made it; empty: the rule has none. InputError: it is no text."""
    text = corrupt(row, rng)
    if not isinstance(text, str | None):
        raise InputError(
            f"the rule that flaws gold returned {text!r:.80}; expected text, or None where it has no flaw"
        )
    return "" if text is None else text


def as_sampled(
    pairs: Sequence[Pair], group: Scored, chat: Chat | None, sides: Sequence[str] = ("chosen", "rejected")
) -> Sequence[Pair]:
    """The pairs with completions as the policy writes them after its prompt; an API gives text."""
    if chat is None:
        return pairs
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
