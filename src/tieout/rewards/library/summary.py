"""Summaries by quiz: questions made from a reference, answered from the summary. Minus length, minus copying.

A question is a sentence of the reference with one figure or name left out: `Revenue rose to ____ in 2019.` It is
answered if the summary's sentence nearest to it fills the gap, with no figure that the question's sentence lacks. No
model is needed; a judge that answers may be plugged in: `functools.partial(summary, answer=judge)`.

| reward | range | what it is | what it does not catch |
|---|---|---|---|
| `quiz_score` | 0 to 1 | share of the questions that the summary answers | what the reference leaves out; style |
| `summary` | 0 to 1 | the same, minus length beyond the reference's, minus runs copied from the document | as above |

`quiz_score` does not tell whether what a summary says beyond the reference is true; `summary` does, within the limits
of `claims`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..scoring.outcomes import ranged
from ..text.amounts import amounts, figure_spans
from ..text.claims import supports
from ..text.contradiction import opposed
from ..text.sentences import content, copied, sentences, words
from ..text.structured import contains_whole
from ..text.thinking import answer_text

GAP = "____"
MAX_QUESTIONS = 20
MIN_SHARE = 0.5
"""A sentence is about a question if it has so many of the question's content words."""
LONGER = 1.25
"""A summary may be so many times as long as the reference before it costs; at twice that, all is lost."""

Answer = Callable[[str, str], str]
"""(question with a gap, summary) -> what fills the gap; empty if it does not say. A judge raises where it fails."""

_NAME = re.compile(r"(?<=[\w,;:] )[A-Z][\w&'’-]+(?: [A-Z][\w&'’-]+)*")


def quiz(reference: str, max_questions: int = MAX_QUESTIONS) -> list[dict[str, str]]:
    """Questions on the reference's figures and names, in its order: `question` with a gap, `answer`, `sentence`.

    >>> [(q["question"], q["answer"]) for q in quiz("Revenue of Acme rose to $5 million.")]
    [('Revenue of ____ rose to $5 million.', 'Acme'), ('Revenue of Acme rose to ____.', '$5 million')]
    """
    asked = []
    for sentence in sentences(reference):
        names = [(match.start(), match[0]) for match in _NAME.finditer(sentence)]
        for start, gap in sorted([*figure_spans(sentence), *names]):
            question = sentence[:start] + GAP + sentence[start + len(gap) :]
            asked.append({"question": question, "answer": gap, "sentence": sentence})
    return asked[:max_questions]


@ranged(0, 1)
def quiz_score(
    completions: Sequence[str],
    reference: Sequence[str],
    quiz: Sequence[Sequence[Mapping[str, str]] | None] | None = None,
    answer: Answer | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] share of the questions that a summary answers; None where the reference gives no question.

    Args:
        completions: [K] summaries.
        reference: [K] what a good one says.
        quiz: [K] questions of your own, `question` and `answer`; None: made from the reference.
        answer: a judge that fills gaps; its answer is compared with the question's.
    """
    own = quiz or [None] * len(completions)
    completions = [answer_text(completion) for completion in completions]
    return [_answered(c, r, q, answer) for c, r, q in zip(completions, reference, own, strict=True)]


@ranged(0, 1)
def summary(
    completions: Sequence[str],
    document: Sequence[str],
    reference: Sequence[str],
    quiz: Sequence[Sequence[Mapping[str, str]] | None] | None = None,
    answer: Answer | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] share of the quiz answered x what length leaves x what copying leaves x what is supported.

    None without a question. Supported: the share of sentences that the document or the reference says (see `claims`),
    minus twice the share of content words that neither has, so that words tacked onto a sentence cost.

    Length leaves all up to LONGER times the reference's words, nothing at twice that. Copying leaves 1 minus the share
    of words in runs of eight copied from the document, as far as it is above the reference's own share.
    """
    completions = [answer_text(completion) for completion in completions]
    shares = quiz_score(completions, reference, quiz, answer)
    scores: list[float | None] = []
    for completion, source, gold, share in zip(completions, document, reference, shares, strict=True):
        if share is None:
            scores.append(None)
            continue
        allowed = LONGER * max(1, len(words(gold)))
        length = min(1.0, max(0.0, 2 - _size(completion) / allowed))
        copying = 1 - max(0.0, copied(completion, [source]) - copied(gold, [source]))
        said = sentences(completion)
        faithful = sum(supports(sentence, [source, gold]) for sentence in said) / max(1, len(said))
        own = content(completion)
        known = content(source) | content(gold)
        new = sum(count for word, count in own.items() if word not in known)
        supported = max(0.0, faithful - 2 * new / max(1, own.total()))
        scores.append(share * length * copying * supported)
    return scores


def _size(text: str) -> float:
    """In words; joining words does not make a text shorter."""
    return max(len(words(text)), len(text) / 12)


def _answered(
    completion: str, reference: str, own: Sequence[Mapping[str, str]] | None, answer: Answer | None
) -> float | None:
    asked = list(own) if own else list(_made(reference))
    if not asked:
        return None
    if answer is None:
        said = sentences(completion)
        right = [_fills(item, said) for item in asked]
    else:
        right = [_same(answer(item["question"], completion), item["answer"]) for item in asked]
    return sum(right) / len(right)


@lru_cache(maxsize=512)
def _made(reference: str) -> tuple[Mapping[str, str], ...]:
    return tuple(quiz(reference))


def _fills(item: Mapping[str, str], said: Sequence[str]) -> bool:
    """Whether the sentences nearest to the question give the answer, and none of them says something else."""
    question, answer = item["question"], item["answer"]
    whole = question.replace(GAP, answer)
    about = content(question)
    shares = [sum((about & content(sentence)).values()) / max(1, about.total()) for sentence in said]
    nearest = max(shares, default=0.0)
    if nearest < MIN_SHARE:
        return False
    known, wanted = set(amounts(whole)), set(amounts(answer))
    for sentence, share in zip(said, shares, strict=True):
        if share == nearest:
            given = set(amounts(sentence))
            there = wanted <= given if wanted else contains_whole(sentence, answer)
            if not there or not given <= known or opposed(sentence, whole):
                return False
    return True


def _same(given: str, gold: str) -> bool:
    wanted = amounts(gold)
    return amounts(given) == wanted if wanted else contains_whole(given.casefold(), gold.casefold())
