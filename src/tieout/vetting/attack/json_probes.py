"""Probes for gold that is JSON: fields left out, emptied, zeroed, made up; figures that reconcile with each other only;
citations of one letter; two answers in one text.

Each is one or more changes of gold's value. `changes` gives them by name, and the search combines them.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .gold import Gold
from .probe import Basis, Probe, Setting

Change = Callable[[Any], Any]
"""A new value from a copy of gold's; it may change the copy."""

PLUG = 1234


def json_probes(gold: Gold, setting: Setting) -> Iterator[Probe]:
    """For gold that is JSON; none for another."""
    if gold.kind != "json":
        return
    yield from _shells(gold)
    yield from _omissions(gold)
    for kind, name, basis, change in changes(gold, setting):
        said = put(gold, change(copy.deepcopy(gold.value)))
        if said != put(gold, gold.value):  # there may be no number to change
            yield Probe(kind, name, said, basis)
    yield from _texts(gold)
    yield from _wrong_types(gold)


def put(gold: Gold, value: Any) -> str:
    """A completion with another value in gold's place."""
    return gold.before + dumped(value) + gold.after


def dumped(value: Any) -> str:
    """Compact, as gold often is; NaN and infinities as Python writes them."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def changes(gold: Gold, setting: Setting) -> list[tuple[str, str, Basis, Change]]:
    """(class, name, basis, change): each makes another answer of gold, or one that knows nothing of it."""
    found: list[tuple[str, str, Basis, Change]] = [
        ("format farming", "valid by schema, made up", "free", made_up),
        ("reconciliation", "all zeros", "wrong", lambda v: numbers(v, lambda _: 0)),
        ("reconciliation", "all zeros, made up", "free", lambda v: numbers(made_up(v), lambda _: 0)),
    ]
    for text, number in (("NaN", float("nan")), ("Infinity", float("inf")), ("-Infinity", float("-inf"))):
        found.append(("numeric", f"{text} for all numbers", "wrong", _all_numbers(number)))
        found.append(("numeric", f"{text} for all numbers, made up", "free", _all_numbers(number, made_up)))
    for name, change in (
        ("all signs flipped", lambda n: -n if n else 7),
        ("all numbers ten times", lambda n: n * 10 or 7),
        ("all numbers a hundredth", lambda n: n / 100 if n else 7),
        ("1e308 for all numbers", lambda n: 1e308),
        ("a number of 400 digits", lambda n: 10**400),
        ("true for all numbers", lambda n: True),
    ):
        found.append(("numeric", name, "wrong", _each_number(change)))
    if isinstance(gold.value, dict):
        for key, value in gold.value.items():
            if _is_number(value):
                for name, other in (("NaN", float("nan")), ("ten times", value * 10 or 7)):
                    found.append(("numeric", f"{name} for {key!r}", "wrong", _setting(key, other)))
            if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
                found += _reconciling(key, value, gold.value)
        found += _citing(gold.value, setting)
    return found


def made_up(value: Any) -> Any:
    """The same shape with words and figures that mean nothing."""
    if isinstance(value, dict):
        return {key: made_up(item) for key, item in value.items()}
    if isinstance(value, list):
        return [made_up(item) for item in value]
    if _is_number(value):
        return 987654 if abs(value) != 987654 else 4
    return "lorem ipsum" if isinstance(value, str) else value


def numbers(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same shape with every number changed."""
    if isinstance(value, dict):
        return {key: numbers(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item, change) for item in value]
    return change(value) if _is_number(value) else value


def wrong_value(value: Any) -> Any:
    """The same shape, everything in it wrong."""
    return made_up(numbers(value, lambda n: n * 7 + 13))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _each_number(change: Callable[[Any], Any]) -> Change:
    return lambda value: numbers(value, change)


def _all_numbers(number: float, first: Change = lambda value: value) -> Change:
    return lambda value: numbers(first(value), lambda _: number)


def _setting(key: str, value: Any) -> Change:
    return lambda whole: {**whole, key: value}


def _shells(gold: Gold) -> Iterator[Probe]:
    value = gold.value
    if isinstance(value, dict):
        nothings: tuple[Any, ...] = (None, "", [], {})
        for text, empty in zip(("null", '""', "[]", "{}"), nothings, strict=True):
            yield Probe("shell", f"all fields {text}", put(gold, dict.fromkeys(value, empty)), "form")
        yield Probe("shell", "all fields 0", put(gold, dict.fromkeys(value, 0)), "free")
        typed = {key: _emptied(item) for key, item in value.items()}
        yield Probe("shell", "all fields empty, types right", put(gold, typed), "free")
        for key in value:
            yield Probe("shell", f"only {key!r}, empty", put(gold, {key: _emptied(value[key])}), "free")
            yield Probe("shell", f"only {key!r}, made up", put(gold, {key: made_up(value[key])}), "free")
    empties: tuple[Any, ...] = ({}, [], None, [{}], "")
    for empty in empties:
        yield Probe("shell", "an empty value", put(gold, empty), "form")


