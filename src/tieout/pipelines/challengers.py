"""Challengers of an evaluate stage: what is put before prompts, what chooses among samples, and checks of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evidence.challengers import BEST_OF_N, PROMPT, REMOTE
from ..evidence.scoring import source_digest
from ..prompt_search.outcome import PROMPT as FOUND
from ..prompt_search.outcome import RESULT, kept_first
from ..rewards import load_reward
from ..rewards.scoring.columns import columns_read
from ..rewards.scoring.reward_identity import held_by
from ..rewards.scoring.runner import check_reward, reward_name
from ..rows.checks import with_prompts
from ..rows.spread import spread
from ..samplers.api.opening import is_api
from ..samplers.prompted import PromptPrefix, check_not_searched, read_prompt
from ..storage.atomic import fingerprint
from ..storage.identity import folder_digest
from ..storage.jsonl import read_json
from ..tasks import Task
from ..types import Reward, Row
from ..vetting.golden_rows import with_gold
from .alternatives import BASE, BasePrompt
from .kinds import Evaluate
from .recipe import Recipe


def before_of(task: Task, prompt: BasePrompt, stage: str, folder: Path) -> PromptPrefix:
    """What is put before prompts. InputError: fewer training rows have gold than it shows, or it is not found yet.

    `stage`: its name; `folder`: of the run.
    """
    if prompt.stage:
        return read_prompt(folder / prompt.stage / FOUND)
    if prompt.file:
        return read_prompt(prompt.file)
    wanted = prompt.shots
    train = with_prompts(task.rows("train")) if wanted else []
    rows = [found for row in train if (found := with_gold(row, task.gold))]
    if len(rows) < wanted:
        raise InputError(
            f"stage {stage!r}: prompt.shots is {wanted}, and {len(rows)} training rows have gold to show"
        )
    shown = spread(rows, wanted) if wanted else []
    return PromptPrefix(prompt.system, [(row["prompt"], row["completion"]) for row in shown])


def _as_known(task: Task, prompt: BasePrompt, stage: str, folder: Path) -> dict[str, Any]:
    """What is put before prompts, as a report has it."""
    before = before_of(task, prompt, stage, folder)
    place: dict[str, Any] = {"file": True} if prompt.file else {}
    if prompt.stage:
        kept = kept_first(read_json(folder / prompt.stage / RESULT))
        place = {"stage": prompt.stage, "kept": kept}
        if kept and (before.shots or before.system != before.replaces):
            place["given"] = True  # the search began with another prompt than the rows have
    shots = len(before.shots)
    return {"kind": PROMPT, "system": bool(before.system), "shots": shots, "sha256": before.digest, **place}


@dataclass(frozen=True)
class Selector:
    """What chooses among samples."""

    given: Reward | None
    """None: the reward of whatever is asked, of the run's task or of the controls."""
    name: str
    reads: list[str] | None
    """Columns that it is given; None: any."""
    source: str
    """SHA-256 of its weights, or of its file and what it holds; empty for the reward, which the recipe names."""

    def of(self, task: Task) -> Reward:
        """The function for rows of a task."""
        return self.given or _reward(task)


def selector_of(
    recipe: Recipe, stage: Evaluate, task: Task, controls: Task | None, adapter: Path | None
) -> Selector:
    """The selector of a stage. `adapter`: where its reward model lies, if it names the stage of one."""
    name = f"reward_model:{adapter}" if adapter else stage.selector
    given = load_reward(name) if name else None
    read = [
        columns_read(given or _reward(own), set().union(*rows))
        for own, rows in _asked(task, controls)
        if rows
    ]
    reads = None if None in read else sorted({column for one in read for column in one or ()})
    if given is None:
        return Selector(None, f"the reward, {recipe.reward or reward_name(_reward(task))}", reads, "")
    if adapter:
        return Selector(given, f"reward model {stage.selector}", reads, folder_digest(adapter))
    held, file = held_by(given), source_digest(given)  # a judge is no file, and weights of parts are in none
    return Selector(
        given, Path(stage.selector).name, reads, fingerprint({"file": file, **held}) if held else file
    )


def _reward(task: Task) -> Reward:
    assert task.reward is not None, "an environment is refused"
    return task.reward


def known_of(
    stage: Evaluate, name: str, task: Task, selector: Selector | None, seed: int, folder: Path
) -> dict[str, Any]:
    """How a challenger is made, as a report has it. `selector`: None for one that answers once."""
    own = stage.challenged[name]
    of = {} if own.model == BASE or is_api(own.model) else {"of": own.model}
    shown = _as_known(task, own.prompt, stage.name, folder) if own.prompt.given else {}
    if selector is None:
        return {**of, **(shown or {"kind": REMOTE})}
    return {
        **of,
        "kind": BEST_OF_N,
        "samples": own.best_of_n,
        "temperature": stage.temperature,
        "selector": selector.name,
        "reads": selector.reads,
        "source": selector.source,
        "seed": seed,
        **({"prompt": shown} if shown else {}),
    }


def check_challengers(
    recipe: Recipe, stage: Evaluate, task: Task, controls: Task | None, again: Sequence[Row] = ()
) -> dict[str, list[Row]]:
    """Refuse before any work what cannot be asked or chosen; rows as local challengers with a prompt get them, by
    their source.

    `again`: rows that are asked again, for consistency.
    """
    if stage.challenged and task.environment is not None:
        raise InputError(
            f"stage {stage.name!r}: {' and '.join(stage.challenged)} ask once and take one answer, and task "
            f"{task.name!r} is an environment of several turns: leave out best_of_n, prompt and challengers"
        )
    if stage.selector and stage.selector not in {one.name for one in recipe.stages}:
        reward = load_reward(stage.selector)
        for own, rows in _asked(task, controls):
            columns = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
            try:
                check_reward(reward, columns) if rows else None
            except InputError as error:
                raise InputError(
                    f"stage {stage.name!r}: selector of rows of {own.name!r}: {error}"
                ) from error
    asked = dict[str, list[Row]]()
    for name, one in stage.challenged.items():
        if one.prompt.given and not one.prompt.stage:  # a search leaves room for what is asked after it
            before = before_of(task, one.prompt, stage.name, Path())
            check_searched(one.prompt, stage.name, task, recipe.accept_leakage)
            called = name if name in stage.challengers else "prompt"
            for own, rows in [*_asked(task, controls), (replace(task, name="consistency"), list(again))]:
                if not is_api(one.model):
                    shown: list[Row] = [{"prompt": before(row["prompt"])} for row in rows]
                    asked[f"{stage.name}.{called} ({own.name})"] = shown
    return asked


def check_searched(prompt: BasePrompt, stage: str, task: Task, accept: str) -> None:
    """InputError: rows that are measured on chose the prompt of a file, or are shown in it."""
    if prompt.file:
        measured = with_prompts([*task.rows("test"), *task.rows("ood")])
        reason = '`accept_leakage: "reason"` in the recipe'
        check_not_searched(before_of(task, prompt, stage, Path()), measured, accept, reason)


def _asked(task: Task, controls: Task | None) -> list[tuple[Task, list[Row]]]:
    own = [*with_prompts(task.rows("test")), *with_prompts(task.rows("ood"))]
    return [(task, own), *([(controls, list(with_prompts(controls.rows("test"))))] if controls else [])]
