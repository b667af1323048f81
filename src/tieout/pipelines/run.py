"""A run: a recipe, a folder, the data and models that its stages share. Everything is checked before any long work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from ..chat.long_rows import Fitting
from ..errors import InputError
from ..evidence import leakage
from ..evidence.approved import check_approved
from ..evidence.consistency_rows import Again, asked_again
from ..evidence.rule import put_on_record, rule_of
from ..learner import Model
from ..learner.models.bases import Bases
from ..learner.models.loading import load_chat, precision_of
from ..learner.models.names import resolve
from ..review import answers
from ..rewards.processes.workers import Workers
from ..rewards.scoring.reward_identity import servers_of
from ..rows import data_hash, digests, read_rows
from ..rows.messages import refuse_unread
from ..samplers.api import APISampler, Ledger
from ..samplers.api.opening import is_api, open_api
from ..samplers.local.sampler import LocalSampler
from ..storage.identity import as_stored, differences
from ..storage.runfolder import RunFolder
from ..tasks import Task, load_task
from ..tasks.files import controls_task, files_task, general_rows, given_splits
from ..training.build import open_model, under_deadline
from ..types import Row
from .checks import chat_of, check_stages, longest_sample
from .identity import rows_read, run_identity, scoring
from .kinds import Check, Evaluate, Gate, Refresh, Ship, Stage, Train
from .links import BASE, start_name
from .policy import Policy
from .recipe import Recipe
from .remote import servers_of_models
from .training_rows import held_out_file, telling_task, with_rows

SPLITS = ("train", "test", "ood", "pairs", "labels", "general")
"""Of a run's task."""


