"""Challengers: the base sampled N times or prompted, evaluated like a model, and what is on record of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEST_OF_N, PROMPT = "best_of_n", "prompt"
UPPER_BOUND = "upper bound: chosen with the gold answer"


def names_of(best_of_n: int, prompted: bool) -> tuple[str, ...]:
    """Names of the challengers in a report."""
    found = [f"base_best_of_{best_of_n}"] if best_of_n else []
    return (*found, *(["base_prompted"] if prompted else []))


def about(report: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """What the report has on record of a model: its identity and, of a challenger, how it was made."""
    return report["metadata"].get("models", {}).get(model) or {}


def kind_of(report: Mapping[str, Any], model: str) -> str:
    """`best_of_n`, `prompt`, `base`, or the method that trained it; empty where nothing is on record."""
    if kind := about(report, model).get("kind"):
        return str(kind)
    stages = report["metadata"].get("recipe", {}).get("stages", [])
    trained = (str(stage["train"]) for stage in stages if "train" in stage and stage.get("name") == model)
    return "base" if model == report["settings"]["base"] else next(trained, "")


def how_made(known: Mapping[str, Any]) -> str:
    """How a challenger was made; empty for other models.

    A selector that is given a column of the row may read gold: then nothing is said but that it is an upper bound.
    """
    if known.get("kind") == BEST_OF_N:
        made = f"best of {known['samples']} samples of the base at temperature {known['temperature']:g}, by "
        return f"{made}{known['selector']}; {_choice(known['reads'])}"
    if known.get("kind") == PROMPT:
        parts = ["a system prompt"] if known["system"] else []
        parts += [f"{known['shots']} training rows as examples"] if known["shots"] else []
        return f"the base with {' and '.join(parts)}"
    return ""


def oracle(known: Mapping[str, Any]) -> bool:
    """Whether its answers were, or may have been, chosen with the gold answer, so that it cannot be served."""
    return known.get("kind") == BEST_OF_N and known["reads"] != []


def _choice(reads: list[str] | None) -> str:
    if reads is None:
        return f"{UPPER_BOUND}, as far as is known: the selector is given every column of the row"
    if reads:
        return f"{UPPER_BOUND} ({', '.join(reads)}), so it cannot be served"
    return "the selector is given prompts and completions alone"
