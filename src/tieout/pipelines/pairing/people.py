"""Pairs by people: completions wait in a file to be ranked with `tieout label`, and judgements become pairs."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError, StopTraining
from ...groups import spread
from ...labelling.disputes import disputes
from ...labelling.exports import export
from ...labelling.items import Item, read_items
from ...labelling.journal import Entry, read_journal
from ...labelling.scheme import MOST, make_scheme
from ...labelling.state import State
from ...labelling.store import JOURNAL
from ...labelling.values import SKIP
from ...rows.messages import TOLD, text_of
from ...storage.identity import as_stored, differences
from ...storage.jsonl import set_aside, write_jsonl
from ...storage.runfolder import Stage as Folder
from ...types import Row
from .choose import NEAR, NOT_GOOD
from .making import Making
from .measures import SAME, Candidate, Scored
from .summary import ALIKE, SKIPPED, UNDECIDED, Pair

FOLDER, FILE = "people", "completions.jsonl"
"""In the folder of a stage; judgements are next to the file, where `tieout label` keeps them."""
DECIDED = "people"


@dataclass(frozen=True)
class Answer:
    """What people say of the completions of one prompt."""

    item: Item
    better: list[tuple[int, int]]
    """(better, worse) places that more than half of the people decided so, or that was settled."""
    standing: list[float]
    """[K] share of the others that each completion beats, ties as half."""
    skipped: bool


@dataclass(frozen=True)
class Answers:
    """What people say of all prompts."""

    of: list[Answer]
    judgements: list[Entry]
    """Every one of them, for the noise of labels."""


def keep_labels(part: Folder, inputs: Any) -> None:
    """Rename the judgements of a stage that is about to begin with other inputs: people's work is not deleted."""
    own = part.path / FOLDER
    if differences(part.begun(), as_stored(inputs)) and (labels_of(own / FILE) / JOURNAL).exists():
        set_aside(own.rename(part.path.with_name(f"{part.path.name}-{FOLDER}")))


def ask(part: Folder, rows: Sequence[Row]) -> None:
    """Write the file that people label: rows with prompt and completions, those with most completions first."""
    own = part.path / FOLDER
    own.mkdir(exist_ok=True)
    write_jsonl(own / FILE, sorted(rows, key=lambda row: -len(row["completions"])))


def asked(part: Folder) -> bool:
    """Whether the file is there."""
    return (part.path / FOLDER / FILE).exists()


def answers(
    file: Path, name: str, settle: bool = True, known: Collection[str] = (), otherwise: str = ""
) -> Answers:
    """What people say of the rows of a file, once it is complete.

    Args:
        file: of prompts and completions; judgements are next to it.
        name: of the stage.
        settle: wait until disputes are settled.
        known: ids of items that nobody needs to judge.
        otherwise: what people may do instead of opening the page.

    Raises:
        StopTraining: prompts wait for people, or disputes to be settled.
    """
    journal = labels_of(file) / JOURNAL
    state = State(read_journal(journal)) if journal.exists() else State()
    kind, items = read_items(file)
    scheme = make_scheme(kind)
    asked = {item.id: item for item in items}
    state.items = {name: item for name, item in state.items.items() if name in asked}
    said = [entry for entry in state.judgements(skips=True) if entry["item"] in asked]
    seen = {entry["item"] for entry in said} | {item for item in state.verdicts if item in asked}
    command = f"`tieout label {shlex.quote(str(file))}`"
    if waiting := len(set(asked) - seen - set(known)):
        raise StopTraining(
            f"stage {name!r}: {waiting} of {len(asked)} prompts wait for people: {command} opens the page"
            f"{otherwise}; then repeat this command"
        )
    judged = [entry for entry in said if entry["value"] != SKIP]
    state.slots = {slot: entry for slot, entry in state.slots.items() if entry["item"] in asked}
    if settle and (open_still := disputes(state, scheme)):
        raise StopTraining(
            f"stage {name!r}: people differ on {len(open_still)} of {len(asked)} prompts: settle them in {command} "
            "(key `d`), and repeat this command; or leave out what nobody settled: `settle: false`"
        )
    decided: dict[str, list[tuple[int, int]]] = {}
    for row in export(state, scheme, "pairs"):
        texts = asked[row["item"]].completions
        places = texts.index(row["chosen"]), texts.index(row["rejected"])
        decided.setdefault(row["item"], []).append(places)
    standing = {
        row["item"]: [score / (len(row["scores"]) - 1) for score in row["scores"]]
        for row in export(state, scheme, "rankings")
    }
    found = [
        Answer(item, decided.get(id, []), standing.get(id, [0.5] * len(item.completions)), id not in standing)
        for id, item in asked.items()
    ]
    return Answers(found, judged)


