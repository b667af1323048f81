"""Answers from retrieved passages: faithful, cited, grounded, relevant, not made up. `[1]` cites the first passage.

| reward | range | what it is | it does not catch |
|---|---|---|---|
| `faithfulness` | 0 to 1 | share of claims a passage supports | what `claims` does not; answers that miss the point |
| `citation_accuracy` | 0 to 1 | claims whose citation supports them, and no citation that does not | as above |
| `groundedness` | 0 or 1 | "I do not know" exactly when the passages lack the answer | wrong answers |
| `hallucination` | -1 to 0 | minus the share of claims with a fact of no passage | true parts put together wrongly |
| `relevance` | 0 to 1 | gives gold and no other answer; falls with length | (refuses gold in other words) |
| `rag` | 0 to 1 | all of them, minus unsupported claims | listed sentences of passages; `answered` does |

No model is needed. To let a judge decide what supports a claim, fix it: `functools.partial(rag, supports=judge)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..scoring.outcomes import ranged
from ..text.amounts import amounts
from ..text.claims import Supports, cited, claims, made_up, strip_citations, supports
from ..text.figures import figure, written
from ..text.sentences import beside_unknown, content, copied, negations, says_unknown, words
from ..text.structured import contains_whole, normalise_space
from ..text.thinking import answer_text

Passages = Sequence[str] | str
_MARK = "GOLD"
"""Stands for the gold answer, which may be several sentences."""
FREE_WORDS = 40
"""An answer may be so much longer than gold before its relevance falls."""


@ranged(0, 1)
def faithfulness(
    completions: Sequence[str], context: Sequence[Passages], supports: Supports = supports, **_: Any
) -> list[float | None]:
    """[K] share of a completion's claims that a passage supports; None for one that only says it does not know.

    A completion without any claim is 0.0.
    """
    return [
        _faithful(c, _passages(p), supports)
        for c, p in zip(map(answer_text, completions), context, strict=True)
    ]


@ranged(-1, 0)
def hallucination(completions: Sequence[str], context: Sequence[Passages], **_: Any) -> list[float | None]:
    """[K] minus the share of a completion's claims that are made up; None for one that only says it does not know.

    Made up is a claim with a figure, date or name that is in none of the passages, or most of whose words are not.
    What passages say otherwise is no hallucination, and not faithful either. A completion without any claim is -1.0.
    """
    scores: list[float | None] = []
    for completion, given in zip(map(answer_text, completions), context, strict=True):
        told, passages = _to_support(completion), _passages(given)
        if told:
            scores.append(-sum(made_up(claim, passages) for claim in told) / len(told))
        else:
            scores.append(None if says_unknown(completion) else -1.0)
    return scores


@ranged(0, 1)
def citation_accuracy(
    completions: Sequence[str], context: Sequence[Passages], supports: Supports = supports, **_: Any
) -> list[float | None]:
    """[K] (share of claims with a citation that supports them) x (share of citations that support their claim).

    Citing every passage, one that does not exist, or none earns little or nothing. None for a completion that only says
    it does not know.
    """
    return [
        _well_cited(c, _passages(p), supports)
        for c, p in zip(map(answer_text, completions), context, strict=True)
    ]


@ranged(0, 1)
def groundedness(
    completions: Sequence[str],
    answer: Sequence[str | float | None],
    question: Sequence[str] | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 if it says that it does not know exactly where `answer` is None or empty, else 0.0.

    To say so and answer anyway is neither, and so is saying nothing. Saying so may repeat the question.
    """
    asked = question or [""] * len(completions)
    scores: list[float | None] = []
    for completion, gold, words_of in zip(map(answer_text, completions), _golds(answer), asked, strict=True):
        unknown, told = says_unknown(completion), bool(_told(completion) or _adds(completion, words_of))
        scores.append(float(unknown and not told) if not gold else float(told and not unknown))
    return scores


@ranged(0, 1)
def relevance(
    completions: Sequence[str], question: Sequence[str], answer: Sequence[str | float | None], **_: Any
) -> list[float | None]:
    """[K] 1.0 if the gold answer is given and no other; falls with the words beyond FREE_WORDS more than gold's.

    A gold figure must be the only figure besides those of the question; other gold must occur word for word, denied
    no more often than gold denies, and offered with no `or`. None where there is no gold answer.
    """
    rows = zip(map(answer_text, completions), question, _golds(answer), strict=True)
    return [None if not gold else _relevant(c, q, gold) for c, q, gold in rows]


@ranged(0, 1)
def rag(
    completions: Sequence[str],
    question: Sequence[str],
    context: Sequence[Passages],
    answer: Sequence[str | float | None],
    supports: Supports = supports,
    **_: Any,
) -> list[float | None]:
    """[K] relevance x (0.4 + 0.3 faithfulness + 0.3 citation accuracy) - 0.5 x share of unsupported claims; at least 0.

    Where the passages lack the answer (`answer` is None or empty): 1.0 for saying so and nothing else, 0.0 for
    anything else. Where they have it, to say that one does not know is 0.0, and so is copying the passages out: more
    than half of the words in copied runs, in a text longer than the answer needs.
    """
    completions = [answer_text(completion) for completion in completions]
    grounded = groundedness(completions, answer, question)
    relevant = relevance(completions, question, answer)
    scores: list[float | None] = []
    for completion, passages, gold, on_ground, right in zip(
        completions, context, _golds(answer), grounded, relevant, strict=True
    ):
        if not gold or not on_ground:
            scores.append(on_ground)
            continue
        texts = _passages(passages)
        faithful = _faithful(completion, texts, supports) or 0.0
        cites = _well_cited(completion, texts, supports) or 0.0
        long = len(words(completion)) > FREE_WORDS + len(words(gold))
        if long and copied(strip_citations(completion), texts) > 0.5:
            right = 0.0
        total = (right or 0.0) * (0.4 + 0.3 * faithful + 0.3 * cites) - 0.5 * (1 - faithful)
        scores.append(max(0.0, total))
    return scores


