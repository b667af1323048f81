"""tieout reward check REWARD --data ROWS.jsonl: prove a reward."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from .options import RewardSpec, parse


@dataclass(frozen=True)
class CheckOptions:
    """Check a reward on rows whose right answer ("gold") is known.

    Gold scores the top of the reward's range (1 unless it declares another), empty the bottom; another row's gold and a
    perturbed gold fail; a re-formatted gold passes. Exit status 1 if one of these does not hold.
    """

    reward: Annotated[RewardSpec, tyro.conf.Positional]
    """FILE.py:FUNCTION, module:function, or a name of the library; several with weights: `exact=1.0 length=0.2`."""
    data: Path
    """Rows: prompt, completion = gold (or answer), and the columns that the reward asks for."""
    max_rows: int = 100
    """Rows to try, spread over all; 0 takes all."""
    json: Path | None = None
    """Write every check with its counts and failures here."""
    workers: int = 2
    """Processes that call the reward; 0 calls it in this one, where nothing can stop it."""
    deadline_seconds: float = 10.0
    """A reward that takes longer for one group has failed."""


def main(arguments: Sequence[str]) -> None:
    """Parse, prove, print."""
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb == "check":
        check(parse(CheckOptions, "reward check", rest))
    else:
        usage = "usage: tieout reward check REWARD --data ROWS.jsonl; `tieout rewards` lists the library's"
        if verb not in ("", "-h", "--help"):
            raise InputError(f"no command 'reward {verb}'\n{usage}")
        print(f"{usage}\n\ntieout reward check --help lists its options")
        sys.exit(0 if verb else 2)


def check(options: CheckOptions) -> None:
    """Prove one reward; exits with status 1 if it does not hold."""
    from ..rewards import load_reward
    from ..rewards.processes.workers import Workers
    from ..rewards.scoring.runner import Limits
    from ..rows import check_rows, read_rows
    from ..rows.spread import spread
    from ..vetting.check import prove

    reward = load_reward(options.reward)
    given = check_rows(read_rows(options.data), "prompt", str(options.data))
    rows = spread(given, options.max_rows)
    started = time.perf_counter()
    if options.workers:
        with Workers(options.workers, Limits(options.deadline_seconds)) as workers:
            proof = prove(reward, rows, workers)
    else:
        proof = prove(reward, rows)
    of = "" if len(rows) == len(given) else f" of {len(given)}"
    table = Table(title=f"{options.reward} on {len(rows)}{of} rows", title_justify="left")
    for heading in ("check", "holds", "of", *(() if proof.holds else ("",))):
        table.add_column(heading)
    console = Console()
    for one in proof.checks:
        table.add_row(one.name, str(one.passed), str(one.tried), *(() if one.holds else ("FAILS",)))
    console.print(table)
    for one in proof.checks:
        if not one.holds:
            console.print(f"{one.name}: {one.failures[0]}", markup=False, highlight=False, soft_wrap=True)
    if options.json:
        from ..storage.atomic import write_atomic

        found = {"reward": options.reward, "holds": proof.holds, **asdict(proof)}
        write_atomic(options.json, (json.dumps(found, indent=2) + "\n").encode("utf-8", "backslashreplace"))
    seconds = time.perf_counter() - started
    if not proof.holds:
        console.print(f"NOT proven, in {seconds:.1f} s", highlight=False)
        sys.exit(1)
    console.print(
        f"proven on these rows, in {seconds:.1f} s; it says nothing of holes: tieout attack looks for them"
    )
