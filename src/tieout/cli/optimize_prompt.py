"""tieout optimize-prompt --model MODEL --data FILE --reward REWARD --out DIR"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from ..errors import InputError
from .early import check_named, model_named
from .options import DataSpec, parse, template_options
from .quiet import quiet
from .sampled_options import ScoredOptions
from .sampler_of import print_calls, samplers_of

if TYPE_CHECKING:
    from ..prompt_search.candidates import Candidate
    from ..prompt_search.outcome import Outcome
    from ..prompt_search.scoring import Scorer
    from ..prompt_search.splits import Splits
    from ..prompt_search.tried import Tried
    from ..storage.runfolder import RunFolder
    from ..tasks import Task
    from ..types import Row

MINIBATCH = {"plain": 8, "gepa": 3}


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


def main(arguments: Sequence[str]) -> None:
    """Parse, search, measure, print."""
    from .evaluate import task_of
    from .run import wide_console

    options = parse(Options, "optimize-prompt", arguments)
    check_names(options)
    found = optimize(options, task_of(options), wide_console())
    figures = {name: figure["mean"] for name, figure in found.figures.items()}
    print(json.dumps({"prompt": str(found.path), "test": figures}))


def check_names(options: Options) -> None:
    """InputError: a name or option that is wrong; before torch is imported."""
    from ..prompt_search.reflective import check_installed

    for name in filter(None, (options.model, options.reflection)):
        model_named(name, runs=True, api=True)
    check_named(options.reward, options.task)
    if options.by == "gepa":
        check_installed()
    if options.task and options.test:
        raise InputError("--test goes with --data; a task has test rows of its own")


def optimize(options: Options, task: Task, console: Console) -> Outcome:
    """Search, choose, measure once; or, of a finished search, say again what came of it.

    InputError: what was given cannot be searched with, before the first call; or a completion has no score.
    """
    quiet()
    from ..pipelines.evaluated import one_template, policy_of
    from ..pipelines.training_rows import telling_task
    from ..prompt_search.budget import Budget, said
    from ..prompt_search.candidates import seed_candidate
    from ..prompt_search.outcome import result_of, stored_outcome
    from ..prompt_search.splits import split_rows
    from ..rewards.scoring.reward_identity import reward_identity
    from ..rewards.scoring.runner import check_reward
    from ..rows import data_hash
    from ..rows.checks import with_prompts
    from ..rows.messages import refuse_unread
    from ..samplers.api.opening import is_api
    from ..samplers.prices import parse_prices
    from ..samplers.prompted import read_prompt
    from ..storage.runfolder import RunFolder
    from ..training.reward_models import check_models

    reward = task.reward
    if task.environment is not None or reward is None:
        raise InputError(f"task {task.name!r} has no reward of single completions to search a prompt by")
    template = one_template([options.model], template_options(options.chat_template_kwargs))
    given = list(with_prompts(task.rows("train")))
    if options.chat_template_kwargs:
        refuse_unread(given, template)
    task = telling_task(task, template)
    held = _test_rows(options, task, template)
    seed = seed_candidate(options.system, [*given, *(held or [])])
    minibatch = options.minibatch or MINIBATCH[options.by]
    splits = split_rows(
        task.rows("train"),
        held,
        seed.prefix,
        (options.train_rows, options.validation_rows, options.test_rows),
        minibatch,
        options.accept_leakage,
    )
    budget = Budget(options.budget, minibatch, len(splits.validation))
    whole = [*splits.train, *splits.validation, *splits.test]
    columns = [name for name in whole[0] if all(name in row for row in whole)]
    measures = {**task.metrics, **{f"part {name}": part for name, part in task.parts.items()}}
    for one in (reward, *measures.values()):
        check_reward(one, columns, tokens=not is_api(options.model))
        check_models(one, policy=options.model)
    models = [name for name in (options.model, options.reflection) if name]
    prices = parse_prices(options.price, models)
    tokens = options.max_new_tokens or task.max_new_tokens
    reflection = (options.reflection, prices.get(options.reflection, "")) if options.reflection else None
    with RunFolder(options.out) as folder:
        folder.record(
            {
                "policy": policy_of(options.model).identity,
                "reflection": policy_of(options.reflection).identity if options.reflection else None,
                "search": options.by,
                "seed": options.seed,
                "first_prompt": seed.prefix.digest,
                "budget": options.budget,
                "minibatch": minibatch,
                "max_new_tokens": tokens,
                "reflection_tokens": options.reflection_tokens,
                "dtype": options.dtype,
                "chat_template_kwargs": template,
                "reward": reward_identity(reward),
                "measures": {name: reward_identity(one) for name, one in measures.items()},
            },
            {
                "train": data_hash(splits.train),
                "validation": data_hash(splits.validation),
                "test": data_hash(splits.test),
            },
        )
        if (done := result_of(options.out)) is not None:
            found = stored_outcome(options.out, read_prompt(options.out / "prompt.json"), done)
        else:
            console.print(
                f"{options.by}: {len(splits.train)} rows to try on, {len(splits.validation)} to choose by, "
                f"{len(splits.test)} to measure on",
                highlight=False,
            )
            policy = (options.model, prices.get(options.model, ""))
            for line in said(
                budget,
                policy,
                reflection,
                seed.prefix,
                whole,
                len(splits.test),
                tokens,
                options.reflection_tokens,
            ):
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
            found = _search(
                replace(options, minibatch=minibatch), folder, task, seed, splits, budget, tokens, console
            )
    print_outcome(found, task.primary, console)
    return found


def _test_rows(options: Options, task: Task, template: Mapping[str, Any]) -> list[Row] | None:
    """Rows to measure on that were given; None: a part of the data is held out."""
    from ..rows import check_rows, read_rows
    from ..rows.checks import with_prompts
    from ..rows.messages import telling

    if options.test is not None:
        rows = check_rows(read_rows(options.test), "prompt", str(options.test))
        return list(with_prompts(telling(rows, template)))
    return None if options.data is not None else list(with_prompts(task.rows("test")))


def _search(
    options: Options,
    folder: RunFolder,
    task: Task,
    seed: Candidate,
    splits: Splits,
    budget: Any,
    tokens: int,
    console: Console,
) -> Outcome:
    """Open the models, search, and ask the test rows."""
    from ..pipelines.remote import keep_server
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
    for sampler in (policy, *others):
        if isinstance(sampler, APISampler):
            keep_server(folder, sampler.url)
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
    lines.append(f"  prompt: {found.path}; next: tieout eval --prompt-file {found.path}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
