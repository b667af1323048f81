"""Prices of models: per million tokens, or per hour of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from ..errors import InputError


@dataclass(frozen=True)
class Price:
    """What a model costs, in any currency."""

    prompt: float = 0.0
    """A million tokens of prompts."""
    answer: float = 0.0
    """A million tokens of answers."""
    hour: float = 0.0
    """An hour of the machine that it runs on."""

    @classmethod
    def of(cls, text: str) -> Price:
        """From `PROMPT,ANSWER` per million tokens, or `HOUR/h`.

        >>> Price.of("0.15,0.6"), Price.of("2.5/h")
        (Price(prompt=0.15, answer=0.6, hour=0.0), Price(prompt=0.0, answer=0.0, hour=2.5))
        """
        parts = re.fullmatch(r"\s*([^,/]+)(?:,([^,/]+)|/\s*h)\s*", str(text))
        try:
            first, second = (float(parts[i]) if parts[i] is not None else None for i in (1, 2))  # type: ignore[index]
        except (TypeError, ValueError):
            first = second = None
        if first is None or not all(isfinite(n) and n >= 0 for n in (first, second or 0.0)):
            raise InputError(
                f"price {text!r}: expected PROMPT,ANSWER per million tokens, such as 0.15,0.6, or HOUR/h, such as 2.5/h"
            )
        return cls(hour=first) if second is None else cls(first, second)

    def cost(self, used: Mapping[str, float]) -> float:
        """Of one answer."""
        tokens = used["prompt_tokens"] * self.prompt + used["tokens"] * self.answer
        return tokens / 1e6 + used["seconds"] * self.hour / 3600


def parse_prices(given: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """Model -> price, from `MODEL=PRICE`. InputError: no such model, no price, or two of a model."""
    found: dict[str, str] = {}
    for setting in given:
        name, _, text = setting.rpartition("=")
        if name not in models:
            raise InputError(
                f"--price {setting!r}: expected MODEL=PRICE, where MODEL is one of: {', '.join(models)}"
            )
        Price.of(text)
        if found.setdefault(name, text) != text:
            raise InputError(f"--price gives {name} two prices, {found[name]} and {text}: give one")
    return found
