r"""TRL's reward functions, by the same names and for the same columns, over this library's own readers.

`accuracy_reward` compares numbers by value and other answers as they are written; TRL's also knows algebra
(math_verify): there `x(x+1)` is `x^2+x`, here it is another answer, and scores 0. The library's own rewards
(`numeric`, `overlong`, ...) take completions as text: see `tieout.rewards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..advantages import overlong_penalty
from ..errors import InputError
from ..rewards.text.math_answers import answer_of, gold_of

Said = str | Sequence[dict[str, Any]]
"""A completion: text, or the one message that the trainers give for conversations."""
Scores = list[float | None]
Ids = Sequence[Sequence[int]]
"""[K] tokens of the completions."""


def accuracy_reward(
    completions: Sequence[Said], solution: Sequence[str], log_extra: Any = None, **_: Any
) -> Scores:
    r"""[K] 1.0 where a completion's answer is the solution's, else 0.0; None where the solution gives none.

    What stands before the answer as thinking is not read: where TRL's finds a box in a thought, this finds none. The
    answer is the last `\boxed{...}`; else what stands after `####` or `Answer:`, in `<answer>`, or between
    dollar signs at the end. A solution may also be the bare answer. Numbers are equal by value: `\frac{1}{2}` is
    0.5, `1,000` is 1000, `50\%` is 0.5 and `(5)` is minus 5; currencies and units are not compared. Anything else is
    compared as written, without LaTeX's spacing.

    >>> accuracy_reward([r"so \boxed{\frac{1}{3}}", r"so \boxed{0.5}"], [r"\frac{1}{3}", r"$\frac{1}{3}$"])
    [1.0, 0.0]
    """
    wanted = [gold_of(text) for text in solution]
    given = [answer_of(_text(completion)) for completion in completions]
    if log_extra is not None:
        log_extra("solution", list(solution))
        for column, answers in (("gold_parsed", wanted), ("answer_parsed", given)):
            log_extra(column, ["[unparseable]" if answer is None else str(answer) for answer in answers])
    pairs = zip(given, wanted, strict=True)
    return [None if gold is None else float(answer == gold) for answer, gold in pairs]


def reasoning_accuracy_reward(
    completions: Sequence[Said], solution: Sequence[str], reasoning_delimiters: Sequence[str] = ("</think>",),
    log_extra: Any = None, **_: Any,
) -> Scores:  # fmt: skip
    r"""`accuracy_reward` of what follows the last `</think>`; 0.0 where the reasoning never ends.

    >>> reasoning_accuracy_reward([r"<think>so</think> \boxed{5}", r"<think> \boxed{5}"], ["5", "5"])
    [1.0, 0.0]
    """
    texts = [_text(completion) for completion in completions]
    ends = [
        next((end for end in reasoning_delimiters or ["</think>"] if end in text), None) for text in texts
    ]
    parts = [text.rpartition(end)[2] if end else "" for text, end in zip(texts, ends, strict=True)]
    scores = accuracy_reward(parts, solution, log_extra)
    return [0.0 if end is None else score for end, score in zip(ends, scores, strict=True)]


def think_format_reward(completions: Sequence[Said], **_: Any) -> list[float]:
    """[K] 1.0 where a completion begins with `<think>`, has it once, and closes it; else 0.0.

    >>> think_format_reward(["<think>so</think> yes", "<think>so", "yes"])
    [1.0, 0.0, 0.0]
    """
    texts = [_text(completion) for completion in completions]
    return [float(t.startswith("<think>") and t.count("<think>") == 1 and "</think>" in t) for t in texts]


def get_soft_overlong_punishment(
    max_completion_len: int, soft_punish_cache: int
) -> Callable[..., list[float]]:
    """DAPO, eq. 13 of https://arxiv.org/abs/2503.14476, in tokens: 0.0, then in a line to -1.0 at the full length.

    >>> get_soft_overlong_punishment(100, 20)([[1] * 80, [1] * 90, [1] * 101])
    [0.0, -0.5, -1.0]
    """

    def soft_overlong_punishment_reward(completion_ids: Ids, **_: Any) -> list[float]:
        return [overlong_penalty(len(ids), max_completion_len, soft_punish_cache) for ids in completion_ids]

    return soft_overlong_punishment_reward


def get_repetition_penalty_reward(
    ngram_size: int = 3, max_penalty: float = -1.0
) -> Callable[..., list[float]]:
    """`max_penalty` times the share of runs of `ngram_size` tokens that came before. InputError: it is above 0.

    >>> get_repetition_penalty_reward(ngram_size=2)([[1, 2, 3, 4], [5, 5, 5, 5, 5]])
    [0.0, -0.75]
    """
    if max_penalty > 0:
        raise InputError(f"max_penalty is {max_penalty}; a penalty is not above 0")

    def penalty(ids: Sequence[int]) -> float:
        runs = [tuple(ids[i : i + ngram_size]) for i in range(len(ids) - ngram_size + 1)]
        repeated = len(runs) - len(set(runs))
        return max_penalty * repeated / len(runs) if repeated else 0.0

    def repetition_penalty_reward(completion_ids: Ids, **_: Any) -> list[float]:
        return [penalty(ids) for ids in completion_ids]

    return repetition_penalty_reward


def get_cosine_scaled_reward(
    max_len: int, min_value_wrong: float = -1.0, max_value_wrong: float = -0.5, min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
) -> Callable[..., Scores]:  # fmt: skip
    r"""Accuracy by length, of https://arxiv.org/abs/2502.03373: short is best if right, and worst if wrong.

    >>> get_cosine_scaled_reward(100)([r"\boxed{5}", r"\boxed{6}"], ["5", "5"], [[1] * 50] * 2)
    [0.75, -0.75]
    """
    of_right, of_wrong = (max_value_correct, min_value_correct), (min_value_wrong, max_value_wrong)

    def cosine_scaled_reward(
        completions: Sequence[Said], solution: Sequence[str], completion_ids: Ids, **_: Any
    ) -> Scores:
        scores: Scores = []
        for right, ids in zip(accuracy_reward(completions, solution), completion_ids, strict=True):
            short, long = of_right if right else of_wrong
            share = (1 + math.cos(math.pi * min(1.0, len(ids) / max_len))) / 2
            scores.append(None if right is None else long + (short - long) * share)
        return scores

    return cosine_scaled_reward


def _text(completion: Said) -> str:
    return completion if isinstance(completion, str) else str(completion[0]["content"])
