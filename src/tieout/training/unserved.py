"""What a training server lacks, refused before any work."""

from __future__ import annotations

from ..errors import InputError
from ..learner import AdapterConfig, LearnerConfig
from ..learner.tinker.connection import check_address
from ..methods import Method
from .placement import Placement

OWN = ("engine_url", "engine_model", "engine_check")
"""Options of this engine alone."""


def refuse_unserved(
    method: Method, adapter: AdapterConfig, learner: LearnerConfig, placement: Placement, place: str = ""
) -> None:
    """InputError: something is asked for that a training server lacks, with each reason, after `place`."""
    needs, name = method.needs, type(method).__name__
    reasons = [
        (needs.head == "value", f"{name} needs a value head: take grpo or rloo, which need none"),
        (needs.head == "score", f"{name} needs a score head, and a server gives log-probabilities alone"),
        (
            needs.reward_model,
            "reward_model scores on the policy's own base: take --reward reward_model:FOLDER",
        ),
        (
            needs.taught,
            f"{name} needs the distributions of a teacher, and a server gives log-probabilities alone",
        ),
        (
            needs.temperature != 1.0,
            f"temperature is {needs.temperature:g}, and servers give log-probabilities at 1 only: --temperature 1",
        ),
        (
            getattr(method, "entropy_coef", 0.0),
            "entropy_coef needs entropies, and there are none: leave it at 0",
        ),
        (
            getattr(method, "reference_steps", 0),
            "reference_steps moves the reference, which stays: leave it at 0",
        ),
        (
            adapter.method != "lora",
            f"adapter.method is {adapter.method}; servers train plain LoRA: --adapter.method lora",
        ),
        (adapter.dropout, f"adapter.dropout is {adapter.dropout:g}, and servers have none: leave it at 0"),
        (
            adapter.targets not in (None, "all-linear"),
            f"adapter.targets is {adapter.targets}; servers adapt all linear layers: leave it out",
        ),
        (
            learner.max_grad_norm,
            f"learner.max_grad_norm is {learner.max_grad_norm:g}, and servers do not scale gradients down to what is "
            "asked for: say so by --learner.max-grad-norm 0",
        ),
        (
            learner.layout == "packed" or learner.activation_checkpointing,
            "learner.layout and learner.activation_checkpointing are the server's own: leave them out",
        ),
        (placement.vllm, "vllm: the server that trains samples too; leave it out"),
        (placement.drafts, "drafts are of the sampler in this process: leave it out"),
        (not placement.engine_url, "no address is given: --engine-url http://HOST:PORT"),
    ]
    if found := [said for wrong, said in reasons if wrong]:
        raise InputError(f"{place}engine 'tinker' trains on a server:\n  " + "\n  ".join(found))
    check_address(placement.engine_url)


def check_engine(
    engine: str,
    method: Method,
    adapter: AdapterConfig,
    learner: LearnerConfig,
    placement: Placement,
    place: str = "",
) -> None:
    """InputError: a training server lacks what is asked for, or is given and not used."""
    if engine == "tinker":
        refuse_unserved(method, adapter, learner, placement, place)
    elif given := [name for name in OWN if getattr(placement, name) != getattr(Placement(), name)]:
        raise InputError(
            f"{' and '.join(given)}: of engine 'tinker', and the engine is 'local'; give --engine tinker (in a recipe "
            "`engine: tinker`), or leave it out"
        )
