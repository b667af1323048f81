"""A recipe: one YAML file of plain values that says what a run does. The dataclasses are its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config.fields import from_plain
from ..config.yaml_file import read_yaml
from ..evidence.gate import GatePolicy
from ..learner import AdapterConfig, LearnerConfig
from ..methods import DPO, GRPO, SFT
from ..tasks.files import Data
from ..training.guards import Guards
from ..training.schedule import Schedule
from ..vetting.attack.settings import AttackSettings


@dataclass(frozen=True)
class Preferences:
    """Where the pairs for DPO come from."""

    sources: list[Literal["sampled", "flawed", "file"]] = field(default_factory=lambda: ["sampled"])
    """sampled: best and worst of the SFT policy's own completions; flawed: gold against the task's flawed
    completion; file: data.pairs."""
    num_completions: int = 8
    """Completions sampled per prompt."""
    temperature: float = 0.7
    """Of the sampling."""
    max_prompts: int = 0
    """Prompts to sample from; 0 takes all training prompts."""
    min_gap: float = 0.0
    """A pair is kept only if best and worst differ by more than this."""


@dataclass(frozen=True)
class Calibration:
    """What the reward must show before anything is trained."""

    data: str | None = None
    """Rows with the marks of people: prompt, completion and label, or prompt, chosen and rejected. None: not asked."""
    floor: float = 0.70
    """The interval of the agreement with people must lie above this."""
    threshold: float = 0.5
    """Rows with labels: a completion that scores at least this counts as called right."""
    min_rows: int = 50
    """Fewer judged rows show nothing."""
    override: str = ""
    """A reason to train against the reward all the same; it is written down."""


@dataclass(frozen=True, kw_only=True)
class Attacks(AttackSettings):
    """How the reward is attacked before training; what is found stops the run. `max_rows: 0` leaves it out."""

    accept: tuple[str, ...] = ()
    """Classes of findings to train in spite of, by name."""


@dataclass(frozen=True)
class Evaluation:
    """What the models are asked at the end."""

    max_test: int = 0
    """Test rows to use; 0 takes all."""
    max_ood: int = 0
    """Out-of-distribution rows to use; 0 takes all."""
    num_graded: int = 50
    """Pairs on the sheet for people to grade."""


@dataclass(frozen=True)
class Recipe:
    """Everything a pipeline does. Unknown keys are errors."""

    pipeline: Literal["align", "reason"]
    """align: SFT, preferences, DPO; reason: SFT, GRPO. Both end with evaluate, gate, ship."""
    model: str = "tieout-base"
    """Hub id or folder of a causal language model, or the embedded tieout-base."""
    task: str | None = None
    """Name of a task, or FILE.py:attribute. Left out: `data` says what the task is."""
    task_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""
    data: Data = field(default_factory=Data)
    """Your own files."""
    reward: str | None = None
    """With `data`: name of a reward, or FILE.py:function."""
    max_new_tokens: int = 0
    """Longest completion; 0 takes the task's."""
    controls: str | None = None
    """Task of negative controls, such as `controls` for tieout-base; or use data.controls."""
    seed: int = 0
    """Of adapters, data order and sampling."""
    max_train: int = 0
    """Training rows to use; 0 takes all."""
    save_steps: int = 20
    """Steps between checkpoints."""
    device: str | None = None
    """cpu or cuda; left out: cuda if there is one."""
    vllm: str = ""
    """Addresses of vLLM servers that rollouts are drawn on, separated by commas; left out: in process."""
    reward_workers: int = 2
    """Processes that call the reward under a deadline; 0 calls it in this one, where nothing can stop it."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one group has failed."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What is trained."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """The optimizer and the layout."""
    schedule: Schedule = field(default_factory=Schedule)
    """Of the learning rate."""
    attack: Attacks = field(default_factory=Attacks)
    """The attack on the reward before training."""
    calibration: Calibration = field(default_factory=Calibration)
    """The reward against people, before training."""
    guards: Guards = field(default_factory=Guards)
    """What is watched while GRPO samples, and what is done about it."""
    sft: SFT = field(default_factory=SFT)
    """Supervised fine-tuning."""
    preferences: Preferences = field(default_factory=Preferences)
    """The pairs for DPO."""
    dpo: DPO = field(default_factory=DPO)
    """Direct Preference Optimization."""
    grpo: GRPO = field(default_factory=GRPO)
    """Group Relative Policy Optimization."""
    evaluate: Evaluation = field(default_factory=Evaluation)
    """The evaluation."""
    gate: GatePolicy = field(default_factory=GatePolicy)
    """The thresholds of the verdict."""


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file; paths in it are relative to the folder the command runs in."""
    return from_plain(Recipe, {**read_yaml(path), **(overrides or {})}, str(path))
