"""Kinds of stages, and the settings of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ..config.plain import to_plain
from ..errors import InputError
from ..evidence.choice import ChoicePolicy
from ..evidence.consistency_rows import Consistency
from ..evidence.gate import GatePolicy
from ..labelling.scheme import MOST
from ..learner import AdapterConfig, LearnerConfig
from ..methods import Method
from ..methods.checks import at_least
from ..review.answers import Review
from ..rows.pairs import PairSelection
from ..training.guards import Guards
from ..training.schedule import Schedule
from ..training.spec import EvalPolicy
from ..vetting.attack.settings import AttackSettings
from ..vetting.calibrate import CalibrationPolicy
from .alternatives import BasePrompt, Challenger, OptimizePrompt
from .overrides import STAGE_KINDS
from .pair_rules import PairRules, SampledSettings


@dataclass(frozen=True)
class ProofSettings:
    """How the reward proves itself on rows with gold. A check that fails stops the run."""

    max_rows: int = 16
    """Rows to try; 0 leaves the proof out."""
    override: str = ""
    """A reason to continue although a check fails; it is recorded."""

    def __post_init__(self) -> None:
        at_least(0, self, "max_rows")


@dataclass(frozen=True, kw_only=True)
class Attacks(AttackSettings):
    """How the reward is attacked before training; what is found stops the run. `max_rows: 0` leaves it out."""

    accept: tuple[str, ...] = ()
    """Classes of findings to train in spite of, by name."""


@dataclass(frozen=True)
class Calibration(CalibrationPolicy):
    """How well the reward must agree with human labels, or else with what the task knows to be right and wrong."""

    data: str | None = None
    """Rows with human labels: prompt, completion and label, or prompt, chosen and rejected. Left out: gold and flawed
    completions of the task, which are no people."""
    max_rows: int = 64
    """Without labels: rows to compare gold and flawed completions of, from the split `calibration` (else `train`); 0
    leaves it out."""
    override: str = ""
    """A reason to train against the reward although it fails; it is recorded."""

    def __post_init__(self) -> None:
        at_least(0, self, "max_rows")


@dataclass(frozen=True)
class Check:
    """Check the reward: it proves itself on rows with gold, is attacked, and is calibrated."""

    name: str = ""
    """Of the stage; left out: check."""
    proof: ProofSettings = field(default_factory=ProofSettings)
    """The proof on rows with gold."""
    attack: Attacks = field(default_factory=Attacks)
    """The search for completions that the reward pays and should not."""
    calibration: Calibration = field(default_factory=Calibration)
    """The comparison with human labels, or with the task's own truth."""


@dataclass(frozen=True)
class Calibrate(CalibrationPolicy):
    """Calibrate the reward on samples of a policy: it must order them as the task's primary metric does."""

    name: str = ""
    """Of the stage; left out: calibrate."""
    start: str = ""
    """Policy that is sampled: a train stage or `base`; `from` in a recipe. Left out: the policy trained before."""
    reward: str = ""
    """What is calibrated: a stage that trains a reward model, a name, or FILE.py:function. Left out: the run's."""
    max_rows: int = 48
    """Prompts to sample, from the split `calibration` (else `train`)."""
    num_completions: int = 4
    """Completions sampled per prompt."""
    temperature: float = 1.0
    """Of the sampling."""
    data: str | None = None
    """Rows with human labels: has the policy left the range of scores that they cover? Left out: those of the check
    stage before it, if it has any."""
    override: str = ""
    """A reason to continue although it fails; it is recorded."""

    def __post_init__(self) -> None:
        at_least(1, self, "max_rows")


@dataclass(frozen=True)
class TrainOptions:
    """Keys of a train stage next to the method's own fields."""

    name: str = ""
    """Of the stage; left out: the method's name."""
    start: str = ""
    """A train stage, `base`, or the folder of an adapter; `from` in a recipe. Left out: the policy trained before."""
    data: str = ""
    """A file of rows, a pairs stage, or data.train, data.pairs, data.labels; a part of them: `data.train[:600]`.
    Left out: what the method needs."""
    held_out: str = ""
    """A file of rows that `evaluation` measures. Left out: the task's split validation or test."""
    selection: PairSelection = field(default_factory=PairSelection)
    """Which pairs of `data` are learned from, for methods that learn from pairs."""
    reward: str = ""
    """For methods that sample: a reward in place of the recipe's, by name or as FILE.py:function; or `rewards`."""
    seed: int | None = None
    """In place of the recipe's."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What is trained. Keys given here replace the recipe's."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """The optimizer and the layout. Keys given here replace the recipe's."""
    schedule: Schedule = field(default_factory=Schedule)
    """Of the learning rate. Keys given here replace the recipe's."""
    guards: Guards = field(default_factory=Guards)
    """What is watched while the method samples. Keys given here replace the recipe's."""
    evaluation: EvalPolicy = field(default_factory=EvalPolicy)
    """Evaluation during training. Keys given here replace the recipe's."""


