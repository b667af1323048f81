"""Parse and check structured answers: strict JSON, schema, figures that reconcile, citations that resolve.

These are the pieces; a task says what each is worth. None of them raises on any string that a model wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from ...errors import InputError
from .fences import fences
from .figures import Number, printed
from .presentation import plain
from .thinking import answer_text

_MARK = re.compile(r"\s*\(\d{1,2}\)$")
"""A footnote mark after a label: `Goodwill (1)`."""

Figure = tuple[str, float]
"""A normalised name and its value."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What `parse_json` made of a text: `value`, or the reason why there is none."""

    value: Any = None
    error: str = ""
    """Empty exactly if the text was parsed."""


def parse_json(text: str, *, max_chars: int = 20_000, max_depth: int = 16, max_digits: int = 40) -> Parsed:
    """Parse one JSON value, bare or in one Markdown fence, with nothing before it but thinking, nothing after it.

    Refused, beyond what the standard refuses: duplicate keys, NaN and infinities (also as 1e999), numbers of
    more than `max_digits` characters, nesting deeper than `max_depth`, texts longer than `max_chars`.
    """
    whole = _parse(text, max_chars, max_depth, max_digits)  # its strings may speak of tags
    answer = answer_text(text) if whole.error else text
    return whole if answer == text else _parse(answer, max_chars, max_depth, max_digits)


def _parse(text: str, max_chars: int, max_depth: int, max_digits: int) -> Parsed:
    if len(text) > max_chars:
        return Parsed(error=f"{len(text)} characters, more than {max_chars}")
    text = text.strip()
    fenced = fences(text) if text[:1] in ("`", "~") else []
    if len(fenced) == 1 and len(text) == fenced[0].end and fenced[0].info.casefold() in ("", "json"):
        text = fenced[0].body

    def number(kind: Callable[[str], float]) -> Callable[[str], float]:
        def parse(literal: str) -> float:
            if len(literal) > max_digits:
                raise InputError(f"a number of {len(literal)} characters, more than {max_digits}")
            value = kind(literal)
            if not math.isfinite(value):
                raise InputError(f"{literal} is not finite")
            return value

        return parse

    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=number(int),
            parse_float=number(float),
        )
    except RecursionError:
        return Parsed(error=f"nested deeper than {max_depth}")
    except ValueError as error:
        return Parsed(error=str(error))
    if _deeper(value, max_depth):
        return Parsed(error=f"nested deeper than {max_depth}")
    return Parsed(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = Counter(key for key, _ in pairs)
    if len(keys) < len(pairs):
        raise InputError(f"duplicate key {keys.most_common(1)[0][0]!r}")
    return dict(pairs)


def _constant(literal: str) -> NoReturn:
    raise InputError(f"{literal} is not JSON")


def _deeper(value: Any, max_depth: int) -> bool:
    """Whether containers nest more than `max_depth` levels; a loop, so that depth cannot hurt."""
    level = [value]
    for _ in range(max_depth):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return any(isinstance(node, dict | list) for node in level)


def holds(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether `value` fits the JSON schema (draft 2020-12). A bool is not a number."""
    return bool(_validator(json.dumps(schema, sort_keys=True)).is_valid(value))


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    # jsonschema takes a while to import: only those who score pay for it.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))


def warm_up() -> None:
    """Import now what the first completion would import: workers do, before anybody's deadline."""
    holds({}, {})


def normalise_space(text: str) -> str:
    """Presentation removed: runs of white space become one space, none at the ends; quotes and dashes are plain."""
    return " ".join(plain(text).split())


def normalise_name(name: str) -> str:
    """A row label for comparison: white space, case and a footnote mark at the end do not count."""
    return _MARK.sub("", normalise_space(name)).casefold()


def reconciles(parts: Sequence[Number], total: Number, *, tolerance: Number = 0) -> bool:
    """Whether there are parts, all is finite, and they add up to `total` within `tolerance`, in printed decimals.

    No parts never reconcile, not even with 0: leaving out what would be checked is not passing the check.
    """
    if not parts or not all(math.isfinite(value) for value in (*parts, total)):
        return False
    return abs(sum(map(printed, parts)) - printed(total)) <= printed(tolerance)


def match_figures(given: Sequence[Figure], expected: Sequence[Figure]) -> tuple[int, int]:
    """(figures with the right name and value, further figures with the right name only), as multisets."""
    exact = Counter(given) & Counter(expected)
    names_left = Counter(name for name, _ in (Counter(given) - exact).elements())
    names_wanted = Counter(name for name, _ in (Counter(expected) - exact).elements())
    return exact.total(), (names_left & names_wanted).total()


def contains_whole(text: str, span: str) -> bool:
    """Whether `span` occurs in `text` without cutting a word or a figure at either end.

    `contains_whole("Cash 1,234", "Cash 1,2")` is false.
    """
    start = text.find(span) if span else -1
    while start >= 0:
        end = start + len(span)
        if not _cuts(text, start) and not _cuts(text, end):
            return True
        start = text.find(span, start + 1)
    return False


def _cuts(text: str, place: int) -> bool:
    """Whether the place between two characters lies inside a word or a figure."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if before.isalnum() and after.isalnum():
        return True
    # 1|,234 and 1,|234 and (|1,234|) and -|5 and 5|% are inside a figure.
    if before.isdigit():
        return after in ")%" or (after in ",." and text[place + 1 : place + 2].isdigit())
    return after.isdigit() and before in ",.(-"


def resolve_citation(citation: str, source: str, *, min_chars: int = 6) -> str | None:
    """The line of `source`, white space normalised, that holds the citation; None if none does.

    A citation resolves if it is a verbatim piece of one line, whatever its white space, quotes and dashes, cuts no word
    or figure, and has at least `min_chars` characters. It never spans lines: the whole source is not a citation.
    """
    span = normalise_space(citation)
    if len(span) < min_chars:
        return None
    lines = (normalise_space(line) for line in source.splitlines())
    return next((line for line in lines if contains_whole(line, span)), None)


def match_citations(citations: Sequence[str], evidence: Sequence[str], source: str) -> tuple[int, int]:
    """(figures cited, citations that support none).

    `evidence` has, for each figure, the shortest piece of the source that shows its label and the figure: a
    citation supports the figure if it resolves and contains that. Each citation counts once; those that support
    none are not in the source, too short, of another row, or repeated.
    """
    needed = Counter(normalise_space(piece) for piece in evidence)
    surplus = 0
    for citation in citations:
        span = normalise_space(citation)
        resolved = resolve_citation(citation, source) is not None
        supported = next((piece for piece in needed if resolved and contains_whole(span, piece)), None)
        if supported is None:
            surplus += 1
        else:
            needed -= Counter([supported])
    return len(evidence) - needed.total(), surplus


def cited_share(citations: Sequence[str], evidence: Sequence[str], source: str) -> float:
    """How many of the figures are cited, from 0 to 1; 1 exactly if each is and nothing else is.

    Of what `match_citations` finds: matched / (matched + missing + surplus).
    """
    matched, surplus = match_citations(citations, evidence, source)
    whole = len(evidence) + surplus
    return matched / whole if whole else 0.0
