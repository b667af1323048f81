"""Small projects of labels, and people who answer by a rule. Not a test."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from tieout.labelling.assignment import Design
from tieout.labelling.items import Item, read_items
from tieout.labelling.scheme import Kind, Scheme, make_scheme
from tieout.labelling.store import Answer, Store
from tieout.labelling.values import turned
from tieout.storage.jsonl import write_jsonl

ALONE = Design(overlap=0, repeats=0)
_ids = (f"answer-{number:06}" for number in count())


def rows_of(kind: Kind, number: int) -> list[dict[str, Any]]:
    """Rows of a kind; in pairs the chosen completion has the figure of the source."""
    rows: list[dict[str, Any]] = []
    for i in range(number):
        prompt = f"Revenue {i} was $1,{i:03}.5 million. What was it?"
        if kind == "pairs":
            rows.append(
                {
                    "prompt": prompt,
                    "chosen": f"It was $1,{i:03}.5 million.",
                    "rejected": f"About {i}, I think.",
                }
            )
        elif kind == "rankings":
            rows.append(
                {"prompt": prompt, "completions": [f"{i} {word}" for word in ("one", "two", "three", "four")]}
            )
        else:
            rows.append({"prompt": prompt, "completion": f"Revenue was 😀 $1,{i:03}.5 million, up 7%."})
    return rows


def items_of(folder: Path, kind: Kind, number: int) -> list[Item]:
    """The same as items, through a file."""
    path = folder / f"{kind}.jsonl"
    if not path.exists():
        write_jsonl(path, rows_of(kind, number))
    return read_items(path, kind)[1]


def open_store(
    folder: Path,
    kind: Kind = "pairs",
    number: int = 6,
    design: Design = ALONE,
    scheme: Scheme | None = None,
    name: str = "labels",
    **options: Any,
) -> Store:
    """A project in `folder`, new or as it was left."""
    items = items_of(folder, kind, number)
    return Store(folder / name, scheme or make_scheme(kind), items, design, **options)


def answer(store: Store, annotator: str, item: str, value: Any, round: int = 0, **more: Any) -> Answer:
    """A judgement, from a value in the order of the source, as a page that is up to date would send it."""
    shown = turned(value, store.order(annotator, item, round), store.scheme, back=True)
    said = {"id": next(_ids), "base": store.revision(annotator, item, round), **more}
    return Answer(annotator=annotator, item=item, round=round, value=shown, **said)


def judge_all(store: Store, annotator: str, values: Any, most: int = 1000) -> int:
    """Judge what there is, by a function of (item, round) or always the same; returns how many."""
    done = 0
    while done < most and (slots := store.next(annotator, 1)):
        for item, round in slots:
            value = values(item, round) if callable(values) else values
            store.judge(answer(store, annotator, item, value, round, seconds=2.0))
            done += 1
    return done
