"""A task made of files: rows with TRL's columns, a reward by name, nothing else to write.

One row of `train` (demonstrations; further columns reach the reward):

    {"prompt": "What was revenue in 2023?", "completion": "1,234", "answer": "1,234"}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..groups import extremes
from ..rewards import load_reward
from ..rewards.scoring.outcomes import parameters
from ..rewards.scoring.runner import check_reward
from ..rows import check_rows, read_rows
from ..rows.locations import Rows, each
from ..rows.messages import prompt_text, text_of
from ..rows.values import truth
from ..types import Reward, Row
from . import Task, load_task


@dataclass(frozen=True)
class Data:
    """Files of rows: JSONL, JSON, Parquet or CSV."""

    train: str | None = None
    """Demonstrations: prompt and completion, or messages. Left out: the chosen completions of `pairs`, or those that
    `labels` calls good."""
    pairs: str | None = None
    """Preferences: prompt, chosen, rejected; or rankings: prompt, completions, scores."""
    general: str | None = None
    """Demonstrations of what must not be forgotten: prompt and completion. SFT mixes them into its rows; DPO, CPO and
    ORPO mix them into their pairs, and train their SFT term alone on them."""
    labels: str | None = None
    """Labelled completions: prompt, completion, label (true or false)."""
    test: str | None = None
    """Held-out rows: prompt, and the columns that the reward asks for. Left out: a tenth of `train`; of fewer
    than 400 rows about 40, a quarter at most."""
    ood: str | None = None
    """Held-out rows unlike the training rows."""
    controls: str | None = None
    """Prompt and answer of things that the base can do and that must not break (exact match)."""
    human: str | None = None
    """Graded pairs: case, model_a, model_b, preferred (a, b or tie)."""


def files_task(data: Data, reward: str | None = None, max_new_tokens: int = 256) -> Task:
    """A task over the files of `data`, all of them read and checked now.

    Without a reward, a completion is right if it is the row's `answer`. Rows without one have their `completion` (of
    pairs, the chosen one) as `answer`, also for a reward that asks for it.
    """
    if not data.train and not data.pairs and not data.labels:
        raise InputError(
            "no training data: give data.train (demonstrations), data.pairs (preferences), data.labels (labelled "
            "completions), or a task"
        )
    given = given_splits(data)
    if data.train:
        train = _read(data.train, "demonstration")
    elif data.pairs:
        train = [demonstration_of(row) for row in given["pairs"]]
    else:
        train = [row for row in given["labels"] if row["label"]]
    if data.test:
        test = _read(data.test, "prompt")
    else:
        share = min(0.25, max(TENTH, ENOUGH / max(1, len(train))))
        train, test = hold_out(train, share=share)
        if not test or not train:
            raise InputError("too few rows to hold some of them out for evaluation: give data.test")
        # Prompts that are evaluated on are not learned from by any method.
        given = {name: hold_out(rows, share=share)[0] for name, rows in given.items()}
    splits: dict[str, Sequence[Row]] = {
        "train": train,
        **given,
        "test": test,
        "ood": _read(data.ood, "prompt") if data.ood else [],
    }
    function = load_reward(reward or "exact")
    splits = {name: answered(rows, function) for name, rows in splits.items()}
    of = {
        "train": data.train or data.pairs or data.labels,
        "test": data.test or "a tenth of them",
        "ood": data.ood,
    }
    for name, rows in splits.items():
        if rows and name not in given:
            try:
                check_columns(function, rows)
            except InputError as error:
                raise InputError(
                    f"{name} rows ({of[name]}): {error}: give them that column, give data.test with it, or name "
                    "a reward that does without"
                ) from error
    return Task(
        name="files",
        rows=lambda split: splits.get(split, []),
        reward=function,
        gold=_gold,
        max_new_tokens=max_new_tokens,
    )


def rows_task(name: str, rows: Sequence[Row], reward: Reward) -> Task:
    """A task of rows to sample for and the reward that scores them. InputError: the reward asks for other columns."""
    given = answered(check_rows(rows, "prompt", name), reward)
    try:
        check_columns(reward, given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return Task(name, lambda split: given, reward)


def answered(rows: Sequence[Row], reward: Reward) -> Sequence[Row]:
    """The rows; where the reward must have `answer`, those without one have their completion as one, unless it is
    labelled bad."""
    needed = any(p.name == "answer" and p.default is p.empty for p in parameters(reward))
    return each(rows, _with_answer) if needed else rows


def check_columns(reward: Reward, rows: Sequence[Row], *, tokens: bool = True) -> None:
    """InputError: the reward asks for a column that rows lack, with the first that does where others have it."""
    try:
        check_reward(reward, [name for name in rows[0] if all(name in row for row in rows)], tokens=tokens)
    except InputError as error:
        for name in [p.name for p in parameters(reward) if p.default is p.empty]:
            lacking = [index for index, row in enumerate(rows) if name not in row]
            if 0 < len(lacking) < len(rows):
                asked = prompt_text(rows[lacking[0]]["prompt"])[
                    :60
                ]  # a part of the rows has places of its own
                where = rows.location(lacking[0]) if isinstance(rows, Rows) else repr(asked)
                raise InputError(
                    f"{error}; {len(rows) - len(lacking)} of {len(rows)} have {name!r}, the first without it is {where}"
                ) from error
        raise


def given_splits(data: Data) -> dict[str, Sequence[Row]]:
    """The splits `pairs`, `labels` and `general`, of those that `data` names a file of."""
    files: dict[str, tuple[str | None, str]] = {
        "pairs": (data.pairs, "ranking"),  # or preferences: see `check_rows`
        "labels": (data.labels, "label"),
        "general": (data.general, "demonstration"),
    }
    return {name: _read(path, kind) for name, (path, kind) in files.items() if path}


def demonstration_of(row: Row) -> Row:
    """A pair with its chosen completion, or a ranking with its best, as `completion`.

    >>> demonstration_of({"prompt": "1+1?", "completions": ["3", "2"], "scores": [0, 1]})
    {'prompt': '1+1?', 'completion': '2'}
    """
    if "chosen" in row:
        return {**row, "completion": row["chosen"]}
    best, _ = extremes(row["scores"])
    rest = {name: value for name, value in row.items() if name not in ("completions", "scores")}
    return {**rest, "completion": row["completions"][best]}


def controls_task(path: str) -> Task:
    """Negative controls from a file of prompt and answer."""
    rows = _read(path, "prompt")
    function = load_reward("exact")
    check_columns(function, rows)
    return Task("controls", lambda split: rows if split == "test" else [], function)


def general_rows(name: str) -> list[Row]:
    """The training rows of a task, as demonstrations. InputError: it has none, or they are no demonstrations."""
    rows = list(load_task(name).rows("train"))
    if not rows:
        raise InputError(f"general is {name!r}, and this task has no training rows")
    return check_rows(rows, "demonstration", f"task {name!r}")


def _read(path: str, kind: Any) -> list[Row]:
    return check_rows(read_rows(path), kind, path)


def _gold(row: Row) -> str | None:
    """The row's completion, of messages what the last one says; None: rows to test on may have none."""
    found = row.get("completion")
    return None if found is None else text_of(found)


