"""A search for a prompt as the command line drives it: its options, its models, what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from ..errors import InputError
from .options import DataSpec
from .sampled_options import ScoredOptions
from .sampler_of import print_calls, samplers_of

if TYPE_CHECKING:
    from ..prompt_search.candidates import Candidate
    from ..prompt_search.outcome import Outcome
    from ..prompt_search.scoring import Scorer
    from ..prompt_search.splits import Splits
    from ..prompt_search.tried import Tried
    from ..tasks import Task


@dataclass(frozen=True, kw_only=True)
class Options(ScoredOptions):
    """Search for a better system prompt, local model or API: candidates are scored by a reward on validation rows, and
    the one found is compared with the first on test rows that chose nothing. Killed, it resumes: nothing is asked for
    twice."""

    out: Path
    """A folder for the prompt (prompt.json), the candidates, the journal and the result."""
    reflection: str = ""
    """The model that reads completions with feedback and proposes prompts, as --model names one. Needed by gepa."""
    search: Literal["auto", "gepa", "plain"] = "auto"
    """gepa: reflection, from the Pareto front; plain: edits, and completions of the model's own as examples. auto takes
    gepa if there is a reflection model."""
    data: DataSpec | None = None
    """Rows to search on, with prompt and the columns that the reward asks for."""
    test: Path | None = None
    """With data: rows to measure on. Left out: a third of the data."""
    task: str | None = None
    """Instead of data and reward: a task's name, or FILE.py:attribute; its splits train and test."""
    system: str = ""
    """The prompt to begin with: a text, a file of it, or a prompt file (.json), whose parts gepa rewrites in turn. Left
    out: the system message that all rows share, which the prompt then replaces, or none."""
    budget: int = 400
    """Completions that the search may use; the test takes two for each of its rows on top."""
    minibatch: int = 0
    """Training rows on which a candidate is compared with what it was made from; 0 takes 3 for gepa, 8 for plain."""
    train_rows: int = 100
    """Rows to try candidates on, spread over a half of what is searched on; 0 takes all of it."""
    validation_rows: int = 40
    """Rows to choose by, spread over the other half; 0 takes all of it."""
    test_rows: int = 0
    """Rows to measure on; 0 takes all."""
    reflection_tokens: int = 2048
    """Of a proposal, at most; one that is cut off is not tried."""
    seed: int = 0
    """Of the search."""
    accept_leakage: str = ""
    """A reason to search although rows are on two sides; the result repeats it."""

    @property
    def by(self) -> Literal["gepa", "plain"]:
        """The search. InputError: gepa without a reflection model, or plain with one."""
        if self.search == "auto":
            return "gepa" if self.reflection else "plain"
        if (self.search == "gepa") != bool(self.reflection):
            why = "needs --reflection MODEL" if self.search == "gepa" else "asks no reflection model"
            raise InputError(f"--search {self.search} {why}; leave --search out, and --reflection decides")
        return self.search


def search(
    options: Options,
    task: Task,
    seed: Candidate,
    splits: Splits,
    budget: Any,
    tokens: int,
    console: Console,
) -> Outcome:
    """Open the models, search, and ask the test rows."""
    from ..prompt_search.journal import Journal
    from ..prompt_search.outcome import finish
    from ..prompt_search.reflective import Reflector
    from ..prompt_search.scoring import Scorer, named
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
            scorer = Scorer(task, policy, journal, tokens, size, workers, progress=shown.at)
            train, validation = named("train", splits.train), named("validation", splits.validation)
            every = [*train, *validation, *named("test", splits.test)]
            if why := scorer.unfit(seed, every):
                raise InputError(f"the prompt to begin with does not fit: {why}")
            tried = _tried(options, seed, scorer, reflector, train, validation, budget)
        counts = (reflector.asked, reflector.refused) if reflector else (0, 0)
        return finish(options.out, tried, scorer, splits, counts, options.seed)
    finally:
        if workers is not None:
            workers.close()
        for sampler in (policy, *others):
            if isinstance(sampler, APISampler):
                print_calls(sampler, console)


def _tried(
    options: Options,
    seed: Candidate,
    scorer: Scorer,
    reflector: Any,
    train: Sequence[Any],
    validation: Sequence[Any],
    budget: Any,
) -> list[Tried]:
    """The candidates that the search tried."""
    from ..prompt_search import plain, reflective

    if reflector is None:
        return plain.search(seed, scorer, train, validation, budget, options.seed)
    return reflective.search(seed, scorer, reflector, train, validation, budget, options.seed)


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
    more = f", {found.proposals} proposals, {found.refused} of them no new prompt" if found.proposals else ""
    lines = [f"  {len(ranked)} candidates on the validation rows, {found.completions} completions{more}"]
    if found.difference:
        first, best = (found.figures[name]["mean"] for name in ("seed", "found"))
        n = found.difference["n"]
        lines.append(f"  test: {first:.3f} with the first prompt, {best:.3f} with the one found")
        lines.append(f"  found minus first, paired, n={n}: {gain(found.difference, primary)}")
    else:
        lines.append(
            "  no candidate is better than the first prompt: it is kept, and the test rows were not asked"
        )
    if found.flat is not None:
        lines.append(
            f"  every completion scored {found.flat:g}: the reward tells a search nothing here; give one that pays for "
            "steps on the way, such as a form, a right part"
        )
    lines.append(f"  prompt: {found.path}; next: tieout eval --prompt-file {shlex.quote(str(found.path))}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