@ranged(0, 1)
def answered(
    completions: Sequence[str],
    question: Sequence[str],
    context: Sequence[Passages],
    answer: Sequence[str | float | None],
    supports: Supports = supports,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 if the gold answer is given, no other, briefly, and every claim and citation holds; None without gold.

    A claim next to one that gives gold in words is another answer: `rag` pays for the sentences of several passages,
    each of them true and cited, of which one gives gold; here they are no answer.
    """
    cites = citation_accuracy(completions, context, supports)
    rows = zip(
        map(answer_text, completions),
        relevance(completions, question, answer),
        cites,
        _golds(answer),
        strict=True,
    )
    return [
        None if right is None else float(right == 1.0 and cited == 1.0 and _alone(completion, gold))
        for completion, right, cited, gold in rows
    ]


@ranged(0, 1)
def refused(
    completions: Sequence[str],
    answer: Sequence[str | float | None],
    question: Sequence[str] | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 if it says that it does not know, and nothing else; None where the passages have the answer."""
    said = groundedness(completions, answer, question)
    return [None if gold else score for gold, score in zip(_golds(answer), said, strict=True)]


@ranged(0, 1)
def right(
    completions: Sequence[str],
    question: Sequence[str],
    context: Sequence[Passages],
    answer: Sequence[str | float | None],
    supports: Supports = supports,
    **_: Any,
) -> list[float | None]:
    """[K] `answered` where the passages have the answer, `refused` where they lack it."""
    has = answered(completions, question, context, answer, supports)
    lacks = refused(completions, answer, question)
    return [one if one is not None else other for one, other in zip(has, lacks, strict=True)]


def _golds(answer: Sequence[str | float | None]) -> list[str]:
    """The answers as texts, empty where there is none: the number 0 is one."""
    return ["" if gold is None else written(gold) for gold in answer]


def _told(completion: str) -> list[str]:
    """What it claims, other than that it does not know."""
    return [claim for claim in claims(completion) if not says_unknown(claim)]


def _to_support(completion: str) -> list[str]:
    """The claims that passages must support: next to one, not to know is a claim too, and contradicts it."""
    return claims(completion) if _told(completion) else []


def _adds(completion: str, question: str) -> bool:
    """Whether it says that it does not know and also something that the question does not."""
    if not says_unknown(completion):
        return False
    rest = beside_unknown(strip_citations(completion))
    new = content(rest).keys() - content(question).keys()
    return bool(new or set(amounts(rest)) - set(amounts(question)) or negations(rest))


def _faithful(completion: str, passages: Sequence[str], supports: Supports) -> float | None:
    told = _to_support(completion)
    if not told:
        return None if says_unknown(completion) else 0.0
    return sum(bool(supports(claim, passages)) for claim in told) / len(told)


def _well_cited(completion: str, passages: Sequence[str], supports: Supports) -> float | None:
    told = _to_support(completion)
    if not told:
        return None if says_unknown(completion) else 0.0
    held, num_cited, num_right = 0, 0, 0
    for claim in told:
        numbers = cited(claim)
        right = [n for n in numbers if 1 <= n <= len(passages) and supports(claim, [passages[n - 1]])]
        held, num_cited, num_right = held + bool(right), num_cited + len(numbers), num_right + len(right)
    return held / len(told) * (num_right / num_cited if num_cited else 0.0)


def _relevant(completion: str, question: str, gold: str) -> float:
    said = strip_citations(completion)
    read = figure(gold, footnotes=False)
    if read is not None:
        wanted, asked = amounts(gold), set(amounts(question))
        given = [amount for amount in amounts(said) if amount not in asked]
        right = bool(wanted) and set(given) == set(wanted) and negations(said) == 0
    else:
        given_text, gold_text = (normalise_space(text).casefold() for text in (said, gold))
        right = contains_whole(given_text, gold_text.rstrip("."))
        right = right and negations(said) <= negations(gold) and not _hedges(given_text, gold_text)
    extra = max(0, len(words(said)) - len(words(gold)) - FREE_WORDS)
    return right / (1 + extra / FREE_WORDS)


def _alone(completion: str, gold: str) -> bool:
    """Whether every claim gives gold; gold figures are the only ones of a relevant answer, and need not."""
    if figure(gold, footnotes=False) is not None:
        return True
    said, wanted = normalise_space(completion), normalise_space(gold).rstrip(".")
    marked = re.sub(re.escape(wanted), _MARK, said, flags=re.IGNORECASE)
    return all(_MARK in claim for claim in claims(marked))


def _hedges(said: str, gold: str) -> bool:
    """Whether an alternative is offered that gold does not have."""
    return words(said).count("or") > words(gold).count("or")


def _passages(passages: Passages) -> Sequence[str]:
    return [passages] if isinstance(passages, str) else passages
