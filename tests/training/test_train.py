"""The loop: what it asks for, when it saves, and how it stops."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tieout.errors import InputError, StopTraining, TooManyErrors
from tieout.learner.checkpoint import Checkpoints
from tieout.training.loop import train
from tieout.training.schedule import Schedule, num_steps
from tiny_task import ROWS, Run, make_run

ModelFolder = Callable[[str], Path]

# ---------------------------------------------------------------- the schedule


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.floats(0, 1),
    st.integers(1, 300),
    st.integers(0, 299),
)
def test_the_rate_is_always_a_share_of_the_peak(kind: Any, warmup: float, steps: int, step: int) -> None:
    if step < steps:
        assert 0 < Schedule(kind, warmup).rate(step, steps) <= 1


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_the_rate_rises_through_the_warmup_and_never_again(kind: Any) -> None:
    rates = [Schedule(kind, 0.2).rate(s, 50) for s in range(50)]
    assert all(b > a for a, b in itertools.pairwise(rates[:11]))
    assert all(b <= a for a, b in itertools.pairwise(rates[10:]))
    assert rates[10] == 1
    assert (
        rates[-1]
        == {"constant": 1, "linear": pytest.approx(1 / 40), "cosine": pytest.approx(0.0015, abs=1e-4)}[kind]
    )


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    for kind in ("constant", "linear", "cosine"):
        assert Schedule(kind, 0).rate(0, 10) == 1  # type: ignore[arg-type]


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert Schedule("cosine", 0).rate(50, 100) == pytest.approx(0.5)


# ---------------------------------------------------------------- the loop


def run_sft(run: Run, **options: Any) -> list[tuple[int, dict[str, float]]]:
    told: list[tuple[int, dict[str, float]]] = []
    train(run.method, run.source, run.learner, on_step=lambda s, m: told.append((s, m)), **options)
    return told


def test_epochs_become_steps(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    assert num_steps(run.method, run.source) == math.ceil(len(ROWS) / 4) == 3
    told = run_sft(run)
    assert [step for step, _ in told] == [1, 2, 3]
    assert run.source.position == 12


def test_the_rate_is_the_methods_peak_times_the_schedule(tiny_model: ModelFolder) -> None:
    run, schedule = make_run("sft", tiny_model("llama")), Schedule("cosine", 0.4)
    told = run_sft(run, steps=5, schedule=schedule)
    assert [m["learning_rate"] for _, m in told] == [1e-2 * schedule.rate(s, 5) for s in range(5)]


def test_monitors_run_in_order_and_their_metrics_are_told(tiny_model: ModelFolder) -> None:
    def first(step: int, groups: Any, metrics: Any) -> None:
        metrics["groups"] = len(groups)

    def second(step: int, groups: Any, metrics: Any) -> None:
        metrics["twice"] = 2 * metrics["groups"]

    told = run_sft(make_run("sft", tiny_model("llama")), steps=2, monitors=[first, second])
    assert [m["twice"] for _, m in told] == [8, 8]
    assert all(m["update_seconds"] > 0 and m["collect_seconds"] >= 0 for _, m in told)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_monitor_that_stops_the_run_loses_nothing(tiny_model: ModelFolder, tmp_path: Path) -> None:
    def stop(step: int, groups: Any, metrics: Any) -> None:
        if step == 2:
            raise StopTraining("the score fell")

    run, told = make_run("sft", tiny_model("llama")), []
    with pytest.raises(StopTraining, match="the score fell"):
        train(
            run.method,
            run.source,
            run.learner,
            steps=9,
            monitors=[stop],
            checkpoints=Checkpoints(tmp_path),
            on_step=lambda step, metrics: told.append(step),
        )
    assert told == [1, 2]  # the step that stopped it is on record
    assert names(tmp_path) == ["step-000002"]


def test_a_run_that_pauses_for_its_reward_goes_on_once_it_works(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    broken = False

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float("nan") if broken else float(len(c)) for c in completions]

    def go(run: Any) -> list[int]:
        nonlocal broken
        seen: list[int] = []

        def on_step(step: int, metrics: dict[str, float]) -> None:
            nonlocal broken
            seen.append(step)
            broken = step == 2

        checkpoints = Checkpoints(tmp_path)
        train(run.method, run.source, run.learner, steps=4, checkpoints=checkpoints, on_step=on_step)
        return seen

    with pytest.raises(TooManyErrors, match="The run pauses"):
        go(make_run("grpo", tiny_model("llama"), reward=reward))
    broken = False
    assert go(make_run("grpo", tiny_model("llama"), reward=reward)) == [3, 4]


def test_saves_come_every_so_many_steps_and_at_the_end(tiny_model: ModelFolder, tmp_path: Path) -> None:
    run_sft(
        make_run("sft", tiny_model("llama")), steps=5, checkpoints=Checkpoints(tmp_path, keep=9), save_steps=2
    )
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]


def test_repeating_a_finished_run_does_nothing(tiny_model: ModelFolder, tmp_path: Path) -> None:
    options = {"steps": 3, "checkpoints": Checkpoints(tmp_path)}
    first = make_run("sft", tiny_model("llama"))
    run_sft(first, **options)
    again, started = make_run("sft", tiny_model("llama")), []
    assert run_sft(again, **options, on_start=started.append) == []
    assert started == [3]
    for a, b in zip(
        first.learner.model.trained().values(), again.learner.model.trained().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert [s for s, _ in run_sft(make_run("sft", tiny_model("llama")), **{**options, "steps": 5})] == [4, 5]


def test_a_second_call_trains_a_learner_further(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """Its steps count from the call, at the rates of a training of their own; so they do where it is resumed."""
    run, schedule = make_run("sft", tiny_model("llama")), Schedule("linear", 0.0)
    first = run_sft(run, steps=2, schedule=schedule)
    before = {name: weight.clone() for name, weight in run.learner.model.trained().items()}
    second = run_sft(run, steps=4, schedule=schedule)
    assert [step for step, _ in first + second] == [1, 2, 3, 4, 5, 6]
    assert [m["learning_rate"] for _, m in second] == [1e-2 * schedule.rate(step, 4) for step in range(4)]
    assert any(not torch.equal(before[name], w) for name, w in run.learner.model.trained().items())

    saved = {"steps": 4, "schedule": schedule, "checkpoints": Checkpoints(tmp_path)}
    whole, broken, again = (make_run("sft", tiny_model("llama")) for _ in range(3))
    for each in (whole, broken):
        run_sft(each, steps=2, schedule=schedule)
    rates = [m["learning_rate"] for _, m in run_sft(whole, steps=4, schedule=schedule)]
    with pytest.raises(KeyboardInterrupt):
        run_sft(
            broken,
            monitors=[lambda s, g, m: os.kill(os.getpid(), signal.SIGINT) if s == 4 else None],
            **saved,
        )
    rest = run_sft(again, **saved)
    assert [(step, m["learning_rate"]) for step, m in rest] == [(5, rates[2]), (6, rates[3])]
    for name, weight in whole.learner.model.trained().items():
        assert torch.equal(weight, again.learner.model.trained()[name])
    with pytest.raises(InputError, match="steps is 0; expected at least 1"):
        run_sft(again, steps=0)


def test_the_sampler_gets_the_weights_before_every_rollout(tiny_model: ModelFolder) -> None:
    run, order = make_run("grpo", tiny_model("llama")), []
    load, sample, update = run.source.sampler.load, run.source.sampler.sample, run.learner.update  # type: ignore[union-attr]
    run.source.sampler.load = lambda learner: order.append("load") or load(learner)  # type: ignore
    run.source.sampler.sample = lambda *a: order.append("sample") or sample(*a)  # type: ignore
    run.learner.update = lambda *a: order.append("update") or update(*a)  # type: ignore
    told = run_sft(run, steps=2)
    assert order == ["load", "sample", "update"] * 2
    assert all(m["mismatch"] < 1e-5 for _, m in told)  # and they are the current ones


# ---------------------------------------------------------------- Ctrl-C


def interrupt(number: int, times: int = 1) -> Any:
    def monitor(step: int, groups: Any, metrics: Any) -> None:
        if step == 2:
            for _ in range(times):
                os.kill(os.getpid(), number)

    return monitor


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_step_saves_and_continues_where_it_stopped(
    tiny_model: ModelFolder, tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = make_run("sft", tiny_model("llama"))
    run_sft(whole, steps=4)
    options = {"steps": 4, "checkpoints": Checkpoints(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        run_sft(make_run("sft", tiny_model("llama")), monitors=[interrupt(number)], **options)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert names(tmp_path) == ["step-000002"]
    rest = make_run("sft", tiny_model("llama"))
    assert [step for step, _ in run_sft(rest, **options)] == [3, 4]
    for a, b in zip(
        whole.learner.model.trained().values(), rest.learner.model.trained().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_an_interrupt_between_the_questions_still_saves(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives at the worst moment: after the loop has asked whether to save."""
    from contextlib import contextmanager

    from tieout.training import loop as module

    real = module.interrupts

    @contextmanager
    def late() -> Any:
        with real() as asked:
            questions = 0

            def ask() -> bool:
                nonlocal questions
                answer = asked()
                questions += 1
                if questions == 1:
                    os.kill(os.getpid(), signal.SIGINT)
                return answer

            yield ask

    monkeypatch.setattr(module, "interrupts", late)
    run = make_run("sft", tiny_model("llama"))
    with pytest.raises(KeyboardInterrupt):
        run_sft(run, steps=4, checkpoints=Checkpoints(tmp_path))
    assert names(tmp_path) == [f"step-{run.learner.step:06d}"]


