"""The prompt that a teacher sees in place of a row's own: a column, or a text with columns in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from string import Formatter

from ..errors import InputError
from ..types import Message, Messages, Prompt, Row
from .locations import kind_of, location, raise_problems
from .messages import is_talk, text_of


def columns_in(asked: str) -> list[str]:
    """The columns that a text names in braces; none: the text is itself the name of a column.

    >>> columns_in("{prompt} The answer is {answer}."), columns_in("long_prompt")
    (['prompt', 'answer'], [])
    """
    try:
        named = [name for _, name, _, _ in Formatter().parse(asked) if name is not None]
    except ValueError as error:
        raise InputError(
            f"teacher_prompt is {asked!r}: {error}; a brace that is meant as such is written twice"
        ) from error
    if wrong := [name for name in named if not name.isidentifier()]:
        raise InputError(
            f"teacher_prompt has {{{wrong[0]}}}; expected the name of a column in braces, or a brace written twice"
        )
    if named and "prompt" not in named:
        raise InputError(
            f"teacher_prompt is {asked!r}, without {{prompt}}: the teacher would not see the question; put it in"
        )
    return named


def prompt_for(row: Row, asked: str) -> Prompt:
    """What the teacher is asked for a row.

    Args:
        row: with its prompt.
        asked: name of a column that holds the whole prompt; or a text in which `{column}` is what a column holds and
            `{prompt}` the row's own question: it takes the place of that question, the last message of the user.

    Raises:
        InputError: a column is missing or empty, or there is no question to replace.

    >>> prompt_for({"prompt": "1+1?", "answer": 2}, "{prompt} (It is {answer}.)")
    '1+1? (It is 2.)'
    """
    named = columns_in(asked)
    if missing := [name for name in named or [asked] if row.get(name) in (None, "", [])]:
        known = ", ".join(name for name in row if name != "prompt") or "no column but prompt"
        raise InputError(
            f"teacher_prompt needs column {missing[0]!r}, which is missing or empty; it has {known}"
        )
    if not named:
        whole = row[asked]
        if isinstance(whole, str):
            return whole
        if is_talk(whole):
            return Messages(whole, getattr(row["prompt"], "told", None))
        raise InputError(f"column {asked!r} is {kind_of(whole)}; expected a prompt: text or messages")
    prompt = row["prompt"]
    own = {name: _text(row[name]) for name in named if name != "prompt"}
    if isinstance(prompt, str):
        return asked.format(**own, prompt=prompt)
    *before, last = prompt
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        raise InputError(
            "the prompt does not end with a text of the user, in whose place teacher_prompt could stand; give the "
            "teacher's whole prompt as a column"
        )
    asking: Message = {**last, "content": asked.format(**own, prompt=last["content"])}
    return Messages([*before, asking], getattr(prompt, "told", None))


def check_prompts(rows: Sequence[Row], asked: str, source: str = "rows") -> None:
    """RowsError that names the rows from which no prompt of the teacher can be made."""
    problems = []
    for index, row in enumerate(rows):
        try:
            prompt_for(row, asked)
        except InputError as error:
            problems.append(f"{location(rows, index, source)}: {error}")
    raise_problems(problems, getattr(rows, "source", source))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return text_of(value) if is_talk(value) else json.dumps(value, ensure_ascii=False, default=str)
