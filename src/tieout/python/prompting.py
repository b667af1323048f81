"""Search for a prompt: what `tieout optimize-prompt` does, as a function."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..config.fields import from_plain
from ..errors import InputError
from .settings import Data, RewardLike, kept, reward_named, rows_of
from .tuned import Model, evaluated

if TYPE_CHECKING:
    from ..prompt_search.outcome import Outcome


def optimize_prompt(
    model: Model,
    data: Data,
    reward: RewardLike,
    *,
    out: str | os.PathLike[str],
    reflection: Model = "",
    test: Data | None = None,
    system: str = "",
    **settings: Any,
) -> Outcome:
    """Search for a better system prompt, and compare it with the first one on rows that chose nothing.

    Args:
        model: whose prompt it is, also `api:NAME`.
        data: rows to search on, with prompt and the columns that the reward asks for.
        reward: what scores: a name, FILE.py:function, a function, or several with weights.
        out: a folder for the prompt, the candidates, the journal and the result; called again, the search resumes.
        reflection: the model that proposes prompts; left out: edits and examples (`search="plain"`).
        test: rows to measure on; left out: a third of the data.
        system: the prompt to begin with, or a file of it.
        settings: options of `tieout optimize-prompt`: budget, minibatch, validation_rows, max_new_tokens, api, ...

    Raises:
        InputError: what was given cannot be searched with, or a completion has no score.
    """
    from ..cli.optimize_prompt import check_names, optimize
    from ..cli.prompt_searching import Options
    from ..rewards import load_reward
    from ..tasks.files import rows_task

    for option in ("task", "task_option"):
        if option in settings:
            raise InputError(f"optimize_prompt() has no setting {option!r}")
    if isinstance(told := settings.get("chat_template_kwargs"), Mapping):
        settings["chat_template_kwargs"] = [json.dumps(told)]
    named, folder = reward_named(reward), Path(out)
    own: dict[str, Any] = {"model": evaluated(model), "out": str(out), "system": system}
    own |= {"reflection": evaluated(reflection)} if reflection else {}
    own |= {"data": str(kept(data, folder, "data"))}
    own |= {"test": str(kept(test, folder, "test"))} if test is not None else {}
    own |= {"reward": named} if isinstance(named, str) else {}
    options = from_plain(Options, {**settings, **own}, "optimize_prompt()")
    check_names(options)
    scored = load_reward(named) if isinstance(named, str) else named
    return optimize(options, rows_task("rows", rows_of(own["data"], "data"), scored), Console())