def _with_answer(row: Row) -> Row:
    """The row; a completion that is labelled bad, or empty, as a table has it where a cell is, is no answer."""
    said = text_of(row.get("completion", ""))
    none = "answer" in row or truth(row.get("label")) is False or not said.strip()
    return row if none else {**row, "answer": said}


TENTH, ENOUGH = 0.1, 40
"""The share of rows that is held out to evaluate on, and how many of few rows: the gate judges by no fewer than 20."""


def hold_out(rows: Sequence[Row], salt: str = "", share: float = TENTH) -> tuple[list[Row], list[Row]]:
    """(what is trained on, what is held out of it): about this share of the prompts, by hash.

    Copies of a prompt stay on one side. Rows of which a part was held out before are divided again with another `salt`
    only.
    """
    kept, held = list[Row](), list[Row]()
    for row in rows:
        out = hashlib.sha256((salt + repr(row["prompt"])).encode()).digest()[0] < round(256 * share)
        (held if out else kept).append(row)
    return kept, held


FEW, FEW_ROWS, LEAST_ROWS = 0.05, 64, 200
"""A small part to measure a loss on: its share, how many rows at most, and of how few rows none are taken."""


def hold_out_few(rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """(what is trained on, what is held out to measure the loss on): about a twentieth of the prompts, by hash, and
    about 64 rows at most; none of fewer than 200 rows.
    """
    if len(rows) < LEAST_ROWS:
        return rows, []
    limit = min(FEW, FEW_ROWS / len(rows)) * 2**32
    kept, held = list[Row](), list[Row]()
    for row in rows:
        few = int.from_bytes(hashlib.sha256(repr(row["prompt"]).encode()).digest()[4:8]) < limit
        (held if few else kept).append(row)
    return kept, held


REWARD_MODEL = "reward model"
"""Salt of the rows that a reward model is measured on: its pairs are made of prompts that are trained on already."""
