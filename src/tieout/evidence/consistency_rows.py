"""What a model is asked again to see whether its answers are consistent: variants of rows, and the same prompt."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.attribute import load_attribute
from ..config.plain import to_plain
from ..errors import InputError
from ..rewards.scoring.runner import check_reward
from ..rows.checks import with_prompts
from ..rows.spread import spread
from ..tasks import Task
from ..tasks.variants import Vary, surrounded
from ..types import Prompt, Row
from .evaluate import case_id

SAME_PROMPT = "same_prompt"
"""The kind of what is not put otherwise, but sampled several times."""
FORMATTING = "formatting"

Tell = Callable[[Prompt], Any]
"""What a model is given of a prompt: two prompts that are the same to it are no variants."""


@dataclass(frozen=True)
class Consistency:
    """What is asked again, and how. Off unless `max_rows` is set."""

    max_rows: int = 0
    """Test rows to ask again, spread over all that are evaluated; 0: none."""
    repeats: int = 4
    """Samples of the same prompt; 0 leaves them out."""
    temperature: float = 0.7
    """Of these samples. Variants are answered greedily, as the test rows are."""
    kinds: tuple[str, ...] = ()
    """Kinds of variants. Left out: all that the task or `variants` has, and `formatting` of any single-turn task."""
    variants: str = ""
    """Your own: FILE.py:function of a row and a random generator, which gives kind -> row."""

    def __post_init__(self) -> None:
        if self.max_rows < 0:
            raise InputError(f"max_rows of consistency is {self.max_rows}; it must be 0 (off) or more")
        if self.repeats < 0 or self.repeats == 1:
            raise InputError(f"repeats is {self.repeats}; expected 0 (none), or at least 2 to compare")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; repeats of greedy answers are all the same")
        if SAME_PROMPT in self.kinds:
            raise InputError(f"kinds name {SAME_PROMPT!r}, which is no variant; `repeats` asks for it")


@dataclass(frozen=True)
class Again:
    """One more case of a row."""

    id: str
    kind: str
    original: str
    """The case of the row itself."""
    row: Row


def asked_again(
    task: Task, rows: Sequence[Row], settings: Consistency, seed: int, tell: Tell = lambda prompt: prompt
) -> list[Again]:
    """The cases that are asked again, kind by kind. The same arguments give the same ones.

    Args:
        task: that has the variants.
        rows: of the slice `test`, all that are evaluated.
        settings: how many, and of which kinds.
        seed: of the random generator of each row.
        tell: a variant that is told like its row is left out, such as white space that a template removes.

    Raises:
        InputError: a kind that no row has; `variants` fails or gives no rows; a reward asks for a column they lack.
    """
    picked = spread(list(enumerate(with_prompts(rows))), settings.max_rows) if settings.max_rows else []
    found: dict[str, list[Again]] = {}
    for index, row in picked:
        original = case_id(task.name, "test", row, index)
        rest = original.removeprefix(f"{task.name}/test/")
        for kind, other in _variants(task, row, settings, f"{seed}/{rest}").items():
            if other["prompt"] != row["prompt"] and tell(_told(other)) != tell(_told(row)):
                one = Again(f"{task.name}/consistency/{kind}/{rest}", kind, original, other)
                found.setdefault(kind, []).append(one)
        found.setdefault(SAME_PROMPT, []).extend(
            Again(f"{task.name}/consistency/{SAME_PROMPT}/{rest}/{k}", SAME_PROMPT, original, row)
            for k in range(settings.repeats)
        )
    kinds = [kind for kind in found if kind != SAME_PROMPT]
    if picked and (missing := [kind for kind in settings.kinds if kind not in kinds]):
        raise InputError(
            f"consistency: no row of task {task.name!r} has a variant of kind {missing[0]!r}; there are: "
            f"{', '.join(kinds) or 'none'}"
        )
    wanted = [kind for kind in kinds if not settings.kinds or kind in settings.kinds]
    again = [one for kind in (*wanted, SAME_PROMPT) for one in found.get(kind, ())]
    if picked and not again:
        raise InputError(
            f"consistency: task {task.name!r} has no variants, and repeats is 0, so nothing is asked again"
        )
    _check_columns(task, again)
    return again


def _variants(task: Task, row: Row, settings: Consistency, seed: str) -> dict[str, Row]:
    """Kind -> the variant of a row, of all kinds."""
    known: dict[str, Vary] = {FORMATTING: surrounded} if task.environment is None else {}
    known.update(task.variants)
    found = {kind: vary(row, random.Random(f"{kind}/{seed}")) for kind, vary in known.items()}
    if settings.variants:
        found |= _own(settings.variants, row, random.Random(f"own/{seed}"))
    return {kind: other for kind, other in found.items() if other is not None}


def _own(place: str, row: Row, rng: random.Random) -> Mapping[str, Row]:
    """What a function of the user gives. InputError: no rows by their kind."""
    given = load_attribute(place)
    try:
        found = given(row, rng)
    except Exception as error:
        raise InputError(f"consistency: {place} fails on a row: {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping):
        raise InputError(f"consistency: {place} gave a {type(found).__name__}; expected kind -> row")
    for kind, other in found.items():
        if not isinstance(kind, str) or not kind.strip() or "/" in kind or kind == SAME_PROMPT:
            raise InputError(
                f"consistency: {place} names a kind {kind!r}; expected a word other than {SAME_PROMPT}"
            )
        if other is not None and not (isinstance(other, Mapping) and other.get("prompt")):
            raise InputError(f"consistency: {place} gave a variant {kind!r} that is no row with a prompt")
        try:
            to_plain(other)
        except TypeError as error:
            raise InputError(f"consistency: {place}, variant {kind!r}: {error}") from error
    return found


def _told(row: Row) -> Prompt:
    prompt: Prompt = with_prompts([row])[0]["prompt"]
    return prompt


def _check_columns(task: Task, again: Sequence[Again]) -> None:
    """InputError: what scores asks for a column that a variant lacks."""
    if not again:
        return
    columns = [name for name in again[0].row if all(name in one.row for one in again)]
    functions = [
        task.reward if task.scorer == "reward" else None,
        *task.metrics.values(),
        *task.parts.values(),
    ]
    for function in functions:
        if function is not None:
            check_reward(function, columns)
