"""Detectors of a run that has blown up: from the losses, margins and accuracy of its pairs, and from what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from ...types import Group
from .actions import Detector
from .memory import Memory, both_ends, remembers


def loss_explosion(times: float = 3.0, beyond: float = 3.0, patience: int = 2) -> Detector:
    """The loss is above `times` that of the first step by more than `beyond`, `patience` steps in a row.

    For losses that are log-likelihoods: of demonstrations, pairs and labels. A policy gradient's is not.
    """
    memory: Memory = {"first": None, "row": 0}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        loss = metrics.get("loss")
        if loss is None:
            return None
        if memory["first"] is None:
            memory["first"] = loss
        memory["row"] = memory["row"] + 1 if loss > times * abs(memory["first"]) + beyond else 0
        if memory["row"] < patience:
            return None
        return f"the loss is {loss:.3g}, and was {memory['first']:.3g} at the first step"

    return detect


def preference_lost(accuracy: float = 0.1, by: float = 1.0, pairs: int = 16) -> Detector:
    """The policy prefers the rejected: of the last `pairs` pairs, and of two steps, hardly any is the right way round.

    Args:
        accuracy: at most, over those pairs.
        by: how far their mean margin is below that of the first step, in the unit of the loss.
        pairs: how many are looked at, at least.
    """
    memory: Memory = {"first": None, "seen": []}  # of the last steps: [pairs, accuracy, margin]

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "accuracy" not in metrics or "margin" not in metrics:
            return None
        if memory["first"] is None:
            memory["first"] = metrics["margin"]
            return None
        memory["seen"].append([len(groups), metrics["accuracy"], metrics["margin"]])
        while len(memory["seen"]) > 2 and sum(n for n, _, _ in memory["seen"][1:]) >= pairs:
            del memory["seen"][0]
        seen = memory["seen"]
        count = sum(n for n, _, _ in seen)
        if len(seen) < 2 or count < pairs:
            return None
        right, margin = (sum(row[0] * row[i] for row in seen) / count for i in (1, 2))
        if right > accuracy or margin > memory["first"] - by:
            return None
        return f"the policy prefers the chosen of {right:.0%} of the last {count} pairs; the margin is {margin:.3g}"

    return detect


def margin_collapse(
    left: float = 0.25, least: float = 0.5, window: int = 4, confidence: float = 3.0
) -> Detector:
    """The margin of chosen over rejected rose early, and is gone: what was learnt of the preferences is lost.

    The mean of the last `window` steps is compared with the best window before it.

    Args:
        left: share of the best margin that counts as gone.
        least: a best margin below this one is noise, and not looked at.
        window: steps.
        confidence: standard errors by which the two windows must differ.
    """
    memory: Memory = {"margins": [], "best": None, "error": 0.0}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "margin" not in metrics:
            return None
        margins = memory["margins"] = [*memory["margins"], metrics["margin"]][-2 * window :]
        if len(margins) >= 2 * window:  # the windows overlap nowhere
            before = margins[:window]
            if memory["best"] is None or fmean(before) > memory["best"]:
                memory.update(best=fmean(before), error=stdev(before) / window**0.5)
        best, now = memory["best"], margins[-window:]
        if best is None or best < least or fmean(now) > left * best:
            return None
        error = (memory["error"] ** 2 + stdev(now) ** 2 / window) ** 0.5
        if best - fmean(now) <= confidence * error:
            return None
        return f"the margin of chosen over rejected rose to {best:.3g} and is {fmean(now):.3g} now"

    return detect


def pairs_drift(chosen: float = 5.0, times: float = 2.0, nats: float = 0.5, window: int = 5) -> Detector:
    """The pairs are still in order, and the policy is leaving what it could do: the chosen became unlikely, or its
    entropy on the pairs a multiple.

    Args:
        chosen: how far `reward_chosen` (of DPO: beta times the log-ratio) may fall. A margin of 5 is a preference of
            99%, so that no pair asks for more.
        times: how many times that of the start the entropy may be.
        nats: how far above that of the start it may be; the alarm needs both to be exceeded.
        window: steps at the start, and at the end, whose means are compared.
    """
    memory: Memory = {"first": [], "last": []}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "reward_chosen" not in metrics or "entropy" not in metrics:
            return None
        seen = [metrics["reward_chosen"], metrics["entropy"]]
        if not both_ends(memory, seen, window, window):
            return None
        (reward, before), (worth, now) = (
            map(fmean, zip(*memory[key], strict=True)) for key in ("first", "last")
        )
        said = []
        if worth < reward - chosen:
            said.append(f"the chosen became unlikely: reward_chosen went from {reward:.3g} to {worth:.3g}")
        if now > times * before and now > before + nats:
            said.append(f"the entropy on the pairs went from {before:.3g} to {now:.3g}")
        if not said:
            return None
        memory["last"] = []
        return f"{'; '.join(said)}. Train with a lower learning_rate, a larger beta or fewer steps"

    return detect


def blown_up(nats: float = 1.0, least: float = 30.0, share: float = 0.75) -> Detector:
    """What the policy writes in a probe is rubbish: far from its reference, repetitive or empty.

    Args:
        nats: per token further from the reference than at the start, at most; healthy runs stay below a tenth of it.
        least: nats per completion below which the policy is near its reference, however short its completions are.
        share: of the completions that repeat themselves, or of the empty ones. It counts where it has set in since the
            first probe, or where the policy has moved: some data repeats itself.
    """
    memory: Memory = {"first": None}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "probe/length" not in metrics:
            return None
        broken = max(metrics.get("probe/repetition", 0.0), metrics.get("probe/empty", 0.0))
        if memory["first"] is None:
            memory["first"] = broken
        kl = metrics.get("probe/kl", 0.0) - metrics.get("probe/kl_at_start", 0.0)
        apart = kl / max(1.0, metrics["probe/length"])
        if kl > least and apart > nats:
            return (
                f"what the policy writes is {apart:.1f} nats per token from where it began (limit {nats:g})"
            )
        if broken >= share and (memory["first"] < share - 0.25 or kl > least):
            return f"{broken:.0%} of what the policy writes repeats itself or is empty"
        return None

    return detect
