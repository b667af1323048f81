"""Open a learner on a training server, and verify here what it trained there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..learner.models.bases import Bases
from ..learner.models.loading import load
from ..learner.models.names import resolve
from ..learner.tinker.connection import Connection
from ..learner.tinker.learner import PLACE, TinkerLearner
from ..learner.tinker.served_model import served_model
from ..learner.tinker.start_check import Adapter, examine
from ..shipping.reload_check import Behaviour, BehaviourError, forced, observe
from ..storage.jsonl import read_json
from ..types import Completion, Group, Row

if TYPE_CHECKING:
    from .spec import TrainSpec

RANK, ALPHA = 16, 32.0
"""Of an adapter where nothing else is asked for: tieout's own defaults, and the scale of servers."""

APART = 1e-3
"""Nats by which a log-probability of the fetched adapter here, in fp32, may differ from the server's; three times what
they differed at the start, if that is more."""


def open_served(spec: TrainSpec) -> TinkerLearner:
    """The learner of a specification, once its server was examined.

    Raises:
        InputError: the server does not serve the model, computes something else, or does not know the start.
        ServerLost: it gives no reply.
    """
    name, _, own = resolve(spec.model)
    start = spec.start or own
    connection, model = Connection(spec.placement.engine_url), served_model(name)
    adapter = _adapter(spec, _base_of(connection, name, spec.placement.engine_model), start)
    local, decay = spec.placement.engine_check == "full", spec.learner.weight_decay
    found = examine(connection, model, adapter, local, decay)
    rate = spec.method.learning_rate
    learner = TinkerLearner(
        connection, model, adapter, found.reduction, learning_rate=rate, config=spec.learner
    )
    learner.examined, learner.apart = found.said, found.apart
    return learner


def _base_of(connection: Connection, name: str, asked: str) -> str:
    """The server's name of the base. InputError: it does not have it."""
    served = connection.served()
    wanted = asked or name
    if wanted in served:
        return wanted
    if (
        not asked and len(served) == 1
    ):  # under the name of a folder of its own; whether it is the same is compared
        return served[0]
    raise InputError(
        f"{connection.url} serves {', '.join(served) or 'nothing'}, and {wanted} was asked for: give its name there "
        "as --engine-model"
    )


def _adapter(spec: TrainSpec, base: str, start: Path | None) -> Adapter:
    """What is trained: fresh, or the adapter of a stage that ran on a server too."""
    rank, alpha = spec.adapter.rank, spec.adapter.alpha
    if start is None:
        return Adapter(base, rank or RANK, ALPHA if alpha is None else alpha, spec.seed)
    if not (start / PLACE).exists():
        raise InputError(
            f"the start {start} was not trained on a server, and servers take no adapter from outside: merge it "
            f"(`tieout merge {start} --out MERGED`) and start the server with that base, or train that stage there too"
        )
    place, config = read_json(start / PLACE), read_json(start / "adapter_config.json")
    for what, given, has in (("rank", rank, config["r"]), ("alpha", alpha, config["lora_alpha"])):
        if given is not None and given != has:
            raise InputError(f"adapter.{what} is {given:g}, and the start {start} has {has:g}: leave it out")
    return Adapter(base, int(config["r"]), float(config["lora_alpha"]), spec.seed, str(place["path"]), start)


def verify_served(
    learner: TinkerLearner, folder: Path, rows: list[Row], max_new_tokens: int, dtype: str
) -> tuple[Behaviour, float]:
    """Load the fetched adapter on the base here, and compare it with what the server says of the same completions.

    What the policy does is observed in the run's precision. The comparison is in fp32 in any case, on the processor as
    that at the start: of a base in 16 bits, rounding alone is up to 0.25 nats, and would hide an older adapter.

    Returns:
        what the policy does, for whatever is shipped of it; the largest difference of a log-probability, in nats.

    Raises:
        BehaviourError: they differ by more than rounding.
    """
    model = load(str(folder), dtype=dtype, bases=Bases())
    seen = observe(model, model.chat, [row["prompt"] for row in rows], max_new_tokens)
    groups = [
        Group(e.prompt_tokens, [Completion(e.tokens, [True] * len(e.tokens))])
        for e in seen.examples
        if e.tokens
    ]
    said = [x for group in learner.logprobs(groups) for row in group for x in row]
    if model.dtype != torch.float32:
        model = load(str(folder), dtype=torch.float32, device="cpu", bases=Bases())
    here = [x for e in seen.examples for x in forced(model, e.prompt_tokens, e.tokens)[0]]
    worst = max((abs(a - b) for a, b in zip(said, here, strict=True)), default=0.0)
    most = max(3 * (learner.apart or 0.0), APART)
    if not worst <= most:
        raise BehaviourError(
            f"{folder}: the fetched adapter gives log-probabilities up to {worst:.2g} nats from the server's over "
            f"{len(said)} tokens; {most:.2g} is allowed for rounding: it is not what was trained"
        )
    return seen, worst
