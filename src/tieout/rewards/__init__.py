"""Rewards: plain functions with TRL's signature, one family a file, and the runner that calls them.

def exact(completions, answer, **_):            # names are columns of the row
    return [1.0 if c.strip() == a else 0.0 for c, a in zip(completions, answer)]
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError

Reward = Callable[..., Any]
"""`(completions, prompts=..., **columns) -> list[float | None]`, or the same as an `async def`."""

REWARDS: dict[str, str] = {
    "citation_accuracy": "tieout.rewards.library.rag:citation_accuracy",
    "code": "tieout.rewards.library.code:code",
    "exact": "tieout.rewards.library.exact:exact",
    "faithfulness": "tieout.rewards.library.rag:faithfulness",
    "finance_statements": "tieout.tasks.finance_statements:reward",
    "language": "tieout.rewards.library.format:language",
    "length": "tieout.rewards.library.format:length",
    "numeric": "tieout.rewards.library.numeric:numeric",
    "overlong": "tieout.rewards.library.format:overlong",
    "rag": "tieout.rewards.library.rag:rag",
    "reconciled": "tieout.rewards.library.reconcile:reconciled",
    "relevance": "tieout.rewards.library.rag:relevance",
    "repetition": "tieout.rewards.library.format:repetition",
    "summary": "tieout.rewards.library.summary:summary",
    "tags": "tieout.rewards.library.format:tags",
}
"""Registered name -> `module:attribute`, imported when it is asked for."""


def load_reward(spec: str) -> Reward:
    """What `spec` names: registered, `file.py:function`, `package.module:function`, or `reward_model:FOLDER`."""
    if spec.startswith("reward_model:"):
        from .library.preference import reward_model

        return reward_model(spec.partition(":")[2])
    if spec not in REWARDS and not all(spec.rpartition(":")[::2]):
        near = difflib.get_close_matches(spec, REWARDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"no reward is called {spec!r}{hint} Registered: {', '.join(sorted(REWARDS))}. "
            "Your own: file.py:function, package.module:function or reward_model:FOLDER"
        )
    reward: Reward = load_attribute(REWARDS.get(spec, spec))
    if not callable(reward):
        raise InputError(f"reward {spec!r} is a {type(reward).__name__}; expected a function")
    return reward


def load_attribute(spec: str) -> Any:
    """What `file.py:attribute` or `package.module:attribute` names."""
    place, _, attribute = spec.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place, spec)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
            raise InputError(f"{spec!r}: {place} has no {attribute!r}; it has: {', '.join(functions)}")
        found = getattr(found, name)
    return found


def _load_module(place: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise InputError(f"{spec!r}: cannot import {place!r} ({error})") from error


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name of its own, so that two files called reward.py do not meet."""
    if not path.is_file():
        raise InputError(f"file {path} does not exist (looked in {Path.cwd()})")
    path = path.resolve()
    name = f"tieout_reward_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"file {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
