"""Train with a method: a function each.

Every function takes what `tieout train METHOD` takes, as keywords: the fields of the method (`help(tieout.DPO)`),
`seed`, `dtype`, `eval_steps`, `keep_best`, ..., and dictionaries as `adapter`, `learner`, `schedule`, `guards` and
`selection`. It trains into `out` (left out: runs/METHOD), prints what the command prints, and returns a `Tuned`. Called
again with the same values it resumes, or returns at once what is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..rows import Kind
from .settings import Data, RewardLike, checked, filled, kept, reward_named
from .tuned import Model, Tuned, trained_on

Out = str | os.PathLike[str] | None


def _train(
    name: str,
    kind: Kind,
    model: Model,
    data: Data | None,
    held_out: Data | None,
    out: Out,
    settings: Mapping[str, Any],
    reward: RewardLike | None = None,
) -> Tuned:
    own: dict[str, Any] = {"model": trained_on(model), "out": Path(out or Path("runs") / name)}
    for what, rows in (("data", data), ("held_out", held_out)):
        checked(kind, rows, what)
    from ..cli.train import options_type, train
    from ..methods import load_method

    options, where = options_type(load_method(name)), f"{name}()"
    plain = {
        key: str(value.adapter) if isinstance(value, Tuned) else value for key, value in settings.items()
    }
    own["reward"] = reward_named(reward)
    filled(options, plain, where, own)  # before anything is written
    for what, rows in (("data", data), ("held_out", held_out)):
        own |= {what: str(kept(rows, own["out"], what))} if rows is not None else {}
    train(name, filled(options, plain, where, own))
    return Tuned(own["out"], name)


def sft(
    model: Model, data: Data | None = None, *, held_out: Data | None = None, out: Out = None, **settings: Any
) -> Tuned:
    """Learn demonstrations: rows of prompt and completion, or messages."""
    return _train("sft", "demonstration", model, data, held_out, out, settings)


def reward_model(
    model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any
) -> Tuned:
    """Learn a reward from preferences: rows of prompt, chosen and rejected."""
    return _train("reward_model", "ranking", model, data, held_out, out, settings)


def dpo(model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any) -> Tuned:
    """Learn preferences: rows of prompt, chosen and rejected."""
    return _train("dpo", "preference", model, data, held_out, out, settings)


def kto(model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any) -> Tuned:
    """Learn single answers that are good or bad: rows of prompt, completion and label."""
    return _train("kto", "label", model, data, held_out, out, settings)


def orpo(
    model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any
) -> Tuned:
    """Learn preferences and demonstrations at once: rows of prompt, chosen and rejected."""
    return _train("orpo", "preference", model, data, held_out, out, settings)


def cpo(model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any) -> Tuned:
    """Learn preferences with cross entropy on the chosen: rows of prompt, chosen and rejected."""
    return _train("cpo", "preference", model, data, held_out, out, settings)


def simpo(
    model: Model, data: Data, *, held_out: Data | None = None, out: Out = None, **settings: Any
) -> Tuned:
    """Learn preferences by the mean log-probability: rows of prompt, chosen and rejected."""
    return _train("simpo", "preference", model, data, held_out, out, settings)


def distill(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """Learn a teacher's distributions on what the model samples: rows of prompt; a reward scores held-out rows."""
    return _train("distill", "prompt", model, data, held_out, out, settings, reward)


def rejection_sampling(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """Learn the best of what the model samples, by a reward: rows of prompt and its columns."""
    return _train("rejection_sampling", "prompt", model, data, held_out, out, settings, reward)


def online_dpo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """DPO on pairs of what the model samples, by a reward: rows of prompt and its columns."""
    return _train("online_dpo", "prompt", model, data, held_out, out, settings, reward)


def grpo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """Sample groups and learn by a reward, compared within the group: rows of prompt and its columns."""
    return _train("grpo", "prompt", model, data, held_out, out, settings, reward)


def dr_grpo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """GRPO without a division by length or spread: rows of prompt and the reward's columns."""
    return _train("dr_grpo", "prompt", model, data, held_out, out, settings, reward)


def dapo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """GRPO with a higher clip and dynamic sampling: rows of prompt and the reward's columns."""
    return _train("dapo", "prompt", model, data, held_out, out, settings, reward)


def gspo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """GRPO with one ratio per completion: rows of prompt and the reward's columns."""
    return _train("gspo", "prompt", model, data, held_out, out, settings, reward)


def cispo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """GRPO with clipped weights of the tokens: rows of prompt and the reward's columns."""
    return _train("cispo", "prompt", model, data, held_out, out, settings, reward)


def rloo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """Learn by a reward, less the mean of the group's others: rows of prompt and its columns."""
    return _train("rloo", "prompt", model, data, held_out, out, settings, reward)


def ppo(
    model: Model,
    data: Data | None = None,
    reward: RewardLike | None = None,
    *,
    held_out: Data | None = None,
    out: Out = None,
    **settings: Any,
) -> Tuned:
    """Sample and learn by a reward, with a value of each token: rows of prompt and its columns."""
    return _train("ppo", "prompt", model, data, held_out, out, settings, reward)
