"""Challengers: models that were evaluated without being trained, and what is on record of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..samplers.api.opening import API, is_api

BEST_OF_N, PROMPT, REMOTE = "best_of_n", "prompt", "api"
"""Kinds: the best of several samples; something put before every prompt; a model behind an API, asked as it is."""
UPPER_BOUND = "upper bound: chosen with the gold answer"


def about(report: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """What the report has on record of a model: its identity and, of a challenger, how it was made."""
    return report["metadata"].get("models", {}).get(model) or {}


def kind_of(report: Mapping[str, Any], model: str) -> str:
    """`best_of_n`, `prompt`, `api`, `base`, or the method that trained it; empty where nothing is on record."""
    known = about(report, model)
    if kind := known.get("kind"):
        return str(kind)
    if remote(known):
        return REMOTE
    stages = report["metadata"].get("recipe", {}).get("stages", [])
    trained = (str(stage["train"]) for stage in stages if "train" in stage and stage.get("name") == model)
    return "base" if model == report["settings"]["base"] else next(trained, "")


def remote(known: Mapping[str, Any]) -> bool:
    """Whether it is behind an API, so that its weights are not here."""
    return is_api(str(known.get("base", "")))


def how_made(known: Mapping[str, Any]) -> str:
    """How a challenger was made; empty for other models.

    A selector that is given a column of the row may read gold: then nothing is said but that it is an upper bound.
    """
    of = known["base"].removeprefix(API) if remote(known) else known.get("of", "the base")
    if known.get("kind") == BEST_OF_N:
        shown = f" with {_shown(known['prompt'])}" if "prompt" in known else ""
        made = (
            f"best of {known['samples']} samples of {of}{shown} at temperature {known['temperature']:g}, by "
        )
        return f"{made}{known['selector']}; {_choice(known['reads'])}"
    if known.get("kind") == PROMPT:
        return f"{of} with {_shown(known)}"
    return f"{of}, behind an API" if remote(known) else ""


def oracle(known: Mapping[str, Any]) -> bool:
    """Whether its answers were, or may have been, chosen with the gold answer, so that it cannot be served."""
    return known.get("kind") == BEST_OF_N and known["reads"] != []


def _shown(prompt: Mapping[str, Any]) -> str:
    if prompt.get("kept"):
        first = "the search began with" if prompt.get("given") else "it had"
        return f"the prompt that {first}, as {prompt['stage']} found none better"
    place = "a prompt file" if prompt.get("file") else prompt.get("stage", "")
    parts = ["a system prompt"] if prompt["system"] else []
    shown = "examples" if place else "training rows as examples"
    parts += [f"{prompt['shots']} {shown}"] if prompt["shots"] else []
    return (" and ".join(parts) or "no prompt") + (f", from {place}" if place else "")


def _choice(reads: list[str] | None) -> str:
    if reads is None:
        return f"{UPPER_BOUND}, as far as is known: the selector is given every column of the row"
    if reads:
        return f"{UPPER_BOUND} ({', '.join(reads)}), so it cannot be served"
    return "the selector is given prompts and completions alone"
