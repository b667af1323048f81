"""What a model that proposes prompts is told of a completion. Gold is not in it.

A reward's error may quote gold (`expected 1,234`), and so may anything else that it says. So nothing that a reward
says is passed on: only names and numbers of scores, parts and metrics, the kind of an error, and what can be seen on
the completion alone.
"""

from __future__ import annotations

import re

from ..evidence.evaluate import Case
from ..rewards.text.structured import parse_json

_RAISED = re.compile(r"raised (\w+):")


def feedback_of(case: Case, best: float | None, max_new_tokens: int) -> str:
    """Sentences on one completion.

    Args:
        case: the completion and its scores.
        best: the top of the reward's range; None: it declares none.
        max_new_tokens: where completions are cut off.
    """
    assert case.score is not None
    said = [f"Score {case.score:.3g}" + (f" of at most {best:.3g}." if best is not None else ".")]
    if case.parts:
        said.append(f"Points by part: {_listed(case.parts)}.")
    if case.metrics:
        said.append(f"Other measures: {_listed(case.metrics)}.")
    for name, reason in case.errors.items():
        kind = found[1] if (found := _RAISED.search(reason)) else "an error"
        said.append(f"The completion made the program that computes {name!r} fail ({kind}).")
    if case.usage.get("tokens", 0) >= max_new_tokens:
        said.append(f"It was cut off at {max_new_tokens} tokens.")
    text = case.completion.strip()
    if not text:
        said.append("It is empty.")
    elif text[0] in "{[" and (error := parse_json(text).error):
        said.append(f"It begins as JSON, but is none: {error}.")
    return " ".join(said)


def _listed(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in scores.items())
