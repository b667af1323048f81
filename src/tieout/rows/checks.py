"""What each method needs of a row, checked before any work and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any, Literal, get_args

from ..errors import InputError
from ..types import Kind, Row
from .locations import Rows, RowsError, kind_of, location, raise_problems
from .messages import TOLD, is_talk, paired, prompted, same, turns_of
from .values import Problem, completion_of, given, messages_of, split_last, truth, unflagged

LongRows = Literal["error", "drop", "truncate"]
"""Rows that do not fit into a model's context: error, they are refused by file and line; drop, they are left out;
truncate, the prompt loses its beginning, and a row whose prompt cannot be cut far enough is left out. A completion is
never cut: its end would teach to stop there."""
KINDS: tuple[Kind, ...] = get_args(Kind)

# What other formats call our columns; only used to say so in an error.
_SYNONYMS = {
    "prompt": ("question", "instruction", "input", "query", "problem"),
    "completion": ("response", "answer", "output", "target", "solution", "chosen"),
    "chosen": ("preferred", "accepted", "winner", "better"),
    "rejected": ("dispreferred", "refused", "loser", "worse"),
    "label": ("labels", "score", "desirable", "thumbs_up"),
    "completions": ("responses", "answers", "outputs"),
    "scores": ("ranks", "ratings", "rewards"),
}


def check_rows(rows: Sequence[Row], kind: Kind, source: str = "rows") -> Rows:
    """The rows in one form, or a RowsError that lists what is wrong with them, with file and line.

    demonstration   prompt, completion            (also: `messages` that end with the assistant's turn)
    preference      prompt, chosen, rejected      (also: whole conversations that begin with the same prompt; or
                                                  `messages` as the prompt)
    ranking         prompt, completions, scores   (also: a preference)
    label           prompt, completion, label     (label: true or false; also: `messages` and label)
    prompt          prompt                        (also: `messages`, whose last turn of the assistant is the completion)

    In the result `prompt` is text or `Messages`, which carry what the row tells the chat template (`tools`,
    `chat_template_kwargs`); completion, chosen and rejected are text, also where they were given as one assistant
    message, and stay messages where they say more: reasoning, calls of tools, several turns. Other columns stay.
    Without a prompt, Alpaca's `instruction` and `input` are the user's turn, and its `output` the completion.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if isinstance(rows, Rows):
        source = rows.source
    if not rows:
        raise RowsError(f"{source}: there are no rows")
    check = {
        "demonstration": _demonstration,
        "preference": _preference,
        "ranking": _ranking,
        "label": _label,
        "prompt": _prompt_only,
    }
    checked, problems = [], []
    for index, row in enumerate(rows):
        try:
            filled = {name: value for name, value in row.items() if value is not None}
            checked.append(check[kind](_instructed(filled)))
            _system_is_read(checked[-1])
        except InputError as problem:
            problems.append(f"{location(rows, index, source)}: {problem}")
    raise_problems(problems, source)
    return Rows(checked, source=source, lines=rows.lines if isinstance(rows, Rows) else None)


def _instructed(row: Row) -> Row:
    """The row; of Alpaca's columns, with the prompt and completion that they make."""
    if "instruction" not in row or any(name in row for name in ("prompt", "messages", "conversations")):
        return row
    if row.get("history"):
        raise Problem("the column 'history' is not read: give the whole conversation as 'messages'")
    parts = [row["instruction"], row.get("input", "")]
    if not all(isinstance(part, str) for part in parts):
        raise Problem("'instruction' and 'input' are not both text")
    asked = "\n\n".join(part for part in parts if part.strip())
    turns = [{"role": "user", "content": asked}]
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, {"role": "system", "content": row["system"]})
    made = {**row, "prompt": turns}
    return {**made, "completion": row["output"]} if "output" in row and "completion" not in row else made


def _system_is_read(row: Row) -> None:
    """Problem: a text stands in a column `system`, as in ShareGPT's files, and not in the conversation."""
    told = row.get("system")
    if not isinstance(told, str) or not told.strip():
        return
    prompt = row["prompt"]
    if isinstance(prompt, str) or not any(
        told.strip() in str(message.get("content")) for message in prompt[:1]
    ):
        raise Problem(
            "the column 'system' is not read, and the conversation does not begin with its text; give it as the first "
            "message, {'role': 'system', 'content': ...}, or leave the column out"
        )


