"""tieout advise DATA [--reward REWARD] [--model MODEL] [--out RECIPE.yaml]"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InputError
from ..rows import Kind, Rows, check_rows, read_rows
from .early import model_named
from .options import RewardSpec, parse

if TYPE_CHECKING:
    from ..types import Reward, Row
    from ..vetting.choosing import Advice, Found, Samples

PROMPTS = 8
"""Rows that are sampled."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Say which method to take for your rows, by rule and with reasons: what they can teach, whether the reward has
    holes, and whether the model's own samples give reinforcement something to learn from. Trains nothing."""

    data: Annotated[Path, tyro.conf.Positional]
    """Your rows: demonstrations, pairs, rankings, labelled answers, or prompts."""
    reward: RewardSpec = ""
    """A reward for the answers: FILE.py:FUNCTION, module:function, or a name of the library."""
    model: str | None = None
    """What would be trained, to sample it: hub id, folder, adapter, GGUF file, tieout-base or smollm2-135m."""
    samples: int = 32
    """With --model and --reward: completions to sample, of 8 rows together."""
    max_new_tokens: int = 256
    """Most tokens of a sample."""
    seed: int = 0
    """Random seed of the samples and of the attack."""
    out: Path | None = None
    """Write a recipe for what is advised here, a file that is not there yet. Needs a reward, which evaluates it."""
    plan: bool = True
    """With --out and --model: measure what the recipe will take, as `tieout plan` does."""
    json: bool = False
    """Print what was found and advised as JSON."""


def main(arguments: Sequence[str]) -> None:
    """Parse, look, say."""
    options = parse(Options, "advise", arguments)
    if options.samples < 2 * PROMPTS:
        raise InputError(f"samples is {options.samples}; {PROMPTS} rows are sampled, at least twice each")
    if options.out and not options.reward:
        raise InputError(
            "--out needs --reward, by which the recipe evaluates; `tieout init DIR --data FILE` writes one"
        )
    if options.out and options.out.exists():
        raise InputError(f"--out {options.out} exists already: name another file")
    if options.model:
        model_named(options.model)
    given = read_rows(options.data)
    kind = kind_of(given)
    rows = check_rows(given, kind, str(options.data))
    from ..rewards import load_reward
    from ..tasks.files import answered, check_columns
    from ..vetting.choosing import advise

    scored: Sequence[Row] = rows
    reward = load_reward(options.reward) if options.reward else None
    if reward is not None:
        scored = answered(rows, reward)
        check_columns(reward, scored)
    found = _found(options, scored, kind, reward)
    advised = advise(found)
    if options.out:
        from .starts.advised import recipe

        options.out.parent.mkdir(parents=True, exist_ok=True)
        text = recipe(options.data, options.reward, options.model, options.max_new_tokens, found, advised)
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps({"found": asdict(found), "advice": [asdict(one) for one in advised]}, indent=2))
        return
    console = Console()
    _print(options, found, advised, console)
    if options.out and options.model and options.plan:
        from .plan import main as plan

        plan([str(options.out)])


def kind_of(rows: Rows) -> Kind:
    """What a row is, by its columns; those without an answer are prompts."""
    from .init import kind_of as answered

    kind, columns = answered(rows), set(rows[0])
    has = columns & {"completion", "messages", "conversations", "output"}
    return "prompt" if kind == "demonstration" and not has else kind


def _found(options: Options, rows: Sequence[Row], kind: Kind, reward: Reward | None) -> Found:
    """What the rows have and, with a reward, what it and the model's samples are worth."""
    from ..rows.messages import text_of
    from ..vetting.before_training import examine
    from ..vetting.choosing import Found

    prompts = len({text_of(row["prompt"]) for row in rows})
    liked = sum(row["label"] for row in rows) if kind == "label" else 0
    if reward is None:
        return Found(kind, len(rows), prompts, liked)
    examined = examine(reward, rows, seed=options.seed)
    samples = _samples(options, rows, reward) if options.model else None
    problems = [one.shown for one in examined.problems]
    return Found(kind, len(rows), prompts, liked, examined.reward, problems, examined.done, samples)


def _samples(options: Options, rows: Sequence[Row], reward: Reward) -> Samples:
    """Completions of the model for some rows, asked as its run was trained, and scored."""
    from ..evidence.pool import draw
    from ..pipelines.evaluated import one_template
    from ..rewards.scoring.outcomes import reward_range
    from ..rewards.scoring.runner import score
    from ..rows.messages import prompted, telling
    from ..rows.spread import spread
    from ..samplers import SamplingParams
    from ..samplers.api.opening import APIOptions
    from ..vetting.choosing import Samples, is_json
    from ..vetting.golden_rows import with_gold
    from .quiet import quiet
    from .sampler_of import sampler_of

    quiet()
    assert options.model is not None
    sampler = sampler_of(options.model, APIOptions())
    params = SamplingParams(options.max_new_tokens, temperature=1.0, seed=options.seed)
    asked = [prompted(row) for row in telling(spread(rows, PROMPTS), one_template([options.model], {}))]
    pools = draw(sampler, asked, reward, options.samples // PROMPTS, params)
    low, high = reward_range(reward) or (0.0, 1.0)
    gold, own = list[float | None](), list[str]()
    for row in asked:
        golden = with_gold(row)
        own += [golden["completion"]] if golden else []
        worth = score(reward, [golden["completion"]], [row["prompt"]], golden)[0].worth if golden else None
        # An answer is a completion only to a reward that pays it in full: it may have to stand in tags.
        whole = row.get("completion") is not None or (worth or 0.0) >= high - 1e-6
        gold.append(worth if whole else None)
    sampled = [one for pool in pools for one in pool.answers]
    cut = sum(one.finish_reason == "length" for one in sampled)
    tokens = fmean(one.usage["tokens"] for one in sampled)
    formed = sum(map(is_json, sampled)) if own and all(map(is_json, own)) else None
    return Samples([pool.scores for pool in pools], gold, cut, tokens, low, formed)


def _print(options: Options, found: Found, advised: Sequence[Advice], console: Console) -> None:
    """What was found, what to do, and the next command."""
    table = Table(title=f"{options.data}: {found.rows:,} rows, {found.kind}", title_justify="left")
    for heading in ("", "method", "why"):
        table.add_column(heading, overflow="fold")
    for one in advised:
        table.add_row(one.verdict, escape(one.method), escape(one.why))
    console.print(table)
    said = [f"rows: {found.prompts:,} prompts differ"]
    if found.reward:
        said.append(f"reward {found.reward}: {found.tried}")
    if found.samples is not None:
        count, samples = found.samples.count, found.samples
        silent = count - len(samples.known)
        said.append(
            f"samples: {count} of {options.model}, {samples.tokens:.0f} tokens in the mean, {samples.cut_off} cut off"
            + (f", {samples.formed} of them JSON" if samples.formed is not None else "")
            + f", {silent} without a score" * bool(silent)
        )
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if options.out:
        console.print(f"written: {options.out}", markup=False, highlight=False)
        console.print(
            f"next: tieout run {shlex.quote(str(options.out))} --dry-run", markup=False, highlight=False
        )
    elif not found.reward:
        console.print(
            f"next: tieout init DIR --data {shlex.quote(str(options.data))}", markup=False, highlight=False
        )
    else:
        console.print("next: the same with --out recipe.yaml writes a recipe", markup=False, highlight=False)
