"""Tagged unions in plain values: a mapping in which one key, such as `train`, says what the item is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .fields import ConfigError, nearest


def tag_of(item: Any, tags: Iterable[str], where: str) -> str:
    """The one key of `item` that is a tag. ConfigError: there is none (the nearest is named), or more than one.

    >>> tag_of({"train": "dpo", "beta": 0.3}, ["train", "pairs"], "recipe.yaml: stages[1]")
    'train'
    """
    tags = list(tags)
    if not isinstance(item, Mapping):
        shown = f"; write `{item}: {{}}`" if item in tags else ""
        raise ConfigError(
            f"{where} is {item!r}; expected keys and values, one of them from: {', '.join(tags)}{shown}"
        )
    found = [str(key) for key in item if key in tags]
    if len(found) > 1:
        raise ConfigError(f"{where} is {' and '.join(map(repr, found))} at once; write an item for each")
    if not found:
        hints = (nearest(str(key), tags) for key in item)
        hint = next(filter(None, hints), "")
        given = ", ".join(map(repr, item)) or "nothing"
        raise ConfigError(f"{where} has {given}; expected one key of: {', '.join(tags)}{hint}")
    return found[0]
