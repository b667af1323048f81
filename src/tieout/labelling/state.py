"""The state of a project, folded from its journal: items, owners, judgements, drafts, settled disputes."""

from __future__ import annotations

from collections.abc import Iterable

from .items import Item
from .journal import Entry
from .values import SKIP


class State:
    """What the entries of a journal say so far."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.items: dict[str, Item] = {}
        self.slots: dict[tuple[str, str, int], Entry] = {}
        """(annotator, item, round) -> the last judgement, or the undo of one."""
        self.verdicts: dict[str, Entry] = {}
        """Item -> how a dispute was settled."""
        self.drafts: dict[tuple[str, str, int], Entry] = {}
        self.owners: dict[str, list[str]] = {}
        self.given: set[tuple[str, str]] = set()
        """(annotator, item) that was theirs at some time."""
        self.guidelines: list[str] = []
        """SHA-256 of each version, the first one first."""
        self.ids: dict[str, Entry] = {}
        self.key, self.kind = "", ""
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        """Fold one more entry in."""
        what = entry["what"]
        if what == "start":
            self.key, self.kind = entry["key"], entry["kind"]
        elif what == "guidelines":
            self.guidelines.append(entry["sha256"])
        elif what == "item":
            names = ("id", "prompt", "completions", "row", "group")
            self.items[entry["id"]] = Item(**{name: entry[name] for name in names})
        elif what == "claim":
            for item in entry["items"]:
                owners = [one for one in self.owners.get(item, []) if one != entry.get("instead_of")]
                self.owners[item] = [*owners, entry["annotator"]]
                self.given.add((entry["annotator"], item))
        else:
            self.ids[entry["id"]] = entry
            if what == "verdict":
                self.verdicts[entry["item"]] = entry
                return
            if what == "unsettle":
                self.verdicts.pop(entry["item"], None)
                return
            slot = entry["annotator"], entry["item"], entry["round"]
            self.drafts.pop(slot, None)
            (self.drafts if what == "draft" else self.slots)[slot] = entry
            self.given.add(slot[:2])
            owners = self.owners.setdefault(entry["item"], [])
            if entry["annotator"] not in owners:
                owners.append(entry["annotator"])

    def judgement(self, annotator: str, item: str, round: int = 0) -> Entry | None:
        """What this person says of the item; None: nothing, or it was undone."""
        entry = self.slots.get((annotator, item, round))
        return entry if entry and entry["what"] == "judgement" else None

    def judgements(self, skips: bool = False) -> list[Entry]:
        """Every judgement that stands, in the order of the journal."""
        found = [e for e in self.slots.values() if e["what"] == "judgement" and (skips or e["value"] != SKIP)]
        return sorted(found, key=lambda entry: entry["n"])

    def by_item(self) -> dict[str, list[Entry]]:
        """Item -> what each person said of it first, skips left out."""
        found: dict[str, list[Entry]] = {}
        for entry in self.judgements():
            if entry["round"] == 0:
                found.setdefault(entry["item"], []).append(entry)
        return found

    def revision(self, annotator: str, item: str, round: int) -> int:
        """Number of the last entry of a slot; 0: none."""
        entry = self.slots.get((annotator, item, round))
        return entry["n"] if entry else 0