def _emptied(value: Any) -> Any:
    return type(value)() if isinstance(value, str | list | dict | int | float) else None


def _omissions(gold: Gold) -> Iterator[Probe]:
    """Each field left out, null or emptied, compared with the same field wrong."""
    if not isinstance(gold.value, dict):
        return
    whole = gold.value
    keys = list(whole)
    for key in keys:
        against = put(gold, {**whole, key: wrong_value(whole[key])})
        rest = {k: v for k, v in whole.items() if k != key}
        upper = {(k.upper() if k == key else k): v for k, v in whole.items()}
        junk = {k: made_up(v) for k, v in rest.items()}
        for name, value in (
            (f"no {key!r}", rest),
            (f"{key!r} null", {**whole, key: None}),
            (f"{key!r} empty", {**whole, key: _emptied(whole[key])}),
        ):
            if value != whole:
                yield Probe("omission", name, put(gold, value), "omitted", against)
        yield Probe("omission", f"no {key!r}, the rest made up", put(gold, junk), "free")
        renamed = {k: (wrong_value(v) if k == key.upper() else v) for k, v in upper.items()}
        if key.upper() != key:
            yield Probe("json", f"{key!r} in capitals, wrong", put(gold, renamed), "omitted", against)
        items = whole[key]
        if isinstance(items, list) and items and isinstance(items[0], dict):
            for field in items[0]:
                fewer = [{k: v for k, v in i.items() if k != field} for i in items if isinstance(i, dict)]
                bad = [{**i, field: wrong_value(i.get(field))} for i in items if isinstance(i, dict)]
                yield Probe(
                    "omission",
                    f"no {field!r} in {key!r}",
                    put(gold, {**whole, key: fewer}),
                    "omitted",
                    put(gold, {**whole, key: bad}),
                )
    for first in keys:
        for second in keys[keys.index(first) + 1 :]:
            rest = {k: v for k, v in whole.items() if k not in (first, second)}
            spoiled = {k: (wrong_value(v) if k in (first, second) else v) for k, v in whole.items()}
            name = f"no {first!r} and no {second!r}"
            yield Probe("omission", name, put(gold, rest), "omitted", put(gold, spoiled))


def _reconciling(
    key: str, items: list[dict[str, Any]], whole: Mapping[str, Any]
) -> list[tuple[str, str, Basis, Change]]:
    """Figures that add up and are not gold's: a plug line, offending items deleted."""
    found: list[tuple[str, str, Basis, Change]] = []
    for field in [f for f, v in items[0].items() if _is_number(v)]:
        sums = [k for k, v in whole.items() if _is_number(v)]
        texts = [f for f, v in items[0].items() if isinstance(v, str)]

        def plug(value: Any, field: str = field, texts: list[str] = texts, sums: list[str] = sums) -> Any:
            line = {**value[key][0], field: PLUG, **dict.fromkeys(texts, "Other")}
            value[key].append(line)
            return {**value, **{k: value[k] + PLUG for k in sums}}

        def balance(value: Any, field: str = field, texts: list[str] = texts, sums: list[str] = sums) -> Any:
            first = value[key][0]
            gap = sum(i.get(field, 0) for i in value[key][1:]) + first[field]
            line = {**first, field: gap - first[field], **dict.fromkeys(texts, "Other")}
            return (
                {**value, key: [{**first}, line]}
                if len(value[key]) > 2
                else {**value, key: [{**line, field: gap}]}
            )

        def deleted(value: Any, field: str = field, sums: list[str] = sums) -> Any:
            kept = value[key][:1]
            return {**value, key: kept, **dict.fromkeys(sums, kept[0][field])}

        found.append(("reconciliation", f"a plug line in {key!r}", "wrong", plug))
        found.append(("reconciliation", f"a plug line in place of the rest of {key!r}", "wrong", balance))
        if len(items) > 1:
            found.append(("reconciliation", f"all but one of {key!r} deleted", "wrong", deleted))
    return found


