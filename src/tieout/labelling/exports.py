"""Exports: labels as the rows that training, calibration and the gate read; and their way back.

| format | rows |
|---|---|
| pairs | prompt, chosen, rejected: TRL's preference rows; of a ranking, each decided pair |
| kto | prompt, completion, label |
| rankings | prompt, completions, scores |
| calibration | what `tieout calibrate` reads: pairs, or prompt, completion, label (and labels, of several people) |
| human | case, model_a, model_b, preferred: what `tieout gate --human` reads |
| all | every judgement, of whatever value |

Every row also has `item`, and `judgements`: who said what, when, how long it took, by which guidelines. Reading those
back loses nothing of the rows that a format has; only `all` has every judgement, skips and ties too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rows import location, read_rows
from ..storage.jsonl import read_json
from .items import Item
from .journal import Entry
from .scheme import Scheme
from .state import State
from .values import SKIP, decisions

Row = dict[str, Any]
KEPT = (
    "id",
    "what",
    "annotator",
    "item",
    "round",
    "value",
    "shown",
    "comment",
    "seconds",
    "guidelines",
    "time",
)
"""What an export has of an entry; `n` and `base` are places in one journal."""


def export(state: State, scheme: Scheme, format: str, key: Path | None = None) -> list[Row]:
    """The rows of a format, in the order of the items. `key`: of a run's sheet, for `human`."""
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    if format == "human":
        return human_rows(state, key)
    said: dict[str, list[Entry]] = {}
    for entry in state.judgements(skips=True):
        said.setdefault(entry["item"], []).append(entry)
    rows = []
    for item in state.items.values():
        own = said.get(item.id, [])
        if not own and item.id not in state.verdicts:
            continue
        kept = [*own, *([state.verdicts[item.id]] if item.id in state.verdicts else [])]
        trace = {"item": item.id, "judgements": [{name: entry[name] for name in KEPT} for entry in kept]}
        counted = _counted(item, own, state)
        rows += [{**row, **trace} for row in FORMATS[format](item, counted, scheme)]
    return rows


def _counted(item: Item, own: Sequence[Entry], state: State) -> list[Any]:
    """The values that count: that of the verdict, or what each person said first."""
    if item.id in state.verdicts:
        return [state.verdicts[item.id]["value"]]
    return [entry["value"] for entry in own if entry["round"] == 0 and entry["value"] != SKIP]


def _decided(values: Sequence[Any], scheme: Scheme) -> dict[str, str]:
    """Question -> the answer of more than half of the people; others are left out."""
    votes: dict[str, Counter[str]] = {}
    for value in values:
        for question, answer in decisions(value, scheme).items():
            votes.setdefault(question, Counter())[answer] += 1
    best = {question: count.most_common(1)[0] for question, count in votes.items()}
    return {question: answer for question, (answer, n) in best.items() if 2 * n > len(values)}


