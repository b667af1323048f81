"""Every field of distillation does something: a run on a tiny model asks for other rollouts, or ends elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import make_learner, stir_weights
from tieout.learner.checkpoint import save_adapter
from tieout.methods import Distill
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.tasks import Task
from tieout.training.loop import train
from tieout.training.schedule import num_steps
from tieout.training.teachers import open_teachers
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    # field -> (what else must be set for it to matter, its other value)
    "learning_rate": ({}, 5e-4),
    "batch_size": ({}, 3),
    "epochs": ({}, 3.0),
    "teacher": ({}, "reference"),
    "teacher_column": ({"teacher": "0={start},1={other}"}, "by"),
    "teacher_prompt": ({}, "{prompt} It is {answer}."),
    "loss_type": ({}, "reverse_kl"),
    "beta": ({}, 0.1),
    "top_k": ({"loss_type": "forward_kl"}, 2),
    "on_policy": ({}, 0.0),
    "group_size": ({}, 2),
    "temperature": ({}, 0.7),
    "max_new_tokens": ({}, 3),
}


@pytest.fixture(scope="module")
def behaviour(
    tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[int, torch.Tensor]]:
    """How many steps there are, and where the second one of a run from an adapter ends."""
    folder, known = tmp_path_factory.mktemp("teachers"), dict[Distill, tuple[int, torch.Tensor]]()
    places = {name: str(folder / name) for name in ("start", "other")}
    for i, place in enumerate(places.values()):
        learner = make_learner(tiny_model("llama"))
        stir_weights(learner, 0.1, seed=20 + i)
        save_adapter(learner, Path(place))
    rows = [{**row, "by": i % 2} for i, row in enumerate(ROWS)]

    def run(**fields: Any) -> tuple[int, torch.Tensor]:
        fields = {"teacher": "{other}", "teacher_prompt": "{prompt}", **fields}
        fields["teacher"] = fields["teacher"].format(**places)
        method = Distill(**{"batch_size": 2, "max_new_tokens": 5, "learning_rate": 1e-3, **fields})
        if method in known:
            return known[method]
        learner = make_learner(tiny_model("llama"), start=Path(places["start"]))
        learner.temperature = method.needs.temperature
        task: Task = make_task(reward=None, rows=lambda split: rows)
        source = Source(task, learner.model.chat, LocalSampler(learner.model), seed=3)
        learner.teachers = open_teachers(method.needs, learner, source.chat)
        train(method, source, learner, steps=2)
        weights = torch.cat([p.detach().flatten() for p in learner.model.trained().values()])
        known[method] = num_steps(method, source), weights
        return known[method]

    return run


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "teacher_column"])
def test_a_field_changes_behaviour(behaviour: Callable[..., Any], name: str) -> None:
    context, changed = CHANGES[name]
    steps, weights = behaviour(**context)
    steps_then, weights_then = behaviour(**context, **{name: changed})
    assert steps != steps_then or (weights - weights_then).abs().max() > 1e-6


def test_the_column_decides_between_teachers(behaviour: Callable[..., Any]) -> None:
    """Rows that name one teacher or the other end elsewhere than with either alone."""
    _, both = behaviour(teacher="0={start},1={other}", teacher_column="by")
    for name in ("{start}", "{other}"):
        assert (both - behaviour(teacher=name)[1]).abs().max() > 1e-6


def test_no_field_is_forgotten() -> None:
    assert {field.name for field in dataclasses.fields(Distill)} == CHANGES.keys()