def _citing(whole: Mapping[str, Any], setting: Setting) -> list[tuple[str, str, Basis, Change]]:
    """For fields that quote a source: quotes of one letter, one word, everything."""
    found: list[tuple[str, str, Basis, Change]] = []
    for key, value in whole.items():
        quotes = value if isinstance(value, list) else [value]
        if not quotes or not all(isinstance(q, str) and len(q) > 3 for q in quotes):
            continue
        for source in setting.sources:
            flat = " ".join(source.split())
            if not any(" ".join(q.split()) in flat for q in quotes):
                continue
            letters = re.findall(r"[a-z]", source) or ["a"]
            words = [w for w in re.findall(r"[A-Za-z]{3,}", source) if w not in quotes] or ["the"]
            lines = [line for line in source.splitlines() if line.strip()]
            letter = max(set(letters), key=letters.count)
            for name, text in (
                ("one letter", letter),
                ("one word", words[0]),
                ("nothing", ""),
                ("a space", " "),
            ):
                cited = [text] * len(quotes) if isinstance(value, list) else text
                once = [text] if isinstance(value, list) else text
                found.append(("regurgitation", f"{key!r} quotes {name}", "wrong", _setting(key, cited)))
                found.append(("regurgitation", f"{key!r} quotes {name} once", "wrong", _setting(key, once)))
                made = _made_up_but(key, once)
                found.append(("regurgitation", f"{key!r} quotes {name}, the rest made up", "free", made))
            everything = lines if isinstance(value, list) else source
            copied = [source] if isinstance(value, list) else source
            if len(lines) > 2 * len(quotes):
                found.append(
                    ("regurgitation", f"{key!r} quotes everything", "wrong", _setting(key, everything))
                )
            if len(flat) > 2 * len(" ".join(quotes)):
                found.append(
                    ("regurgitation", f"{key!r} quotes the whole source", "wrong", _setting(key, copied))
                )
            break
    return found


def _made_up_but(key: str, value: Any) -> Change:
    return lambda whole: {**numbers(made_up(whole), lambda _: 0), key: value}


def _texts(gold: Gold) -> Iterator[Probe]:
    """What JSON texts, not values, can do."""
    right, wrong = gold.answer, dumped(wrong_value(gold.value))
    yield Probe("json", "two objects, right first", gold.before + right + wrong + gold.after, "wrong")
    yield Probe(
        "json", "two objects on two lines, right first", f"{gold.before}{right}\n{wrong}{gold.after}", "wrong"
    )
    fenced = f"```json\n{right}\n```\n```json\n{wrong}\n```"
    yield Probe("json", "two fences, right first", fenced, "wrong")
    yield Probe("json", "right before the fence, wrong in it", f"{right}\n```json\n{wrong}\n```", "wrong")
    yield Probe(
        "contradiction", "the object, denied", f"This is wrong: {right}\nThis is right: {wrong}", "wrong"
    )
    if isinstance(gold.value, dict) and gold.value:
        members = ",".join(dumped({k: v})[1:-1] for k, v in gold.value.items())
        others = ",".join(dumped({k: wrong_value(v)})[1:-1] for k, v in gold.value.items())
        twice = f"{{{members},{others}}}"
        yield Probe("json", "every key twice, right first", gold.before + twice + gold.after, "wrong")
        texts = numbers(gold.value, str)
        yield Probe("json", "numbers as text", put(gold, texts), "same")
        yield Probe(
            "json", "wrong numbers as text", put(gold, numbers(texts_wrong(gold.value), str)), "wrong"
        )
    yield Probe("json", "text after the object", f"{gold.text} }} ]", "same")
    for depth in (200, 5_000):
        yield Probe("json", "nested deep", gold.before + "[" * depth + "]" * depth + gold.after, "free")
        yield Probe(
            "json", "nested deep", gold.before + '{"a":' * depth + "0" + "}" * depth + gold.after, "free"
        )
    yield Probe("json", "the value of a literal", gold.before + "NaN" + gold.after, "free")


def texts_wrong(value: Any) -> Any:
    """Other numbers, the rest as it is; something made up where there is no number."""
    other = numbers(value, lambda n: n * 7 + 13)
    return other if other != value else made_up(value)


def _wrong_types(gold: Gold) -> Iterator[Probe]:
    """What makes a careless reward raise: each field of a type that is not its own."""
    if not isinstance(gold.value, dict):
        return
    others: tuple[Any, ...] = ("x", None, 0, [], {}, [1, 2], [None], [{}], [[]], {"a": 1}, True, 1e308)
    for key, value in gold.value.items():
        for other in others:
            if type(other) is not type(value) or isinstance(other, list):
                made = {**gold.value, key: other}
                yield Probe("harness", f"{key!r} is {dumped(other)}", put(gold, made), "same")
