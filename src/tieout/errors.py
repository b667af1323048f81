"""Errors that a user can act on. Everything else that is raised is a bug, and shows its traceback."""

from __future__ import annotations


class TieoutError(Exception):
    """Base class of every error that tieout raises deliberately: the message says what was given, what was expected
    and what to do."""


class InputError(TieoutError, ValueError):
    """A value, row, file or combination of options that cannot be right."""


class StopTraining(TieoutError, RuntimeError):
    """Raised by a monitor: the run saves what it has and ends, with this reason."""

    def __init__(self, reason: str, before: int | None = None) -> None:
        super().__init__(reason)
        self.before = before
        """Checkpoints of this step and later are not good: the run has blown up, and goes back to an earlier one before
        it ends. None: what it has is saved."""
        self.good: int | None = None
        """The step of that earlier checkpoint, once its weights are back in the learner."""


class TooManyErrors(TieoutError, RuntimeError):
    """A reward failed so often that training on the rest would be training on luck."""


class RollBack(TieoutError):
    """Raised by an alarm: go back to a checkpoint, and on from there with other data."""

    def __init__(self, reason: str, before: int) -> None:
        super().__init__(reason)
        self.before = before
        """Checkpoints of this step and later are not good."""
