"""tieout prefer --model MODEL --data FILE --reward REWARD --out PAIRS.jsonl"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console

from ..errors import InputError
from ..pipelines.pair_rules import PairRules
from .early import check_named, model_named
from .options import RewardSpec, parse
from .quiet import quiet
from .sampled_options import ScoredOptions
from .sampler_of import asked_with, print_calls, sampler_of

if TYPE_CHECKING:
    from ..pipelines.kinds import Pairs
    from ..pipelines.pairing.making import Making
    from ..tasks import Task


@dataclass(frozen=True, kw_only=True)
class Options(ScoredOptions, PairRules):
    """Make preference pairs: sample a model several times per prompt, and let a reward or a judge say which completion
    is better. Pairs keep the other columns of their row; what decides them, and their quality, are reported."""

    out: Path
    """The file of pairs, FILE.jsonl. Next to it, FILE.quality.json."""
    judge: RewardSpec = ""
    """What orders the completions instead, such as judge:FILE.yaml. The reward, a program, then only says what may be
    chosen: the judge's preference for what it calls wrong makes no pair."""
    min_pairs: int = 1
    """If fewer are made, the command ends with the reasons and writes nothing."""
    test: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Rows that will be measured on, to look for them among the pairs. May be given several times."""
    accept_leakage: str = ""
    """A reason to keep pairs that give test rows away."""


def main(arguments: Sequence[str]) -> None:
    """Parse, sample, choose, print what decides the pairs and their quality, write them."""
    from dataclasses import replace

    from .evaluate import task_of
    from .run import wide_console

    options = parse(Options, "prefer", arguments)
    if options.out.suffix != ".jsonl":
        raise InputError(f"--out is {options.out}; expected a file of rows, FILE.jsonl")
    if options.num_completions < 2 or not options.temperature > 0:
        raise InputError(
            f"num_completions is {options.num_completions} and temperature {options.temperature:g}; expected at least "
            "2 completions at a temperature above 0: a pair takes two different ones"
        )
    model_named(options.model, runs=True, api=True)
    check_named(options.reward, options.task)
    check_named(options.judge or None, None)
    task = task_of(options)
    if options.max_new_tokens:
        task = replace(task, max_new_tokens=options.max_new_tokens)
    prefer(options, task, wide_console())


def prefer(options: Options, task: Task, console: Console) -> None:
    """Make the pairs of a task's training rows, and write them with their quality.

    InputError: they are too few, or not right; nothing is written then.
    """
    quiet()
    from ..pipelines.kinds import Pairs
    from ..pipelines.pairing.judged import judged
    from ..pipelines.pairing.making import Making
    from ..pipelines.pairing.sampling import Ground
    from ..samplers.api import APISampler
    from ..training.build import under_deadline

    stage = Pairs(
        sources=("judged",) if options.judge else ("sampled",),
        judge=options.judge,
        **{rule.name: getattr(options, rule.name) for rule in fields(PairRules)},
    )
    _check(options, task)
    task = asked_with(task, "train", options.model, options.chat_template_kwargs)
    sampler = sampler_of(options.model, options.api, options.price, options.dtype)
    own = [task.reward, *task.metrics.values(), *task.parts.values()]
    rewards = [reward for reward in own if reward is not None]
    workers = under_deadline(rewards, options.reward_workers, options.reward_seconds, console)
    ground = Ground(task, options.seed, console, lambda name: sampler, lambda: workers, carry=True)
    making = Making(ground, stage)
    try:
        judged(making, options.model) if options.judge else making.sampled(options.model)
    finally:
        if workers is not None:
            workers.close()
        if isinstance(sampler, APISampler):
            print_calls(sampler, console)
    _write(options, stage, making, console)


def _check(options: Options, task: Task) -> None:
    """InputError: what cannot give pairs, before anything is sampled."""
    from ..config.attribute import same_function
    from ..rewards import load_reward
    from ..rewards.library.judge import judges_of
    from ..rewards.scoring.runner import check_reward
    from ..samplers.api.opening import is_api
    from ..training.reward_models import check_models

    if task.reward is None or task.environment is not None:
        raise InputError(f"task {task.name!r} has no reward of single answers that could order them")
    rows = task.rows("train")
    columns = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
    check_reward(task.reward, columns, tokens=not is_api(options.model))
    check_models(task.reward, policy=options.model)
    if options.judge:
        judge, checked = load_reward(options.judge), task.metrics.get(task.primary or "", task.reward)
        check_reward(judge, columns, tokens=False)
        check_models(judge, policy=options.model)
        if same_function(judge, checked) or judges_of(checked):
            raise InputError(
                f"judge {options.judge!r} has no program as its backstop: the reward is a judge, too, or the same. "
                "Name a reward that is a program; or give the judge as --reward, alone"
            )


def _write(options: Options, stage: Pairs, making: Making, console: Console) -> None:
    """Report the pairs and write them. InputError: they are too few, or cannot be right."""
    from ..pipelines.pairing.summary import print_summary
    from ..rows import read_rows
    from ..rows.pairs import weighted
    from ..storage.atomic import write_json
    from ..storage.jsonl import write_jsonl
    from ..vetting.preferences.advice import plain, refusals
    from ..vetting.preferences.printed import print_quality
    from ..vetting.preferences.quality import measure

    made = making.made
    made.limit_form(stage.max_form)
    made.check_enough(stage.min_pairs, making.reported, "tieout prefer")
    if not made.pairs:
        raise InputError("there are no pairs: no prompt was sampled")
    summary = made.summary(making.reported)
    print_summary(summary, console)
    rows: list[Any] = [pair.row for pair in made.pairs]
    quality = measure(
        rows,
        {str(path): read_rows(path) for path in options.test},
        scale=None if options.judge else making.measures.bounds,
        good=[pair.good for pair in made.pairs],
        standard=making.good.words,
        accept_leakage=options.accept_leakage,
        option='--accept-leakage "reason"',
        source=str(options.out),
        seed=options.seed,
    )
    print_quality(quality, console, f"{quality.pairs} pairs")
    if refused := refusals(quality):
        raise InputError("these pairs cannot be right, and are not written:\n  " + "\n  ".join(refused))
    write_jsonl(options.out, weighted(rows) if stage.pairs_per_prompt > 1 else rows)
    write_json(options.out.with_suffix(".quality.json"), {"made": summary, "quality": plain(quality)})
    console.print(f"pairs: {options.out}", highlight=False, soft_wrap=True)
