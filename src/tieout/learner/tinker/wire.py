"""Groups as rows of the Tinker API, and its replies as log-probabilities. What servers do not check is checked here.

Servers compute on with tokens outside the vocabulary (NaN), rows past the context and missing targets (nonsense).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...types import Group
from .connection import ServerLost
from .reduction import Reduction


@dataclass(frozen=True)
class Limits:
    """What a base takes."""

    context: int
    """Tokens of a row."""
    vocabulary: int
    """Token ids are below it."""

    def check(self, groups: Sequence[Group]) -> None:
        """InputError: a row that the server would answer with nonsense."""
        for group in groups:
            for completion in group.completions:
                tokens = [*group.prompt, *completion.tokens]
                if completion.tokens and not group.prompt:
                    raise InputError("a prompt has no tokens; give at least one")
                if len(tokens) > self.context:
                    raise InputError(
                        f"a row of {len(tokens)} tokens exceeds the model's context of {self.context}: shorten it"
                    )
                if tokens and not (min(tokens) >= 0 and max(tokens) < self.vocabulary):
                    raise InputError(
                        f"a row has token {max(tokens) if max(tokens) >= self.vocabulary else min(tokens)}, and the "
                        f"model's vocabulary is {self.vocabulary}: the tokenizer is of another model"
                    )


def lengths(groups: Sequence[Group]) -> list[int]:
    """Tokens of each row that is sent: of a completion without tokens there is none."""
    return [len(g.prompt) + len(c.tokens) - 1 for g in groups for c in g.completions if c.tokens]


def rows_to_score(groups: Sequence[Group]) -> list[Any]:
    """Rows whose log-probabilities are asked for."""
    return [
        _datum(g.prompt + c.tokens, {"weights": [0.0] * (len(g.prompt) - 1) + [1.0] * len(c.tokens)})
        for g in groups
        for c in g.completions
        if c.tokens
    ]


def rows_to_learn(
    groups: Sequence[Group], logprobs: Tensor, gradient: Tensor, reduction: Reduction
) -> list[Any]:
    """Rows whose gradient on the server is that of the loss, which has `gradient` [T] by `logprobs` [T].

    The ratio of the server's log-probabilities to those that are sent is 1: there the gradient of `importance_sampling`
    by log-probability is the advantage.
    """
    scales = reduction.scales(lengths(groups))
    rows, place = list[Any](), 0
    old, slopes = logprobs.detach().double(), gradient.double()
    for group in groups:
        before = [0.0] * (len(group.prompt) - 1)
        for completion in group.completions:
            if not completion.tokens:
                continue
            end = place + len(completion.tokens)
            advantages = (slopes[place:end] * -scales[len(rows)]).tolist()
            sent = {"advantages": [*before, *advantages], "logprobs": [*before, *old[place:end].tolist()]}
            rows.append(_datum(group.prompt + completion.tokens, sent))
            place = end
    return rows


def _datum(tokens: Sequence[int], inputs: dict[str, list[float]]) -> Any:
    from tinker import types

    def tensor(values: Sequence[float], dtype: Any) -> Any:
        return types.TensorData(data=list(values), dtype=dtype, shape=[len(values)])

    named = {name: tensor(values, "float32") for name, values in inputs.items()}
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(tokens[:-1])),
        loss_fn_inputs={"target_tokens": tensor(tokens[1:], "int64"), **named},
    )


def flat(groups: Sequence[Group], outputs: Sequence[Any], url: str) -> Tensor:
    """[T] the log-probabilities of the completions' tokens. ServerLost: they are not what was asked for."""
    wanted = lengths(groups)
    if len(outputs) != len(wanted):
        raise ServerLost(f"{url} was asked about {len(wanted)} rows, and answered {len(outputs)}")
    parts = []
    own = (c for g in groups for c in g.completions if c.tokens)
    for row, (output, length, completion) in enumerate(zip(outputs, wanted, own, strict=True)):
        values = np.asarray(output["logprobs"].data, dtype=np.float32)
        if values.shape != (length,):
            raise ServerLost(
                f"{url} gave {values.size} log-probabilities for row {row}, which has {length} targets"
            )
        parts.append(values[length - len(completion.tokens) :])
    found = torch.from_numpy(np.concatenate(parts)) if parts else torch.empty(0)
    if not bool(torch.isfinite(found).all()):
        raise ServerLost(
            f"{url} gave log-probabilities that are not finite. One adapter that holds NaN spoils all on some servers: "
            "restart it, then repeat the command to resume"
        )
    return found


def nested(groups: Sequence[Group], values: Sequence[float]) -> list[list[list[float]]]:
    """[T] as [group][completion][token]."""
    rest = iter(values)
    return [[[next(rest) for _ in c.tokens] for c in g.completions] for g in groups]