@dataclass(frozen=True)
class Train:
    """Train one method."""

    train: str
    """The method, by name or as FILE.py:Class."""
    method: Method
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.options.name

    @property
    def scores_only(self) -> bool:
        """Whether it trains a reward model, from which no policy can start."""
        return self.method.needs.head == "score"


@dataclass(frozen=True, kw_only=True)
class Demonstrations(SampledSettings):
    """Make demonstrations: of several completions per prompt, the one that scores best, if it is good enough."""

    name: str = ""
    """Of the stage; left out: demonstrations."""
    start: str = ""
    """What is sampled: a train stage, `base`, or api:NAME, a model behind an API; `from` in a recipe. Left out: the
    policy trained before."""
    min_rows: int = 16
    """Where prompts gave none, and fewer than this are left in all, the run stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, self, "num_completions")
        at_least(1, self, "min_rows")


@dataclass(frozen=True, kw_only=True)
class Pairs(PairRules):
    """Make preference pairs. `num_completions` of the source `flawed` are the copies that are tried."""

    name: str = ""
    """Of the stage; left out: pairs."""
    sources: tuple[Literal["sampled", "judged", "ranked", "base", "flawed", "file"], ...] = ("sampled",)
    """sampled: the policy's own completions as the reward orders them; judged: as a judge does, unless the program
    objects; ranked: as people do, with `tieout label`; base: gold against completions of the base; flawed: gold against
    flawed copies of it; file: data.pairs."""
    judge: str = ""
    """For judged: a judge or another reward than the run's, by name or as FILE.py:function."""
    backstop: str = ""
    """For judged: the metric of the task that may object, and that a chosen completion must meet. Left out: the primary
    metric, or without one the reward."""
    settle: bool = True
    """For ranked: wait until what people differ on is settled; without it a majority decides, and the rest is left
    out."""
    flaws: str = ""
    """For flawed: your own function FILE.py:function of a row and a random generator. Left out: the task's, or the
    rules of `tieout.tasks.flaws`."""
    start: str = ""
    """What is sampled: a train stage, `base`, or api:NAME, a model behind an API; `from` in a recipe. Left out: the
    policy trained before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "ranked" in self.sources and not 2 <= self.num_completions <= MOST:
            raise InputError(
                f"num_completions is {self.num_completions}; people rank 2 to {MOST} completions of a prompt"
            )


@dataclass(frozen=True)
class Refresh:
    """Refresh a reward model: sample the policy, have the samples labelled, and train the reward model further."""

    name: str = ""
    """Of the stage; left out: refresh. Later stages name the refreshed reward model by it."""
    start: str = ""
    """Policy that is sampled: a train stage or `base`; `from` in a recipe. Left out: the policy trained before."""
    reward_model: str = ""
    """What is refreshed: a stage before it, or a folder. Left out: the last one before."""
    judge: str = ""
    """What labels the samples: a reward or a judge, by name or as FILE.py:function. Left out: people do, with
    `tieout label` or by hand in a file for which the run stops."""
    data: str = ""
    """Pairs that the reward model of a folder was trained on; of a stage they are known."""
    num_prompts: int = 64
    """Training prompts that are sampled; every stage takes others."""
    num_completions: int = 4
    """Completions per prompt. A judge ranks all of them; people compare the first two that differ."""
    temperature: float = 1.0
    """Of the sampling."""
    learning_rate: float | None = None
    """Of the reward model; left out: as before."""
    epochs: float = 1.0
    """Passes over all pairs, those of before and the new ones."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate models on the same held-out rows and controls."""

    name: str = ""
    """Of the stage; left out: evaluate."""
    models: tuple[str, ...] = ()
    """`base` and names of train stages; left out: the base and every policy trained before."""
    max_test: int = 0
    """Test rows to use; 0 takes all."""
    max_ood: int = 0
    """Out-of-distribution rows to use; 0 takes all."""
    consistency: Consistency = field(default_factory=Consistency)
    """How some test rows are asked again, to report how often an answer is then judged otherwise."""
    best_of_n: int = 0
    """Also the best of so many samples of the base per row, as `base_best_of_N`; 0: not."""
    temperature: float = 0.7
    """Of the samples of every best of N."""
    selector: str = ""
    """What chooses among them: a stage that trains a reward model, a name, or FILE.py:function. Left out: the reward.
    One that is given the gold answer makes it an upper bound, which cannot be served."""
    prompt: BasePrompt = field(default_factory=BasePrompt)
    """Also the base with a prompt of yours, as `base_prompted`."""
    challengers: Mapping[str, Challenger] = field(default_factory=dict)
    """Further models by the names that they get here: `{gpt: {model: api:NAME, best_of_n: 8}}`."""

    def __post_init__(self) -> None:
        at_least(0, self, "max_test", "max_ood", "best_of_n")
        chooses = any(one.best_of_n for one in self.challenged.values())
        if self.best_of_n == 1 or (chooses and self.temperature <= 0):
            raise InputError(
                f"best_of_n is {self.best_of_n} at temperature {self.temperature:g}; expected 2 samples or more, at a "
                "temperature above 0"
            )
        if self.selector and not chooses:
            raise InputError(f"selector is {self.selector!r}, and nothing is chosen: give best_of_n too")

    @property
    def made(self) -> dict[str, Challenger]:
        """Name -> what `best_of_n` and `prompt` make of the base."""
        made = (
            {f"base_best_of_{self.best_of_n}": Challenger(best_of_n=self.best_of_n)} if self.best_of_n else {}
        )
        made |= {"base_prompted": Challenger(prompt=self.prompt)} if self.prompt.given else {}
        return made

    @property
    def challenged(self) -> dict[str, Challenger]:
        """Name -> every challenger."""
        return {**self.made, **self.challengers}

    @property
    def evaluated(self) -> tuple[str, ...]:
        """All models: those of the recipe, and the challengers."""
        return (*self.models, *self.challenged)