def with_prompts(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows of a task, each with a prompt that carries what the row tells the chat template.

    Conversations become prompt and completion, or chosen and rejected. The same rows where there is nothing to do.
    """
    talks = ("messages", "conversations", "chosen")
    raw = [
        "prompt" not in row and any(isinstance(row.get(name), list | tuple) for name in talks) for row in rows
    ]
    if not any(raw) and not any(row.get(name) for row in rows for name in TOLD):
        return rows
    found = []
    for index, (row, whole) in enumerate(zip(rows, raw, strict=True)):
        kind: Kind = "preference" if "chosen" in row else "demonstration"
        try:
            found.append(check_rows([row], kind)[0] if whole else prompted(row))
        except InputError as error:
            raise RowsError(f"{location(rows, index)}: {str(error).partition(': ')[2] or error}") from error
    return found


def is_general(row: Row) -> bool:
    """Whether it is a pair without a preference: chosen equals rejected."""
    return "chosen" in row and row["chosen"] == row.get("rejected")


def check_general(rows: Sequence[Row], method: str, anchors: bool, source: str = "rows") -> None:
    """RowsError: some checked rows have no preference and the method has no SFT term for them, or none has one."""
    general = [index for index, row in enumerate(rows) if is_general(row)]
    if anchors and len(general) == len(rows):
        raise RowsError(
            f"{source}: 'chosen' and 'rejected' are the same in every row: nothing is compared; train sft"
        )
    if not anchors:
        problems = [
            f"{location(rows, index, source)}: 'chosen' and 'rejected' are the same, and {method} learns nothing from "
            "it; such general rows are for the SFT term of dpo, cpo and orpo (in a recipe: data.general)"
            for index in general
        ]
        raise_problems(problems, source)


def _talk(row: Row) -> str | None:
    """The column of a whole conversation, if there is one."""
    return next((name for name in ("messages", "conversations") if name in row), None)


def _demonstration(row: Row) -> Row:
    talk = _talk(row)
    if talk is not None and not ("prompt" in row and "completion" in row):
        prompt, completion = split_last(messages_of(_last_trained(row[talk], talk), talk), talk)
        rest = {name: value for name, value in row.items() if name != talk}
        return given({**rest, "prompt": prompt, "completion": completion}, "completion")
    if "text" in row and not ("prompt" in row or "completion" in row):
        raise Problem(
            "only a column 'text': it does not say where the prompt ends and the completion begins; "
            "split it into 'prompt' and 'completion' (all but the completion is context, never trained on)"
        )
    _require(row, "prompt", "completion")
    return given(row, "completion")


def _last_trained(talk: Any, name: str) -> Any:
    """A conversation without flags of single turns, which must ask for its last one."""
    if not isinstance(talk, list | tuple):
        return talk
    return unflagged(talk, [i == len(talk) - 1 for i in range(len(talk))], name)


def _preference(row: Row) -> Row:
    _require(row, "chosen", "rejected")
    chosen, rejected = (
        [side] if isinstance(side, Mapping) else side for side in (row["chosen"], row["rejected"])
    )
    whole = all(isinstance(side, list | tuple) and len(side) > 1 for side in (chosen, rejected))
    if "prompt" not in row and not whole and (talk := _talk(row)):  # ShareGPT's pairs
        asked = messages_of(row[talk], talk)
        if asked and asked[-1]["role"] == "assistant":
            raise Problem(
                f"{talk!r} ends with an answer, and next to 'chosen' and 'rejected' it is their prompt; leave the "
                "answer out"
            )
        row = {**{name: value for name, value in row.items() if name != talk}, "prompt": asked}
    row = {**row, "chosen": chosen, "rejected": rejected}
    if "prompt" not in row and isinstance(chosen, str):
        raise Problem(
            f"missing column 'prompt'; this row has: {', '.join(row)}; "
            "move what 'chosen' and 'rejected' begin with into 'prompt'"
        )
    if whole:
        prompt, (chosen, rejected) = paired(row)
        row = {**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}
    _require(row, "prompt")
    weight = row.get("pair_weight", 1.0)
    if not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise Problem(
            f"'pair_weight' is {weight!r}; expected a number from 0 on: below 0 a pair would prefer the rejected"
        )
    row = given(row, "chosen", "rejected")
    if same(row["chosen"], row["rejected"]):
        row = {**row, "rejected": row["chosen"]}  # a general row: see `check_general`
    return row


def _ranking(row: Row) -> Row:
    if "completions" not in row:
        return _preference(row)
    _require(row, "prompt", "completions", "scores")
    completions, scores = row["completions"], row["scores"]
    if not isinstance(completions, list | tuple) or len(completions) < 2:
        raise Problem(f"'completions' is {kind_of(completions)}; expected a list of at least 2")
    if not isinstance(scores, list | tuple) or not all(
        isinstance(s, int | float) and isfinite(s) for s in scores
    ):
        raise Problem(
            "'scores' holds what is no finite number; expected one number per completion, higher is better"
        )
    if len(scores) != len(completions):
        raise Problem(f"{len(completions)} completions, but {len(scores)} scores; expected one each")
    said = [completion_of(one, "completions") for one in completions]
    if isinstance(row["prompt"], str) and not all(isinstance(one, str) for one in completions):
        row = {**row, "prompt": turns_of(row["prompt"])}
    return {**given(row), "completions": said, "scores": list(map(float, scores))}


def _label(row: Row) -> Row:
    row = _demonstration(row) if _talk(row) else row
    _require(row, "prompt", "completion", "label")
    label = row["label"]
    good = truth(label)
    if good is None:
        raise Problem(
            f"'label' is {label!r}, {kind_of(label)}; expected true or 1 (good), or false or 0 (bad)"
        )
    return {**given(row, "completion"), "label": good}


def _prompt_only(row: Row) -> Row:
    talk = _talk(row)
    if talk is not None and "prompt" not in row:
        if (said := messages_of(row[talk], talk)) and said[-1]["role"] == "assistant":
            return _demonstration(row)  # its last turn is the gold
        row = {**{name: value for name, value in row.items() if name != talk}, "prompt": said}
    _require(row, "prompt")
    return given(row, "completion") if is_talk(row.get("completion")) else given(row)


def _require(row: Row, *names: str) -> None:
    missing = [name for name in names if name not in row]
    if not missing:
        return
    hints = []
    for name in missing:
        free = [column for column in row if column not in names]
        close = [column for column in free if column.casefold() in _SYNONYMS[name]] or get_close_matches(
            name, free, n=1
        )
        if close:
            hints.append(f"rename {close[0]!r} to {name!r}")
    columns = "column" if len(missing) == 1 else "columns"
    hint = f"; {' and '.join(hints)}?" if hints else ""
    listed, present = ", ".join(map(repr, missing)), ", ".join(map(str, row)) or "nothing"
    raise Problem(f"missing {columns} {listed}; this row has: {present}{hint}")
