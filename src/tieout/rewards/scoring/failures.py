"""Stop where a reward or a judge fails too often, outside of training."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import TooManyErrors
from .outcomes import Outcome

ERROR_LIMIT = 0.2
"""Share of completions whose reward may fail, as while training."""


class Failures:
    """How often what scores completions failed by its own fault, or that of a service."""

    def __init__(self, who: str) -> None:
        self.who, self.seen, self.reasons = who, 0, list[str]()

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes of some completions."""
        self.seen += len(outcomes)
        self.reasons += [o.reason for o in outcomes if o.status == "errored" and o.cause != "completion"]

    def check(self) -> None:
        """TooManyErrors: the share of failures is past the limit, judged once enough completions were seen."""
        failed = len(self.reasons)
        if self.seen >= 16 and failed > ERROR_LIMIT * self.seen:
            raise TooManyErrors(
                f"{self.who} failed on {failed} of {self.seen} completions; the limit is {ERROR_LIMIT:.0%}. Last: "
                f"{self.reasons[-1]}. Fix {self.who}, or what it needs, and repeat the command"
            )