def test_a_second_interrupt_does_not_wait(tiny_model: ModelFolder, tmp_path: Path) -> None:
    run, before = make_run("sft", tiny_model("llama")), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_sft(run, steps=4, monitors=[interrupt(signal.SIGINT, 2)], checkpoints=Checkpoints(tmp_path))
    assert names(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone(tiny_model: ModelFolder) -> None:
    run, told = make_run("sft", tiny_model("llama")), []
    thread = threading.Thread(target=lambda: told.extend(run_sft(run, steps=2)))
    thread.start()
    thread.join()
    assert len(told) == 2


# ---------------------------------------------------------------- what goes wrong around a step


def test_a_service_for_metrics_that_is_down_ends_no_run(tiny_model: ModelFolder, tmp_path: Path) -> None:
    def down(step: int, metrics: dict[str, float]) -> None:
        raise ConnectionError("no route to the tracker")

    run = make_run("sft", tiny_model("llama"))
    with pytest.warns(UserWarning, match=r"on_step failed at step \d .*no route to the tracker"):
        train(run.method, run.source, run.learner, steps=2, on_step=down, checkpoints=Checkpoints(tmp_path))
    assert names(tmp_path) == ["step-000002"]


def test_a_checkpoint_of_other_data_or_settings_is_refused_with_what_was_and_what_is(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    options = {"steps": 1, "checkpoints": Checkpoints(tmp_path)}
    run_sft(make_run("sft", tiny_model("llama")), **options)
    other_rows = make_run("sft", tiny_model("llama"), rows=lambda split: ROWS[1:])
    with pytest.raises(ValueError, match=r"data\.rows: 11 -> 10\n  data\.sha256: "):
        run_sft(other_rows, **options)
    other_rate = make_run("sft", tiny_model("llama"))
    other_rate.method = dataclasses.replace(other_rate.method, learning_rate=0.5)  # type: ignore[type-var]
    other_rate.source.seed = 8
    before = [p.detach().clone() for p in other_rate.learner.model.trained().values()]
    with pytest.raises(
        ValueError, match=r"another run; .*\n  method\.learning_rate: 0\.01 -> 0\.5\n  seed: 7 -> 8\n"
    ):
        run_sft(other_rate, **options)
    for a, b in zip(before, other_rate.learner.model.trained().values(), strict=True):
        assert torch.equal(a, b)  # refused before anything was loaded
    with pytest.raises(ValueError, match=r"schedule\.kind: \"linear\" -> \"cosine\""):
        run_sft(make_run("sft", tiny_model("llama")), schedule=Schedule("cosine"), **options)


def test_a_batch_of_nothing_is_refused(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    with pytest.raises(ValueError, match="batch_size is 0"):
        train(dataclasses.replace(run.method, batch_size=0), run.source, run.learner, steps=3)
