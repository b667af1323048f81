"""Settings of a search, as the command and the stage of a recipe have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from .budget import Budget

MINIBATCH = {"plain": 8, "gepa": 3}


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a prompt is searched for."""

    reflection: str = ""
    """The model that reads completions with feedback and proposes prompts, named as the one whose prompt it is. Needed
    by gepa."""
    search: Literal["auto", "gepa", "plain"] = "auto"
    """gepa: reflection, from the Pareto front; plain: edits, and completions of the model's own as examples. auto takes
    gepa if there is a reflection model."""
    system: str = ""
    """The prompt to begin with: a text, a file of it, or a prompt file (.json), whose parts gepa rewrites in turn. Left
    out: the system message that all rows share, which the prompt then replaces, or none."""
    budget: int = 400
    """Completions that the search may use."""
    minibatch: int = 0
    """Training rows on which a candidate is compared with what it was made from; 0 takes 3 for gepa, 8 for plain."""
    train_rows: int = 100
    """Rows to try candidates on, spread over a half of what is searched on; 0 takes all of it."""
    validation_rows: int = 40
    """Rows to choose by, spread over the other half; 0 takes all of it."""
    reflection_tokens: int = 2048
    """Of a proposal, at most; one that is cut off is not tried."""

    @property
    def by(self) -> Literal["gepa", "plain"]:
        """The search. InputError: gepa without a reflection model, or plain with one."""
        if self.search == "auto":
            return "gepa" if self.reflection else "plain"
        if (self.search == "gepa") != bool(self.reflection):
            why = "needs a reflection model" if self.search == "gepa" else "asks no reflection model"
            raise InputError(f"search {self.search} {why}; leave search out, and reflection decides")
        return self.search

    @property
    def compared_on(self) -> int:
        """Training rows of a minibatch."""
        return self.minibatch or MINIBATCH[self.by]

    def budget_for(self, validation: int) -> Budget:
        """The budget with so many validation rows. InputError: no room for three candidates, or for a proposal."""
        if self.reflection_tokens < 1:
            raise InputError(f"reflection_tokens is {self.reflection_tokens}; it must be at least 1")
        return Budget(self.budget, self.compared_on, validation)
