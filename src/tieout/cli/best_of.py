"""tieout best-of --model MODEL --data FILE --reward REWARD"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..samplers.api.opening import is_api
from .early import check_named, model_named
from .options import parse
from .quiet import quiet
from .sampled_options import ScoredOptions
from .sampler_of import asked_with, print_calls, sampler_of

if TYPE_CHECKING:
    from ..evidence.best_of import Curve, Pooled
    from ..samplers.api import APISampler
    from ..samplers.local.sampler import LocalSampler
    from ..tasks import Task
    from ..types import Reward


@dataclass(frozen=True, kw_only=True)
class Options(ScoredOptions):
    """Take the best of N samples by a reward: its score against N from one pool of samples, what that costs, and which
    N to take."""

    split: str = "test"
    """The split of the task."""
    gold: str = ""
    """Another reward, which chooses nothing and is measured on what is chosen: where it falls while the score rises,
    the reward is being exploited."""
    num: str = "1,2,4,8,16"
    """The values of N, rising."""
    samples: int = 0
    """Samples per prompt; more than the largest N make the curve steadier. 0 takes the largest N."""
    temperature: float = 1.0
    """Of the sampling; above 0."""
    max_rows: int = 0
    """Rows to sample, spread over all of them; 0 takes all."""
    min_gain: float = 0.01
    """What doubling N must gain, on the scale of the gold (or else the reward), for the larger N to be recommended."""
    out: Path | None = None
    """A folder for curve.json, samples.jsonl (rankings), best.jsonl (SFT rows) and pairs.jsonl (best against worst)."""
    keep: int = 0
    """The best of how many samples best.jsonl and pairs.jsonl have; 0 takes the recommended N."""
    min_chosen: float | None = None
    """The least score of what best.jsonl and pairs.jsonl have; left out: any."""


def main(arguments: Sequence[str]) -> None:
    """Parse, sample, print the curve, write the rows."""
    from ..rewards import load_reward
    from .evaluate import task_of
    from .run import wide_console

    options = parse(Options, "best-of", arguments)
    nums_of(options.num)
    model_named(options.model, runs=True, api=True)
    check_named(options.reward, options.task)
    gold = load_reward(options.gold) if options.gold else None
    found = best_of_rows(options, task_of(options), gold, wide_console())
    print(json.dumps({"recommended": found.recommended, "overoptimised": found.overoptimised}))


def nums_of(text: str) -> list[int]:
    """`1,2,4` as numbers. InputError: they are none, or not rising from 1 on."""
    try:
        nums = [int(part) for part in text.split(",")]
    except ValueError:
        nums = []
    if not nums or nums[0] < 1 or nums != sorted(set(nums)):
        raise InputError(f"num is {text!r}; expected rising whole numbers from 1 on, such as 1,2,4,8,16")
    return nums


def best_of_rows(options: Options, task: Task, gold: Reward | None, console: Console) -> Curve:
    """Sample and score a pool, print the curve, and write the folder if one is asked for."""
    quiet()
    from ..evidence.best_of import curve
    from ..evidence.pool import draw
    from ..rewards.scoring.outcomes import reward_range
    from ..rows.checks import with_prompts
    from ..rows.spread import spread
    from ..samplers import SamplingParams
    from ..samplers.api import APISampler
    from ..training.build import under_deadline
    from ..training.progress import bar

    nums = nums_of(options.num)
    count = options.samples or nums[-1]
    if count < nums[-1] or not options.temperature > 0:
        raise InputError(
            f"samples is {count} and temperature {options.temperature:g}; expected at least {nums[-1]} samples, the "
            "largest N, at a temperature above 0: greedy samples are all the same"
        )
    reward = task.reward
    if task.environment is not None or reward is None:
        raise InputError(f"task {task.name!r} has no reward of single answers to choose by")
    task = asked_with(task, options.split, options.model, options.chat_template_kwargs)
    rows = spread(list(with_prompts(task.rows(options.split))), options.max_rows)
    if not rows:
        raise InputError(f"task {task.name!r} has no rows in split {options.split!r}")
    params = SamplingParams(
        options.max_new_tokens or task.max_new_tokens, options.temperature, seed=options.seed
    )
    sampler = sampler_of(options.model, options.api, options.price, options.dtype)
    rewards = [one for one in (reward, gold) if one is not None]
    workers = under_deadline(rewards, options.reward_workers, options.reward_seconds, console)
    try:
        with bar(console, "sampling", len(rows) * count) as shown:
            sampler.progress = shown.advance
            pools = draw(sampler, rows, reward, count, params, gold=gold, workers=workers)
    finally:
        if workers is not None:
            workers.close()
    if isinstance(sampler, APISampler):
        print_calls(sampler, console)
    found = curve(
        pools,
        nums,
        bounds=reward_range(reward),
        gold_bounds=reward_range(gold) if gold else None,
        price=options.price[0].rpartition("=")[2] if options.price else "",
        prompt_once=not is_api(options.model),
        min_gain=options.min_gain,
        seed=options.seed,
    )
    print_curve(found, console)
    cut = sum(one.finish_reason == "length" for pool in pools for one in pool.answers)
    if cut:
        console.print(
            f"  {cut} of {len(rows) * count} samples were cut off at {params.max_new_tokens} tokens: "
            "--max-new-tokens gives more room",
            highlight=False,
        )
    if options.out:
        write_folder(options, pools, found, sampler, console)
    return found


def print_curve(found: Curve, console: Console) -> None:
    """A line per N, and what follows from them."""
    has_gold = any(point.gold for point in found.points)
    table = Table(
        title=f"best of N over {found.prompts} prompts: mean and 95% interval", title_justify="left"
    )
    for name in (
        "N",
        "score",
        *(["gold"] if has_gold else []),
        "gain",
        "KL ≤",
        "distinct",
        "tokens",
        "cost of 1000",
    ):
        table.add_column(name, justify="right")
    for point in found.points:
        table.add_row(
            str(point.num),
            _interval(point.score),
            *([_interval(point.gold)] if has_gold else []),
            _interval(point.gain, "+.3f") if point.gain else "",
            f"{point.kl:.2f}",
            f"{point.distinct:.1f}",
            "–" if point.tokens is None else f"{point.tokens:.0f}",
            "–" if point.cost is None else f"{point.cost:.4g}",
        )
    console.print(table)
    if found.left_out:
        console.print(f"  {found.left_out} rows left out: too few of their samples have a score")
    if found.overoptimised:
        console.print(
            f"  from N = {found.overoptimised} gold is lower than at its best, beyond chance: the reward is exploited",
            highlight=False,
        )
    said = f"  recommended N: {found.recommended} ({found.reason})"
    console.print(said, highlight=False, markup=False)


def _interval(figure: Any, form: str = ".3f") -> str:
    return f"{figure.value:{form}} \\[{figure.low:{form}}, {figure.high:{form}}]"


def write_folder(
    options: Options,
    pools: Sequence[Pooled],
    found: Curve,
    sampler: APISampler | LocalSampler,
    console: Console,
) -> None:
    """The curve, all samples as rankings, and the best of each prompt as rows to learn from."""
    from ..evidence.best_of_rows import best_rows, ranking_rows
    from ..samplers.best_of_n import ChatPolicy
    from ..storage.atomic import write_json
    from ..storage.jsonl import write_jsonl

    assert options.out is not None
    chat = sampler.chat if isinstance(sampler, ChatPolicy) else None
    num = options.keep or found.recommended
    best, pairs = best_rows(pools, num, chat, options.min_chosen)
    files = {"samples": ranking_rows(pools, chat), "best": best, "pairs": pairs}
    for name, made in files.items():
        path = options.out / f"{name}.jsonl"
        path.unlink(missing_ok=True)  # of an earlier command
        if made:
            write_jsonl(path, made)
    known = {"model": options.model, "reward": options.reward, "gold": options.gold, "seed": options.seed}
    write_json(options.out / "curve.json", {**known, "temperature": options.temperature, **found.plain()})
    console.print(
        f"  {options.out}: best.jsonl {len(best)} rows, pairs.jsonl {len(pairs)}, the best of {num} samples",
        highlight=False,
        soft_wrap=True,
    )
