"""Stage `optimize_prompt`: the prompt that training rows choose, for challengers of the evaluate stages after it."""

from __future__ import annotations

import time
from typing import Any

from ...chat.template import Chat
from ...prompt_search.budget import said
from ...prompt_search.journal import FILE as JOURNAL
from ...prompt_search.journal import Journal
from ...prompt_search.outcome import RESULT, finish, kept_first
from ...prompt_search.reflective import Reflector
from ...prompt_search.scoring import Scorer
from ...prompt_search.searching import tried_by
from ...rows import data_hash
from ...rows.checks import with_prompts
from ...samplers.api.opening import is_api
from ...samplers.local.sampler import LocalSampler
from ...storage.jsonl import read_json
from ...training.progress import bar
from ..alternatives import OptimizePrompt
from ..checks import chat_of
from ..kinds import Evaluate
from ..run import Run
from ..searching import splits_of


def optimize_prompt(run: Run, stage: OptimizePrompt) -> None:
    """Search, choose and write the prompt; what an interrupted search has scored is not asked for again."""
    part, inputs = run.folder.stage(stage.name), inputs_of(run, stage)
    if part.is_done(inputs):
        run.console.print(f"[bold]{stage.name}[/]  done before ({part.info()['completions']} completions)")
        return
    run.console.print(f"[bold]{stage.name}[/]")
    part.begin(inputs)
    begun, seed, resumed = time.monotonic(), run.recipe.seed, (part.path / JOURNAL).exists()
    first, splits = splits_of(run.task, stage, run.recipe.accept_leakage)
    asked = [*splits.train, *splits.validation]
    models = [(name, run.recipe.prices.get(name, "")) for name in (stage.start, stage.reflection)]
    for line in said(
        stage.budget_for(len(splits.validation)),
        models[0],
        models[1] if stage.reflection else None,
        first.prefix,
        asked,
        0,
        run.task.max_new_tokens,
        stage.reflection_tokens,
    ):
        _say(run, line)
    sampler, journal = run.sampler(stage.start), Journal(part.path)
    reflector = (
        Reflector(stage.reflection, run.sampler(stage.reflection), journal, stage.reflection_tokens, seed)
        if stage.reflection
        else None
    )
    controls = run.controls.rows("test") if run.controls else []
    later = list(with_prompts([*run.task.rows("test"), *run.task.rows("ood"), *controls]))
    size = sampler.batch_size if isinstance(sampler, LocalSampler) else 10**6
    tokens, rooms = run.task.max_new_tokens, _rooms(run, stage)
    with bar(run.console, "searching", stage.budget) as shown:
        scorer = Scorer(run.task, sampler, journal, tokens, size, run.workers, shown.at, later, rooms)
        tried = tried_by(stage, first, splits, scorer, reflector, seed)
    counts = (reflector.asked, reflector.refused) if reflector else (0, 0)
    found = finish(part.path, tried, scorer, splits, counts, seed)
    for line in found.words():
        _say(run, line)
    means = [one["mean"] for one in found.candidates]
    first_stays = kept_first(read_json(part.path / RESULT))
    kept = "none is better than the first prompt, which is kept" if first_stays else "the best is taken"
    _say(
        run,
        f"mean on the validation rows {means[0]:.3f} with the first prompt, {max(means):.3f} at best; {kept}",
    )
    took = (
        {} if resumed else {"seconds": time.monotonic() - begun}
    )  # of what was interrupted none is on record
    part.finish(inputs, completions=found.completions, **took)


def inputs_of(run: Run, stage: OptimizePrompt) -> dict[str, Any]:
    """What the prompt depends on, once the models are there."""
    first, splits = splits_of(run.task, stage, run.recipe.accept_leakage)
    return {
        "policy": run.policy(stage.start).identity,
        "reflection": run.policy(stage.reflection).identity if stage.reflection else None,
        "reflection_tokens": stage.reflection_tokens,
        "search": stage.by,
        "first_prompt": first.prefix.digest,
        "budget": stage.budget,
        "minibatch": stage.compared_on,
        "data": {"train": data_hash(splits.train), "validation": data_hash(splits.validation)},
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
    }


def _rooms(run: Run, stage: OptimizePrompt) -> list[tuple[Chat, int]]:
    """Of the local model, where the search asks an API and a local challenger is asked with what it finds."""
    asked = [
        one.model
        for other in run.recipe.stages
        if isinstance(other, Evaluate)
        for one in other.challenged.values()
        if one.prompt.stage == stage.name
    ]
    return [chat_of(run.recipe.model)] if is_api(stage.start) and not all(map(is_api, asked)) else []


def _say(run: Run, line: str) -> None:
    run.console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
