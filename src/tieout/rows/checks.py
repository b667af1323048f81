"""What each method needs of a row, checked before any work and brought to one form."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal, get_args

from ..errors import InputError
from ..types import Row
from .locations import Rows, RowsError, kind_of, location, raise_problems
from .values import Problem, completion_of, messages_of, prompt_of, split_last, truth, unflagged

Kind = Literal["demonstration", "preference", "ranking", "label", "prompt"]
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
    preference      prompt, chosen, rejected      (also: whole conversations that differ in the last turn)
    ranking         prompt, completions, scores   (also: a preference)
    label           prompt, completion, label     (label: true or false)
    prompt          prompt

    In the result `prompt` is text or a list of messages that ends with the user's turn; completion, chosen
    and rejected are text, also where they were given as one assistant message. Other columns stay.
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
            given = {name: value for name, value in row.items() if value is not None}
            checked.append(check[kind](given))
        except Problem as problem:
            problems.append(f"{location(rows, index, source)}: {problem}")
    raise_problems(problems, source)
    return Rows(checked, source=source, lines=rows.lines if isinstance(rows, Rows) else None)


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


def _demonstration(row: Row) -> Row:
    if "messages" in row and not ("prompt" in row and "completion" in row):
        whole = row["messages"]
        trained = [i == len(whole) - 1 for i in range(len(whole))] if isinstance(whole, list | tuple) else []
        messages = messages_of(unflagged(whole, trained, "messages"), "messages")
        prompt, completion = split_last(messages, "messages")
        rest = {name: value for name, value in row.items() if name != "messages"}
        return {**rest, "prompt": prompt_of(prompt), "completion": completion}
    if "text" in row and not ("prompt" in row or "completion" in row):
        raise Problem(
            "only a column 'text': it does not say where the prompt ends and the completion begins; "
            "split it into 'prompt' and 'completion' (all but the completion is context, never trained on)"
        )
    _require(row, "prompt", "completion")
    given = row["prompt"]
    if isinstance(given, list | tuple):
        given = unflagged(given, [False] * len(given), "prompt")
    return {**row, "prompt": prompt_of(given), "completion": completion_of(row, "completion")}


def _preference(row: Row) -> Row:
    _require(row, "chosen", "rejected")
    chosen, rejected = row["chosen"], row["rejected"]
    if all(isinstance(turns, list | tuple) and len(turns) > 1 for turns in (chosen, rejected)):
        row = _conversations(row)
    elif "prompt" not in row and isinstance(chosen, str):
        raise Problem(
            f"missing column 'prompt'; this row has: {', '.join(row)}; "
            "move what 'chosen' and 'rejected' begin with into 'prompt'"
        )
    _require(row, "prompt")
    pair = {name: completion_of(row, name) for name in ("chosen", "rejected")}
    if pair["chosen"].strip() == pair["rejected"].strip():
        pair["rejected"] = pair["chosen"]  # a general row: see `check_general`
    return {**row, "prompt": prompt_of(row["prompt"]), **pair}


def _conversations(row: Row) -> Row:
    """Chosen and rejected given as whole conversations: what they share is the prompt."""
    chosen, rejected = messages_of(row["chosen"], "chosen"), messages_of(row["rejected"], "rejected")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    shared -= shared == len(chosen) == len(rejected)  # a general row
    if (len(chosen), len(rejected)) != (shared + 1, shared + 1):
        raise Problem(
            f"'chosen' and 'rejected' share {shared} messages, then differ in {len(chosen) - shared} and "
            f"{len(rejected) - shared}; they may differ in one last assistant message only"
        )
    prompt, chosen_text = split_last(chosen, "chosen")
    _, rejected_text = split_last(rejected, "rejected")
    given = row.get("prompt")
    if isinstance(given, str) and given.strip() != prompt[-1]["content"].strip():
        raise Problem("'prompt' differs from the last user message of 'chosen'; leave one of them out")
    if isinstance(given, list | tuple) and messages_of(given, "prompt") != prompt:
        raise Problem("'prompt' differs from what 'chosen' and 'rejected' begin with; leave one of them out")
    return {**row, "prompt": prompt, "chosen": chosen_text, "rejected": rejected_text}


def _ranking(row: Row) -> Row:
    if "completions" not in row:
        return _preference(row)
    _require(row, "prompt", "completions", "scores")
    completions, scores = row["completions"], row["scores"]
    if not isinstance(completions, list | tuple) or len(completions) < 2:
        raise Problem(f"'completions' is {kind_of(completions)}; expected a list of at least 2")
    if not isinstance(scores, list | tuple) or not all(isinstance(s, int | float) for s in scores):
        raise Problem("'scores' holds what is no number; expected one number a completion, higher is better")
    if len(scores) != len(completions):
        raise Problem(f"{len(completions)} completions, but {len(scores)} scores; expected one each")
    texts = [completion_of({"completion": c}, "completion") for c in completions]
    return {
        **row,
        "prompt": prompt_of(row["prompt"]),
        "completions": texts,
        "scores": list(map(float, scores)),
    }


def _label(row: Row) -> Row:
    _require(row, "prompt", "completion", "label")
    label = row["label"]
    good = None if type(label) in (int, float) else truth(label)
    if good is None:
        raise Problem(f"'label' is {label!r}, {kind_of(label)}; expected true (good) or false (bad)")
    prompt, completion = prompt_of(row["prompt"]), completion_of(row, "completion")
    return {**row, "prompt": prompt, "completion": completion, "label": good}


def _prompt_only(row: Row) -> Row:
    _require(row, "prompt")
    return {**row, "prompt": prompt_of(row["prompt"])}


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
    raise Problem(f"missing {columns} {listed}; this row has: {present}{hint}")
