"""Actions of an alarm: warn, adjust the method, stop, or return to a good checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

from ...errors import RollBack, StopTraining
from ...methods import Method
from ...types import Group
from .memory import Memory, Monitor, memory_of, remembers

Detector = Callable[[int, Sequence[Group], Mapping[str, float]], str | None]
"""(step, groups, metrics) -> why it is alarmed, or None. State of earlier steps is declared by `remembers`."""

Action = Callable[[int, str], None]
"""Called with the step and the reason."""


@dataclass
class Adjustments:
    """Factors that alarms may change; `train` applies them before every step and saves them with the weights."""

    rate: float = 1.0
    """The learning rate is multiplied by it."""
    beta: float = 1.0
    """The field that the method needs as its KL coefficient is multiplied by it."""
    has_kl_coef: bool = True
    """Whether the method has such a field; `train` sets it."""

    def turned(self, method: Method) -> Method:
        """The method with these adjustments; itself where they are as they were."""
        factors = {"learning_rate": self.rate}
        if method.needs.kl_coef is not None:
            factors[method.needs.kl_coef] = self.beta
        changes = {name: getattr(method, name) * factor for name, factor in factors.items() if factor != 1}
        return replace(method, **changes) if changes else method


def alarm(detector: Detector, action: Action, log: list[tuple[int, str]] | None = None) -> Monitor:
    """A monitor that counts `alarms` in the metrics, and acts when the detector is alarmed."""

    @remembers({"detector": memory_of(detector), "action": memory_of(action)})
    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        metrics.setdefault("alarms", 0.0)
        reason = detector(step, groups, metrics)
        if reason is None:
            return
        metrics["alarms"] += 1
        if log is not None:
            log.append((step, reason))
        action(step, reason)

    return monitor


def warn() -> Action:
    """Warn, and continue."""
    return lambda step, reason: warnings.warn(f"step {step}: {reason}", stacklevel=2)


def stop() -> Action:
    """Save, and end the run with the reason."""

    def act(step: int, reason: str) -> None:
        raise StopTraining(f"step {step}: {reason}")

    return act


def give_up(lag: int, advice: str) -> Action:
    """End a run that has blown up, and put the newest checkpoint at least `lag` steps old back into the learner.

    Nothing is saved, and later checkpoints are deleted: they are part of the trouble.

    Args:
        lag: steps that the detector took to notice.
        advice: what to change, said after the reason.
    """

    def act(step: int, reason: str) -> None:
        raise StopTraining(f"step {step}: {reason}. {advice}", step - lag + 1)

    return act


def lower_rate(adjustments: Adjustments, factor: float = 0.5) -> Action:
    """Multiply the learning rate by `factor` from the next step on, and warn."""

    def act(step: int, reason: str) -> None:
        adjustments.rate *= factor
        warnings.warn(
            f"step {step}: {reason}; the learning rate is now {adjustments.rate:g} of its schedule",
            stacklevel=2,
        )

    return act


def raise_beta(adjustments: Adjustments, factor: float = 2.0) -> Action:
    """Multiply the KL coefficient by `factor` from the next step on, and warn.

    The field is the one that the method's `needs.kl_coef` names: `beta` of GRPO's family, `kl_coef` of PPO. A method
    without one, or with one that is 0, is not changed, and the warning says so.
    """

    def act(step: int, reason: str) -> None:
        if not adjustments.has_kl_coef:
            warnings.warn(
                f"step {step}: {reason}; the method has no KL coefficient above 0 to raise: nothing is changed",
                stacklevel=2,
            )
            return
        adjustments.beta *= factor
        warnings.warn(
            f"step {step}: {reason}; the KL coefficient is now {adjustments.beta:g} times its own",
            stacklevel=2,
        )

    return act


def roll_back(
    adjustments: Adjustments | None = None, factor: float = 0.5, lag: int = 8, times: int = 2
) -> Action:
    """Return to the newest checkpoint at least `lag` steps old, with a lower rate; after `times` of it, stop.

    `lag` is what the detector took to notice: weights younger than that are part of the trouble.
    """
    memory: Memory = {"done": 0}

    @remembers(memory)
    def act(step: int, reason: str) -> None:
        memory["done"] += 1
        if memory["done"] > times:
            raise StopTraining(f"step {step}: {reason}, again after {times} returns to an earlier checkpoint")
        if adjustments is not None:
            adjustments.rate *= factor
        raise RollBack(f"step {step}: {reason}", step - lag)

    return act