@dataclass(frozen=True)
class Gate(GatePolicy):
    """Compare a candidate with a baseline, write the report, and give the verdict."""

    name: str = ""
    """Of the stage; left out: gate."""
    candidate: str = ""
    """The model that may ship; left out: the last policy."""
    baseline: str = ""
    """The model that it must beat; left out: the one that it was trained from."""
    num_graded: int = 100
    """Test cases on the sheet for people to grade, each once per comparison: candidate and baseline, candidate and
    base, baseline and base."""
    rubric: str = ""
    """What people are asked to grade by; left out: a text that puts right figures first."""
    choice: ChoicePolicy = field(default_factory=ChoicePolicy)
    """The rule of which evaluated model to take; it decides nothing of the verdict."""

    @property
    def policy(self) -> GatePolicy:
        """The thresholds alone."""
        return GatePolicy(**{f.name: getattr(self, f.name) for f in fields(GatePolicy)})


@dataclass(frozen=True)
class Ship:
    """Package the candidate, check it after reloading, and ship it if the verdict allows."""

    name: str = ""
    """Of the stage; left out: ship."""
    merged: bool | None = None
    """Also write the whole model with the adapter merged in. Left out: yes, unless the base has over a billion
    parameters, or was trained in 4 bits: the merged model is then another one, and its difference is reported."""
    review: Review | str | None = None
    """What a reviewer asks people for (purpose, names, monitoring, ...), or a YAML file of it. Where it is blank,
    the run is refused before it begins, unless it is a demonstration."""
    demonstration: bool = False
    """The run builds and checks a candidate and ships nothing, whatever the verdict; `tieout ship` may, with a
    review."""
    approved: str = ""
    """The folder of the run that was approved before: what changed since is on the page and in the card."""


Stage = Check | Calibrate | Train | Demonstrations | Pairs | Refresh | OptimizePrompt | Evaluate | Gate | Ship
KINDS: dict[str, type[Stage]] = dict(
    zip(
        STAGE_KINDS,
        (Check, Calibrate, Train, Demonstrations, Pairs, Refresh, OptimizePrompt, Evaluate, Gate, Ship),
        strict=True,
    )
)


def kind_of(stage: Stage) -> str:
    """The key that names the kind in a recipe."""
    return next(kind for kind, cls in KINDS.items() if isinstance(stage, cls))


def stage_plain(stage: Stage, values: Callable[[Any], Any] = to_plain) -> dict[str, Any]:
    """The stage as a recipe writes it, with every value; `values` gives those of a dataclass."""
    if not isinstance(stage, Train):
        return {kind_of(stage): _with_from(values(stage))}
    return {"train": stage.train, **_with_from(values(stage.options)), **values(stage.method)}


def _with_from(plain: dict[str, Any]) -> dict[str, Any]:
    return {"from" if key == "start" else key: value for key, value in plain.items()}
