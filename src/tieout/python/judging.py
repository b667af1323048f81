"""Judge a reward, models and a run: what `tieout attack`, `eval`, `best-of` and `gate` do, as functions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..config.fields import from_plain
from ..errors import InputError
from .settings import Data, RewardLike, kept, reward_named, rows_of
from .tuned import Model, Tuned, evaluated

if TYPE_CHECKING:
    from ..cli.evaluate import Evaluated
    from ..evidence.best_of import Curve
    from ..vetting.attack import Attack


def attack(reward: RewardLike, data: Data, *, seed: int = 0, **settings: Any) -> Attack:
    """Look for completions that a reward pays for and should not: `findings`, `verdict`.

    Args:
        reward: a name, FILE.py:function, a function, or a dictionary from those to their weights.
        data: rows with prompt, completion = gold, and the columns that the reward asks for.
        seed: of the search.
        settings: of `tieout.vetting.attack.AttackSettings`: max_rows, num_search, seconds, classes, ...
    """
    from ..rewards import load_reward
    from ..vetting.attack import AttackSettings
    from ..vetting.attack import attack as search

    how = from_plain(AttackSettings, settings, "attack()")
    named = reward_named(reward)
    found = load_reward(named) if isinstance(named, str) else named
    return search(found, list(rows_of(data, "data")), how, seed=seed)


def evaluate(
    models: Model | Sequence[Model],
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    controls: Data | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Evaluated:
    """Score models on the same rows, with 95% intervals and paired differences; several are compared pairwise.

    Args:
        models: one, or several: the first is the baseline, the last the candidate.
        data: rows with prompt and the columns that the reward asks for; left out: `task`, one of the settings.
        reward: with data: a name, FILE.py:function, a function, or a dictionary from those to their weights.
        controls: with out: negative controls: a task such as `controls`, or rows of prompt and answer.
        out: a folder for cases and report, which `gate` takes.
        settings: options of `tieout eval`: task, split, dtype, max_rows, max_new_tokens, accept_leakage, ...

    Raises:
        InputError: what was given does not fit, or a model has no completion with a score.
    """
    from ..cli.evaluate import Options, evaluate_models, task_of
    from ..rewards import load_reward
    from ..tasks.files import rows_task

    if isinstance(models, str | os.PathLike | Tuned):
        models = [models]
    named = tuple(evaluated(model) for model in models)
    if not named:
        raise InputError("models is empty; expected a model, or a list of them")
    for option in ("model", "price"):
        if option in settings:
            raise InputError(f"evaluate() has no setting {option!r}")
    if (data is None) != (reward is None):
        raise InputError("give data and reward, or task alone, which has a reward of its own")
    if controls is not None and not isinstance(controls, str | os.PathLike):
        if out is None:
            raise InputError("controls are for a report: give out, a folder for it")
        controls = kept(controls, Path(out), "controls")
    scored_by = reward_named(reward)
    own: dict[str, Any] = {"model": named}
    own |= {name: str(value) for name, value in (("out", out), ("controls", controls)) if value is not None}
    own |= {"reward": scored_by} if isinstance(scored_by, str) else {}
    if isinstance(told := settings.get("chat_template_kwargs"), Mapping):
        settings["chat_template_kwargs"] = [json.dumps(told)]
    options = from_plain(Options, {**settings, **own}, "evaluate()")
    if data is None:
        task = task_of(options)
    else:
        given = kept(data, Path(out), "test") if out is not None else data
        rows, scored = (
            rows_of(given, "data"),
            load_reward(scored_by) if isinstance(scored_by, str) else scored_by,
        )
        name = str(given) if isinstance(given, str | os.PathLike) else "rows"
        assert scored is not None
        task = rows_task(name, rows, scored)
    found = evaluate_models(options, task, Console(), named=data is None or isinstance(scored_by, str))
    found.refuse_unscored()
    return found


def best_of(
    model: Model,
    data: Data,
    reward: RewardLike,
    num: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    gold: RewardLike | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Curve:
    """Take the best of N samples by a reward: its score against N from one pool of samples, and which N to take.

    Args:
        model: one, also `api:NAME`.
        data: rows with prompt and the columns that the rewards ask for.
        reward: what chooses: a name, FILE.py:function, a function, or several with weights.
        num: the N, rising.
        gold: another reward, which chooses nothing and is measured on what is chosen.
        out: a folder for the curve, all samples, and rows to learn from.
        settings: options of `tieout best-of`: samples, temperature, max_rows, min_gain, price, api, ...

    Raises:
        InputError: what was given does not fit, or under half of the prompts have enough samples with a score.
    """
    from ..cli.best_of import Options, best_of_rows
    from ..rewards import load_reward
    from ..tasks.files import rows_task

    for option in ("model", "task", "task_option", "split"):
        if option in settings:
            raise InputError(f"best_of() has no setting {option!r}")
    own: dict[str, Any] = {"model": evaluated(model), "num": ",".join(map(str, num))}
    own |= {} if out is None else {"out": str(out)}
    named = {"reward": reward_named(reward), "gold": reward_named(gold)}
    own |= {name: spec for name, spec in named.items() if isinstance(spec, str)}
    options = from_plain(Options, {**settings, **own}, "best_of()")
    scored, other = (load_reward(spec) if isinstance(spec, str) else spec for spec in named.values())
    assert scored is not None
    return best_of_rows(options, rows_task("rows", rows_of(data, "data"), scored), other, Console())


def gate(run: str | os.PathLike[str] | Tuned, human: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Judge a run or the folder of an evaluation again: `verdict` (ship, hold or reject) and the reason of each track.

    `human`: people's grades, a file or the folder of labels.
    """
    from ..cli.gate import gate_run

    folder = run.run if isinstance(run, Tuned) else Path(run)
    verdict: dict[str, Any] = gate_run(folder, None if human is None else Path(human))["verdict"]
    return verdict
