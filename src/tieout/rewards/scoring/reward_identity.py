"""What a reward is known by: values that change with its scores."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ...config.code_digest import function_code, together
from ...config.plain import fingerprint
from ...storage.identity import folder_digest
from ...types import Reward
from ..library.judge import RUBRIC, judges_of
from ..library.reward_model import models_in
from .combine import Combined
from .outcomes import reward_name

HELD = "reward_holds"
"""Key of an identity."""


def scored_by_code(reward: Reward | None) -> dict[str, Any]:
    """The reward's name, and the digests of its own code, which change with its scores."""
    if reward is None:
        return {}
    code = _code_of(reward)
    return {"reward": reward_name(reward), **({"reward_code": code} if code else {})}


def reward_identity(reward: Reward) -> dict[str, Any]:
    """Its code, and what an object holds that is no code."""
    held = held_by(reward).get(HELD, {})
    return {**scored_by_code(reward), **held}


def held_by(reward: Reward | None) -> dict[str, Any]:
    """`HELD`: what a reward holds that is no code, weights of parts, options, judges with their models, weights of
    models; if any."""
    if reward is None:
        return {}
    known = dict[str, Any]()
    if isinstance(reward, Combined):
        known["weights"], known["missing"] = dict(reward.weights), reward.missing
        parts = {name: options for name, part in reward.parts.items() if (options := _options(part))}
    else:
        parts = {reward_name(reward): options} if (options := _options(reward)) else {}
    judges = {
        name: fingerprint({f.name: value for f in fields(judge) if _plain(value := getattr(judge, f.name))})
        for name, judge in judges_of(reward).items()
    }
    template = {"template": fingerprint(RUBRIC)}
    asked = {name: {**template, **_known(judge.sampler)} for name, judge in judges_of(reward).items()}
    models = [folder_digest(one.folder) for one in models_in(reward) if one.folder is not None]
    more = {"options": parts, "judges": judges, "asked": asked, "models": models}
    held = {**known, **{name: value for name, value in more.items() if value}}
    return {HELD: held} if held else {}


def servers_of(rewards: Mapping[str, Reward]) -> dict[str, str]:
    """Judges behind an API in named rewards -> the address where each is asked."""
    judges = {f"{name}: {own}": j for name, one in rewards.items() for own, j in judges_of(one).items()}
    return {name: url for name, judge in judges.items() if (url := getattr(judge.sampler, "url", ""))}


def _options(reward: Reward) -> dict[str, Any]:
    """What `functools.partial` fixes, and the fields of an object of the user's own dataclass."""
    own = is_dataclass(reward) and not type(reward).__module__.startswith("tieout.")
    fixed = {f.name: getattr(reward, f.name) for f in fields(reward)} if own else {}  # type: ignore[arg-type]
    return {name: _told(value) for name, value in (fixed | getattr(reward, "keywords", {})).items()}


def _told(value: Any) -> Any:
    """A fixed value as it stands in an identity: never by its address in memory, which each process has another of."""
    if _plain(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _told(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):  # such as limits of programs, or a judge
        return {field.name: _told(getattr(value, field.name)) for field in fields(value)}
    if callable(value):
        return {reward_name(value): {**_code_of(value), **_options(value)}}
    return _known(value) or type(value).__qualname__


def _known(sampler: object) -> dict[str, str]:
    """The model that a judge asks, or the weights that it is; empty for a sampler that does not say."""
    return dict(getattr(sampler, "known_by", {}))


def _plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return isinstance(value, str | int | float | bool | None)


def _code_of(reward: Any) -> dict[str, str]:
    if isinstance(reward, Combined):
        return together(map(_code_of, reward.parts.values()))
    if isinstance(reward, functools.partial):
        return _code_of(reward.func)
    return function_code(getattr(reward, "__wrapped__", reward))
