"""A plan for a CUDA device that is not here: memory from shapes, and no claim on time."""

from __future__ import annotations

import re

import torch

from ...errors import InputError
from ...learner.memory import USABLE
from ...learner.models.loading import load_chat
from ...learner.models.precision import precision
from ...learner.prefix.layouts import plan
from ...types import Group
from ..planned import Planned
from .measure import passes_of
from .shapes import CONTEXT, Shapes, shapes_of
from .work import Work, groups_of

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def bytes_of(size: str) -> int:
    """A size such as 24GiB, 24GB or 24g in bytes; all of them are powers of 2, as a GPU's memory is named.

    >>> bytes_of("24GiB") == bytes_of("24gb") == 24 * 2**30
    True
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", size.strip().lower())
    if found is None or not float(found[1]):
        raise InputError(f"memory is {size!r}; expected a size such as 24GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def memory_of(memory: str, device: str | None) -> int | None:
    """The memory of a device that is planned for without being used; None: the plan is for this machine."""
    if memory and not (device or "").startswith("cuda"):
        raise InputError(f"memory {memory} is that of a CUDA device: give --device cuda too")
    if not memory and (device or "").startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "there is no CUDA device here; give the memory of the one that is meant: --memory 24GiB"
        )
    return bytes_of(memory) if memory else None


def plan_elsewhere(work: Work, dtype: str, memory: int) -> Planned:
    """Plan a training on a CUDA device with so much memory.

    Args:
        work: the training.
        dtype: auto, fp32 or bf16.
        memory: of the device, in bytes.
    """
    spec, method = work.spec, work.spec.method
    taken = precision(dtype, "cuda", 0, spec.adapter.method == "qlora")
    shapes = shapes_of(spec.model, spec.adapter, taken.dtype, reference=method.needs.reference)
    groups = groups_of(work, load_chat(spec.model))
    fed, count = _micro_batches(
        groups, method.batch_size, spec.learner.micro_batch_tokens, spec.adapter.dropout == 0
    )
    free = memory - CONTEXT - shapes.resident - shapes.working
    asked = spec.learner.activation_checkpointing
    recompute = max(fed) * shapes.token > USABLE * free if asked is None else asked
    update = shapes.step(max(fed), recompute)
    kept = update - shapes.resident - shapes.working
    most = {f"activations of {max(fed):,} tokens{', computed twice' * recompute}": kept}
    if method.needs.samples and not spec.placement.vllm:
        rollouts = _sampling(shapes, groups, method.batch_size, free, spec.adapter.method)
        most = max(most, rollouts, key=lambda parts: sum(parts.values()))
    parts = {
        f"weights in {'4 bits' if spec.adapter.method == 'qlora' else taken.name}": shapes.weights,
        "adapter": shapes.adapter,
        "gradients": shapes.gradients,
        "optimizer": shapes.optimizer,
        **most,
        "logits chunk and work space": shapes.working,
        "CUDA context (assumed)": CONTEXT,
    }
    notes = [*work.assumed, "time is not claimed for a device that is not here"]
    if method.needs.samples:
        notes.append(work.lengths)
    if method.needs.taught:
        notes.append("a teacher is not counted")
    if method.needs.head is not None:
        notes.append("the scalar head is not counted")
    per_step = count / max(1, len(groups) / method.batch_size)
    tokens = sum(fed) * method.batch_size / len(groups) * passes_of(method, groups[: method.batch_size])
    return Planned(
        work.name,
        work.rows,
        work.at_most,
        round(tokens * work.steps),
        work.steps,
        per_step,
        recompute,
        int(sum(parts.values())),
        memory,
        None,
        assumed=tuple(notes),
        longest=method.needs.samples and work.length >= method.needs.max_new_tokens,
        parts=parts,
    )


def _micro_batches(groups: list[Group], batch: int, budget: int, shared: bool) -> tuple[list[int], int]:
    """Tokens of each micro-batch, and how many there are, in updates of so many groups."""
    fed = list[int]()
    for start in range(0, len(groups), batch):
        part = groups[start : start + batch]
        sizes = [
            g.unique_tokens if shared else sum(len(g.prompt) + len(c.tokens) for c in g.completions)
            for g in part
        ]
        fed += [sum(sizes[i] for i in indices) for indices in plan(sizes, budget)]
    return fed, len(fed)


def _sampling(shapes: Shapes, groups: list[Group], batch: int, free: float, adapter: str) -> dict[str, float]:
    """Bytes of the KV cache, which takes a third of what is free at most, and of the weights that are merged."""
    part = groups[:batch]
    whole = sum(len(g.prompt) + sum(len(c.tokens) for c in g.completions) for g in part) * shapes.kv
    least = max(g.unique_tokens for g in part) * shapes.kv  # one prompt's completions are always together
    copied = shapes.weights if adapter in ("lora", "dora") else 0
    cache = max(least, min(whole, max(0.0, free - copied) / 3))
    return {"KV cache of rollouts": cache, "weights merged for rollouts": copied}