def _pairs(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    if scheme.kind not in ("pairs", "rankings"):
        raise InputError(f"{scheme.kind} give no pairs; export them as kto, calibration or all")
    for question, answer in _decided(values, scheme).items():
        one, other = map(int, question.split(",")) if question else (0, 1)
        if answer in ("a", "b"):
            chosen, rejected = (one, other) if answer == "a" else (other, one)
            both = {"chosen": item.completions[chosen], "rejected": item.completions[rejected]}
            yield {"prompt": item.prompt, **both}


def _kto(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    if scheme.kind == "grades":
        for row in _graded(item, values, scheme):
            if row["label"] != 0.5:
                yield {"prompt": item.prompt, "completion": item.completions[0], "label": row["label"] > 0.5}
    elif scheme.kind == "pairs" and _decided(values, scheme) == {"": "bad"}:
        for completion in item.completions:
            yield {"prompt": item.prompt, "completion": completion, "label": False}
    elif scheme.kind == "pairs":
        for pair in _pairs(item, values, scheme):
            for side in ("chosen", "rejected"):
                yield {"prompt": item.prompt, "completion": pair[side], "label": side == "chosen"}
    else:
        raise InputError(f"{scheme.kind} give no labels for KTO; export them as pairs, rankings or all")


def _rankings(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    if scheme.kind not in ("pairs", "rankings"):
        raise InputError(f"{scheme.kind} give no rankings; export them as kto, calibration or all")
    if not values:
        return
    scores = [0.0] * len(item.completions)
    for value in values:
        for question, answer in decisions(value, scheme).items():
            one, other = map(int, question.split(",")) if question else (0, 1)
            won = {"a": 1.0, "b": 0.0}.get(answer, 0.5)
            scores[one] += won / len(values)
            scores[other] += (1 - won) / len(values)
    yield {"prompt": item.prompt, "completions": item.completions, "scores": [round(s, 6) for s in scores]}


def _graded(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    """Mean grade of each person, from 0 (the lowest levels) to 1 (the highest)."""
    labels = []
    for value in values:
        grades = []
        for criterion in scheme.criteria:
            if criterion.id in value and value[criterion.id] in criterion.levels:
                levels = [int(level) for level in criterion.levels]
                grades.append((int(value[criterion.id]) - min(levels)) / (max(levels) - min(levels)))
        if grades:
            labels.append(round(sum(grades) / len(grades), 6))
    if labels:
        row = {"prompt": item.prompt, "completion": item.completions[0]}
        yield {
            **row,
            "label": round(sum(labels) / len(labels), 6),
            **({"labels": labels} if labels[1:] else {}),
        }


def _calibration(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    names = ("chosen_score", "rejected_score", "group", "scores")
    columns = {
        name: value for name, value in item.row.items() if name not in names
    }  # what the reward asks for
    for row in _graded(item, values, scheme) if scheme.kind == "grades" else _pairs(item, values, scheme):
        yield {**columns, **row}


def _all(item: Item, values: Sequence[Any], scheme: Scheme) -> Iterator[Row]:
    yield {"prompt": item.prompt, "completions": item.completions}


FORMATS: dict[str, Callable[[Item, Sequence[Any], Scheme], Iterator[Row]]] = {
    "pairs": _pairs,
    "kto": _kto,
    "rankings": _rankings,
    "calibration": _calibration,
    "human": _all,
    "all": _all,
}


def human_rows(state: State, key: Path | None) -> list[Row]:
    """The grades of a run's sheet: a row per person, or one where a dispute was settled."""
    from ..evidence.human import unblinded

    if key is None or not key.exists():
        raise InputError("the human track is of a run: its evidence/human/key.json says who wrote what")
    assignment: dict[str, dict[str, str]] = read_json(key)["assignment"]
    found = []
    said = state.by_item()
    for item in state.items.values():
        settled = state.verdicts.get(item.id)
        for entry in [settled] if settled else said.get(item.id, []):
            preferred = "tie" if entry["value"] == "bad" else entry["value"]
            shown = {"output_a": item.completions[0], "output_b": item.completions[1], "prompt": item.prompt}
            row = {**item.row, **shown, "preferred": preferred}
            grade = unblinded(row, assignment, f"item {item.id}", {}, 0)
            both = {"model_a": grade.model_a, "model_b": grade.model_b}
            trace = {"item": item.id, "judgements": [{name: entry[name] for name in KEPT}]}
            found.append(
                {"case": grade.case, **both, "preferred": preferred, "annotator": entry["annotator"], **trace}
            )
    return found


def imported(path: Path) -> list[Entry]:
    """The judgements in an export, each once. InputError: a row that has none."""
    entries: dict[str, Entry] = {}
    rows = read_rows(path)
    for index, row in enumerate(rows):
        own = row.get("judgements")
        if not isinstance(own, list) or not all(
            isinstance(one, dict) and set(KEPT) <= set(one) for one in own
        ):
            raise InputError(
                f"{location(rows, index)}: no judgements; expected a row that `tieout label` exported"
            )
        for one in own:
            entries.setdefault(one["id"], {name: one[name] for name in KEPT})
    return list(entries.values())
