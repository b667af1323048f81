"""The page of a run that may not have begun, may be working, or may have stopped, and a line that says which."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import InputError
from .attempts import failure
from .document import render
from .markup import Markup, html
from .stored import Stored, read


def page(folder: Path, seconds: int) -> str:
    """The page as the folder has it now, below how the run is; one that cannot be read yet says why."""
    try:
        run = read(folder)
    except (InputError, OSError, KeyError, ValueError) as error:
        why = (
            "not begun: the folder is not there yet"
            if not folder.exists()
            else f"not to be read yet: {error}"
        )
        return str(
            html(
                '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{}">'
                "<title>{}</title></head><body><p>{}: {}</p></body></html>",
                seconds,
                folder,
                folder,
                why,
            )
        )
    said = html('<p class="note" role="status">{}</p>', state(folder, run))
    return render(run, seconds).replace("<main>", str(Markup("<main>\n") + said), 1)


def state(folder: Path, run: Stored) -> str:
    """How the run is: working, failed and at which stage, finished, or stopped."""
    if _held(folder / "lock"):
        return "The run is working."
    if failed := failure(run.steps):
        return f"The run failed in {failed}. Its command, repeated, resumes it."
    if run.report is not None:
        return "The run is finished."
    return "The run has stopped before its end: no process works on it. Its command, repeated, resumes it."


def _held(lock: Path) -> bool:
    """Whether a process of this machine holds the lock of a run folder.

    The lock is tried only if the process that took it last is alive: trying it must not keep a run from starting.
    """
    try:
        os.kill(int(lock.read_text("ascii")), 0)
    except PermissionError:
        pass  # alive, and of another user
    except (OSError, ValueError):
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
