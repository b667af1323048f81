"""Rows that a train stage learns from: of the task, of a file, or of a pairs stage, in the form its method needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ..chat.long_rows import Fitting
from ..errors import InputError
from ..methods import SFT
from ..methods.sft import marked_general
from ..rewards import load_reward
from ..rows import check_general, check_rows, read_rows
from ..rows.messages import TOLD, telling
from ..rows.pairs import WEIGHT, rows_for, selected
from ..rows.sources import is_source
from ..tasks import Task
from ..tasks.files import REWARD_MODEL, check_columns, demonstration_of, hold_out
from ..training.evaluation import held_out_rows
from ..training.reward_models import check_models, check_turns
from ..types import Row
from .kinds import Train
from .named_rows import named_rows

PAIRS, DEMONSTRATIONS = "pairs.jsonl", "demonstrations.jsonl"
"""The file in which a stage that makes rows keeps them."""
COLUMNS = {
    "demonstration": ("completion",),
    "preference": ("chosen", "rejected"),
    "ranking": ("chosen", "rejected"),
    "label": ("completion", "label"),
    "prompt": (),
}
"""Kind of rows -> its columns next to the prompt."""


def training_task(
    task: Task,
    stage: Train,
    folder: Path,
    fitting: Fitting | None = None,
    known: Sequence[Row] | None = None,
) -> Task:
    """The task with the rows and the reward that one train stage learns from.

    A reward model is measured on a tenth of its rows, which it does not learn from: they are the split `test`.

    Args:
        task: the run's.
        stage: linked.
        folder: of the run, in which the pairs stages have left their rows.
        fitting: what is done with rows of the stage's own files that are too long.
        known: its rows, where `known_rows` has read them.
    """
    rows, kind = known_rows(task, stage, fitting) if known is None else known, stage.method.needs.rows
    if rows is None:
        own = folder / stage.options.data
        file = own / DEMONSTRATIONS if (own / DEMONSTRATIONS).exists() else own / PAIRS
        made = in_form(list(read_rows(file)), stage)
        rows = with_general(made, task, stage)
    splits = {"train": rows}
    if kind == "ranking":
        splits["train"], splits["test"] = hold_out(rows, REWARD_MODEL)
        if not splits["train"] or not splits["test"]:
            raise InputError(
                f"stage {stage.name!r}: {len(rows)} rows are too few to hold a tenth of them out, on which the reward "
                "model is measured"
            )
    if stage.options.held_out:
        splits["validation"] = held_out_file(stage, fitting)
    return _rewarded(with_rows(task, splits), stage)


def held_out_file(stage: Train, fitting: Fitting | None = None) -> Sequence[Row]:
    """The rows of the file that a stage is evaluated on while it trains."""
    file = stage.options.held_out
    rows = rows_for(stage.method.needs.rows, read_rows(file), file, stage.options.selection)
    return fitting(rows, f"{stage.name}.held_out") if fitting is not None else rows


def _check_held_out(task: Task, stage: Train) -> None:
    """InputError: the rows that the stage is evaluated on while it trains are missing, or do not fit the method."""
    file, policy = stage.options.held_out, stage.options.evaluation
    if file and not policy.eval_steps:
        raise InputError(f"stage {stage.name!r}: held_out is {file!r}, and evaluation.eval_steps is 0")
    measured = file or stage.method.needs.rows != "ranking"  # of rankings, a tenth is held out later
    if not policy.eval_steps or not measured:
        return
    given = with_rows(task, {"validation": held_out_file(stage)}) if file else task
    try:
        held_out_rows(given, stage.method, policy)
    except InputError as error:
        raise InputError(f"stage {stage.name!r}: {error}") from error


def known_rows(task: Task, stage: Train, fitting: Fitting | None = None) -> Sequence[Row] | None:
    """The rows of a train stage; None if a stage has yet to make them. InputError: they do not fit the method."""
    data, kind = stage.options.data, stage.method.needs.rows
    if (named := named_rows(task, data, stage.name)) is not None:
        return with_general(in_form(named, stage), task, stage)
    if not is_source(data):
        return None
    read = read_rows(data)
    pairs = bool(read) and ("chosen" in read[0] or "completions" in read[0])
    form: Any = "ranking" if kind in ("demonstration", "label", "preference") and pairs else kind
    made = in_form(check_rows(read, form, data), stage)
    return with_general(fitting(made, stage.name) if fitting is not None else made, task, stage)


def with_general(rows: Sequence[Row], task: Task, stage: Train) -> Sequence[Row]:
    """The rows and the general ones: as they are for SFT, as pairs of equals for a method with an SFT term."""
    if not uses_general(stage):
        return rows
    demonstrated = stage.method.needs.rows == "demonstration"
    names = ("completion",) if demonstrated else ("chosen", "rejected")
    mark = {"general": True} if demonstrated else {}
    general = [
        {**_told(row), "prompt": row["prompt"], **dict.fromkeys(names, row["completion"]), **mark}
        for row in task.rows("general")
    ]
    found = [*rows, *general] if general else rows
    if isinstance(stage.method, SFT) and stage.method.general_kl and not sum(map(marked_general, found)):
        raise InputError(
            f"stage {stage.name!r}: general_kl is {stage.method.general_kl:g}, and there are no general rows; give "
            "general or data.general, or mark rows by a column general: true"
        )
    return found


def uses_general(stage: Train) -> bool:
    """Whether a stage trains on general rows: all but those that learn from samples, labels or rankings."""
    return stage.method.needs.rows == "demonstration" or stage.method.needs.anchors


def _told(row: Row) -> Row:
    """What a row tells the chat template."""
    return {name: row[name] for name in TOLD if name in row}


def in_form(rows: Sequence[Row], stage: Train) -> Sequence[Row]:
    """The rows as the method needs them: pairs and rankings become pairs, labels, or one demonstration of a prompt."""
    kind, options = stage.method.needs.rows, stage.options
    ranked = bool(rows) and any("completions" in row and "scores" in row for row in rows)
    if ranked or (rows and "chosen" in rows[0]):
        if kind == "label" and "label" not in rows[0]:
            check_general(rows, f"stage {stage.name!r} ({stage.train})", anchors=False, source=options.data)
            return _labels(selected(rows, options.data, options.selection))
        if kind == "demonstration" and "completion" not in rows[0]:
            return [demonstration_of(row) for row in rows]
    for row in rows:
        given = {**row, "chosen": "", "rejected": ""} if "completions" in row and "scores" in row else row
        if missing := [name for name in COLUMNS[kind] if given.get(name) is None]:
            raise InputError(
                f"stage {stage.name!r}: {stage.train} learns from {kind} rows, with prompt and "
                f"{' and '.join(COLUMNS[kind])}; a row of {options.data} lacks {missing[0]!r}, and has: "
                f"{', '.join(row)}"
            )
    if rows and kind in ("preference", "ranking"):
        check_general(rows, f"stage {stage.name!r} ({stage.train})", stage.method.needs.anchors, options.data)
    return selected(rows, options.data, options.selection) if rows and kind == "preference" else rows


def _labels(pairs: Sequence[Row]) -> list[Row]:
    """Both completions of each pair, once per prompt; what is better than one and worse than another is left out."""
    labels = {
        (repr(x["prompt"]), repr(x["completion"]), x["label"]): x for pair in pairs for x in labels_of(pair)
    }
    return [row for (prompt, text, label), row in labels.items() if (prompt, text, not label) not in labels]


def labels_of(pair: Row) -> list[Row]:
    """Both completions of a pair, the better one labelled true.

    >>> labels_of({"prompt": "1+1?", "chosen": "2", "rejected": "3"})
    [{'prompt': '1+1?', 'completion': '2', 'label': True}, {'prompt': '1+1?', 'completion': '3', 'label': False}]
    """
    rest = {key: value for key, value in pair.items() if key not in ("chosen", "rejected", WEIGHT)}
    return [
        {**rest, "completion": pair["chosen"], "label": True},
        {**rest, "completion": pair["rejected"], "label": False},
    ]


def with_rows(task: Task, splits: Mapping[str, Sequence[Row]]) -> Task:
    """The same task with other rows in some splits."""
    return replace(task, rows=lambda split: splits[split] if split in splits else task.rows(split))


def telling_task(task: Task, options: Mapping[str, Any]) -> Task:
    """The same task whose rows, of every split, tell the chat template these options."""
    return replace(task, rows=cache(lambda split: telling(task.rows(split), options))) if options else task


def _rewarded(task: Task, stage: Train) -> Task:
    """The task with the stage's own reward, if it names one: of a game, it reads the turns."""
    if not stage.options.reward:
        return task
    reward = load_reward(stage.options.reward)
    return replace(task, reward=reward, scored_by="reward")


def check_training(task: Task, stage: Train, fitting: Fitting | None = None) -> Sequence[Row] | None:
    """The rows of a stage, where they are known, after a check of everything that can be checked before training."""
    rows = known_rows(task, stage, fitting)
    if rows is not None and not rows:
        raise InputError(f"stage {stage.name!r}: {stage.options.data} has no rows to learn from")
    _check_held_out(task, stage)
    needs, reason = stage.method.needs, stage.options.guards.reward_model_override
    if not needs.rewarded:
        return rows
    if needs.reward_model:
        check_turns(task, needs.reward_model)
        if Path(
            needs.reward_model
        ).is_dir():  # else it is a stage of the recipe, which is checked once it is done
            check_models(None, needs.reward_model, reason)
        return rows
    rewarded = _rewarded(task, stage)
    check_models(rewarded.reward, override=reason)
    if rewarded.scorer is None:
        raise InputError(
            f"stage {stage.name!r}: {stage.train} needs a reward: name one as `reward`, or train a reward model "
            "before it"
        )
    if rewarded.reward is not None and rows:
        check_columns(rewarded.reward, rows)
    return rows
