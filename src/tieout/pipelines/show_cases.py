"""Cases of a run in the terminal: what was asked, said and replied, and the score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..review.examples import prompt_text, text_of_prompt
from ..review.failures import worst
from ..review.stored import read
from ..storage.jsonl import read_log

ROLES = {"assistant": "model", "user": "environment"}
"""Of a recorded turn -> who that is in an episode."""


def print_cases(folder: Path, count: int, console: Console) -> None:
    """Print the worst cases of a run's candidate, or, before it has a report, the groups that were sampled last."""
    run = read(folder)
    if run.report is not None:
        for case in worst(run)[:count]:
            score = case.status if case.score is None else f"{case.score:.3f}"
            turns = case.dialogue or [("model", case.completion)]
            _print(f"{case.id}  score {score}", [("", prompt_text(case)), *turns], console)
        return
    logs = sorted(folder.glob("*/groups.jsonl"))
    if not logs:
        console.print("no cases: there is no report, and nothing was sampled")
    for path in logs:
        for group in read_log(path)[-count:]:
            scores = group["scores"] or [0.0] * len(group["completions"])
            for k in dict.fromkeys((scores.index(max(scores)), scores.index(min(scores)))):
                said = group.get(
                    "turns", [[{"role": "assistant", "content": c}] for c in group["completions"]]
                )
                turns = [(ROLES[turn["role"]], turn["content"]) for turn in said[k]]
                of = f"{path.parent.name}, step {group['step']}, {k + 1} of {len(scores)}  score {scores[k]:.3f}"
                _print(of, [("", text_of_prompt(group["prompt"])), *turns], console)


def _print(title: str, turns: Sequence[tuple[str, str]], console: Console) -> None:
    console.print(f"\n{title}", style="bold", markup=False, highlight=False, soft_wrap=True)
    for who, text in turns:
        said = f"[{who}]\n{text or '(nothing)'}" if who else text
        console.print(said, markup=False, highlight=False, soft_wrap=True)
