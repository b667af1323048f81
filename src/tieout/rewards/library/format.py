"""Rewards for form: tags, language, length, repetition, overlong completions. They see no content.

| reward | range | unit | what it does not catch |
|---|---|---|---|
| `tags` | 0 to 1 | 1 if the form is kept | empty talk inside the tags |
| `language` | 0 to 1 | share of letters | another language in a text of a few words; wrong content |
| `length` | -1 to 0 | words | padding below the limit |
| `repetition` | -1 to 0 | share of runs of words that came before | the same thing in other words |
| `overlong` | -1 to 0 | tokens | padding below the limit |

`length` is that of the answer, without the thinking before it; the others see both, `language` and `repetition` without
the tags between them.

Form alone is farmed: combine these with a reward for what is said, and give that the larger weight. Options come as
columns of the row, or fixed: `functools.partial(length, max_words=100)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...advantages import overlong_penalty
from ...errors import InputError
from ..scoring.options import each
from ..scoring.outcomes import ranged
from ..text.languages import COMMON, foreign
from ..text.presentation import MAX_CHARS
from ..text.repetition import looped_share, repeated_share
from ..text.scripts import scripts
from ..text.sentences import words
from ..text.thinking import answer_text, without_tags

CHARS_PER_TOKEN = 4
"""Of texts that have no tokens."""

Counts = Sequence[int] | int
"""A column, one value per completion; or one value for all."""

_TAGGED = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"<\s*/?\s*(?:think|answer)\b[^>]*>", re.IGNORECASE)

SCRIPTS = {
    "ar": {"ARABIC"},
    "el": {"GREEK"},
    "he": {"HEBREW"},
    "hi": {"DEVANAGARI"},
    "ja": {"HIRAGANA", "KATAKANA", "CJK", "KATAKANA-HIRAGANA"},
    "ko": {"HANGUL"},
    "ru": {"CYRILLIC"},
    "th": {"THAI"},
    "uk": {"CYRILLIC"},
    "zh": {"CJK"},
}
"""Language -> scripts, as Unicode names its letters; languages not listed are written in Latin letters."""


@ranged(0, 1, form=True)
def tags(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] 1.0 for exactly `<think>reasoning</think><answer>answer</answer>`, both with words in them; else 0.0.

    Only white space may stand around the two, and each tag once, in lower case.

    >>> tags(["<think>2 + 2</think> <answer>4</answer>", "<think></think><answer>4</answer>", "4"])
    [1.0, 0.0, 0.0]
    """
    return [float(_tagged(completion)) for completion in completions]


def _tagged(completion: str) -> bool:
    found = _TAGGED.fullmatch(completion)
    return bool(found and len(_TAG.findall(completion)) == 4 and all(words(part) for part in found.groups()))


@ranged(0, 1, form=True)
def language(
    completions: Sequence[str], language: Sequence[str | None] | str | None = "en", **_: Any
) -> list[float | None]:
    """[K] share of the letters that are of the language's script; 0.0 where another language's words prevail: see
    `rewards.text.languages`.

    None where the row's language is None, and for figures without letters: "42" is of every language. A text with
    neither, such as dots, is 0.0. In `combine`, what this leaves undecided needs `missing="rescale"` or "leave_out".
    The words of de, en, es, fr, it, nl and pt are known.

    >>> language(["The cat is on the mat.", "Die Katze ist auf der Matte.", "Кот", "42"])
    [1.0, 0.0, 0.0, None]
    """
    wanted = each(language, len(completions))
    return [
        None if w is None else _language(without_tags(c)[:MAX_CHARS], w)
        for c, w in zip(completions, wanted, strict=True)
    ]


def _language(text: str, wanted: str) -> float | None:
    letters = scripts(text)
    own = SCRIPTS.get(wanted, {"LATIN"})
    if not letters:
        return None if any(map(str.isdigit, text)) else 0.0
    if wanted == "ja" and not {"HIRAGANA", "KATAKANA"} & set(letters):
        return 0.0
    if wanted in COMMON and foreign(text, wanted):
        return 0.0
    return sum(letters.get(script, 0) for script in own) / sum(letters.values())


@ranged(-1, 0, form=True)
def length(
    completions: Sequence[str], min_words: Counts = 1, max_words: Counts = 200, **_: Any
) -> list[float | None]:
    """[K] 0.0 from `min_words` to `max_words` words of the answer; in a line to -1.0 at none and at twice the maximum.

    Text without spaces counts a word for every eight characters at least, so that joining words gains nothing.

    >>> length(["one two", "one two three", ""], max_words=2)
    [0.0, -0.5, -1.0]
    """
    low, high = each(min_words, len(completions)), each(max_words, len(completions))
    scores: list[float | None] = []
    for completion, least, most in zip(map(answer_text, completions), low, high, strict=True):
        if not 0 <= least <= most or most < 1:
            raise InputError(
                f"min_words is {least} and max_words {most}; expected 0 <= min_words <= max_words"
            )
        count = max(len(completion.split()), len(completion) // 16)
        short = (least - count) / least if count < least else 0.0
        scores.append(0.0 - min(1.0, max(short, (count - most) / most, 0.0)))
    return scores


@ranged(-1, 0, form=True)
def repetition(completions: Sequence[str], ngram_size: Counts = 4, **_: Any) -> list[float | None]:
    """[K] minus the share of runs of `ngram_size` words that came before in the completion; 0.0 if none did.

    The same is counted for runs of 24 characters, and for the longest loop (such as a row of dots): the largest of the
    three shares counts, so that neither a text without words nor a short one escapes.

    >>> repetition(["a b c d e", "a b c d a b c d", "................"])
    [0.0, -0.2, -0.9375]
    """
    sizes = each(ngram_size, len(completions))
    return [
        0.0 - _repeated(without_tags(completion)[:MAX_CHARS], size)
        for completion, size in zip(completions, sizes, strict=True)
    ]


def _repeated(text: str, size: int) -> float:
    if size < 1:
        raise InputError(f"ngram_size is {size}; it must be at least 1")
    return max(repeated_share(words(text), size), repeated_share(text, 24), looped_share(text))


@ranged(-1, 0, form=True)
def overlong(
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]] | None = None,
    max_tokens: Counts = 1000,
    buffer_tokens: Counts = 250,
    **_: Any,
) -> list[float | None]:
    """[K] soft punishment of overlong completions: DAPO, eq. 13 of https://arxiv.org/abs/2503.14476.

    0.0 up to `max_tokens - buffer_tokens`, then in a line to -1.0 at `max_tokens`, and -1.0 beyond. Texts that have no
    tokens, as where a reward is checked without a model, count one for every four characters.

    >>> overlong(["a b"] * 4, [[1] * 6, [1] * 9, [1] * 10, [1] * 99], max_tokens=10, buffer_tokens=4)
    [0.0, -0.75, -1.0, -1.0]
    """
    limits, buffers = each(max_tokens, len(completions)), each(buffer_tokens, len(completions))
    lengths = (
        [len(text) for text in completions] if completion_ids is None else list(map(len, completion_ids))
    )
    unit = CHARS_PER_TOKEN if completion_ids is None else 1
    scores: list[float | None] = []
    for length, limit, buffer in zip(lengths, limits, buffers, strict=True):
        if not 0 < buffer <= limit:
            raise InputError(
                f"max_tokens is {limit} and buffer_tokens {buffer}; expected 0 < buffer_tokens <= max_tokens"
            )
        scores.append(overlong_penalty(length, unit * limit, unit * buffer))
    return scores
