"""A search for a prompt as the command line drives it: its options, its models, what came of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ..prompt_search.settings import SearchSettings
from .options import DataSpec
from .sampled_options import ScoredOptions
from .sampler_of import print_calls, samplers_of

if TYPE_CHECKING:
    from ..prompt_search.candidates import Candidate
    from ..prompt_search.outcome import Outcome
    from ..prompt_search.splits import Splits
    from ..tasks import Task


@dataclass(frozen=True, kw_only=True)
class Options(SearchSettings, ScoredOptions):
    """Search for a better system prompt, local model or API: candidates are scored by a reward on validation rows, and
    the one found is compared with the first on test rows that chose nothing. Killed, it resumes: nothing is asked for
    twice."""

    out: Path
    """A folder for the prompt (prompt.json), the candidates, the journal and the result."""
    data: DataSpec | None = None
    """Rows to search on, with prompt and the columns that the reward asks for."""
    test: Path | None = None
    """With data: rows to measure on. Left out: a third of the data."""
    task: str | None = None
    """Instead of data and reward: a task's name, or FILE.py:attribute; its splits train and test."""
    test_rows: int = 0
    """Rows to measure on; 0 takes all. Each takes two completions, on top of the budget."""
    seed: int = 0
    """Of the search."""
    accept_leakage: str = ""
    """A reason to search although rows are on two sides; the result repeats it."""


def search(
    options: Options,
    task: Task,
    seed: Candidate,
    splits: Splits,
    tokens: int,
    console: Console,
) -> Outcome:
    """Open the models, search, and ask the test rows."""
    from ..prompt_search.journal import Journal
    from ..prompt_search.outcome import finish
    from ..prompt_search.reflective import Reflector
    from ..prompt_search.scoring import Scorer
    from ..prompt_search.searching import tried_by
    from ..samplers.api import APISampler
    from ..samplers.local.sampler import LocalSampler
    from ..training.build import under_deadline
    from ..training.progress import bar

    names = [name for name in (options.model, options.reflection) if name]
    policy, *others = samplers_of(names, options.api, options.price, options.dtype)
    rewards = [one for one in (task.reward, *task.metrics.values(), *task.parts.values()) if one is not None]
    workers = under_deadline(rewards, options.reward_workers, options.reward_seconds, console)
    journal = Journal(options.out)
    size = policy.batch_size if isinstance(policy, LocalSampler) else 10**6
    reflector = (
        Reflector(options.reflection, others[0], journal, options.reflection_tokens, options.seed)
        if others
        else None
    )
    try:
        with bar(console, "searching", options.budget) as shown:
            scorer = Scorer(task, policy, journal, tokens, size, workers, shown.at, splits.test)
            tried = tried_by(options, seed, splits, scorer, reflector, options.seed)
        counts = (reflector.asked, reflector.refused) if reflector else (0, 0)
        return finish(options.out, tried, scorer, splits, counts, options.seed)
    finally:
        if workers is not None:
            workers.close()
        for sampler in (policy, *others):
            if isinstance(sampler, APISampler):
                print_calls(sampler, console)


def print_outcome(found: Outcome, primary: str | None, console: Console) -> None:
    """The best candidates, and the gain over the first prompt on the test rows."""
    from ..evidence.gains import gain

    table = Table(title="candidates by their mean on the validation rows", title_justify="left")
    for heading in ("candidate", "made from", "change", "mean", "front"):
        table.add_column(heading, overflow="fold")
    ranked = sorted(found.candidates, key=lambda one: -one["mean"])
    for one in ranked[:10]:
        front = "yes" if one["front"] else ""
        table.add_row(one["candidate"][:8], one["parent"][:8], one["how"], f"{one['mean']:.3f}", front)
    console.print(table)
    counts, *flat = found.words()
    lines = [counts]
    if found.difference:
        first, best = (found.figures[name]["mean"] for name in ("seed", "found"))
        n = found.difference["n"]
        lines.append(f"test: {first:.3f} with the first prompt, {best:.3f} with the one found")
        lines.append(f"found minus first, paired, n={n}: {gain(found.difference, primary)}")
    else:
        lines.append(
            "no candidate is better than the first prompt: it is kept, and the test rows were not asked"
        )
    lines += flat
    lines.append(f"prompt: {found.path}; next: tieout eval --prompt-file {shlex.quote(str(found.path))}")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
