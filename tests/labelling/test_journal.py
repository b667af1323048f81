"""What was confirmed is there after a kill, a power cut, a full disk or a clock that was set back."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.labelling.journal import Journal, NotSaved, read_journal


def written(folder: Path, number: int = 5) -> Path:
    journal = Journal(folder / "journal.jsonl")
    for i in range(number):
        journal.append({"what": "note", "text": f'Straße {i} \U0001f600 "\n'})
    journal.close()
    return folder / "journal.jsonl"


def texts(path: Path) -> list[str]:
    return [entry["text"] for entry in read_journal(path)]


def test_a_copy_of_the_disk_at_any_byte_has_every_entry_that_was_whole(tmp_path: Path) -> None:
    data = written(tmp_path, 3).read_bytes()
    whole = [i + 1 for i, byte in enumerate(data) if byte == 10]
    copy = tmp_path / "copy" / "journal.jsonl"
    copy.parent.mkdir()
    for size in range(len(data) + 1):
        copy.write_bytes(data[:size])
        known = sum(end <= size for end in whole)
        assert len(read_journal(copy)) == known
        journal = Journal(copy)
        journal.append({"what": "note", "text": "after"})
        journal.close()
        assert [entry["n"] for entry in read_journal(copy)] == list(range(1, known + 2))


def test_blocks_that_never_reached_the_disk_are_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0" * 4096)
    journal = Journal(path)
    assert len(journal.entries) == 5
    journal.append({"what": "note", "text": "after"})
    assert len(read_journal(path)) == 6


@pytest.mark.parametrize("line", range(5))
def test_a_line_that_was_changed_is_named(tmp_path: Path, line: int) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().split(b"\n")
    lines[line] = lines[line].replace(b"Stra", b"stra")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=rf"journal.jsonl:{line + 1}: "):
        Journal(path)


@pytest.mark.parametrize("change", ["drop", "swap", "twice"])
def test_a_line_that_was_dropped_moved_or_repeated_is_found(tmp_path: Path, change: str) -> None:
    path = written(tmp_path)
    one, two, three, *rest = path.read_bytes().splitlines(keepends=True)
    changed = {"drop": [one, three], "swap": [one, three, two], "twice": [one, two, two, three]}[change]
    path.write_bytes(b"".join([*changed, *rest]))
    with pytest.raises(InputError, match=r"journal.jsonl:\d"):
        Journal(path)


WRITER = """
import resource, signal, sys
from pathlib import Path
from tieout.labelling.journal import Journal, NotSaved
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
limit = journal.path.stat().st_size + 300
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
saved = failed = 0
for i in range(8):
    try:
        journal.append({"what": "note", "text": "x" * 100})
        saved += 1
    except NotSaved:
        failed += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"what": "note", "text": "room again"})
print(saved, failed)
"""


def test_on_a_full_disk_nothing_is_half_written_and_all_works_once_there_is_room(tmp_path: Path) -> None:
    path = written(tmp_path)
    command = [sys.executable, "-c", WRITER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    saved, failed = map(int, done.stdout.split())
    assert saved >= 1
    assert saved + failed == 8
    assert failed
    assert texts(path)[5:] == ["x" * 100] * saved + ["room again"]


KILLED = """
import sys
from pathlib import Path
from tieout.labelling.journal import Journal
journal = Journal(Path(sys.argv[1]))
for i in range(100000):
    print(journal.append({"what": "note", "text": "y" * 5000})[0]["n"], flush=True)
"""


def test_killed_while_writing_it_has_what_it_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for _ in range(3):
        before = len(read_journal(path)) if path.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(7):
            confirmed = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        confirmed = int(rest[-1]) if rest else confirmed
        assert before < confirmed <= len(read_journal(path)) <= confirmed + 1


def test_a_clock_that_was_set_back_changes_no_order(tmp_path: Path) -> None:
    times = iter(["2026-03-02T10:00:00+00:00", "2026-03-01T10:00:00+00:00", "2031-01-01T00:00:00+00:00"])
    journal = Journal(tmp_path / "journal.jsonl", clock=lambda: next(times))
    for name in "abc":
        journal.append({"what": "note", "text": name})
    assert texts(journal.path) == ["a", "b", "c"]
    assert [entry["time"][:4] for entry in read_journal(journal.path)] == ["2026", "2026", "2031"]


@pytest.mark.parametrize("what", ["removed", "replaced", "cut"])
def test_a_file_that_was_taken_away_is_said_not_written_into_nowhere(tmp_path: Path, what: str) -> None:
    path = written(tmp_path)
    journal = Journal(path)
    data = path.read_bytes()
    if what == "cut":
        os.truncate(path, 10)
    else:
        path.unlink()
    if what == "replaced":
        path.write_bytes(data)
    with pytest.raises(NotSaved):
        journal.append({"what": "note", "text": "lost?"})


def test_an_entry_is_forced_to_disk_whole_before_it_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    forced: list[int] = []
    monkeypatch.setattr(
        "tieout.labelling.journal.os.fsync", lambda file: forced.append(os.fstat(file).st_size)
    )
    for text in "abc":
        journal.append({"what": "note", "text": text})
        assert forced[-1] == journal.path.stat().st_size, "what lies on the disk is all that was written"
    assert len(forced) == 3


def test_what_is_written_together_is_forced_to_disk_once_and_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    asked: list[int] = []
    fail = iter([False, True, False, False])

    def fsync(file: int) -> None:
        asked.append(file)
        if len(journal.entries) and next(fail):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tieout.labelling.journal.os.fsync", fsync)
    for name in "abc":
        with nullcontext() if name != "b" else pytest.raises(NotSaved), journal.together():
            journal.append({"what": "note", "text": f"{name}1"})
            journal.append({"what": "note", "text": f"{name}2"})
        assert texts(journal.path) == [entry["text"] for entry in journal.entries]
    assert texts(journal.path) == ["a1", "a2", "c1", "c2"]
    assert len(asked) == 4, "one each, and one for cutting off what could not be forced"


def test_the_file_is_json_lines(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in written(tmp_path).read_text().splitlines()]
    assert [row["n"] for row in rows] == [1, 2, 3, 4, 5]
