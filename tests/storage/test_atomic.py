"""Folders that are whole or absent, and swapped so that there is always one."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.storage import atomic
from tieout.storage.atomic import MANIFEST, appearing, exchange, seal, sha256, verifies


def fill(folder: Path, text: str) -> None:
    with appearing(folder) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "a").write_text(text)
        (aside / "b").write_text(text)


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert sha256(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_folder_appears_sealed_and_replaces_the_one_before(tmp_path: Path) -> None:
    for text in ("one", "two"):
        fill(tmp_path / "x", text)
        assert verifies(tmp_path / "x")
        assert (tmp_path / "x" / "deep" / "a").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path / "x", "one")
    with pytest.raises(ValueError, match="half way"), appearing(tmp_path / "x") as aside:  # noqa: PT012
        (aside / "b").write_text("two")
        raise ValueError("half way")
    assert (tmp_path / "x" / "b").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("damage", ["change", "remove", "manifest", "list"])
def test_whatever_is_altered_does_not_verify(tmp_path: Path, damage: str) -> None:
    fill(tmp_path / "x", "one")
    target = tmp_path / "x"
    if damage == "change":
        (target / "b").write_text("onf")
    elif damage == "remove":
        (target / "deep" / "a").unlink()
    else:
        (target / MANIFEST).write_text("[]" if damage == "list" else "{")
    assert not verifies(target)


def test_readers_find_a_whole_folder_at_every_moment_of_an_exchange(tmp_path: Path) -> None:
    """A reader looks all the time while the folder is replaced a hundred times; not once is it gone or mixed."""
    target = tmp_path / "x"
    fill(target, "0")
    bad, stop = list[str](), threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:  # one descriptor: what it names stays the same folder while names are swapped
                descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                bad.append("gone")
                continue
            os.close(descriptor)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for i in range(100):
            other = tmp_path / f"new{i}"
            other.mkdir()
            (other / "b").write_text(str(i))
            exchange(other, target)
            assert (target / "b").read_text() == str(i)
    finally:
        stop.set()
        reader.join()
    assert not bad


def test_without_the_system_call_the_old_folder_comes_back_if_killed_between_the_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        pass

    monkeypatch.setattr(atomic.ctypes, "CDLL", lambda *_, **__: Nothing())
    fill(tmp_path / "x", "one")
    fill(tmp_path / "x", "two")
    assert (tmp_path / "x" / "b").read_text() == "two"
    real, renames = Path.rename, []

    def second_is_fatal(self: Path, target: Path) -> Any:
        renames.append(target)
        if len(renames) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", second_is_fatal)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "x", "three")
    assert [p.name for p in tmp_path.iterdir()] == [".x.old"]
    assert verifies(tmp_path / ".x.old")
    with appearing(tmp_path / "x"):  # the next writer puts it back before it begins
        assert (tmp_path / "x" / "b").read_text() == "two"


def dies_at(number: int, name: str, action: Callable[[], object]) -> bool:
    """Run in a child that is killed at its nth call of an os function; False if it lived to the end."""
    child = os.fork()
    if child == 0:
        real, count = getattr(os, name), 0

        def fatal(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, name, fatal)
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ["fsync", "mkdir", "rename", "replace", "chmod", "unlink", "rmdir"])
def test_killed_at_any_call_the_folder_is_the_old_or_the_new_one(tmp_path: Path, name: str) -> None:
    target, seen, number = tmp_path / "x", set(), 1
    fill(target, "old")
    while dies_at(number, name, lambda: fill(target, "new")):
        assert verifies(target)
        seen.add((target / "b").read_text())
        number += 1
        if (target / "b").read_text() == "new":
            fill(target, "old")
    assert seen <= {"old", "new"}
    assert number > 1 or name == "rename"
    fill(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]  # what the dead left is cleared


def test_a_full_disk_inside_sealing_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "x", "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        fill(tmp_path / "x", "new")
    monkeypatch.undo()
    assert (tmp_path / "x" / "b").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    seal(tmp_path / "x")  # sealing again changes nothing
    assert verifies(tmp_path / "x")
