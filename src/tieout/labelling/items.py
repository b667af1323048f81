"""Items to be labelled: rows of a file, or the sheet of a run, with an id that is made of their content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rows import location, raise_problems, read_rows
from ..rows.messages import said_by, text_of
from ..storage.jsonl import read_json, read_jsonl, sha256_text
from ..types import Row
from .scheme import KINDS, MOST, Kind


@dataclass(frozen=True)
class Item:
    """One thing to judge. Completions are in the order of the source; people see another."""

    id: str
    prompt: Any
    """As the row has it: text or messages."""
    completions: list[Any]
    row: dict[str, Any] = field(default_factory=dict)
    """Other columns of the row; never shown."""
    group: int = 0
    """Lower ones are asked first."""

    @property
    def texts(self) -> list[str]:
        """What is shown of each completion."""
        return [text_of(one) for one in self.completions]

    @property
    def source(self) -> str:
        """What is shown of the prompt: of messages, each turn under its role."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(f"[{message.get('role', '')}]\n{said_by(message)}" for message in self.prompt)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def read_items(path: Path, kind: Kind | None = None) -> tuple[Kind, list[Item]]:
    """The items of a file or of a run's sheet, and their kind. InputError: rows that cannot be judged so."""
    if (path / "evidence").is_dir() or (path / "run.json").exists():
        return "pairs", sheet_items(path / "evidence" / "human", kind)
    rows = read_rows(path)
    kind = kind or _kind_of(rows[0])
    found: dict[str, Item] = {}
    problems = []
    for index, row in enumerate(rows):
        try:
            item = item_of(row, kind)
            found.setdefault(item.id, item)  # a row that is there twice is asked once
        except InputError as error:
            problems.append(f"{location(rows, index)}: {error}")
    raise_problems(problems, str(path))
    return kind, list(found.values())


def sheet_of(folder: Path) -> Path:
    """The sheet in a folder of evidence. InputError: there is none yet."""
    sheet = folder / "sheet.jsonl"
    if not sheet.exists():
        from ..evidence.report import how_to_evaluate  # reports bring NumPy, and a file of rows needs none

        raise InputError(
            f"{sheet} does not exist: the run has no pairs to grade yet; {how_to_evaluate(folder.parent.parent)}"
        )
    return sheet


def sheet_items(folder: Path, kind: Kind | None = None) -> list[Item]:
    """The pairs of a run's sheet, those that decide the verdict first. Who wrote what stays in its key.

    Pairs whose outputs are the same are ties without being asked.
    """
    from ..evidence.human import settled

    sheet = sheet_of(folder)
    if kind not in (None, "pairs"):
        raise InputError(f"the sheet of a run has pairs; --kind {kind} is for a file")
    assignment = read_json(folder / "key.json")["assignment"]
    compared: list[set[str]] = []
    items = []
    for number, row in read_jsonl(sheet):
        name = row.get("pair")
        if name not in assignment:
            raise InputError(f"{sheet}:{number}: pair {name!r} is not in key.json")
        if settled(row):
            continue
        models = {assignment[name]["a"], assignment[name]["b"]}
        if models not in compared:
            compared.append(models)
        both = [row["output_a"], row["output_b"]]
        ids = {"pair": name, "case": row["case"]}
        items.append(_made("pairs", row["prompt"], both, ids, compared.index(models), ids))
    if not items:
        raise InputError(
            f"{sheet}: both outputs are the same in every pair: all are ties, and there is nothing to grade"
        )
    return items


def _kind_of(row: Row) -> Kind:
    if "completions" in row:
        return "pairs" if len(row["completions"]) == 2 else "rankings"
    return "pairs" if "chosen" in row or _is_sheet(row) else "grades"


def _is_sheet(row: Row) -> bool:
    """Whether a row is of a sheet that people may also fill in by hand: prompt, a, b, preferred."""
    return "completion" not in row and {"a", "b"} <= row.keys()


def item_of(row: Row, kind: Kind) -> Item:
    """The item of a row. InputError: the row cannot be judged so."""
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    needs = {"pairs": ("chosen", "rejected"), "rankings": ("completions",)}.get(kind, ("completion",))
    if kind == "pairs" and "completions" in row:
        needs = ("completions",)
    elif kind == "pairs" and "chosen" not in row and _is_sheet(row):
        needs = ("a", "b")
    if missing := [name for name in ("prompt", *needs) if row.get(name) is None]:
        raise InputError(f"no {' and no '.join(missing)} for {kind}; the row has: {', '.join(row)}")
    given = row["completions"] if needs == ("completions",) else [row[name] for name in needs]
    least, most = {"pairs": (2, 2), "rankings": (2, MOST)}.get(kind, (1, 1))
    if not isinstance(given, list) or not least <= len(given) <= most:
        count = len(given) if isinstance(given, list) else "no list of"
        raise InputError(f"{count} completions; {kind} have {least}{f' to {most}' if most > least else ''}")
    for name, said in [("prompt", row["prompt"]), *(("completion", one) for one in given)]:
        if not (isinstance(said, str) or (isinstance(said, list) and all(isinstance(m, dict) for m in said))):
            raise InputError(f"{name} is {said!r:.60}; expected text or messages")
    if not all(isinstance(one, str) for one in given) and any(isinstance(one, str) for one in given):
        raise InputError("some completions are text and some messages; expected one of both")
    rest = {
        name: value for name, value in row.items() if name not in ("prompt", "judgements", "item", *needs)
    }
    return _made(kind, row["prompt"], list(given), rest)


def _made(
    kind: Kind, prompt: Any, completions: Sequence[Any], row: dict[str, Any], group: int = 0, name: Any = None
) -> Item:
    text = json.dumps([kind, prompt, list(completions), name], sort_keys=True)
    return Item(sha256_text(text)[:16], prompt, list(completions), row, group)