def labels_of(file: Path) -> Path:
    """Where `tieout label` keeps the judgements of a file."""
    return file.with_name(f"{file.name}.labels")


# ---------------------------------------------------------------- as a source of the stage `pairs`


def ranked(making: Making, part: Folder, policy: str) -> None:
    """Pairs of the policy's completions as people rank them. StopTraining: they have not ranked everything yet."""
    if not asked(part):
        rows = [
            _row(making, *one)
            for groups, chat in making.batches(policy)
            for one in making.as_written(groups, chat)
        ]
        rows = [row for row in rows if row["completions"][1:]]
        if not rows:
            raise InputError(
                f"stage {making.stage.name!r}: {ALIKE}, so there is nothing to rank; raise temperature"
            )
        ask(part, rows)
    said = answers(part.path / FOLDER / FILE, making.stage.name, making.stage.settle)
    count = len(making.task.rows("train"))
    making.made.prompts += min(making.stage.max_prompts or count, count)
    making.made.dropped[ALIKE] += making.made.prompts - len(said.of)
    making.made.judged += said.judgements
    for answer in said.of:
        pairs, reason = _pairs(making, answer)
        making.made.pairs += pairs
        making.made.dropped.update([reason] if reason else [])


def _row(making: Making, group: Scored, candidates: Sequence[Candidate], written: Sequence[Any]) -> Row:
    """A row of the file: different completions that say something, with the program's view of them.

    Nobody sees that view before an answer.
    """
    first = {text_of(said): i for i, said in reversed(list(enumerate(written)))}
    places = sorted(i for text, i in first.items() if text.strip())[:MOST]
    return {
        **{name: group.row[name] for name in TOLD if name in group.row},
        "prompt": group.prompt,
        "completions": [written[i] for i in places],
        "scores": [candidates[i].score for i in places],
        "good": [making.is_good(candidates[i]) for i in places],
        "enough": [making.standard.admits(candidates[i]) for i in places],
    }


def _pairs(making: Making, answer: Answer) -> tuple[list[Pair], str]:
    """The pairs of one prompt, those that are farthest apart first, and why there are none."""
    if answer.skipped:
        return [], SKIPPED
    if not answer.better:
        return [], UNDECIDED
    stage, item, standing = making.stage, answer.item, answer.standing
    enough: Sequence[bool] = item.row["enough"]
    good = [pair for pair in answer.better if stage.min_chosen is None or enough[pair[0]]]
    if not good:
        return [], NOT_GOOD
    gaps = {(i, j): standing[i] - standing[j] for i, j in good}
    apart = sorted(
        (pair for pair in good if gaps[pair] >= (stage.min_gap or 0) - SAME), key=lambda pair: -gaps[pair]
    )
    return [_pair(answer, i, j) for i, j in spread(apart, stage.pairs_per_prompt)], "" if apart else NEAR


def _pair(answer: Answer, better: int, worse: int) -> Pair:
    item, standing = answer.item, answer.standing
    row = {
        **{name: item.row[name] for name in TOLD if name in item.row},
        "prompt": item.prompt,
        "chosen": item.completions[better],
        "rejected": item.completions[worse],
        "chosen_score": standing[better],
        "rejected_score": standing[worse],
        "source": "ranked",
        "decided_by": DECIDED,
        "item": item.id,
    }
    return Pair(row, DECIDED, None, standing[better] - standing[worse], item.row["good"][better])
