"""Detectors: levels and changes of metrics, KL per completion, groups without signal, impossible rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from ...types import Group
from .actions import Detector
from .memory import Memory, both_ends, memory_of, remembers


def above(name: str, limit: float, patience: int = 3) -> Detector:
    """The metric is above `limit`, or no number, `patience` measured steps in a row."""
    return _in_a_row(name, lambda value: not value <= limit, f"above {limit:g}", patience)


def below(name: str, limit: float, patience: int = 3) -> Detector:
    """The metric is below `limit`, or no number, `patience` measured steps in a row."""
    return _in_a_row(name, lambda value: not value >= limit, f"below {limit:g}", patience)


def _in_a_row(name: str, bad: Callable[[float], bool], what: str, patience: int) -> Detector:
    memory: Memory = {"row": 0}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if name not in metrics:
            return None
        if not _lasts(memory, bad(metrics[name]), patience):
            return None
        return f"{name} is {metrics[name]:.3g}, {what} for {patience} steps"

    return detect


def _lasts(memory: Memory, bad: bool, patience: int) -> bool:
    """Whether it has now been bad `patience` times in a row; then the count starts again."""
    memory["row"] = memory["row"] + 1 if bad else 0
    if memory["row"] < patience:
        return False
    memory["row"] = 0
    return True


def skipped(patience: int = 8) -> tuple[Detector, Detector]:
    """An update was skipped, as its gradient was not finite; and so many steps in a row had none that was applied."""
    memory: Memory = {"before": 0.0, "row": 0}
    new: list[float] = []

    @remembers(memory)
    def once(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        count = metrics.get("skipped_updates", 0.0)
        new[:] = [count - memory["before"]]
        memory["before"] = count
        return f"an update was skipped, its gradient is not finite ({count:g} so far)" if new[0] > 0 else None

    @remembers(memory)
    def always(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if not _lasts(memory, new[0] > 0, patience):
            return None
        return (
            f"updates were skipped in {patience} steps in a row, as the gradient is not finite: take a lower "
            "learning_rate or dtype fp32, and look for rows with extreme values"
        )

    return once, always


def changed(
    name: str, *, rises: float | None = None, falls: float | None = None, start: int = 5, window: int = 5
) -> Detector:
    """The mean of the last `window` steps has left that of the first `start` steps by a factor.

    `rises=2`: it is more than twice; `falls=0.5`: it is less than half. Both for metrics that are never negative.
    """
    memory: Memory = {"first": [], "last": []}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if name not in metrics:
            return None
        if not both_ends(memory, metrics[name], start, window):
            return None
        before, now = fmean(memory["first"]), fmean(memory["last"])
        for factor, out in ((rises, rises is not None and not now <= rises * before),
                            (falls, falls is not None and not now >= falls * before)):  # fmt: skip
            if out:
                memory["last"] = []
                return f"{name} went from {before:.3g} to {now:.3g} (limit: {factor:g} times the first {start} steps)"
        return None

    return detect


def entropy_collapse(falls: float = 0.3) -> Detector:
    """The policy's entropy fell below this share of what it was: it has stopped exploring."""
    return changed("entropy", falls=falls)


def length_drift(rises: float = 2.0, falls: float = 0.5) -> Detector:
    """Completions became much longer (padding pays) or much shorter (giving up pays)."""
    return changed("length", rises=rises, falls=falls)


def no_signal(limit: float = 0.9, patience: int = 5) -> Detector:
    """Nearly all groups are all right or all wrong: the task is solved, or out of reach."""
    inner = above("no_signal", limit, patience)

    @remembers(memory_of(inner))
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        reason = inner(step, groups, metrics)
        if reason is None:
            return None
        right, wrong = metrics.get("no_signal_right", 0.0), metrics.get("no_signal_wrong", 0.0)
        return f"{reason} ({right:.0%} of the groups all right, {wrong:.0%} all equal below that)"

    return detect


def kl_per_sequence(limit: float = 15.0, patience: int = 2) -> Detector:
    """KL(policy || reference) of a whole completion in nats: `kl` per token (k3) times mean length. 10 to 20 is where
    reward models are usually being hacked (https://arxiv.org/abs/2210.10760)."""
    memory: Memory = {"row": 0}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "kl" not in metrics:
            return None
        value = metrics["kl"] * metrics.get("length", 0.0)
        if not _lasts(memory, not value <= limit, patience):
            return None
        return (
            f"the policy is {value:.1f} nats per completion from its reference (limit {limit:g}; k3 estimate)"
        )

    return detect


def dominant_part(
    share: float = 0.9, weights: Mapping[str, float] | None = None, patience: int = 5
) -> Detector:
    """One part of a combined reward is more than this share of the total, `patience` scored steps in a row.

    Then that part alone is learnt, such as a form without answers. Part i counts as |weight_i| times the mean of its
    absolute scores of the step, those left out where it abstained or failed. Rewards without parts are passed over.

    Args:
        share: of the sum over all parts.
        weights: name -> weight, such as `combine(...).weights`; left out: every part weighs the same.
        patience: steps.
    """
    memory: Memory = {"row": 0}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        given: dict[str, list[float]] = {}
        for group in groups:
            for column, scores in group.columns.items():
                if column.startswith("reward/"):
                    given.setdefault(column.removeprefix("reward/"), []).extend(
                        abs(score) for score in scores if score is not None
                    )
        sizes = {n: abs((weights or {}).get(n, 1.0)) * fmean(found) for n, found in given.items() if found}
        total = sum(sizes.values())
        if len(sizes) < 2 or not total:
            return None
        name, most = max(sizes.items(), key=lambda item: item[1])
        if not _lasts(memory, most > share * total, patience):
            return None
        return f"part {name!r} is {most / total:.0%} of the reward (limit {share:.0%})"

    return detect


def impossible_rows(column: str = "impossible_row", passing: float = 0.5) -> Detector:
    """Impossible items: a row whose column `impossible_row` is true can only be passed by a hack; one is enough."""

    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        for group in groups:
            best = max(group.scores or [0.0])
            if group.row.get(column) and best >= passing:
                i = (group.scores or []).index(best)
                text = group.completions[i].text
                return f"an impossible row scored {best:g}: {text[:80]!r}"
        return None

    return detect
