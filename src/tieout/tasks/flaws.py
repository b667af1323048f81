"""Flawed copies of a gold completion, for pairs of gold against flawed: rules that look at what the completion holds.

    flawed("Revenue rose to 1,234 million.", random.Random(0))   # a Flawed: text, with the rule that made it

Figures get another digit, another sign or another scale; JSON is cut off or loses a key; a citation is dropped; a
statement is turned into its opposite, or names another. A flaw need not cost anything under a reward that looks
elsewhere: score it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..rewards.text.structured import parse_json
from ..rewards.text.thinking import around_answer
from ..types import Row
from .wrong_statements import FIGURE, SCALE, SCALES, denied, names, renamed, turned

JSONFlaw = Callable[[dict[str, Any], Row, random.Random], None]
"""Flaws a reply in place, given its row."""
TRUNCATED = "truncated"


class Flawed(str):
    """A flawed completion, and the rule that made it."""

    rule: str = ""
    form: bool = False
    """Whether only its form is flawed."""


@dataclass(frozen=True)
class Rule:
    """A way to flaw a text; None where the text holds nothing that it could change."""

    change: Callable[[str, random.Random], str | None]
    form: bool = False
    """Whether it leaves the substance alone."""


_CITED_KEY = re.compile(r"citation|cited|source|evidence|reference|quote", re.IGNORECASE)
_CITATION = re.compile(
    r"\s*(?:\[[^\[\]\n]{1,80}\]|\((?:source|see|p\.|page|note)\b[^()\n]{1,80}\))", re.IGNORECASE
)


# --- figures ------------------------------------------------------------------------------------------------


def _figure(text: str, rng: random.Random) -> re.Match[str] | None:
    """Any figure of the text but zero."""
    found = [match for match in FIGURE.finditer(text) if match["number"].strip("0.,")]
    return rng.choice(found) if found else None


def _put(text: str, start: int, end: int, other: str) -> str:
    return text[:start] + other + text[end:]


def another_digit(text: str, rng: random.Random) -> str | None:
    """One digit of a figure is another one."""
    if (match := _figure(text, rng)) is None:
        return None
    place = rng.choice([match.start("number") + i for i, c in enumerate(match["number"]) if c.isdigit()])
    return _put(text, place, place + 1, rng.choice([digit for digit in "123456789" if digit != text[place]]))


def another_sign(text: str, rng: random.Random) -> str | None:
    """A figure is negative in place of positive, or the other way round."""
    if (match := _figure(text, rng)) is None:
        return None
    negative = match["sign"] or (match["open"] and match["close"])
    if negative:
        return _put(text, *match.span(), match["number"])
    return _put(text, *match.span("number"), f"-{match['number']}")


def another_scale(text: str, rng: random.Random) -> str | None:
    """A figure is in millions in place of thousands, or its point is elsewhere."""
    words = list(SCALE.finditer(text))
    if words:
        word = rng.choice(words)
        return _put(text, *word.span(), rng.choice([s for s in SCALES if s != word[0].lower()]))
    if (match := _figure(text, rng)) is None:
        return None
    number = match["number"]
    whole, point, decimals = number.partition(".")
    if point:
        return _put(text, *match.span("number"), f"{whole}{decimals}".lstrip("0") or "0")
    return _put(text, *match.span("number"), f"{number},000" if "," in number else f"{number}000")


# --- JSON ---------------------------------------------------------------------------------------------------


def cut_off(text: str, rng: random.Random) -> str | None:
    """JSON ends too early."""
    if not isinstance(parse_json(text).value, dict | list):
        return None
    return text[: rng.randrange(len(text) // 4, len(text) - 1)]


def without_key(text: str, rng: random.Random) -> str | None:
    """JSON lacks one key, at any depth."""
    value = parse_json(text).value
    places = [(node, key) for node in _objects(value) for key in node]
    if not places:
        return None
    node, key = rng.choice(places)
    del node[key]
    return _dump(value, text)


def without_citation(text: str, rng: random.Random) -> str | None:
    """A citation is left out: an entry of a list of JSON that holds them, or a bracketed one in prose."""
    value = parse_json(text).value
    if isinstance(value, dict | list):
        lists = [
            v
            for node in _objects(value)
            for k, v in node.items()
            if _CITED_KEY.search(k) and isinstance(v, list)
        ]
        places = [(entries, i) for entries in lists for i in range(len(entries))]
        if not places:
            return None
        entries, place = rng.choice(places)
        del entries[place]
        return _dump(value, text)
    found = list(_CITATION.finditer(text))
    return _put(text, *rng.choice(found).span(), "") if found else None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _dump(value: Any, like: str) -> str:
    """JSON, spaced as another text is."""
    if "\n" in like.strip():
        return json.dumps(value, ensure_ascii=False, indent=2)
    return json.dumps(value, ensure_ascii=False, separators=None if '": ' in like else (",", ":"))


# --- prose --------------------------------------------------------------------------------------------------


def opposite(text: str, rng: random.Random) -> str | None:
    """A statement says the opposite: denied, no longer denied, or with the opposite word."""
    found = [*denied(text), *turned(text)]
    return rng.choice(found) if found else None


def another_name(text: str, rng: random.Random) -> str | None:
    """A name in a sentence is another; JSON is left as it is."""
    found = [] if isinstance(parse_json(text).value, dict | list) else list(renamed(text, names(text)))
    return rng.choice(found) if found else None


RULES: Mapping[str, Rule] = {
    "another digit": Rule(another_digit),
    "another sign": Rule(another_sign),
    "another scale": Rule(another_scale),
    "citation left out": Rule(without_citation),
    "the opposite": Rule(opposite),
    "another name": Rule(another_name),
    "JSON cut off": Rule(cut_off, form=True),
    "JSON key left out": Rule(without_key, form=True),
}


def flawed(text: str, rng: random.Random) -> Flawed:
    """A copy of the text with one flaw, by a rule that fits it, drawn at random; the text itself where none does.

    The flaw is in the answer: thinking before it stays as it is.
    """
    before, answer, after = around_answer(text)
    for name in rng.sample(list(RULES), len(RULES)):
        changed = RULES[name].change(answer, rng)
        if changed is not None and changed.strip() != answer.strip():
            made = Flawed(before + changed + after)
            made.rule, made.form = name, RULES[name].form
            return made
    return Flawed(text)


def with_flaw(
    gold: str, row: Row, rng: random.Random, flaws: Mapping[str, JSONFlaw], flaw: str | None = None
) -> str:
    """A gold completion in JSON with one flaw of `flaws`, or `truncated`; drawn if not given."""
    flaw = flaw or rng.choice([*flaws, TRUNCATED])
    if flaw == TRUNCATED:
        return gold[: rng.randrange(len(gold) // 4, len(gold))]
    if flaw not in flaws:
        raise InputError(f"no flaw {flaw!r}; there are: {', '.join([*flaws, TRUNCATED])}")
    reply: dict[str, Any] = json.loads(gold)
    flaws[flaw](reply, row, rng)
    return compact(reply)


def compact(reply: Mapping[str, Any]) -> str:
    """JSON as completions are written."""
    return json.dumps(reply, separators=(",", ":"), ensure_ascii=False)
