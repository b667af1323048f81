"""Ask on a terminal for what a reviewer asks for."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..review.answers import Review, answered, kept, lacking, questions

if TYPE_CHECKING:
    from ..pipelines.recipe import Recipe


def asked(review: Review) -> Review:
    """The review with an answer to everything that is blank; as given where nobody can be asked, or stops answering."""
    if not lacking(review) or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return review
    print("Before a model ships, people say what it is for, who answers for it, and who watches it.")
    for name, about in questions():
        while any(line.startswith(f"{name}:") for line in lacking(review)):
            more = " Several, parted by semicolons." if name == "prohibited_uses" else ""
            try:
                review = answered(review, name, input(f"{name.replace('_', ' ')}: {about}{more}\n> "))
            except EOFError:
                return review
    return review


def with_review(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the review of its ship stage, asked for where it is blank."""
    from ..pipelines.kinds import Ship

    stages = []
    for stage in recipe.stages:
        if isinstance(stage, Ship) and not stage.demonstration and not isinstance(stage.review, str):
            stage = replace(stage, review=asked(stage.review or kept(folder / "evidence") or Review()))
        stages.append(stage)
    return replace(recipe, stages=tuple(stages))
