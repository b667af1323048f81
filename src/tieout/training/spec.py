"""The specification of one training run, where it computes, and its identity, in which that place has no part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from ..config.code_digest import file_code, function_code, together
from ..config.dtype import Dtype
from ..config.plain import to_plain, usual
from ..errors import InputError
from ..learner import AdapterConfig, LearnerConfig
from ..learner.models.base_parts import base_parts
from ..methods import Distill, Method
from ..storage.identity import Known, as_stored, folder_digest, known_model
from .guards import Guards
from .placement import Placement
from .schedule import Schedule
from .unserved import refuse_unserved


@dataclass(frozen=True)
class EvalPolicy:
    """Evaluation on held-out rows during training: how often, by which metric, and what follows from it."""

    eval_steps: int = 0
    """Steps between evaluations; the last step is always evaluated. 0: never."""
    metric: str = ""
    """What the best is judged by; left out: score for methods that sample, loss for the others."""
    greater_is_better: bool | None = None
    """Left out: yes, unless the metric is a loss, an error or a KL."""
    keep_best: bool = False
    """Export the weights of the best evaluation in place of the last ones. Its checkpoint is kept in any case."""
    patience: int = 0
    """Stop after so many evaluations in a row that were not better than the best; 0: never."""
    max_rows: int = 0
    """Held-out rows to use, spread over all of them; 0 takes all."""
    num_completions: int = 1
    """For methods that sample: completions per held-out row; one is greedy, more are sampled as in training."""

    def __post_init__(self) -> None:
        for name, least in (("eval_steps", 0), ("patience", 0), ("max_rows", 0), ("num_completions", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        asked = [name for name in ("keep_best", "patience", "metric") if getattr(self, name)]
        if asked and not self.eval_steps:
            raise InputError(f"{' and '.join(asked)}: nothing is evaluated; give eval_steps too")


@dataclass(frozen=True)
class TrainSpec:
    """What to train. Together with the data, all of it but `placement` is what the run is known by."""

    method: Method
    model: str = "tieout-base"
    """Hub id, folder or GGUF file of a causal model, tieout-base or smollm2-135m."""
    start: Path | None = None
    """Adapter to start from; it is then the reference too."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    """Of the adapter, the order of the data and the sampling."""
    dtype: Dtype = "auto"
    """Of the base. What `auto` comes to belongs to the run: see `tieout.learner.models.loading.precision_of`."""
    guards: Guards = field(default_factory=Guards)
    """What is watched while it samples."""
    evaluation: EvalPolicy = field(default_factory=EvalPolicy)
    placement: Placement = field(default_factory=Placement)
    engine: Literal["local", "tinker"] = "local"
    """local: the model is in this process. tinker: on a server with the Tinker API, see docs/scale.md."""

    def __post_init__(self) -> None:
        if self.engine == "tinker":
            refuse_unserved(self.method, self.adapter, self.learner, self.placement)


def identity(spec: Any) -> Known:
    """What decides the numbers of a run, as plain values.

    Left out is whatever is a `Placement`, wherever it stands. Folders of models and adapters are named by their
    content, methods by class and fields, functions by name. `base` has the parts of a base in a folder, and `code` the
    digests of Python files that are named: `FILE.py:function` is known by them, wherever it lies.
    """
    plain = Known(as_stored(_identity(spec)), as_stored(usual(spec)))
    if isinstance(spec, TrainSpec) and (parts := base_parts(spec.model)):
        plain["base"] = parts
    if code := code_in(spec):
        plain["code"] = code
    return plain


_FILE = re.compile(r"[^\s=]+\.py(?=:\w)")


def _files(text: str) -> list[str]:
    """The Python files of `FILE.py:function`, or of several with weights, that exist."""
    whole = text.rpartition(":")[0]  # with a space in its path
    found = [whole] if whole.endswith(".py") and Path(whole).is_file() else _FILE.findall(text)
    return [name for name in found if Path(name).is_file()]


def code_in(value: Any) -> dict[str, str]:
    """File name -> digest, of every file that is named as `FILE.py:function`, and of the class of a user's method."""
    if isinstance(value, str):
        return together({Path(name).name: file_code(Path(name))} for name in _files(value))
    found: dict[str, str] = function_code(type(value)) if isinstance(value, Method) else {}
    if is_dataclass(value) and not isinstance(value, type):
        value = [x for field in fields(value) if not isinstance(x := getattr(value, field.name), Placement)]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return together([found, *map(code_in, inner)])


def _identity(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        named = {name: x for name, x in named.items() if not isinstance(x, Placement)}
        for folder in ("model", "reward_model"):
            if isinstance(named.get(folder), str):
                named[folder] = known_model(named[folder])
        if isinstance(value, Distill):
            named["teacher"] = {
                name: {"model": known_model(model), **base_parts(model)}
                for name, model in value.teachers.items()
            }
        method = {"name": type(value).__name__} if isinstance(value, Method) else {}
        return {**method, **{name: _identity(x) for name, x in named.items()}}
    if isinstance(value, Mapping):
        return {str(key): _identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    if isinstance(value, str):
        for name in _files(value):
            value = value.replace(name, Path(name).name)
        return value
    if isinstance(value, Path) and value.is_dir():
        return folder_digest(value)
    try:
        return to_plain(value)
    except TypeError:
        return getattr(value, "__qualname__", type(value).__qualname__)
