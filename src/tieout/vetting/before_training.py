"""Check a reward before a policy is trained on it: an attack and a proof, in seconds, on a few rows.

What is found stops the training, or is accepted by name with a reason. Where rows have no gold, most of the attack and
all of the proof cannot be done: `bare` then tries what needs none, and the report says so.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError
from ..rewards.library.reward_model import models_in
from ..rewards.scoring.outcomes import parameters, reward_name, reward_range
from ..rows.spread import spread
from ..storage.atomic import write_json
from ..storage.jsonl import read_json
from ..storage.machine import launched
from ..storage.runfolder import Stage
from ..types import Reward, Row
from .attack import CLASSES, Attack, AttackSettings, attack
from .attack.calling import pay
from .bare import bare
from .check import CHECKS, Proof, prove
from .golden_rows import ANSWERS, with_gold

MAX_GIVEN = 200
"""Rows handed to the attack, spread over all; it picks some, and uses the golds of the others as wrong answers."""
PROOF_ROWS = 8
BRIEF = AttackSettings(max_rows=1, num_search=0, seconds=2.0)
"""At the start of a program that may be started often."""
UNCHECKED = "TIEOUT_UNCHECKED"
_warned: set[tuple[str, ...]] = set()
_log = logging.getLogger("tieout")
QUICK = AttackSettings(max_rows=2, num_search=40, seconds=6.0)
"""At most nine seconds, and those of a call that hangs."""


@dataclass(frozen=True, kw_only=True)
class RewardCheck:
    """The check of a reward before training, which stops at what it finds."""

    accept: Mapping[str, str] = field(default_factory=dict)
    """Findings to train in spite of: CLASS "REASON" ..., a class of the attack or a check of the proof. The reasons are
    written into the run folder."""
    unchecked: str = ""
    """A reason to leave the check out; it is written into the run folder."""

    def __post_init__(self) -> None:
        known = (*CLASSES, *CHECKS)
        for name, reason in self.accept.items():
            if name not in known:
                raise InputError(
                    f"accept names {name!r}; a finding is of the attack, {', '.join(CLASSES)}; or of the proof, "
                    f"{', '.join(CHECKS)}"
                )
            if not reason.strip():
                raise InputError(f"accept names {name!r} without a reason; say why it does no harm")


def check_reward_first(
    reward: Reward | None,
    rows: Sequence[Row],
    gold: Callable[[Row], str | None] | None,
    wanted: RewardCheck,
    part: Stage,
    inputs: Mapping[str, Any],
) -> str:
    """Examine the reward unless that is done, write what came of it into `part`, and say it in a line.

    Args:
        reward: of the run; None: it has none.
        rows: that will be trained on.
        gold: of the task; None: the rows' own.
        wanted: what is accepted, or why nothing is checked.
        part: a folder of the run.
        inputs: what the result depends on; the same again is not examined twice.

    Raises:
        InputError: there is a finding, and it is not accepted.
    """
    if reward is None:
        return "reward not checked: the environment scores"
    if wanted.unchecked:
        write_json(part.path / "unchecked.json", {"reward": reward_name(reward), "reason": wanted.unchecked})
        return f"reward NOT checked: {wanted.unchecked}"
    path = part.path / "check.json"
    if part.is_done(inputs):
        report = read_json(path)
    else:
        part.begin(inputs)
        report = examine(reward, rows, gold).plain()
        write_json(path, report)
    refuse(report, wanted, path)
    used = {one["name"]: wanted.accept[one["name"]] for one in report["problems"]}
    write_json(path, {**report, "accepted": used})
    part.finish(inputs)
    said = "".join(f"; accepted: {name}: {reason}" for name, reason in used.items())
    return f"reward {report['reward']}: {report['done']}{said} ({report['seconds']:.0f} s)"


@dataclass(frozen=True)
class Problem:
    """What was found."""

    name: str
    """A class of the attack, or a check of the proof."""
    shown: str


@dataclass(frozen=True)
class Examined:
    """What the checks say of a reward."""

    reward: str
    done: str
    """What was tried, and what could not be."""
    problems: list[Problem]
    proof: Proof | None = None
    attack: Attack | None = None
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        attacked = self.attack.plain() if self.attack else None
        return {**asdict(self), "attack": attacked, "seconds": round(self.seconds, 3)}


def examine(
    reward: Reward,
    rows: Sequence[Row],
    gold: Callable[[Row], str | None] | None = None,
    *,
    settings: AttackSettings = QUICK,
    proof_rows: int = PROOF_ROWS,
    seed: int = 0,
) -> Examined:
    """Attack the reward and prove it, as far as the rows allow.

    Args:
        reward: any reward.
        rows: with `prompt` and the columns that the reward asks for; gold in `completion`, or else `answer`.
        gold: of the task; None: the rows' own.
        settings: of the attack.
        proof_rows: how many to prove it on; 0 leaves the proof out.
        seed: of both.
    """
    began, name = time.monotonic(), reward_name(reward)
    if next(models_in(reward), None) is not None:
        return Examined(name, "a reward model: neither proven nor attacked; its measured verdict counts", [])
    golden, why = _golden(reward, rows, gold)
    if not golden:
        problems = [Problem(kind, shown) for kind, shown in bare(reward, rows, settings.seconds)]
        return Examined(
            name, f"{why}: no proof, and of the attack {TRIED}", problems, None, None, _since(began)
        )
    try:
        found = attack(reward, golden, settings, seed=seed)
    except InputError as error:  # it pays no gold
        return Examined(name, "gold is not paid", [Problem("gold", str(error))], None, None, _since(began))
    problems = [Problem(finding["class"], shown(finding)) for finding in found.plain()["findings"]]
    done, proof = found.verdict, None
    # First the attack, whose processes may hang: the proof calls the reward in this one.
    if proof_rows and "harness" not in found.counts:
        proof = prove(reward, spread(golden, proof_rows), seed=seed)
        problems += [
            Problem(one.name, f"{one.name}: {one.failures[0]}") for one in proof.checks if not one.holds
        ]
        done = f"{'' if proof.holds else 'not '}proven on {proof.num_rows} rows; {done}"
    return Examined(name, done, problems, proof, found, _since(began))


def warn_of_reward(reward: Reward | None, rows: Sequence[Row]) -> None:
    """For programs of others, whose rows often have no gold: attack for a few seconds, and warn of what is found.

    Once per process and reward, and all of it in a process of its own: a reward that keeps a state or logs is not
    disturbed. The environment variable TIEOUT_UNCHECKED leaves it out.
    """
    if reward is None or os.environ.get(UNCHECKED) or launched()[0] > 0 or next(models_in(reward), None):
        return
    key = (reward_name(reward), *rows[0])
    if key in _warned:
        return
    _warned.add(key)
    # It may need what only a trainer has (tokens, a device), or think for long.
    (alone,) = pay(reward, rows, [(0, "ok")], 5.0, time.monotonic() + 5.0)
    if alone is None or alone.failed:
        why = alone.failed if alone else "it gave nothing in a process of its own"
        _log.warning("reward %s was not attacked before training: %s", key[0], why)
        return
    found = examine(reward, rows, settings=BRIEF, proof_rows=0)
    shown = "; ".join(one.shown for one in found.problems if one.name in CLASSES)
    _log.info("reward %s: %s", found.reward, found.done)
    if shown:
        text = f"reward {found.reward!r} pays for what it should not: {shown}. Tried: {found.done}. Fix the reward"
        warnings.warn(f"{text}, or set {UNCHECKED} to a reason to leave this out", stacklevel=3)


TRIED = "only empty, constant and copied completions"


def shown(finding: Mapping[str, Any]) -> str:
    """A finding of `Attack.plain` in one line."""
    said = finding["completion"][:60]
    return f"{finding['class']}: {said!r} gets {finding['score']}, gold {finding['gold_score']}: {finding['why']}"


def refuse(examined: Mapping[str, Any], wanted: RewardCheck, path: object) -> None:
    """InputError: the report, as `Examined.plain` makes it, has a problem that is not accepted."""
    left = [one for one in examined["problems"] if one["name"] not in wanted.accept]
    if not left:
        return
    names = " ".join(dict.fromkeys(f"'{one['name']}' \"REASON\"" for one in left))
    raise InputError(
        f"reward {examined['reward']!r} pays for what it should not, or not for what it should: "
        f"{'; '.join(one['shown'] for one in left)}. See {path}; fix the reward, or train on it anyway with "
        f"--accept {names}"
    )


def _since(began: float) -> float:
    return time.monotonic() - began


def some_golden(
    rows: Sequence[Row], gold: Callable[[Row], str | None] | None = None, asked: Collection[str] = ()
) -> list[Row]:
    """Rows with gold, as `with_gold` finds it, spread over all; at most MAX_GIVEN."""
    near = spread(rows, 2 * MAX_GIVEN)
    some = [row for row in (with_gold(row, gold, asked) for row in near) if row is not None]
    if len(some) < PROOF_ROWS:  # few of many have gold
        some = [row for row in (with_gold(row, gold, asked) for row in rows) if row is not None]
    return spread(some, MAX_GIVEN)


def _golden(
    reward: Reward, rows: Sequence[Row], gold: Callable[[Row], str | None] | None
) -> tuple[list[Row], str]:
    """Rows with gold; or none, and why."""
    found = some_golden(rows, gold, [parameter.name for parameter in parameters(reward)])
    if not found:
        return [], f"no row has gold (a column completion, {' or '.join(ANSWERS)})"
    if gold is not None or any(row.get("completion") is not None for row in rows):
        return found, ""
    # An answer may be a part of what must be said, as in tags: only a reward that pays it takes it for a completion.
    tried = spread(found, PROOF_ROWS)
    asks = [(i, row["completion"]) for i, row in enumerate(tried)]
    paid = pay(reward, tried, asks, QUICK.deadline_seconds, time.monotonic() + QUICK.seconds)
    scores = [one.score for one in paid if one is not None and one.score is not None]
    top = (reward_range(reward) or (0.0, 1.0))[1]
    if sum(score >= top - 1e-6 for score in scores) < max(1.0, len(scores) / 2):
        return [], "rows have answers, which the reward does not pay in full as completions"
    return found, ""
