"""Probes for gold that says something in words: one figure changed, a name swapped, denied, its direction turned; and
what the row's lists hold, without saying anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ...rewards.text.sentences import content, sentences
from ...tasks.wrong_statements import wrong_statements
from .gold import Gold
from .json_probes import put
from .probe import Probe, Setting

MANY_SENTENCES = 10
"""One fault among more is a small one: then every sentence is made wrong at once."""
MANY_ITEMS = 20
MAX_OF_A_KIND = 6


def statement_probes(gold: Gold, setting: Setting) -> Iterator[Probe]:
    """For gold of a text, and the texts in gold that is JSON, unless they are copied from a source."""
    if gold.kind == "text":
        if gold.number is None:
            yield from _wrong(gold.answer, gold.replaced, setting)
        free = not gold.tags and not gold.marked
        if setting.grounded and free and gold.answer != gold.text.strip():
            yield from _wrong(gold.text, lambda changed: changed, setting)
    elif gold.kind == "json":
        for key in _keys(gold.value):
            texts = list(_texts(gold.value, key))
            if any(" ".join(t.split()) in s for t in texts for s in setting.flat_sources):
                continue
            # All texts of a key together: one of many may cost little, and rightly.
            for kind in ("one figure changed", "direction turned", "denied", "another name"):
                changed = _changed(gold.value, key, partial(_first, kind=kind, names=setting.names))
                if changed != gold.value:
                    yield Probe("statement", f"{kind} in {key!r}", put(gold, changed), "wrong")


def list_probes(gold: Gold, setting: Setting) -> Iterator[Probe]:
    """All items of each list that the reward asks for, such as keywords; or, where they are gold, all but one."""
    for name, items in setting.lists.items():
        if len(items) < 2 or gold.kind != "text":
            continue
        # Nothing but the items: then the list is the answer, in whatever order.
        if content(gold.answer).keys() <= content(" ".join(items)).keys():
            if len(items) < MANY_ITEMS and all(item in gold.answer for item in items):
                for kept in (items[:-1], items[1:]):
                    yield Probe("omission", f"one of {name!r} left out", gold.frame(", ".join(kept)), "wrong")
            continue
        for how, joined in (
            ("", ", ".join(items)),
            (", one per line", "\n".join(items)),
            (", no commas", " ".join(items)),
        ):
            yield Probe("stuffing", f"all of {name!r}{how}", joined, "words")
            yield Probe("stuffing", f"all of {name!r}{how}, in gold's form", gold.frame(joined), "words")


def _wrong(text: str, put: Callable[[str], str], setting: Setting) -> Iterator[Probe]:
    said = sentences(text)
    if len(said) > MANY_SENTENCES:
        changed = text
        for sentence in said:
            made = next((t for _, t in wrong_statements(sentence, setting.names)), sentence)
            changed = changed.replace(sentence, made, 1)
        yield Probe("statement", "every sentence made wrong", put(changed), "wrong")
        return
    seen: dict[str, int] = {}
    for kind, changed in wrong_statements(text, setting.names):
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= MAX_OF_A_KIND:
            yield Probe("statement", kind, put(changed), "wrong")


def _first(text: str, kind: str, names: Sequence[str]) -> str:
    return next((t for k, t in wrong_statements(text, names) if k == kind), text)


def _keys(value: Any) -> list[str]:
    """The keys with texts of more than a word below an object, each once."""
    found: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            if any(re.search(r"\w\s+\w", text) for text in islice(_texts({key: item}, key), 50)):
                found.append(key)
            found += _keys(item)
    elif isinstance(value, list):
        for item in value:
            found += _keys(item)
    return list(dict.fromkeys(found))


def _texts(value: Any, key: str) -> Iterator[str]:
    """The texts under a key, at any depth: its own, or those of its list."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield from (t for t in (item if isinstance(item, list) else [item]) if isinstance(t, str))
            yield from _texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _changed(value: Any, key: str, change: Callable[[str], str], inside: bool = False) -> Any:
    if isinstance(value, dict):
        return {name: _changed(item, key, change, name == key) for name, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, key, change, inside) for item in value]
    return change(value) if inside and isinstance(value, str) else value
