"""tieout optimize-prompt --model MODEL --data FILE --reward REWARD --out DIR"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..errors import InputError
from .early import check_named, model_named
from .options import parse, template_options
from .prompt_searching import Options, print_outcome, search
from .quiet import quiet

if TYPE_CHECKING:
    from ..prompt_search.outcome import Outcome
    from ..tasks import Task
    from ..types import Row


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
    from ..prompt_search.budget import said
    from ..prompt_search.candidates import seed_candidate
    from ..prompt_search.outcome import result_of, stored_outcome
    from ..prompt_search.splits import split_rows
    from ..rewards.scoring.reward_identity import reward_identity, servers_of
    from ..rewards.scoring.runner import check_reward
    from ..rows import data_hash
    from ..rows.checks import with_prompts
    from ..rows.messages import refuse_unread
    from ..samplers.api.ledger import Ledger
    from ..samplers.api.opening import is_api, open_api
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
    splits = split_rows(
        task.rows("train"),
        held,
        seed.prefix,
        (options.train_rows, options.validation_rows, options.test_rows),
        options.compared_on,
        options.accept_leakage,
    )
    budget = options.budget_for(len(splits.validation))
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
        done = result_of(options.out)
        asked = [] if done else [name for name in models if is_api(name)]
        servers = {name: open_api(name, options.api, Ledger()).url for name in asked}
        folder.record(
            {
                "policy": policy_of(options.model).identity,
                "reflection": policy_of(options.reflection).identity if options.reflection else None,
                "search": options.by,
                "seed": options.seed,
                "first_prompt": seed.prefix.digest,
                "budget": options.budget,
                "minibatch": options.compared_on,
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
            servers={**servers, **servers_of({"reward": reward, **measures})},
        )
        if done is not None:
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
            found = search(options, task, seed, splits, tokens, console)
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
