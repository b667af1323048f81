"""Keep what can be kept of a training that cannot write into its folder, and say where it is."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import TieoutError
from ..learner import Learner
from ..learner.checkpoint import FULL, Checkpoints, save_adapter


def rescued(error: OSError, learner: Learner, checkpoints: Checkpoints) -> OSError:
    """The same error, with what is left: the newest checkpoint, and an adapter in the folder for temporary files."""
    newest = checkpoints.newest()
    saved = int(newest.name.removeprefix("step-")) if newest else 0
    left = [f"step {saved} is kept in {newest}" if newest else "there is no checkpoint"]
    if learner.step > saved:
        lost = f"the weights of step {learner.step} are lost"
        with suppress(OSError, TieoutError):
            place = Path(tempfile.mkdtemp(prefix=f"tieout-step-{learner.step}-")) / "adapter"
            save_adapter(learner, place)
            lost = f"the weights of step {learner.step} are in {place}"
        left.append(lost)
    room = "make room, and " if error.errno in FULL else ""
    said = f"{error.strerror or error} ({'; '.join(left)}: {room}repeat the command to resume)"
    return OSError(error.errno, said, error.filename)
