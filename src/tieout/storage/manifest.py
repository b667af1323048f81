"""The manifest of a run: an append-only chain of in-toto Statements, one for each step that wrote files.

`manifest.jsonl` has a Statement per line (https://in-toto.io/Statement/v1): its subjects are the files that are new or
changed since the line before, each with its SHA-256; its predicate says which step wrote them, when, which files are
gone, the SHA-256 of the line before, and its own without that. So every digest of every attempt stays on record, and a
line that is edited or removed breaks the chain. Only the head, the digest of the last line, has to be kept elsewhere to
know that no line at the end is missing, and that the chain was not built again from the start: the page and every
record of a verification have that of their time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..config.plain import to_plain
from ..errors import InputError
from .atomic import write_atomic
from .identity import file_digest

FILE = "manifest.jsonl"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://tieout.dev/run-step/v1"
LEFT_OUT = ("lock", FILE)
"""At the top of a run folder: no part of what a run claims. Nor is what is hidden: systems put such files anywhere."""
PASSING = ("checkpoints", "__pycache__")
"""Folders whose files come and go while a run works."""
RECORDS = "verification"
"""At the top of a run folder: records of verifications, each of which is checked by itself."""


@dataclass
class State:
    """What the chain says of a folder."""

    files: dict[str, str] = field(default_factory=dict)
    """Name -> SHA-256, of those that should be there."""
    steps: list[str] = field(default_factory=list)
    head: str = ""
    """SHA-256 of the last line."""
    written_by: dict[str, str] = field(default_factory=dict)
    """Name -> the step that wrote it last."""


def append(folder: Path, step: str, about: Mapping[str, Any] | None = None) -> str:
    """Add what a step wrote; returns the head. Nothing is added where nothing changed and there is nothing to say.

    InputError: the chain is broken, so that nothing can be added to it.
    """
    state, problems = replay(folder)
    if problems:
        raise InputError(f"{folder / FILE}: {problems[0]}; a broken record is not continued")
    now = {name: file_digest(folder / name) for name in files_of(folder)}
    subject = [
        {"name": name, "digest": {"sha256": digest}}
        for name, digest in now.items()
        if state.files.get(name) != digest
    ]
    gone = sorted(set(state.files) - set(now))
    if not subject and not gone and not about:
        return state.head
    statement: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "step": step,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "gone": gone,
            "previous": state.head,
            **to_plain(dict(about or {})),
        },
    }
    statement["predicate"]["line"] = hashlib.sha256(_line(statement)).hexdigest()
    line, path = _line(statement), folder / FILE
    write_atomic(path, (path.read_bytes() if path.exists() else b"") + line + b"\n")
    return hashlib.sha256(line).hexdigest()


def _line(statement: Mapping[str, Any]) -> bytes:
    return json.dumps(statement, ensure_ascii=False, allow_nan=False).encode()


def code() -> dict[str, str]:
    """Version of the package, and one SHA-256 over all of its source files."""
    root = Path(__file__).parents[1]
    files = sorted(path for path in root.rglob("*.py"))
    listed = "".join(f"{path.relative_to(root).as_posix()} {file_digest(path)}\n" for path in files)
    return {"version": metadata.version("tieout"), "sha256": hashlib.sha256(listed.encode()).hexdigest()}


def replay(folder: Path) -> tuple[State, list[str]]:
    """What the chain says, and what is wrong with the chain itself."""
    state, path = State(), folder / FILE
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    problems = [] if not lines.pop() else ["its last line is not whole"]
    marked = False
    for number, line in enumerate(lines, 1):
        try:
            statement = json.loads(line)
            predicate = statement["predicate"]
            subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
            step, previous, gone = predicate["step"], predicate["previous"], predicate["gone"]
            own = predicate.pop("line", None)  # lines had none before 2026-11-30, and each has one since
            edited = (
                own != hashlib.sha256(_line(statement)).hexdigest() if marked or own is not None else False
            )
        except (KeyError, TypeError, ValueError):
            problems.append(f"line {number} is no statement of a step")
            state.head = hashlib.sha256(line).hexdigest()
            continue
        if previous != state.head:
            problems.append(
                f"line {number} ({step}) does not follow the line before it: one was changed or removed"
            )
        if edited:
            problems.append(f"line {number} ({step}) is not as it was written")
        marked = marked or own is not None
        state.files |= subjects
        state.written_by |= dict.fromkeys(subjects, step)
        for name in gone:
            state.files.pop(name, None)
        state.steps.append(step)
        state.head = hashlib.sha256(line).hexdigest()
    return state, problems


def check(folder: Path, head: str = "") -> list[str]:
    """What differs between a folder and its manifest, each file named. `head`: a line that must be in the chain."""
    state, problems = replay(folder)
    problems = [f"{FILE}: {problem}" for problem in problems]
    if head and head not in heads(folder):
        problems.append(
            f"{FILE}: the line {head[:16]} is not there: steps were removed, or the record was written anew"
        )
    there = set(files_of(folder))
    for name, digest in sorted(state.files.items()):
        by = state.written_by[name]
        if name not in there:
            problems.append(f"{name}: missing; {by} wrote it")
        elif (found := file_digest(folder / name)) != digest:
            problems.append(f"{name}: changed since {by} wrote it (SHA-256 {found[:16]}, was {digest[:16]})")
    problems += [f"{name}: no step of the run wrote it" for name in sorted(there - set(state.files))]
    return problems


def heads(folder: Path) -> list[str]:
    """The digest of every line."""
    return [hashlib.sha256(line).hexdigest() for line in _lines(folder)]


def steps(folder: Path, head: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """Predicates of the steps, the first step first, and the digest of the last of them; empty without any.

    `head`: up to the line of this digest; None: all. InputError: a line is no statement.
    """
    found, last = list[dict[str, Any]](), ""
    for line in _lines(folder) if head != "" else []:
        last = hashlib.sha256(line).hexdigest()
        try:
            found.append(json.loads(line)["predicate"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / FILE}: line {len(found) + 1} is no statement of a step; see `tieout verify`"
            ) from error
        if last == head:
            break
    return found, last


def _lines(folder: Path) -> list[bytes]:
    """The lines that are whole."""
    path = folder / FILE
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def files_of(folder: Path) -> Iterator[str]:
    """Names of the files that a manifest covers, sorted."""
    yield from sorted(name for name in _walked(folder) if name not in LEFT_OUT)


def check_files(folder: Path) -> None:
    """InputError: the folder holds a link, a pipe or a device, which may lead anywhere or have no end."""
    for name in sorted(_walked(folder, folders_too=True)):
        path = folder / name
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(
                f"{folder}: {name!r} is a link, or no file: a run writes neither, and nothing outside the folder is "
                "read; put there what it stands for"
            )


def _walked(folder: Path, folders_too: bool = False) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        top = Path(place) == folder
        folders[:] = [
            name
            for name in folders
            if name not in PASSING
            and not name.startswith(".")
            and (folders_too or not (top and name == RECORDS))
        ]
        for name in [*names, *folders] if folders_too else names:
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()
