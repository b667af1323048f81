"""Models behind APIs that a recipe names: where, what they cost, and checks before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..config.fields import ConfigError, nearest
from ..errors import InputError
from ..rewards import load_reward
from ..rewards.scoring.runner import check_reward
from ..samplers.api.ledger import Ledger
from ..samplers.api.opening import is_api, open_api
from ..samplers.prices import Price
from ..tasks import Task
from .alternatives import OptimizePrompt
from .kinds import Demonstrations, Evaluate, Pairs
from .recipe import Recipe

MACHINE = "machine"
"""Key of `prices`: of this machine, by the hour, for every model that runs on it."""


def remote_models(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """(model, stage, file in the run folder that is there once it need not be asked any more)."""
    for stage in recipe.stages:
        if isinstance(stage, Evaluate):
            for name, one in stage.challenged.items():
                if is_api(one.model):
                    yield one.model, stage.name, f"{stage.name}/{name}.json"
        elif isinstance(stage, Pairs | Demonstrations) and is_api(stage.start):
            yield stage.start, stage.name, f"{stage.name}/done.json"
        elif isinstance(stage, OptimizePrompt):
            for name in filter(is_api, (stage.start, stage.reflection)):
                yield name, stage.name, f"{stage.name}/done.json"


def check_prices(recipe: Recipe, where: str) -> None:
    """ConfigError: a price of a model that the recipe does not name, or that is none."""
    known = dict.fromkeys([MACHINE, *(model for model, *_ in remote_models(recipe))])
    for name, text in recipe.prices.items():
        if name not in known:
            raise ConfigError(
                f"{where}: prices names {name!r}{nearest(name, known) or ';'} expected some of: {', '.join(known)}"
            )
        try:
            price = Price.of(text)
        except InputError as error:
            raise ConfigError(f"{where}: prices of {name!r}: {error}") from error
        if is_api(name) and price.hour:
            raise ConfigError(f"{where}: price {text!r} of {name}: an API is paid by tokens, PROMPT,ANSWER")


def prices_of(recipe: Recipe, bases: Mapping[str, str]) -> dict[str, str]:
    """Evaluated model -> what it costs, where that is known. `bases`: evaluated model -> `api:NAME`, or its base."""
    named = {name: base if is_api(base) else MACHINE for name, base in bases.items()}
    return {name: recipe.prices[key] for name, key in named.items() if key in recipe.prices}


def check_remote(recipe: Recipe, task: Task, folder: Path) -> None:
    """InputError: a model behind an API that is still to be asked cannot be, or its text cannot be scored."""
    for model, stage, done in remote_models(recipe):
        if (folder / done).exists():
            continue
        try:
            open_api(model, recipe.api, recipe.api.ledger(recipe.prices))
            if task.environment is not None or task.reward is None:
                raise InputError(
                    f"task {task.name!r} is an environment of several turns, and {model} is asked once"
                )
            own = next(one for one in recipe.stages if one.name == stage)
            judge = own.judge if isinstance(own, Pairs) else own.selector if isinstance(own, Evaluate) else ""
            trained = {one.name for one in recipe.stages}
            rewards = [task.reward, *task.metrics.values(), *task.parts.values()]
            rewards += [load_reward(judge)] if judge and judge not in trained else []
            for split in ("train", "test"):
                rows = task.rows(split)
                columns = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
                for reward in rewards if rows else ():
                    check_reward(reward, columns, tokens=False)
        except InputError as error:
            raise InputError(f"stage {stage!r}: {error}") from error


def servers_of_models(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Models behind an API that are still to be asked -> the address where they will be."""
    pending = {model for model, _, done in remote_models(recipe) if not (folder / done).exists()}
    return {model: open_api(model, recipe.api, Ledger()).url for model in sorted(pending)}
