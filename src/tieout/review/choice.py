"""Section Which one to take: one table of all models on the same cases, and the choice by rule, with its reasons."""

from __future__ import annotations

from ..evidence.choice_words import HEADER
from ..evidence.choice_words import table as rows_of
from .markup import Markup, html, joined, lead, nothing, table
from .stored import Stored


def section(run: Stored) -> Markup:
    """The table and the reasons."""
    choice = run.judged.get("choice")
    if not choice:
        return nothing(
            "Not in this report: it was made before reports chose; `tieout compare RUN` works it out."
        )
    settings, machine = run.settings, run.judged["metadata"].get("environment", {}).get("processor", "")
    rule = settings["choice"]
    metric, where = settings["primary"] or "reward", f" on {machine}" if machine else ""
    said = (
        f"Every model on the same cases, the cheapest first, by {metric}. A dearer one is taken only where it is shown "
        f"to be better, at {rule['alpha']:g} over all comparisons. Cost: training, and {rule['answers']:,} answers. "
        f"Seconds and tokens a second are those of the evaluation{where}; of an API, of its requests. Whether it may "
        "ship is the gate's to say."
    )
    first, *others = choice["why"]
    listed = joined([html("<li>{}</li>", one) for one in others])
    return joined(
        [
            lead(said),
            html("<p><strong>{}</strong></p>", first),
            table(
                [name.capitalize() for name in HEADER], rows_of(choice), numbers=(2, 3, 4, 5), kind="choice"
            ),
            html("<ul>{}</ul>", listed) if others else Markup(""),
        ]
    )
