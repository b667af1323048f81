"""tieout rewards: list the rewards of the library; tieout rewards NAME: its signature, range and documentation."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from .options import parse


@dataclass(frozen=True)
class Options:
    """List the rewards of the library with a line each, or show one with its signature and what its file says."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A reward's name, or FILE.py:function; left out: list all."""


def main(arguments: Sequence[str]) -> None:
    """Parse, list or show."""
    options = parse(Options, "rewards", arguments)
    if options.name:
        show(options.name)
    else:
        list_all()


def list_all() -> None:
    """Print every reward with its range and a line on what it pays for."""
    from ..rewards import REWARDS, load_reward

    table = Table()
    for heading in ("reward", "range", "what"):
        table.add_column(heading)
    for name in sorted(REWARDS):
        reward = load_reward(name)
        first = (inspect.getdoc(reward) or "").split("\n\n")[0].replace("\n", " ")
        table.add_row(name, _range(reward), first.replace("[", r"\["))
    Console().print(table)


def show(name: str) -> None:
    """Print one reward."""
    from ..rewards import load_reward

    reward: Any = load_reward(name)
    function = inspect.unwrap(reward)
    module = inspect.getmodule(function)
    asked = [
        key for key, one in inspect.signature(function).parameters.items()
        if key not in ("completions", "prompts") and one.kind is not one.VAR_KEYWORD
    ]  # fmt: skip
    lines = [
        f"{name}{inspect.signature(function)}",
        f"range: {_range(reward)}",
        f"columns that rows must have, or may where there is a default: {', '.join(asked) or 'none'}",
        "",
        inspect.getdoc(function) or "",
        "",
        f"From its file, {module.__name__}:" if module else "",
        inspect.getdoc(module) or "" if module else "",
    ]
    Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _range(reward: Any) -> str:
    from ..rewards.scoring.runner import reward_range

    low, high = reward_range(reward) or ("?", "?")
    return f"{low} to {high}"
