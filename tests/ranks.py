"""What two processes must do as one: run alone in a test, and as a program by `accelerate launch`."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed as dist

from random_groups import random_groups
from tieout.errors import StopTraining
from tieout.learner.checkpoint import Checkpoints
from tieout.learner.parallel.processes import PeerError, Processes, _collect, held, join
from tieout.training.evaluation import Evaluation
from tieout.training.loop import train
from tieout.training.spec import EvalPolicy
from tiny_task import METHODS, ROWS, Run, make_run

CASES: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "dpo": {"method": "dpo"},
    "grpo": {"method": "grpo"},
    # One group a micro-batch: of three, one rank has two and the other one.
    "grpo-uneven": {"method": "grpo", "tokens": 1},
    # One group a step: the other rank has none.
    "sft-single": {"method": "sft", "batch_size": 1},
    # The base cut over the ranks by FSDP2, and one of them idle now and then.
    "dpo-sharded": {"method": "dpo", "tokens": 1, "batch_size": 3, "sharded": True},
}
STEPS = 3


def fresh(
    folder: Path, method: str, tokens: int = 8192, batch_size: int | None = None, sharded: bool = False
) -> Run:
    """A run on a tiny model, with the method's own batch unless told."""
    os.environ.update({"ACCELERATE_USE_FSDP": str(sharded).lower(), "FSDP_VERSION": "2"})
    try:
        run = make_run(method, folder)
    finally:
        del os.environ["ACCELERATE_USE_FSDP"], os.environ["FSDP_VERSION"]
    assert run.learner.sharded == (sharded and join().count > 1)
    run.learner.config = replace(run.learner.config, micro_batch_tokens=tokens)
    if batch_size is not None:
        run.method = replace(METHODS[method], batch_size=batch_size)  # type: ignore[type-var]
    return run


def outcome(folder: Path, case: str) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """`gradient` of the first step and `weight/...` after the last; the metrics of all steps, without times."""
    run = fresh(folder, **CASES[case])
    if run.learner.sharded:
        assert any(type(p.data) is not torch.Tensor for p in run.learner.model.network.parameters())
    tensors: dict[str, torch.Tensor] = {}
    steps: list[dict[str, float]] = []

    def look(step: int, groups: Any, metrics: Any) -> None:
        if step == 1:
            gradients = [p.grad.flatten() for p in run.learner.model.trained().values() if p.grad is not None]
            tensors["gradient"] = torch.cat(gradients).clone()
        steps.append({k: v for k, v in metrics.items() if not k.endswith("seconds")})

    def add(step: int, metrics: dict[str, float]) -> None:
        steps[-1] |= {k: v for k, v in metrics.items() if k.startswith("eval/")}

    evaluation = Evaluation(EvalPolicy(eval_steps=2), run.source, ROWS[:3], run.source.sampler is not None)
    train(
        run.method, run.source, run.learner, steps=STEPS, monitors=[look], on_step=add, evaluation=evaluation
    )
    for name, parameter in run.learner.model.trained().items():
        tensors[f"weight/{name}"] = parameter.detach().clone().contiguous()
    return tensors, steps


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.learner.model.trained().values()]).clone()


# ---------------------------------------------------------------- what only several processes can get wrong


def poisoned_on_one_rank(folder: Path, ranks: Processes) -> list[Any]:
    """A gradient that is NaN on the last rank alone: nobody steps, and all count it."""
    run = fresh(folder, "sft")
    before = weights(run)

    def loss(outputs: Any, batch: Any) -> Any:
        factor = math.nan if ranks.rank == ranks.count - 1 else 1.0
        return batch.token_mean(-outputs.logprobs) * factor, {}

    metrics = run.learner.update(random_groups(), loss)
    after = weights(run)
    run.learner.update(random_groups(), lambda o, b: (b.token_mean(-o.logprobs), {}))
    return [
        torch.equal(before, after),
        metrics["skipped_updates"],
        math.isnan(metrics["grad_norm"]),
        not torch.equal(after, weights(run)),
    ]


def stopped_by_one_rank(folder: Path, ranks: Processes, checkpoints: Path, how: str) -> list[Any]:
    """A signal or a monitor stops the last rank at step 2: all save step 2 and stop; going on ends as if unbroken."""
    run = fresh(folder, "sft")

    def disturb(step: int, groups: Any, metrics: Any) -> None:
        if step == 2 and ranks.rank == ranks.count - 1:
            if how == "monitor":
                raise StopTraining("rank 1 has seen enough")
            os.kill(os.getpid(), signal.SIGTERM)

    said = ""
    try:
        train(
            run.method,
            run.source,
            run.learner,
            steps=STEPS,
            monitors=[disturb],
            checkpoints=Checkpoints(checkpoints),
        )
    except (KeyboardInterrupt, StopTraining) as stop:
        said = f"{type(stop).__name__}: {stop}"
    stopped_at = run.learner.step
    again = fresh(folder, "sft")
    train(again.method, again.source, again.learner, steps=STEPS, checkpoints=Checkpoints(checkpoints))
    whole = fresh(folder, "sft")
    train(whole.method, whole.source, whole.learner, steps=STEPS)
    return [said, stopped_at, torch.equal(weights(again), weights(whole))]


def failed_on_one_rank(ranks: Processes) -> list[str]:
    """An error of one rank ends all, with its words."""
    last = ranks.count - 1

    def fail() -> None:
        if ranks.rank == last:
            raise OSError("the disk of rank 1 is full")

    try:
        ranks.together(fail)
    except (OSError, PeerError) as error:
        return [type(error).__name__, str(error)]
    return []


def drifted(ranks: Processes) -> str:
    """Ranks whose weights differ must not save."""
    try:
        ranks.agree(ranks.rank, "the weights")
    except RuntimeError as error:
        return str(error)
    return ""


def held_after_collectives() -> int:
    """How often gloo's thread still holds a tensor when a collective returns."""
    times = 0
    for _ in range(200):
        tensor, parts = torch.ones(100), [torch.empty(100), torch.empty(100)]
        _collect(dist.all_gather, parts, tensor)
        times += held([tensor, *parts]) > 3
    return times


def main(folder: Path, out: Path) -> None:
    """All of it, in one launch; each rank writes what it found."""
    warnings.simplefilter("ignore")
    ranks = join()
    found: dict[str, Any] = {"rank": ranks.rank, "count": ranks.count, "metrics": {}}
    for case in CASES:
        tensors, found["metrics"][case] = outcome(folder, case)
        save_file(tensors, out / f"{case}-{ranks.rank}.safetensors")
    checks: dict[str, Callable[[], Any]] = {
        "poisoned": lambda: poisoned_on_one_rank(folder, ranks),
        "signal": lambda: stopped_by_one_rank(folder, ranks, out / "signal", "signal"),
        "monitor": lambda: stopped_by_one_rank(folder, ranks, out / "monitor", "monitor"),
        "failed": lambda: failed_on_one_rank(ranks),
        "drifted": lambda: drifted(ranks),
        "sums": lambda: ranks.sum_metrics({"a": 1.0, f"only {ranks.rank}": 2.0}),
        "held": held_after_collectives,
        "bits": lambda: ranks.gather([0.1, 1e-320, math.inf, "é\ud800"]),
    }
    for name, check in checks.items():
        found[name] = check()
    (out / f"found-{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
