"""Passes over rows are divided into steps as transformers' and TRL's own trainers divide them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import Trainer

from tieout.source import Source
from tieout.tasks import Task
from tieout.training.passes import Passes

SMALL = st.integers(1, 5)


def of_transformers(loader: Any, accumulation: int, epochs: float) -> tuple[int, int, int]:
    """Steps per pass, batches per pass and steps in all, by transformers' own arithmetic."""
    args = SimpleNamespace(max_steps=-1, gradient_accumulation_steps=accumulation, num_train_epochs=epochs)
    trainer = SimpleNamespace(
        get_total_train_batch_size=lambda args: 1, get_sp_size=lambda: 1, num_examples=lambda loader: 1
    )
    _, steps, _, _, _, batches, max_steps = Trainer.set_initial_training_values(trainer, args, loader)  # type: ignore[arg-type]
    return steps, batches, max_steps


@settings(max_examples=200)
@given(
    rows=st.integers(1, 40), micro=SMALL, accumulation=SMALL, drop_last=st.booleans(),
    epochs=st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.25, 3.0]),
)  # fmt: skip
def test_given_rows_are_divided_as_transformers_divides_them(
    rows: int, micro: int, accumulation: int, drop_last: bool, epochs: float
) -> None:
    loader = DataLoader(list(range(rows)), batch_size=micro, drop_last=drop_last)
    if not len(loader):
        with pytest.raises(ValueError, match=f"drop_last leaves nothing: {rows} rows"):
            Passes(rows, micro * accumulation, accumulation, drop_last)
        return
    passes = Passes(rows, micro * accumulation, accumulation, drop_last)
    steps, batches, max_steps = of_transformers(loader, accumulation, epochs)
    assert (passes.steps, passes.steps_of(epochs)) == (steps, max_steps)
    assert passes.size == sum(len(batch) for batch in loader)
    for step in range(1, 2 * steps + 1):
        done, within = divmod(step - 1, steps)
        seen = min((within + 1) * accumulation, batches)
        assert passes.epoch(step) == pytest.approx(done + seen / batches)
        assert passes.ends(step) == (seen == batches)


@settings(max_examples=100)
@given(
    rows=st.integers(1, 40), prompts=SMALL, group=st.integers(2, 4), epochs=st.sampled_from([0.5, 1.0, 2.0])
)
def test_rollouts_leave_out_what_fills_no_step_as_trls_sampler_does(
    rows: int, prompts: int, group: int, epochs: float
) -> None:
    sampler = pytest.importorskip("trl.trainer.utils").RepeatSampler(
        range(rows), mini_repeat_count=group, batch_size=prompts
    )
    if not len(sampler):
        return
    passes = Passes(rows, prompts, whole=True)
    steps, _, max_steps = of_transformers(
        DataLoader(range(rows), batch_size=prompts * group, sampler=sampler),  # type: ignore[arg-type]
        1,
        epochs,
    )
    assert (passes.steps, passes.steps_of(epochs)) == (steps, max_steps)
    assert passes.size == len(set(sampler))


@given(rows=st.integers(1, 12), size=st.integers(1, 6), drop=st.booleans(), shuffle=st.booleans())
@settings(max_examples=60)
def test_each_pass_takes_each_of_its_rows_once(rows: int, size: int, drop: bool, shuffle: bool) -> None:
    if drop and rows < size:
        return
    passes = Passes(rows, size, drop_last=drop)
    task = Task("rows", lambda split: [{"prompt": str(i)} for i in range(rows)])
    source = Source(task, None, pass_size=passes.size, shuffle=shuffle)  # type: ignore[arg-type]
    for _ in range(3):
        taken = [source.take(size) for _ in range(passes.steps)]
        seen = [row["prompt"] for batch in taken for row in batch]
        assert [len(batch) for batch in taken[:-1]] == [size] * (passes.steps - 1)
        assert len(set(seen)) == len(seen) == (rows // size * size if drop else rows)
    assert source.over([{"prompt": "held out"}]).take(2) == [{"prompt": "held out"}] * 2


def test_a_set_smaller_than_one_batch_of_rollouts_is_one_step() -> None:
    passes = Passes(rows=3, batch_size=4, whole=True)
    assert (passes.size, passes.steps, passes.steps_of(2.0)) == (0, 1, 2)
    assert math.isclose(passes.epoch(2), 2.0)
