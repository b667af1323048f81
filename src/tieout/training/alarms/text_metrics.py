"""What sampled completions look like, in numbers to watch: repetition, refusals, empty and foreign ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, MutableMapping, Sequence
from statistics import fmean

from ...types import Group, Prompt
from ..monitors import Monitor

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i can(?:no|')t (?:help|assist|answer|provide|do)|as an ai\b)",
    re.IGNORECASE,
)


def texts(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
    """A monitor: shares of what was just sampled, as `repetition`, `refusal`, `empty` and `other_script`.

    Repetition: half or more of the runs of four words (or, without spaces, of characters) occurred before. Refusal: an
    English phrase of one. Other script: most letters are of scripts that the prompt has none of.
    """
    sampled = _sampled(groups)
    if not sampled:
        return
    metrics["repetition"] = fmean(repeats(text) >= 0.5 for text, _ in sampled)
    metrics["refusal"] = fmean(bool(_REFUSAL.search(text)) for text, _ in sampled)
    metrics["empty"] = fmean(not text.strip() for text, _ in sampled)
    prompts = {id(group): scripts(prompt_text(group.row.get("prompt", ""))) for _, group in sampled}
    metrics["other_script"] = fmean(_foreign(text, prompts[id(group)]) for text, group in sampled)


def validity(is_valid: Callable[[str], bool], name: str = "valid") -> Monitor:
    """A monitor that adds the share of sampled completions that are `is_valid`, such as JSON that parses."""

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if sampled := [text for text, _ in _sampled(groups)]:
            metrics[name] = fmean(is_valid(text) for text in sampled)

    return monitor


def repeats(text: str, n: int = 4) -> float:
    """Share of the text's n-grams that occurred before in it; 0 for a text too short to tell (under 2n of them).

    >>> repeats("no no no no no no no no no no no no"), repeats("each word of this line stands here only once, you see")
    (0.8888888888888888, 0.0)
    """
    words: Sequence[str] = text.split()
    if len(words) < 3 * n - 1 and 2 * n < len(text) // 8:  # too few spaces for 2n n-grams: count characters
        words, n = text, 4 * n
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= 2 * n else 0.0


def scripts(text: str) -> dict[str, int]:
    """Script -> letters of it, by the first word of their Unicode names: LATIN, CYRILLIC, CJK, ARABIC ..."""
    found: dict[str, int] = {}
    for letter in filter(str.isalpha, text):
        script = "LATIN" if letter.isascii() else unicodedata.name(letter, "?").split()[0]
        found[script] = found.get(script, 0) + 1
    return found


def prompt_text(prompt: Prompt) -> str:
    """All that the prompt says."""
    return prompt if isinstance(prompt, str) else " ".join(message["content"] for message in prompt)


def _foreign(text: str, known: dict[str, int]) -> bool:
    own = scripts(text)
    return sum(n for script, n in own.items() if script not in known) > sum(own.values()) / 2


def _sampled(groups: Sequence[Group]) -> list[tuple[str, Group]]:
    return [(c.text, g) for g in groups for c in g.completions if c.logprobs is not None]
