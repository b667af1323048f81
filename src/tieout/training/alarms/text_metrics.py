"""What sampled completions look like, in numbers: repetition, refusals, hedges, copies, empty, foreign, alike ones."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from statistics import fmean

from ...rewards.text.hedges import hedging
from ...rewards.text.refusals import refuses
from ...rewards.text.repetition import looped_share, repeated_share
from ...rewards.text.scripts import scripts
from ...rewards.text.sentences import copied
from ...rewards.text.thinking import answer_text, as_read, without_tags
from ...rows.messages import prompt_text
from ...types import Group
from .alike import distinct
from .memory import Monitor

_ANSWER = re.compile(r"</?answer>", re.IGNORECASE)


def texts(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
    """A monitor of what was just sampled: `repetition`, `refusal`, `empty`, `other_script`, `hedging`, `copied`, and
    `distinct`.

    The first four are shares of the completions. Repetition: half or more of the runs of four words (or, without
    spaces, of characters) occurred before, or one loop is half of the text (`repeats`). Refusal: the answer opens by
    declining, in English. Other script: most letters, without those of tags, are of scripts that the prompt has none
    of; a prompt without letters, such as `4 + 8 =`, is of every script. Hedging is in
    English hedges per sentence of the answer. Copied is the share of its words in runs of eight from the prompt.
    Distinct is 1 where answers to different prompts share nothing, and 0 where all get the same one. Answers are what
    follows the thinking; where that never ended, they are empty.
    """
    sampled = _sampled(groups)
    if not sampled:
        return
    answers = [answer_text(text) for text, _ in sampled]
    metrics["repetition"] = fmean(repeats(text) >= 0.5 for text, _ in sampled)
    metrics["refusal"] = fmean(map(refuses, answers))
    metrics["empty"] = fmean(not text.strip() for text in answers)
    metrics["hedging"] = fmean(map(hedging, answers))
    if (differ := distinct(groups)) is not None:
        metrics["distinct"] = differ
    prompts = {id(group): prompt_text(group.row.get("prompt", "")) for _, group in sampled}
    metrics["copied"] = fmean(
        copied(answer, [prompts[id(group)]]) for answer, (_, group) in zip(answers, sampled, strict=True)
    )
    known = {place: scripts(prompt) for place, prompt in prompts.items()}
    metrics["other_script"] = fmean(_foreign(text, known[id(group)]) for text, group in sampled)


def validity(is_valid: Callable[[str], bool], name: str = "valid") -> Monitor:
    """A monitor that adds the share of sampled completions that are `is_valid`, such as JSON that parses."""

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if sampled := [text for text, _ in _sampled(groups)]:
            metrics[name] = fmean(is_valid(text) for text in sampled)

    return monitor


def repeats(text: str, n: int = 4) -> float:
    """Share of the text's n-grams that occurred before in it (of texts with 2n or more), or that its longest loop
    repeats, whichever is larger.

    >>> repeats("no no no no no no no no no no no no"), repeats("each word of this line stands here only once, you see")
    (0.8888888888888888, 0.0)
    >>> repeats("." * 24), repeats("42"), repeats("$1,111,111")
    (0.9583333333333334, 0.0, 0.0)
    """
    words: Sequence[str] = text.split()
    if len(words) < 3 * n - 1 and 2 * n < len(text) // 8:  # too few spaces for 2n n-grams: count characters
        words, n = text, 4 * n
    return max(repeated_share(words, n) if len(words) - n + 1 >= 2 * n else 0.0, looped_share(text))


def _foreign(text: str, known: dict[str, int]) -> bool:
    own = scripts(_ANSWER.sub("", without_tags(text)))
    return bool(known) and sum(n for script, n in own.items() if script not in known) > sum(own.values()) / 2


def _sampled(groups: Sequence[Group]) -> list[tuple[str, Group]]:
    return [(as_read(c), g) for g in groups for c in g.completions if c.logprobs is not None]
