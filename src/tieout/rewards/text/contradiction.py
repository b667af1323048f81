"""Whether one sentence contradicts another: a denial, a direction turned round, figures or opposites in other places.

Rise and fall and the other opposites (see `opposites`) are facts, as figures are, and so is who acquired whom. Where
two sentences have the same words in the same places but for a few, each place must hold the same figure and no
opposite. Otherwise each word with a direction or sign must find its own near the same words.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from .amounts import read, spelled
from .opposites import SIGNED, change, ends, opposite
from .sentences import STOPWORDS, negations, terms

_ALIKE = 0.75
"""Share of words in the same order from which two sentences are compared place by place."""
_SCOPE = 3
"""How many words after a denial it may deny."""
_HOLLOW = STOPWORDS | {"true", "correct", "case", "fact"}
_JOINING = frozenset(("and", "or", "but", "while", "whereas", "as"))
"""Words around which the parts of a sentence may change places."""
_REACH = 4
"""How many words to each side say what a word with a direction is about."""
_WINDOW = 24
"""How far they are looked for."""


def opposed(one: str, other: str) -> bool:
    """Whether one text contradicts the other, as far as words show it.

    >>> opposed("Costs rose.", "Costs did not rise."), opposed("Costs rose.", "Costs fell."), opposed("a", "b")
    (True, True, False)
    >>> opposed("Sales fell as higher prices met lower costs.", "Sales rose as higher prices met lower costs.")
    True
    """
    here, there = _tokens(one), _tokens(other)
    if negations(one) % 2 != _denials(there, here) % 2:
        return True
    if _swapped(here, there):
        return True
    alike = SequenceMatcher(None, here, there, autojunk=False)
    if len(here) == len(there) and 3 * sum(map(operator.ne, here, there)) <= len(here):
        return any(_turned(here[i], there[i]) for i in _exchanged(here, there)) or _unmatched(here, there)
    if min(alike.real_quick_ratio(), alike.quick_ratio()) >= _ALIKE and alike.ratio() >= _ALIKE:
        return any(
            _turned(a, b)
            for kind, i, j, k, m in alike.get_opcodes()
            if kind == "replace" and j - i == m - k
            for a, b in zip(here[i:j], there[k:m], strict=True)
        ) or _unmatched(here, there)
    return _unmatched(here, there)


def _exchanged(here: Sequence[str], there: Sequence[str]) -> Iterator[int]:
    """The places in which two texts of one length differ, but for `losses and gains` in place of `gains and losses`."""
    for i in range(len(here)):
        around = (slice(max(0, i - 2), i + 1), slice(i, i + 3))
        if here[i] != there[i] and not any(_same_pair(here[pair], there[pair]) for pair in around):
            yield i


def _swapped(here: Sequence[str], there: Sequence[str]) -> bool:
    """Whether words of one text stand in each other's places, around what links them: `A acquired B`, not `A and B`."""
    places = [i for i in range(len(here)) if here[i] != there[i]] if len(here) == len(there) else []
    half = len(places) // 2
    first, second = places[:half], places[half:]
    if not half or [here[i] for i in places] != [there[i] for i in (*second, *first)]:
        return False
    between = set(here[first[-1] + 1 : second[0]])
    return bool(between) and not between & _JOINING and not STOPWORDS & {here[i] for i in places}


def _same_pair(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == 3 and one[1] in ("and", "or") and one == other[::-1]


def _denials(there: Sequence[str], here: Sequence[str]) -> int:
    """How many denials of one text deny something that the other speaks of: the words after each, the nearest most."""
    count, spoken = 0, {_stem(token) for token in here}
    for place, token in enumerate(there):
        if negations(token) or negations(" ".join(there[place : place + 2])) > negations(
            " ".join(there[place + 1 : place + 2])
        ):
            scope = [
                _stem(t) for t in there[place + 1 : place + _WINDOW] if t not in _HOLLOW and not negations(t)
            ][:_SCOPE]
            scope = (
                scope
                or [_stem(t) for t in there[max(0, place - _WINDOW) : place][::-1] if t not in _HOLLOW][
                    :_SCOPE
                ]
            )
            weights = {word: 1 / distance for distance, word in reversed(list(enumerate(scope, 1)))}
            count += 2 * sum(weight for word, weight in weights.items() if word in spoken) >= sum(
                weights.values()
            )
    return count


def _stem(token: str) -> str:
    return "~" if change(token) is not None else token[:6]


def _turned(said: str, source: str) -> bool:
    """Whether `said` in the place of `source` says the opposite, or leaves out which way it went."""
    if said[0] == source[0] == "#":
        return said != source
    if opposite(said, source):
        return True
    way = change(source)
    return way is not None and change(said) != way and not ends(said) & ends(source)


def _unmatched(here: Sequence[str], there: Sequence[str]) -> bool:
    """Whether a word with a direction or sign has its opposite near the words that it is about, and not itself."""
    candidates = _signed(tuple(there))
    for word, about in _signed(tuple(here)):
        same = other = -1.0
        for candidate, others in candidates:
            near = sum(min(weight, others.get(term, 0.0)) for term, weight in about.items())
            if ends(word) & ends(candidate) & SIGNED:
                same = max(same, near)
            elif opposite(word, candidate):
                other = max(other, near)
        if other > same:
            return True
    return False


@lru_cache(maxsize=1024)
def _signed(tokens: tuple[str, ...]) -> Sequence[tuple[str, dict[str, float]]]:
    """The words with a direction or sign, and what each is about."""
    return [(word, _about(tokens, place)) for place, word in enumerate(tokens) if ends(word) & SIGNED]


def _about(tokens: Sequence[str], place: int) -> dict[str, float]:
    """The nearest words and figures to either side, each with a weight that falls with its distance."""
    found: dict[str, float] = {}

    for side in (
        range(place - 1, max(-1, place - _WINDOW), -1),
        range(place + 1, min(len(tokens), place + _WINDOW)),
    ):
        distance = 0
        for position in side:
            token = tokens[position]
            if token in STOPWORDS or ends(token) & SIGNED:
                continue
            distance += 1
            if distance > _REACH:
                break
            found[token[:6]] = max(found.get(token[:6], 0.0), 1 / distance)
    return found


@lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[str, ...]:
    """The words of a text in order, a figure as its value and unit."""
    return tuple(_in_order(text))


def _in_order(text: str) -> Iterator[str]:
    place = 0
    for found in sorted([*read(text)[0], *spelled(text)], key=lambda found: found.start):
        if found.start >= place:
            yield from terms(text[place : found.start])
            value, unit = found.amount
            yield f"#{value.normalize()}{unit}"
            place = found.start + len(found.shown)
    yield from terms(text[place:])
