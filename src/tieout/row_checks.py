"""What each method needs of a row, checked before any work and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

from .row_files import Rows, RowsError, kind_of
from .types import Row

Kind = Literal["demonstration", "preference", "label", "prompt"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_PROBLEMS = 5
"""This many problems are listed, the others are counted."""

ROLES = ("system", "user", "assistant")

# What other formats call our columns and roles; only used to say so in an error.
_SYNONYMS = {
    "prompt": ("question", "instruction", "input", "query", "problem"),
    "completion": ("response", "answer", "output", "target", "solution", "chosen"),
    "chosen": ("preferred", "accepted", "winner", "better"),
    "rejected": ("dispreferred", "refused", "loser", "worse"),
    "label": ("labels", "score", "desirable", "thumbs_up"),
}
_ROLE_SYNONYMS = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}


class _Problem(ValueError):
    """What is wrong with one row; the caller adds where it is."""


def check_rows(rows: Sequence[Row], kind: Kind, source: str = "rows") -> Rows:
    """The rows in one form, or a RowsError that lists what is wrong with them, with file and line.

    demonstration   prompt, completion            (also: `messages` that end with the assistant's turn)
    preference      prompt, chosen, rejected      (also: whole conversations that differ in the last turn)
    label           prompt, completion, label     (label: true or false)
    prompt          prompt

    In the result `prompt` is text or a list of messages that ends with the user's turn; completion, chosen
    and rejected are text, also where they were given as one assistant message. Other columns stay.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if isinstance(rows, Rows):
        source = rows.source
    if not rows:
        raise RowsError(f"{source}: there are no rows")
    check = {
        "demonstration": _demonstration,
        "preference": _preference,
        "label": _label,
        "prompt": _prompt_only,
    }
    checked, problems = [], []
    for index, row in enumerate(rows):
        try:
            given = {name: value for name, value in row.items() if value is not None}
            checked.append(check[kind](given))
        except _Problem as problem:
            problems.append(f"{place(rows, index, source)}: {problem}")
    raise_problems(problems, source)
    return Rows(checked, source=source, lines=rows.lines if isinstance(rows, Rows) else None)


def place(rows: Sequence[Row], index: int, source: str = "rows") -> str:
    """Where a row came from, as errors name it."""
    return rows.place(index) if isinstance(rows, Rows) else f"{source}, row {index + 1}"


def raise_problems(problems: Sequence[str], source: str) -> None:
    """RowsError with the first problems and the count of the others; nothing if there are none."""
    if not problems:
        return
    if len(problems) == 1:
        raise RowsError(problems[0])
    listed = list(problems[:MAX_PROBLEMS])
    if len(problems) > MAX_PROBLEMS:
        listed.append(f"... and {len(problems) - MAX_PROBLEMS} more")
    raise RowsError(f"{len(problems)} problems in {source}:\n  " + "\n  ".join(listed))


# ---------------------------------------------------------------- one row


def _demonstration(row: Row) -> Row:
    if "messages" in row and not ("prompt" in row and "completion" in row):
        messages = _messages(row["messages"], "messages")
        prompt, completion = _split(messages, "messages")
        rest = {name: value for name, value in row.items() if name != "messages"}
        return {**rest, "prompt": _prompt(prompt), "completion": completion}
    if "text" in row and not ("prompt" in row or "completion" in row):
        raise _Problem(
            "only a column 'text': what is asked and what is to be learnt cannot be told apart; "
            "split it into 'prompt' and 'completion' (all but the completion is context, never trained on)"
        )
    _require(row, "prompt", "completion")
    return {**row, "prompt": _prompt(row["prompt"]), "completion": _completion(row, "completion")}


def _preference(row: Row) -> Row:
    _require(row, "chosen", "rejected")
    chosen, rejected = row["chosen"], row["rejected"]
    if all(isinstance(turns, list | tuple) and len(turns) > 1 for turns in (chosen, rejected)):
        row = _conversations(row)
    elif "prompt" not in row and isinstance(chosen, str):
        raise _Problem(
            f"missing column 'prompt'; this row has: {', '.join(row)}; "
            "move what 'chosen' and 'rejected' begin with into 'prompt'"
        )
    _require(row, "prompt")
    pair = {name: _completion(row, name) for name in ("chosen", "rejected")}
    if pair["chosen"].strip() == pair["rejected"].strip():
        raise _Problem("'chosen' and 'rejected' are the same; a pair without a preference teaches nothing")
    return {**row, "prompt": _prompt(row["prompt"]), **pair}


def _conversations(row: Row) -> Row:
    """Chosen and rejected given as whole conversations: what they share is the prompt."""
    chosen, rejected = _messages(row["chosen"], "chosen"), _messages(row["rejected"], "rejected")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise _Problem("'chosen' and 'rejected' are the same; a pair without a preference teaches nothing")
    if (len(chosen), len(rejected)) != (shared + 1, shared + 1):
        raise _Problem(
            f"'chosen' and 'rejected' share {shared} messages, then differ in {len(chosen) - shared} and "
            f"{len(rejected) - shared}; they may differ in one last assistant message only"
        )
    prompt, chosen_text = _split(chosen, "chosen")
    _, rejected_text = _split(rejected, "rejected")
    given = row.get("prompt")
    if isinstance(given, str) and given.strip() != prompt[-1]["content"].strip():
        raise _Problem("'prompt' differs from the last user message of 'chosen'; leave one of them out")
    if isinstance(given, list | tuple) and _messages(given, "prompt") != prompt:
        raise _Problem("'prompt' differs from what 'chosen' and 'rejected' begin with; leave one of them out")
    return {**row, "prompt": prompt, "chosen": chosen_text, "rejected": rejected_text}


def _label(row: Row) -> Row:
    _require(row, "prompt", "completion", "label")
    label = row["label"]
    if not isinstance(label, bool):
        raise _Problem(f"'label' is {label!r}, {kind_of(label)}; expected true (good) or false (bad)")
    return {**row, "prompt": _prompt(row["prompt"]), "completion": _completion(row, "completion")}


def _prompt_only(row: Row) -> Row:
    _require(row, "prompt")
    return {**row, "prompt": _prompt(row["prompt"])}


def _require(row: Row, *names: str) -> None:
    missing = [name for name in names if name not in row]
    if not missing:
        return
    hints = []
    for name in missing:
        free = [column for column in row if column not in names]
        close = [column for column in free if column in _SYNONYMS[name]] or get_close_matches(name, free, n=1)
        if close:
            hints.append(f"rename {close[0]!r} to {name!r}")
    columns = "column" if len(missing) == 1 else "columns"
    hint = f"; {' and '.join(hints)}?" if hints else ""
    listed, present = ", ".join(map(repr, missing)), ", ".join(map(str, row)) or "nothing"
    raise _Problem(f"missing {columns} {listed}; this row has: {present}{hint}")


# ---------------------------------------------------------------- one value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _Problem(f"{name} is {kind_of(value)}; expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Problem(f"{name} holds half a character (a lone surrogate); no tokenizer takes it") from None
    return value


def _prompt(value: Any) -> str | list[dict[str, str]]:
    if isinstance(value, list | tuple):
        messages = _messages(value, "prompt")
        if messages[-1]["role"] != "user":
            raise _Problem(
                f"the last message of 'prompt' is from {messages[-1]['role']!r}; "
                "expected 'user', whom the completion answers"
            )
        return messages
    if not isinstance(value, str):
        raise _Problem(f"'prompt' is {kind_of(value)}; expected text or a list of messages")
    if not value.strip():
        raise _Problem("'prompt' is empty")
    return _text(value, "'prompt'")


def _completion(row: Row, name: str) -> str:
    value = row[name]
    if isinstance(value, list | tuple):
        if isinstance(row["prompt"], str):
            raise _Problem(f"'prompt' is text but {name!r} is a list of messages; give both in the same form")
        messages = _messages(value, name)
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            roles = ", ".join(message["role"] for message in messages)
            raise _Problem(f"{name!r} has the turns {roles}; expected exactly one, from the assistant")
        value = messages[0]["content"]
    elif not isinstance(value, str):
        raise _Problem(f"{name!r} is {kind_of(value)}; expected text or one assistant message")
    if not value.strip():
        raise _Problem(f"{name!r} is empty")
    return _text(value, repr(name))


def _split(messages: list[dict[str, str]], name: str) -> tuple[list[dict[str, str]], str]:
    """A conversation as the prompt and the assistant's last turn; earlier assistant turns are context."""
    last = messages[-1]
    if last["role"] != "assistant":
        raise _Problem(f"the last message of {name!r} is from {last['role']!r}; expected 'assistant'")
    if not last["content"].strip():
        raise _Problem(f"the last message of {name!r} is empty")
    if len(messages) == 1:
        raise _Problem(f"{name!r} has no message before the assistant's; there is nothing to answer")
    return messages[:-1], last["content"]


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, list | tuple) or not value:
        raise _Problem(f"{name!r} is {'an empty list' if value == [] else kind_of(value)}; expected messages")
    return [_message(message, f"{name}[{i}]") for i, message in enumerate(value)]


def _message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise _Problem(f"{name} is {kind_of(message)}; expected an object with role and content")
    given = {key: value for key, value in message.items() if value is not None}
    if "role" not in given or "content" not in given:
        hint = "; rename 'from' to 'role' and 'value' to 'content'" if {"from", "value"} <= set(given) else ""
        raise _Problem(
            f"{name} has {', '.join(map(str, given)) or 'nothing'}; expected role and content{hint}"
        )
    role = given["role"]
    if role not in ROLES:
        meant = _ROLE_SYNONYMS.get(str(role).lower())
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise _Problem(f"{name} has role {role!r}; expected one of {', '.join(ROLES)}{hint}")
    texts = {str(key): _text(item, f"{key!r} of {name}") for key, item in given.items()}
    if role == "user" and not texts["content"].strip():
        raise _Problem(f"{name} is an empty user message")
    return texts
