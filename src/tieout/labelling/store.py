"""The judgements of a project, as its journal tells them: owners, answers, drafts, settled disputes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .assignment import Design, Slot, queue, raters, repeats, shown_order
from .items import Item
from .journal import Entry, Journal, NotSaved, now
from .scheme import Scheme
from .state import State
from .values import SKIP, check_value, is_complete, turned

JOURNAL = "journal.jsonl"
IDLE_SECONDS = 600.0
"""What somebody who was not seen for so long has not judged may be given to another."""
MAX_COMMENT = 10_000


class Stale(InputError):
    """Somebody, or another tab, has judged the item since it was shown."""

    def __init__(self, current: Entry | None) -> None:
        super().__init__("this item was judged elsewhere since it was shown here; nothing was overwritten")
        self.current = current


@dataclass(frozen=True)
class Answer:
    """What one person says of one item, in the order shown."""

    id: str
    """Made by the page; an answer that arrives twice is one."""
    annotator: str
    item: str
    round: int
    value: Any
    base: int = 0
    """Number of the entry that the page knew of; 0: none."""
    comment: str = ""
    seconds: float = 0.0


class Store(State):
    """Judgements of the items of one project. All methods may be called from several threads."""

    def __init__(
        self,
        folder: Path,
        scheme: Scheme,
        items: Iterable[Item],
        design: Design | None = None,
        clock: Callable[[], str] = now,
    ) -> None:
        self.folder, self.scheme, self.design = folder, scheme, design or Design()
        self.journal = Journal(folder / JOURNAL, clock)
        self._lock = threading.RLock()
        self._seen: dict[str, float] = {}
        self._started = time.monotonic()
        super().__init__(self.journal.entries)
        self._begin(list(items))

    def _begin(self, items: list[Item]) -> None:
        if self.kind and self.kind != self.scheme.kind:
            raise InputError(f"{self.folder} holds {self.kind}, not {self.scheme.kind}; use another --folder")
        new: list[dict[str, Any]] = []
        if not self.key:
            new.append({"what": "start", "kind": self.scheme.kind, "key": secrets.token_hex(32)})
        sha = self.scheme.guidelines_sha256
        if not self.guidelines or self.guidelines[-1] != sha:
            new.append({"what": "guidelines", "sha256": sha, "text": self.scheme.guidelines})
        new += [{"what": "item", **item.plain()} for item in items if item.id not in self.items]
        if new:
            self._add(*new)
        self.asked = [item.id for item in items] or list(self.items)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    @property
    def project(self) -> str:
        """A name for what a browser keeps of this project."""
        return self.key[:12]

    @property
    def token(self) -> str:
        """What the page's address carries; the same after a restart, so that an open page keeps working."""
        return hmac.new(bytes.fromhex(self.key), b"token", hashlib.sha256).hexdigest()[:32]

    # ------------------------------------------------------------ entries

    def _add(self, *entries: dict[str, Any]) -> list[Entry]:
        added = self.journal.append(*entries)
        for entry in added:
            self.take(entry)
        return added

    @contextmanager
    def together(self) -> Iterator[None]:
        """Force what is said inside to disk once, at the end. NotSaved: nothing of it is there, or known here."""
        with self._lock:
            try:
                with self.journal.together():
                    yield
            except NotSaved:
                super().__init__(self.journal.entries)
                raise

    # ------------------------------------------------------------ what to judge

    def next(
        self, annotator: str, count: int, have: Iterable[Slot] = (), skipped: bool = False
    ) -> list[Slot]:
        """The next `count` items of this person, which become theirs; without those that the page has."""
        with self._lock:
            self._seen[_named(annotator)] = time.monotonic()
            got = set(have)
            found = [slot for slot in self._open(annotator, skipped) if slot not in got][:count]
            own = [item for item, _ in found if annotator in self.owners.get(item, [])]
            free = [item for item, _ in found if item not in own]
            if free:
                self._add({"what": "claim", "annotator": annotator, "items": free})
            if len(found) < count and not got:
                found += self._taken_over(annotator, count - len(found))
            return found

    def _open(self, annotator: str, skipped: bool) -> list[Slot]:
        items = queue(self.key, [self.items[item] for item in self.asked], annotator)
        wanted = []
        for item in items:
            entry, owners = self.judgement(annotator, item.id), self.owners.get(item.id, [])
            if entry is None:
                at_work = [one for one in owners if not self._skipped(one, item.id)]
                if annotator in owners or len(at_work) < raters(self.key, self.design, item):
                    wanted.append((item.id, 0))
            elif (skipped and entry["value"] == SKIP) or not is_complete(entry["value"], self.scheme):
                wanted.append((item.id, 0))
        mine = [e["item"] for e in self.judgements() if e["annotator"] == annotator and e["round"] == 0]
        again = {item for one, item, round in self.slots if one == annotator and round == 1}
        asked = [item for item in mine if item in self.items]
        due = repeats(self.key, self.design, annotator, asked, again)
        return [*due, *wanted]

    def _taken_over(self, annotator: str, count: int) -> list[Slot]:
        """Items of people who have been away."""
        found: list[Slot] = []
        for item in self.asked:
            for owner in self.owners.get(item, []):
                away = time.monotonic() - self._seen.get(owner, self._started) >= IDLE_SECONDS
                open_still = (owner, item, 0) not in self.slots and annotator not in self.owners[item]
                if owner != annotator and away and open_still and len(found) < count:
                    self._add({"what": "claim", "annotator": annotator, "items": [item], "instead_of": owner})
                    found.append((item, 0))
                    break
        return found

    def _skipped(self, annotator: str, item: str) -> bool:
        entry = self.judgement(annotator, item)
        return entry is not None and entry["value"] == SKIP

    def order(self, annotator: str, item: str, round: int = 0) -> list[int]:
        """Which completion this person sees first, second, ..."""
        return shown_order(self.key, self.items[item], annotator, round)

    # ------------------------------------------------------------ what is said

    def judge(self, answer: Answer) -> Entry:
        """Record an answer. Stale: the page did not know the last one. NotSaved: it is not on disk, and nowhere."""
        with self._lock:
            if answer.id in self.ids:
                return self.ids[answer.id]
            item = self._item(answer)
            order = self.order(answer.annotator, answer.item, answer.round)
            value = check_value(turned(answer.value, order, self.scheme), item, self.scheme)
            self._fresh(answer)
            (entry,) = self._add(
                {
                    "what": "judgement",
                    **self._said(answer),
                    "value": value,
                    "shown": order,
                    "base": answer.base,
                }
            )
            return entry

    def undo(self, answer: Answer) -> Entry:
        """Take a judgement back; the journal keeps both. The answer's value does not matter."""
        with self._lock:
            if answer.id in self.ids:
                return self.ids[answer.id]
            self._item(answer)
            self._fresh(answer)
            if self.judgement(answer.annotator, answer.item, answer.round) is None:
                raise InputError("there is nothing to undo: the item is not judged")
            names = {
                "id": answer.id,
                "annotator": answer.annotator,
                "item": answer.item,
                "round": answer.round,
            }
            (entry,) = self._add({"what": "undo", **names, "base": answer.base})
            return entry

    def draft(self, answer: Answer) -> None:
        """Keep what is not an answer yet, as it is shown."""
        with self._lock:
            self._item(answer)
            self._fresh(answer)
            said = self._said(answer)
            self._add({"what": "draft", **said, "value": answer.value, "base": answer.base})

    def settle(self, answer: Answer) -> Entry:
        """Decide a dispute; `annotator` is who decides, `value` is in their order."""
        with self._lock:
            if answer.id in self.ids:
                return self.ids[answer.id]
            if answer.item not in self.items:
                raise InputError(f"there is no item {answer.item!r}")
            current = self.verdicts.get(answer.item)
            if answer.base != (current["n"] if current else 0):
                raise Stale(current)
            order = self.order(_named(answer.annotator), answer.item, answer.round)
            value = turned(answer.value, order, self.scheme)
            value = check_value(value, self.items[answer.item], self.scheme)
            if value == SKIP:
                raise InputError("a dispute is settled by an answer; leave it open instead")
            said = self._said(answer)
            (entry,) = self._add(
                {"what": "verdict", **said, "value": value, "shown": order, "base": answer.base}
            )
            return entry

    def unsettle(self, answer: Answer) -> Entry:
        """Open a settled dispute again; the journal keeps both. The answer's value does not matter."""
        with self._lock:
            if answer.id in self.ids:
                return self.ids[answer.id]
            names = {"id": answer.id, "annotator": _named(answer.annotator), "item": answer.item}
            if answer.item not in self.items:
                raise InputError(f"there is no item {answer.item!r}")
            current = self.verdicts.get(answer.item)
            if current is None or answer.base != current["n"]:
                raise Stale(current)
            (entry,) = self._add({"what": "unsettle", **names, "base": answer.base})
            return entry

    def add_imported(self, entries: Iterable[Entry]) -> int:
        """Add judgements and verdicts from an export; those that are there are left out. Returns how many were new."""
        with self._lock:
            new = [entry for entry in entries if entry["id"] not in self.ids]
            for entry in new:
                if entry["item"] not in self.items:
                    raise InputError(
                        f"item {entry['item']!r} is not of this project: import into that of its file"
                    )
                slot = entry["annotator"], entry["item"], entry["round"]
                if entry["what"] == "judgement" and self.judgement(*slot) is not None:
                    raise InputError(
                        f"{slot[0]} has judged item {slot[1]} here too, and not the same; nothing imported"
                    )
                check_value(entry["value"], self.items[entry["item"]], self.scheme, earlier=True)
            if new:
                self._add(*new)
            return len(new)

    def _item(self, answer: Answer) -> Item:
        _named(answer.annotator)
        item = self.items.get(answer.item)
        if item is None or answer.round not in (0, 1):
            raise InputError(f"there is no item {answer.item!r}, round {answer.round}")
        if (answer.annotator, answer.item) not in self.given:
            raise InputError(f"item {answer.item} was not given to {answer.annotator}")
        return item

    def _fresh(self, answer: Answer) -> None:
        slot = answer.annotator, answer.item, answer.round
        if answer.base != self.revision(*slot):
            raise Stale(self.slots.get(slot))

    def _said(self, answer: Answer) -> dict[str, Any]:
        said = asdict(answer)
        del said["base"], said["value"]
        seconds = answer.seconds
        if not isinstance(seconds, int | float) or not 0 <= seconds < 1e6:
            raise InputError(f"seconds is {seconds!r}; expected how long it took")
        if not isinstance(answer.comment, str) or len(answer.comment) > MAX_COMMENT:
            raise InputError(f"the comment is too long; at most {MAX_COMMENT} characters are kept")
        if not isinstance(answer.id, str) or not 8 <= len(answer.id) <= 64:
            raise InputError("an answer needs an id of its own")
        return {**said, "seconds": round(float(seconds), 1), "guidelines": self.guidelines[-1]}


def _named(annotator: Any) -> str:
    """The name, if it is one."""
    if (
        not isinstance(annotator, str)
        or not annotator.strip()
        or len(annotator) > 60
        or not annotator.isprintable()
    ):
        raise InputError(f"the annotator's name is {annotator!r:.80}; expected 1 to 60 letters")
    return annotator