class Run:
    """One run of one recipe in one folder."""

    def __init__(self, recipe: Recipe, folder: RunFolder, console: Console) -> None:
        """Read and check all data, then write run.json, or compare with the one that is there.

        InputError: whatever would otherwise fail in the middle of the run.
        """
        place, four_bits = recipe.placement.device, _in_four_bits(recipe)
        self.precision = precision_of(recipe.model, recipe.dtype, place, four_bits)
        self.recipe = replace(recipe, dtype=self.precision.name)
        self.folder, self.console = folder, console
        self.bases = Bases()
        self._again: dict[str, list[Again]] = {}
        self._review()
        self._record_rule()  # before any row is read
        self.task = self._task()
        told = recipe.chat_template_kwargs
        refuse_unread(self.task.rows("train"), told)
        self.fitting = fitting = Fitting(
            *chat_of(recipe.model), longest_sample(recipe, self.task), recipe.long_rows, told=told
        )
        if told or recipe.long_rows != "error":
            self.task = with_rows(self.task, {s: fitting(r, s) for s in SPLITS if (r := self.task.rows(s))})
        self.task = telling_task(self.task, told)
        self.controls = telling_task(controls, told) if (controls := self._controls()) else None
        rows = check_stages(self.recipe, self.task, self.controls, fitting, self._reworded, folder.path)
        self.leakage = self._leakage(rows)
        sets = {name: self.task.rows(name) for name in ("train", "test", "ood", "pairs")}
        sets["controls"] = self.controls.rows("test") if self.controls else []
        sets |= {f"stages.{name}": own for name, own in rows.items()}
        self.hashes = {name: data_hash(own) for name, own in sets.items()}
        self.hashes |= {} if self.controls else {"controls": ""}
        for line in self.fitting.said:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        rewards = scoring(self.recipe, self.task, self.controls)
        self._identity = run_identity(self.recipe, rewards)
        self._rows_read = rows_read(self.recipe, self.recipe.stages)
        folder.record(
            self._identity,
            self.hashes,
            recipe.placement,
            str(self.precision),
            self.fitting.counts,
            {**servers_of_models(recipe, folder.path), **servers_of(rewards)},
        )
        folder.write_json(leakage.FILE, self.leakage)
        if folder.leads:
            digests.keep(folder.path / digests.FILE, sets)

    def refuse_changes(self, stage: Stage) -> None:
        """InputError: what a stage reads at its turn is not what the run was checked with; the message lists it."""
        known = run_identity(self.recipe, scoring(self.recipe, self.task, self.controls))
        lines = differences(as_stored(self._identity), as_stored(known))
        rows = rows_read(self.recipe, [stage])
        lines += differences({"rows": {name: self._rows_read.get(name) for name in rows}}, {"rows": rows})
        if lines:
            listed = "\n  ".join(lines)
            raise InputError(
                f"stage {stage.name!r}: since the run began, this has changed (was -> is):\n  {listed}\n"
                "restore it and repeat the command to resume, or begin in another --out"
            )

    # ---------------------------------------------------------------- models

    def adapter(self, name: str) -> Path:
        """The folder of what the stage of this name trained."""
        refreshed = isinstance(self.recipe.stage(name), Refresh)
        return self.folder.path / name / ("reward_model/adapter" if refreshed else "adapter")

    def policy(self, name: str) -> Policy:
        """The model of this name: `base`, a train stage, api:NAME, or `NAME-start` for the folder it starts from."""
        if is_api(name):
            return Policy(name, None)
        if name == BASE:
            own = resolve(self.recipe.model)
            return Policy(own[0], own[2], _in_four_bits(self.recipe))
        outside = name.endswith("-start")
        stage = self.recipe.trained(name.removesuffix("-start"))
        four_bits = stage.options.adapter.method == "qlora"
        if outside:
            return Policy(resolve(self.recipe.model)[0], Path(stage.options.start), four_bits)
        # An adapter may lie on a model that an earlier stage trained as a whole.
        base, start = resolve(self.recipe.model)[0], stage
        while start.options.adapter.method != "full" and start.options.start in self._trained_names:
            start = self.recipe.trained(start.options.start)
            if start.options.adapter.method == "full":
                base = str(self.adapter(start.name))
        return Policy(base, self.adapter(name), four_bits)

    def start_of(self, stage: Train) -> Policy:
        """What a train stage starts from."""
        return self.policy(start_name(stage, self.recipe))

    def open(self, policy: Policy) -> Model:
        """Load a policy to sample from, on the base that is loaded already where it is the same."""
        return open_model(
            policy.base,
            policy.trained,
            device=self.recipe.placement.device,
            dtype=self.recipe.dtype,
            four_bits=policy.four_bits,
            bases=self.bases,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """Of all calls to models behind APIs."""
        return self.recipe.api.ledger(self.recipe.prices)

    def sampler(self, name: str) -> LocalSampler | APISampler:
        """What samples the model of this name."""
        if is_api(name):
            return self.remote(name)
        return LocalSampler(self.open(self.policy(name)), drafts=self.recipe.placement.drafts)

    def remote(self, name: str, progress: Callable[[int], None] | None = None) -> APISampler:
        """What asks a model behind an API."""
        return open_api(name, self.recipe.api, self.ledger, progress)

    @property
    def _trained_names(self) -> set[str]:
        return {stage.name for stage in self.recipe.stages if isinstance(stage, Train)}

    # ---------------------------------------------------------------- rewards

    @cached_property
    def workers(self) -> Workers | None:
        """Where the rewards of samples and evaluations run, under a deadline."""
        controls = [self.controls.reward] if self.controls else []
        rewards = [self.task.reward, *self.task.metrics.values(), *self.task.parts.values(), *controls]
        place = self.recipe.placement
        found = [reward for reward in rewards if reward is not None]
        return under_deadline(found, place.reward_workers, place.reward_seconds, self.console)

    # ---------------------------------------------------------------- what is evaluated

    def asked(self, stage: Evaluate) -> dict[str, list[Row]]:
        """Slice -> the rows of the task that every model is asked."""
        splits = {"test": stage.max_test, "ood": stage.max_ood}
        return {split: list(self.task.rows(split))[: limit or None] for split, limit in splits.items()}

    def again(self, stage: Evaluate) -> list[Again]:
        """What every model is asked again; none where the stage asks for none."""
        if stage.consistency.max_rows and stage.name not in self._again:
            tell, rows = load_chat(self.recipe.model).prompt, self.asked(stage)["test"]
            self._again[stage.name] = asked_again(self.task, rows, stage.consistency, self.recipe.seed, tell)
        return self._again.get(stage.name, [])

    def _reworded(self, stage: Evaluate) -> list[Row]:
        return [one.row for one in self.again(stage)]

    # ---------------------------------------------------------------- data, and its checks

    def _review(self) -> None:
        """Keep what people say of the model. InputError: the recipe ships, and some of it was not said."""
        stage = next((s for s in self.recipe.stages if isinstance(s, Ship)), None)
        if stage is None or not self.folder.writes:
            return
        assert not isinstance(stage.review, str), "read with the recipe"
        if stage.approved:
            check_approved(Path(stage.approved), self.folder.path)
        evidence = self.folder.path / "evidence"
        said = stage.review or answers.kept(evidence)
        if not stage.demonstration and (missing := answers.lacking(said or answers.Review())):
            raise InputError(
                f"stage {stage.name!r} ships, and what a reviewer asks for is not said:\n  "
                + "\n  ".join(missing)
                + "\n"
                "say it in the recipe, `ship: {review: REVIEW.yaml}` or `ship: {review: {purpose: ...}}`; a run that "
                "ships nothing says `ship: {demonstration: true}`"
            )
        if said is not None and self.folder.leads:
            answers.keep(evidence, said)

    def _record_rule(self) -> None:
        """Put the gate's rule on record, unless it is there: see `evidence.rule`."""
        recipe, folder = self.recipe, self.folder
        gates = [(i, stage) for i, stage in enumerate(recipe.stages) if isinstance(stage, Gate)]
        if not gates or not folder.leads:
            return
        place, last = gates[-1]
        evaluated = [s for s in recipe.stages[:place] if isinstance(s, Evaluate)]
        base = BASE if evaluated and BASE in evaluated[-1].models else last.baseline
        primary = load_task(recipe.task, recipe.task_options).primary if recipe.task else None
        rule = rule_of(last.policy, last.candidate, last.baseline, base, primary, last.choice)
        opened = any(any((folder.path / s.name).glob("*.jsonl*")) for s in evaluated)
        put_on_record(folder.path / "evidence", rule, opened=opened)

    def _task(self) -> Task:
        recipe = self.recipe
        if recipe.task:
            if recipe.data.train or recipe.data.test:
                raise InputError(
                    f"task {recipe.task!r} brings its own rows: leave out data.train and data.test"
                )
            task = load_task(recipe.task, recipe.task_options)
            task = with_rows(task, {"pairs": [], "labels": [], "general": [], **given_splits(recipe.data)})
        else:
            task = files_task(recipe.data, recipe.reward, recipe.max_new_tokens or 256)
        # The rows of a split are those that were checked, also of a task that reads them anew each time it is asked.
        longest = recipe.max_new_tokens or task.max_new_tokens
        task = replace(task, rows=cache(task.rows), max_new_tokens=longest)
        if recipe.general:
            if recipe.data.general:
                raise InputError("general and data.general both name general rows: leave out one of them")
            task = with_rows(task, {"general": general_rows(recipe.general)})
        train = list(task.rows("train"))
        return with_rows(task, {"train": train[: recipe.max_train] if recipe.max_train else train})

    def _controls(self) -> Task | None:
        if self.recipe.data.controls:
            return controls_task(self.recipe.data.controls)
        return load_task(self.recipe.controls) if self.recipe.controls else None

    def _leakage(self, given: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
        """Counts of training rows among held-out ones. InputError: there are some, and no reason to accept them."""
        trained = {
            split: leakage.rows_of(self.task, split) for split in ("train", "pairs", "labels", "general")
        }
        reason = '`accept_leakage: "reason"` in the recipe'
        return leakage.check_leakage(
            {**trained, **given}, self.held_rows(), self.recipe.accept_leakage, reason
        )

    def held_rows(self) -> dict[str, Sequence[Row]]:
        """Source -> rows that the run measures on."""
        held: dict[str, Sequence[Row]] = leakage.held_out(self.task)
        if self.controls:
            held["controls"] = leakage.rows_of(self.controls, "test")
        for stage in self.recipe.stages:
            if isinstance(stage, Train) and stage.options.held_out:
                held[f"{stage.name}.held_out"] = held_out_file(stage, self.fitting)
            elif isinstance(stage, Check) and (labels := stage.calibration.data):
                held[f"{stage.name}.calibration"] = read_rows(labels)
        return held


def _in_four_bits(recipe: Recipe) -> bool:
    """Whether the base is in 4 bits: it is evaluated as it was trained on, by the first stage that trains a policy."""
    trained = [s for s in recipe.stages if isinstance(s, Train) and not s.scores_only]
    return bool(trained) and trained[0].options.adapter.method == "qlora"
