"""Links between the stages of a recipe: what each starts from, learns from, evaluates and compares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..config.fields import ConfigError, nearest
from ..methods.distill import SELF, START
from ..review.answers import read_review
from ..rows.sources import is_source
from ..samplers.api.opening import is_api
from .alternatives import BASE as BASE
from .alternatives import NAME, OptimizePrompt, check_challenger, read_prompt
from .kinds import (
    Calibrate,
    Check,
    Demonstrations,
    Evaluate,
    Gate,
    Pairs,
    Refresh,
    Ship,
    Stage,
    Train,
    kind_of,
)
from .named_rows import FILES, FORM, part_of
from .recipe import Recipe
from .remote import check_prices

RESERVED = (BASE, "candidate", "evidence", "lock", "run.json", "shipped")
"""Names that the run folder uses itself."""


@dataclass
class _Before:
    """What the stages so far leave to the next one."""

    stages: dict[str, Stage] = field(default_factory=dict)
    policy: str = BASE
    reward_model: str = ""
    pairs: str = ""
    demonstrations: str = ""
    labels: str | None = None
    evaluate: Evaluate | None = None
    gate: Gate | None = None
    ship: Ship | None = None

    def trained(self, scores_only: bool = False) -> list[str]:
        """Names of the train stages; of reward models if asked, else of policies."""
        found = [s for s in self.stages.values() if isinstance(s, Train)]
        return [s.name for s in found if s.scores_only == scores_only]

    def reward_models(self) -> list[str]:
        """Names of the stages that leave a reward model."""
        return [
            *self.trained(scores_only=True),
            *(n for n, s in self.stages.items() if isinstance(s, Refresh)),
        ]


def linked(recipe: Recipe, where: str) -> Recipe:
    """The recipe with every link written out. ConfigError: a stage needs something that no stage before it gives."""
    before, stages = _Before(), list[Stage]()
    for index, stage in enumerate(recipe.stages):
        place = f"{where}: stages[{index}] ({_title(stage)})"
        _check_name(stage.name, before, place)
        resolved: Any = _RESOLVE[type(stage)](stage, before, recipe, place)
        before.stages[stage.name] = resolved
        stages.append(resolved)
    if recipe.guards.gold and not any(isinstance(s, Train) and s.method.needs.rewarded for s in stages):
        raise ConfigError(
            f"{where}: guards.gold is {recipe.guards.gold!r}, but no stage trains on samples that are scored"
        )
    found = replace(recipe, stages=tuple(stages))
    check_prices(found, where)
    return found


def start_name(stage: Train, recipe: Recipe) -> str:
    """The model of the run that a train stage starts from: `base`, a train stage, or `NAME-start` for a folder."""
    start = stage.options.start
    known = {s.name for s in recipe.stages}
    return start if start == BASE or start in known else f"{stage.name}-start"


def _title(stage: Stage) -> str:
    return f"train {stage.train}" if isinstance(stage, Train) else kind_of(stage)


def _check_name(name: str, before: _Before, place: str) -> None:
    if not re.fullmatch(NAME, name) or name in RESERVED or name.endswith("-start"):
        raise ConfigError(
            f"{place}: a stage cannot be called {name!r}: its name is a folder, of letters, digits, `_`, `-` and `.`, "
            f"and none of {', '.join(RESERVED)}, nor one that ends with -start"
        )
    if name in before.stages:
        raise ConfigError(f"{place}: an earlier stage is called {name!r} too; give one of them another name")


def _unknown(what: str, name: str, known: Sequence[str], place: str) -> ConfigError:
    return ConfigError(
        f"{place}: {what} is {name!r}, which is none of the models before it{nearest(name, known) or ';'} "
        f"there are: {', '.join(known)}"
    )


def _check(stage: Check, before: _Before, recipe: Recipe, place: str) -> Check:
    before.labels = stage.calibration.data or before.labels
    return stage


def _calibrate(stage: Calibrate, before: _Before, recipe: Recipe, place: str) -> Calibrate:
    start = stage.start or before.policy
    known = [BASE, *before.trained()]
    if start not in known:
        raise _unknown("from", start, known, place)
    if stage.num_completions < 2:
        raise ConfigError(f"{place}: num_completions is {stage.num_completions}; an order needs at least 2")
    _scores(stage.reward, "reward", before, recipe, place)
    return replace(stage, start=start, data=stage.data or before.labels)


def _train(stage: Train, before: _Before, recipe: Recipe, place: str) -> Train:
    start = _start(stage, before, place)
    data = _data(stage, before, recipe, place)
    method: Any = stage.method
    needs = method.needs
    own_reward = "reward_model" in {f.name for f in fields(method)}
    if stage.options.reward and not needs.samples:
        raise ConfigError(f"{place}: reward is {stage.options.reward!r}, but {stage.train} samples nothing")
    gold = stage.options.guards.gold
    if gold and gold != recipe.guards.gold and not needs.rewarded:
        raise ConfigError(
            f"{place}: guards.gold is {gold!r}, but {stage.train} samples nothing that is scored"
        )
    if own_reward and before.reward_model and not method.reward_model and not stage.options.reward:
        method = replace(method, reward_model=before.reward_model)
    if own_reward and method.reward_model:
        models = before.reward_models()
        if method.reward_model not in models and not Path(method.reward_model).is_dir():
            hint, there = nearest(method.reward_model, models), ", ".join(models) or "none"
            raise ConfigError(
                f"{place}: reward_model is {method.reward_model!r}; expected a folder, or a stage before it that "
                f"trains a reward model{hint or ';'} there are: {there}"
            )
    _check_teachers(stage, before, place)
    result = replace(stage, method=method, options=replace(stage.options, start=start, data=data))
    if stage.scores_only:
        before.reward_model = stage.name
    else:
        before.policy = stage.name
    return result


def _check_teachers(stage: Train, before: _Before, place: str) -> None:
    """ConfigError: a method that is taught has no teacher, or one that is a reward model or a misspelt stage."""
    needs = stage.method.needs
    if needs.taught and not needs.teachers:
        raise ConfigError(
            f"{place}: {stage.train} needs a teacher: a train stage before it, a model or an adapter; or policy or "
            "reference, the student itself, with teacher_prompt"
        )
    for name in needs.teachers.values():
        if name in before.trained(scores_only=True):
            raise ConfigError(f"{place}: teacher is {name!r}, a reward model: it gives no log-probabilities")
        known = before.trained()
        if name not in (*known, BASE, SELF, START) and not Path(name).exists() and nearest(name, known):
            raise _unknown("teacher", name, known, place)


def _start(stage: Train, before: _Before, place: str) -> str:
    start = stage.options.start or before.policy
    known = [BASE, *before.trained(stage.scores_only), *before.trained(not stage.scores_only)]
    if start not in known:
        if not Path(start).is_dir():
            raise _unknown("from", start, known, place)
        return start
    earlier = before.stages.get(start)
    if isinstance(earlier, Train):
        if earlier.scores_only and not stage.scores_only:
            raise ConfigError(f"{place}: from is {start!r}, a reward model, from which no policy can start")
        had, asks = earlier.options.adapter.method, stage.options.adapter.method
        if asks == "full" and had != "full":
            raise ConfigError(
                f"{place}: adapter.method is 'full', but it starts from {start!r}, an adapter ({had}): say `from: "
                "base`, or train an adapter here too"
            )
        if "qlora" in (had, asks) and had != asks:
            raise ConfigError(
                f"{place}: adapter.method is {asks!r}, but it starts from {start!r}, trained with {had!r}: the bases "
                "differ, one of them in 4 bits. Use one method for both, or say `from: base`"
            )
    return start


def _data(stage: Train, before: _Before, recipe: Recipe, place: str) -> str:
    """Where the rows of a train stage come from: a pairs stage, a key of FILES, or a file."""
    kind, given = stage.method.needs.rows, stage.options.data
    made = [s.name for s in before.stages.values() if isinstance(s, Pairs)]
    if kind == "demonstration":
        made += [s.name for s in before.stages.values() if isinstance(s, Demonstrations)]
    if given:
        if part_of(given) or given in made or is_source(given):
            return given
        known = [*made, *FILES]
        raise ConfigError(
            f"{place}: data is {given!r}; expected a file, or one of {', '.join(known)}{nearest(given, known)}; "
            f"a part of the rows is {FORM}"
        )
    if kind == "demonstration" and before.demonstrations:
        return before.demonstrations
    if kind in ("demonstration", "prompt"):
        return "data.train"
    if kind == "label" and recipe.data.labels:
        return "data.labels"
    if before.pairs:
        return before.pairs
    if recipe.data.pairs:
        return "data.pairs"
    files = "data.labels or data.pairs" if kind == "label" else "data.pairs"
    raise ConfigError(
        f"{place}: {stage.train} learns from {kind} rows, and nothing gives them: put a pairs stage before it, or name "
        f"your file as {files}, or as `data` of the stage"
    )


def _demonstrations(stage: Demonstrations, before: _Before, recipe: Recipe, place: str) -> Demonstrations:
    start, known = stage.start or before.policy, [BASE, *before.trained()]
    if start not in known and not is_api(start):
        raise _unknown("from", start, known, place)
    before.demonstrations = stage.name
    return replace(stage, start=start)


def _pairs(stage: Pairs, before: _Before, recipe: Recipe, place: str) -> Pairs:
    if not stage.sources:
        raise ConfigError(f"{place}: sources is empty; give sampled, judged, ranked, base, flawed or file")
    own = [source for source in stage.sources if source in ("sampled", "judged", "ranked")]
    if own[1:]:
        raise ConfigError(
            f"{place}: sources names {' and '.join(own)}, which would pair the same completions twice; give one of them"
        )
    if ("judged" in own) != bool(stage.judge):
        needs = "name the judge as `judge`" if "judged" in own else "only the source 'judged' has a judge"
        raise ConfigError(
            f"{place}: judge is {stage.judge!r}, and sources are {', '.join(stage.sources)}: {needs}"
        )
    if stage.backstop and not stage.judge:
        raise ConfigError(f"{place}: backstop is {stage.backstop!r}, and only the source 'judged' has one")
    if stage.flaws and "flawed" not in stage.sources:
        raise ConfigError(f"{place}: flaws is {stage.flaws!r}, but sources does not name 'flawed'")
    if "file" in stage.sources and not recipe.data.pairs:
        raise ConfigError(f"{place}: sources names 'file': give the pairs as data.pairs")
    start = stage.start or before.policy
    known = [BASE, *before.trained()]
    if start not in known and not is_api(start):
        raise _unknown("from", start, known, place)
    before.pairs = stage.name
    return replace(stage, start=start)


def _refresh(stage: Refresh, before: _Before, recipe: Recipe, place: str) -> Refresh:
    start, known = stage.start or before.policy, [BASE, *before.trained()]
    if start not in known:
        raise _unknown("from", start, known, place)
    models, model = before.reward_models(), stage.reward_model or before.reward_model
    if not model:
        raise ConfigError(
            f"{place}: there is no reward model before it: train one, or name a folder as reward_model"
        )
    if model not in models and not Path(model).is_dir():
        raise ConfigError(
            f"{place}: reward_model is {model!r}; expected a folder, or a stage before it that leaves a reward "
            f"model{nearest(model, models) or ';'} there are: {', '.join(models) or 'none'}"
        )
    if stage.data and (model in models or not Path(stage.data).is_file()):
        why = "the pairs of a stage are known" if model in models else "expected a file"
        raise ConfigError(f"{place}: data is {stage.data!r}; {why}")
    before.reward_model = stage.name
    return replace(stage, start=start, reward_model=model)


def _optimize_prompt(stage: OptimizePrompt, before: _Before, recipe: Recipe, place: str) -> OptimizePrompt:
    found = replace(stage, start=stage.start or before.policy)
    for key, name in {"from": found.start, "reflection": found.reflection}.items():
        known = [BASE, *before.trained()]
        if name and name not in known and not is_api(name):
            raise _unknown(key, name, known, place)
    return found


def _evaluate(stage: Evaluate, before: _Before, recipe: Recipe, place: str) -> Evaluate:
    policies = [s for s in before.stages.values() if isinstance(s, Train) and not s.scores_only]
    starts = {s.name: s.options.start for s in policies}
    known = [BASE]
    for name, start in starts.items():
        outside = [] if start == BASE or start in before.stages else [f"{name}-start"]
        known += [*outside, name]
    for name in stage.models:
        if name not in known:
            raise _unknown("models", name, known, place)
    if twice := set(stage.challenged) & {*known, *(s.name for s in recipe.stages)}:
        raise ConfigError(f"{place}: {twice.pop()!r} is a challenger here; give the stage another name")
    if made := set(stage.challengers) & set(stage.made):
        raise ConfigError(f"{place}: {made.pop()!r} is what best_of_n or prompt makes; give it another name")
    for name, own in stage.challengers.items():
        check_challenger(name, own, known, f"{place}: challenger {name!r}")
    searches = [name for name, one in before.stages.items() if isinstance(one, OptimizePrompt)]
    for name in {one.prompt.stage for one in stage.challenged.values()} - {"", *searches}:
        there = ", ".join(searches) or "none"
        raise ConfigError(
            f"{place}: prompt.stage is {name!r}, which is no optimize_prompt stage before it"
            f"{nearest(name, searches) or ';'} there are: {there}"
        )
    _scores(stage.selector, "selector", before, recipe, place)
    before.evaluate = replace(
        stage,
        models=stage.models or tuple(known),
        prompt=read_prompt(stage.prompt, place),
        challengers={
            n: replace(c, prompt=read_prompt(c.prompt, place)) for n, c in stage.challengers.items()
        },
    )
    return before.evaluate


def _scores(name: str, key: str, before: _Before, recipe: Recipe, place: str) -> None:
    """ConfigError: the name is that of a stage, and of no reward model that is trained before."""
    known = before.trained(scores_only=True)
    if name in {stage.name for stage in recipe.stages} - set(known):
        there = ", ".join(known) or "none"
        raise ConfigError(
            f"{place}: {key} is {name!r}, which is no reward model trained before it; there are: {there}"
        )


def _gate(stage: Gate, before: _Before, recipe: Recipe, place: str) -> Gate:
    evaluate = before.evaluate
    if evaluate is None:
        raise ConfigError(f"{place}: there is no evaluate stage before it, so there is nothing to compare")
    if before.gate is not None:
        raise ConfigError(
            f"{place}: {before.gate.name!r} is a gate too; a run has one report and one verdict"
        )
    policies = [name for name in evaluate.models if name in before.trained()]
    if not policies and not stage.candidate:
        raise ConfigError(f"{place}: no policy was evaluated before it, so there is no candidate")
    candidate = stage.candidate or policies[-1]
    if candidate not in policies:
        raise _unknown("candidate", candidate, policies, place)
    trained = before.stages[candidate]
    assert isinstance(trained, Train)
    start = trained.options.start
    default = start if start == BASE or start in before.stages else f"{candidate}-start"
    baseline = stage.baseline or default
    if baseline not in evaluate.evaluated:
        raise _unknown("baseline", baseline, evaluate.evaluated, place)
    if baseline == candidate:
        raise ConfigError(f"{place}: {candidate!r} is both candidate and baseline")
    before.gate = replace(stage, candidate=candidate, baseline=baseline)
    return before.gate


def _ship(stage: Ship, before: _Before, recipe: Recipe, place: str) -> Ship:
    if before.gate is None:
        raise ConfigError(f"{place}: there is no gate before it, so there is no verdict to ship by")
    if before.ship is not None:
        raise ConfigError(f"{place}: {before.ship.name!r} ships already")
    before.ship = (
        replace(stage, review=read_review(Path(stage.review))) if isinstance(stage.review, str) else stage
    )
    return before.ship


_RESOLVE: dict[type[Any], Any] = {
    Check: _check,
    Calibrate: _calibrate,
    Train: _train,
    Demonstrations: _demonstrations,
    Pairs: _pairs,
    Refresh: _refresh,
    OptimizePrompt: _optimize_prompt,
    Evaluate: _evaluate,
    Gate: _gate,
    Ship: _ship,
}
