"""Play the test words of `wordle` with programs, and with a model whose guesses a program chooses among eight samples.

    python benchmarks/wordle_players.py --model runs/wordle/sft/adapter --out benchmarks/results/wordle/players.json

A player sees what a model sees: the conversation so far. Figures are means with 95% intervals over the words.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tieout.evidence.evaluate import Case, evaluate
from tieout.evidence.stats import mean
from tieout.learner import load
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.wordle import shown, task
from tieout.tasks.wordle_rewards import guess_of
from tieout.tasks.wordle_words import guessable, solutions, words_of
from tieout.types import Prompt

SAMPLES = 8
_SEEN = re.compile(r"^Marks: (.+)$", re.MULTILINE)


def seen(prompt: Prompt) -> list[tuple[str, str]]:
    """The guesses of a conversation, and how the game showed each with its marks."""
    assert not isinstance(prompt, str)
    marked = [found for message in prompt for found in _SEEN.findall(str(message["content"]))]
    return [("".join(part[-1] for part in one.split()).lower(), one) for one in marked]


def agrees(guess: str, before: Sequence[tuple[str, str]]) -> bool:
    """Whether a word would have given the same marks to every guess."""
    return all(shown(old, guess) == marks for old, marks in before)


class Program:
    """A player that chooses among words by a rule."""

    def __init__(self, words: Sequence[str], agreeing: bool) -> None:
        self.words, self.agreeing, self.chance = words, agreeing, random.Random(0)

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """A guess for each conversation."""
        return [self._guess(seen(prompt)) for prompt in prompts]

    def _guess(self, before: Sequence[tuple[str, str]]) -> str:
        left = [word for word in self.words if not self.agreeing or agrees(word, before)]
        return self.chance.choice(left or list(self.words))


class Checked:
    """A model of which eight guesses are sampled: the first that is a word and agrees with all marks, or the first."""

    def __init__(self, sampler: LocalSampler) -> None:
        self.sampler = sampler

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """A guess for each conversation."""
        chat = self.sampler.chat
        params = replace(params, temperature=1.0)
        groups = self.sampler.sample([chat.prompt(p) for p in prompts], SAMPLES, params)
        return [self._choose(seen(p), [c.text for c in g]) for p, g in zip(prompts, groups, strict=True)]

    def _choose(self, before: Sequence[tuple[str, str]], said: Sequence[str]) -> str:
        good = (s for s in said if guess_of(s) in guessable() and agrees(guess_of(s), before))
        return next(good, said[0])


def figures(cases: Sequence[Case]) -> dict[str, list[float | None]]:
    """Metric -> mean and interval."""

    def one(values: Iterable[float], top: float = 1.0) -> list[float | None]:
        found = mean(list(values), bounds=(0.0, top))
        return [found.value, found.low, found.high]

    tops = {"solved": 1.0, "guesses": 7.0, "consistent": 1.0}
    found = {
        name: one([c.metrics[name] for c in cases if name in c.metrics], top) for name, top in tops.items()
    }
    return found | {"reward": one([c.score for c in cases if c.score is not None])}


def main() -> None:
    """Play and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="the SFT adapter")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    players: dict[str, Callable[[], object]] = {
        "any word": lambda: Program(solutions(), agreeing=False),
        "words of train that agree": lambda: Program(words_of("train"), agreeing=True),
        "all words that agree": lambda: Program(solutions(), agreeing=True),
        f"SFT, {SAMPLES} samples and a program": lambda: Checked(LocalSampler(load(given.model))),
    }
    found = {}
    for name, make in players.items():
        found[name] = figures(evaluate(task, task.rows("test"), make()))  # type: ignore[arg-type]
        print(
            name, {key: [round(v or 0.0, 3) for v in value] for key, value in found[name].items()}, flush=True
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
