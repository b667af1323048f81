"""A recipe: one YAML file of plain values that says what a run does. The dataclasses are its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config.dtype import Dtype
from ..config.plain import to_plain, usual
from ..errors import InputError
from ..learner import AdapterConfig, LearnerConfig
from ..learner.models.base_parts import base_parts
from ..methods import Distill
from ..rows import LongRows
from ..samplers.api.opening import APIOptions
from ..storage.identity import Known, as_stored, known_model
from ..tasks.files import Data
from ..training.guards import Guards
from ..training.placement import Placement
from ..training.schedule import Schedule
from ..training.spec import EvalPolicy, identity
from ..training.unserved import check_engine
from .alternatives import OptimizePrompt
from .kinds import Refresh, Stage, Train, stage_plain


@dataclass(frozen=True)
class Recipe:
    """Everything that a run does: settings, and stages in their order. Unknown keys are errors."""

    stages: tuple[Stage, ...]
    """What is done, one after another: check, train, pairs, evaluate, gate, ship."""
    model: str = "tieout-base"
    """Hub id, folder or GGUF file of a causal language model, tieout-base or smollm2-135m."""
    task: str | None = None
    """Name of a task, or FILE.py:attribute. Left out: `data` says what the task is."""
    task_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""
    data: Data = field(default_factory=Data)
    """Your own files."""
    reward: str | None = None
    """With `data`: name of a reward, or FILE.py:function. `rewards: {exact: 1.0, length: 0.2}` instead is their
    weighted sum, as is the text `exact=1.0 length=0.2`."""
    max_new_tokens: int = 0
    """Longest completion, also of train stages that say nothing else; 0 takes the task's, and theirs the method's."""
    controls: str | None = None
    """Task of negative controls, such as `controls` for tieout-base; or use data.controls."""
    general: str | None = None
    """Task whose training rows must not be forgotten, for SFT, DPO, CPO and ORPO; or use data.general."""
    accept_leakage: str = ""
    """A reason to run although training rows are among the held-out ones; the report repeats it."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model's chat template, such as `{enable_thinking: false}`, in training, sampling and evaluation;
    rows with a column of this name may say otherwise."""
    long_rows: LongRows = "error"
    """Rows that do not fit into the model's context: error refuses them, drop leaves them out, truncate cuts the
    beginning of the prompt, never a completion; counts are printed and kept in run.json."""
    seed: int = 0
    """Of adapters, data order and sampling."""
    dtype: Dtype = "auto"
    """Of the base: auto, fp32 or bf16."""
    max_train: int = 0
    """Training rows to use; 0 takes all."""
    placement: Placement = field(default_factory=lambda: Placement(save_steps=20))
    """Where the run computes. Nothing here changes its numbers by more than rounding."""
    engine: Literal["local", "tinker"] = "local"
    """Where models are trained. local: in this process; tinker: on a server with the Tinker API, at
    placement.engine_url. Evaluations are done here, with the adapters that were fetched from it."""
    api: APIOptions = field(default_factory=APIOptions)
    """How models behind APIs are called: ledger, budget, retries. The key is read from the environment alone."""
    prices: Mapping[str, str] = field(default_factory=dict)
    """`api:NAME` -> PROMPT,ANSWER per million tokens; `machine` -> HOUR/h of this one, for all models that run here."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What is trained."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """The optimizer and the layout."""
    schedule: Schedule = field(default_factory=Schedule)
    """Of the learning rate."""
    guards: Guards = field(default_factory=Guards)
    """What is watched while a method samples, and what is done about it."""
    evaluation: EvalPolicy = field(default_factory=EvalPolicy)
    """Evaluation during training."""

    def __post_init__(self) -> None:
        for stage in self.stages:
            if isinstance(stage, Train):
                options = stage.options
                given = stage.method, options.adapter, options.learner, self.placement
                check_engine(self.engine, *given, place=f"stage {stage.name!r}: ")
            elif isinstance(stage, Refresh) and self.engine == "tinker":
                raise InputError(
                    f"stage {stage.name!r} trains a reward model, and a training server has no score head: leave it "
                    "out, or engine 'tinker'"
                )

    def plain(self) -> dict[str, Any]:
        """The recipe with every value, as a YAML file would hold it."""
        result: dict[str, Any] = to_plain({k: v for k, v in vars(self).items() if k != "stages"})
        return {**result, "stages": [stage_plain(stage) for stage in self.stages]}

    def identity(self) -> Known:
        """What decides the numbers of the run, in the form of the recipe: see `tieout.training.spec.identity`."""
        apart = ("stages", "placement", "api", "prices")
        known = {k: v for k, v in vars(self).items() if k not in apart}
        top = {**identity(known), "model": known_model(self.model)}
        if parts := base_parts(self.model):
            top["base"] = parts
        top["data"] = {key: path and Path(path).name for key, path in top["data"].items()}  # rows have hashes
        named = [one for one in self.stages if not isinstance(one, OptimizePrompt)]  # has a marker of its own
        stages = [stage_plain(stage) for stage in named]
        for stage, plain in zip(named, stages, strict=True):
            if isinstance(stage, Train) and isinstance(stage.method, Distill):
                plain["teacher"] = stage.method.taught_by(known_model).teacher
            settings = plain.get("refresh", plain)
            for key in ("from", "reward_model"):  # folders by content; names of stages stay
                if isinstance(settings.get(key), str):
                    settings[key] = known_model(settings[key])
            for key in ("review", "demonstration", "approved"):  # of `ship`: decide no number
                plain.get("ship", {}).pop(key, None)
            for key in ("consistency", "best_of_n", "temperature", "selector", "prompt", "challengers"):
                plain.get("evaluate", {}).pop(key, None)  # further measurements, with markers of their own
            plain.get("gate", {}).pop("choice", None)  # on record with the rule
        return Known(
            {**top, "stages": [identity(plain) for plain in stages]},
            as_stored({**usual(self), "stages": [stage_plain(stage, usual) for stage in named]}),
        )

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.name == name)

    def trained(self, name: str) -> Train:
        """The train stage of this name."""
        stage = self.stage(name)
        assert isinstance(stage, Train)
        return stage
