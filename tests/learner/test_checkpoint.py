"""A checkpoint is whole or absent, and a resumed run is the unbroken one, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import flat, make_learner, random_groups
from tieout.errors import StopTraining
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints, save_adapter
from tieout.storage.atomic import MANIFEST, verifies
from tieout.training.loop import train
from tieout.types import Group
from tiny_task import make_run

ModelFolder = Callable[[str], Path]


def weights(learner: Learner) -> list[torch.Tensor]:
    """Everything that is trained, and the optimizer's moments."""
    parameters = list(learner.model.trained().values())
    moments = [v for p in parameters for _, v in sorted(learner.optimizer.state.get(p, {}).items())]
    return [x.detach().clone() for x in [*parameters, *moments]]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def plain(state: Any) -> dict[str, Any]:
    """What a checkpoint says of where the run is."""
    return {name: state[name] for name in ("step", "skipped_updates", "position")}


def step(learner: Learner, seed: int = 0) -> None:
    learner.update(random_groups(seed=seed), lambda outputs, batch: (batch.token_mean(-outputs.logprobs), {}))


def stop_at(last: int) -> Any:
    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if step == last:
            raise StopTraining("enough")

    return monitor


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("method", "start", "dropout"),
    [("sft", False, 0.0), ("sft", False, 0.2), ("dpo", False, 0.0), ("dpo", True, 0.0), ("grpo", True, 0.0)],
)
@pytest.mark.filterwarnings("ignore:.*cannot share prompts")
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(
    tiny_model: ModelFolder, tmp_path: Path, method: str, start: bool, dropout: float
) -> None:
    """Six steps at once, or three, a stop, and three in a new process; eleven rows, so the data starts over inside."""
    folder, sft = tiny_model("llama"), None
    if start:
        sft = tmp_path / "sft"
        save_adapter(make_learner(folder), sft)

    def fresh() -> Any:
        torch.manual_seed(123)  # the state of random numbers is the checkpoint's business
        return make_run(method, folder, start=sft, dropout=dropout)

    def metrics_of(seen: dict[int, dict[str, float]]) -> Any:
        return lambda step, metrics: seen.update(
            {step: {k: v for k, v in metrics.items() if not k.endswith("seconds")}}
        )

    unbroken, whole = fresh(), dict[int, dict[str, float]]()
    train(unbroken.method, unbroken.source, unbroken.learner, steps=6, on_step=metrics_of(whole))
    checkpoints, parts = Checkpoints(tmp_path / "run"), dict[int, dict[str, float]]()
    first = fresh()
    with pytest.raises(StopTraining):
        train(
            first.method,
            first.source,
            first.learner,
            steps=6,
            monitors=[stop_at(3)],
            checkpoints=checkpoints,
            on_step=metrics_of(parts),
        )
    assert not same(weights(first.learner), weights(unbroken.learner))
    second = fresh()
    torch.manual_seed(456)
    train(
        second.method,
        second.source,
        second.learner,
        steps=6,
        checkpoints=checkpoints,
        on_step=metrics_of(parts),
    )
    assert parts == whole
    assert second.source.position == unbroken.source.position
    assert same(weights(second.learner), weights(unbroken.learner))


def test_full_fine_tuning_resumes_too(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """gemma3 ties its output layer to its embedding: one tensor, saved once."""
    learner = make_learner(tiny_model("gemma3"), adapter=AdapterConfig(method="full"), stir=False)
    step(learner)
    Checkpoints(tmp_path).save(learner, {"position": 4})
    other = make_learner(tiny_model("gemma3"), adapter=AdapterConfig(method="full"), stir=False)
    assert plain(Checkpoints(tmp_path).restore(other)) == {"step": 1, "skipped_updates": 0, "position": 4}
    for learner_ in (learner, other):
        step(learner_, seed=1)
    assert same(weights(other), weights(learner))


def test_another_model_is_refused_by_name(tiny_model: ModelFolder, tmp_path: Path) -> None:
    learner = make_learner(tiny_model("llama"), adapter=AdapterConfig(rank=4, targets="q_proj"))
    Checkpoints(tmp_path).save(learner, {"position": 0})
    other = make_learner(tiny_model("llama"), adapter=AdapterConfig(rank=4, targets="v_proj"))
    with pytest.raises(ValueError, match=r"other parameters than the model trains, such as .*_proj"):
        Checkpoints(tmp_path).restore(other)


def test_an_empty_folder_is_a_fresh_start(tiny_model: ModelFolder, tmp_path: Path) -> None:
    learner = make_learner(tiny_model("llama"))
    before = weights(learner)
    assert Checkpoints(tmp_path / "none").restore(learner) is None
    assert same(weights(learner), before)


# ---------------------------------------------------------------- damage


def truncate(folder: Path) -> None:
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(folder: Path) -> None:
    file = folder / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) * 3 // 4] ^= 4
    file.write_bytes(bytes(data))


def change_the_step(folder: Path) -> None:
    file = folder / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "step": 77}))


def cut_the_manifest(folder: Path) -> None:
    file = folder / MANIFEST
    file.write_text(file.read_text()[:-9])


DAMAGE: list[Callable[[Path], None]] = [
    truncate,
    flip_a_bit,
    change_the_step,
    cut_the_manifest,
    lambda folder: (folder / MANIFEST).unlink(),
    lambda folder: (folder / "state.json").unlink(),
    lambda folder: (folder / "state.safetensors").write_bytes(b""),
]


@pytest.fixture
def two_saves(tiny_model: ModelFolder, tmp_path: Path) -> tuple[Checkpoints, Learner, list[torch.Tensor]]:
    """Steps 1 and 2 are saved; what the weights were at step 1."""
    learner, checkpoints = make_learner(tiny_model("llama"), stir=False), Checkpoints(tmp_path / "run")
    learner.learning_rate = 1e-2
    step(learner)
    checkpoints.save(learner, {"position": 10})
    at_one = weights(learner)
    step(learner)
    checkpoints.save(learner, {"position": 20})
    return checkpoints, learner, at_one


def test_a_damaged_checkpoint_is_skipped_aloud_for_the_one_before(
    two_saves: tuple[Checkpoints, Learner, list[torch.Tensor]], tmp_path: Path
) -> None:
    checkpoints, learner, at_one = two_saves
    whole = tmp_path / "whole"
    shutil.copytree(checkpoints.folder, whole)
    assert all(verifies(folder) for folder in checkpoints.folder.iterdir())
    for damage in DAMAGE:
        shutil.rmtree(checkpoints.folder)
        shutil.copytree(whole, checkpoints.folder)
        newest = checkpoints.folder / "step-000002"
        damage(newest)
        assert not verifies(newest)
        if (newest / MANIFEST).exists():
            with pytest.warns(UserWarning, match="step-000002 is damaged"):
                state = checkpoints.restore(learner)
        else:
            state = checkpoints.restore(learner)
        assert plain(state) == {"step": 1, "skipped_updates": 0, "position": 10}
        assert learner.step == 1
        assert same(weights(learner), at_one)


def test_with_every_checkpoint_damaged_nothing_is_restored(
    two_saves: tuple[Checkpoints, Learner, list[torch.Tensor]],
) -> None:
    checkpoints, learner, _ = two_saves
    before = weights(learner)
    for folder in checkpoints.folder.iterdir():
        flip_a_bit(folder)
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoints.restore(learner) is None
    assert same(weights(learner), before)


def killed_inside(calls: int, function: Callable[[], object]) -> bool:
    """Run in a child process that dies of SIGKILL at its nth fsync; False if it lived to the end."""
    child = os.fork()
    if child == 0:
        real, count = os.fsync, 0

        def fatal(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        os.fsync = fatal
        try:
            function()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_kill_9_at_any_moment_of_a_save_leaves_a_good_checkpoint(
    two_saves: tuple[Checkpoints, Learner, list[torch.Tensor]],
) -> None:
    checkpoints, learner, _ = two_saves
    at_two = weights(learner)
    learner.step = 3
    with torch.no_grad():
        for parameter in learner.model.trained().values():
            parameter += 1
    at_three, moments = weights(learner), 0
    while killed_inside(moments + 1, lambda: checkpoints.save(learner, {"position": 30})):
        moments += 1
        state = checkpoints.restore(learner)
        assert state is not None
        assert state["position"] == 10 * learner.step
        assert same(weights(learner), at_two if learner.step == 2 else at_three)
        learner.step = 3
        with torch.no_grad():
            for parameter, value in zip(learner.model.trained().values(), at_three, strict=False):
                parameter.copy_(value)
    assert moments >= 4  # two files, the manifest, the folder
    assert plain(checkpoints.restore(learner)) == {"step": 3, "skipped_updates": 0, "position": 30}
    assert {p.name for p in checkpoints.folder.iterdir()} == {"step-000002", "step-000003"}  # no litter


def test_a_full_disk_leaves_the_last_good_checkpoint(
    two_saves: tuple[Checkpoints, Learner, list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, learner, _ = two_saves
    at_two = weights(learner)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    step(learner)
    monkeypatch.setattr("tieout.learner.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(learner, {"position": 30})
    assert plain(checkpoints.restore(learner)) == {"step": 2, "skipped_updates": 0, "position": 20}
    assert same(weights(learner), at_two)


@pytest.mark.parametrize("save_steps", [1, 3, 50])
def test_a_checkpoint_from_before_the_trouble_is_always_kept(tmp_path: Path, save_steps: int) -> None:
    checkpoints, steps = Checkpoints(tmp_path, apart=16), list[int]()
    for step in range(save_steps, 400, save_steps):
        steps = sorted(checkpoints._kept([*steps, step]))
        assert steps[-2:] == [s for s in (step - save_steps, step) if s]
        assert len(steps) <= 4
        if step > 16 + save_steps:
            assert step - 2 * 16 - save_steps <= min(steps) <= step - 16


def test_only_the_newest_are_kept(tiny_model: ModelFolder, tmp_path: Path) -> None:
    learner = make_learner(tiny_model("llama"))
    for keep in (2, 1):
        for number in range(1, 5):
            learner.step = number + 10 * keep
            Checkpoints(tmp_path / str(keep), keep).save(learner, {"position": 0})
        names = sorted(p.name for p in (tmp_path / str(keep)).iterdir())
        assert names == [f"step-{n + 10 * keep:06d}" for n in range(5 - keep, 5)]


# ---------------------------------------------------------------- adapters


def test_an_exported_adapter_is_the_policy_and_is_replaced_whole(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    learner, groups = make_learner(tiny_model("llama")), random_groups()
    for _ in range(2):
        step(learner)
        save_adapter(learner, tmp_path / "adapter")
        assert verifies(tmp_path / "adapter")
        again = Learner(load(str(tmp_path / "adapter"), AdapterConfig()))
        assert flat(again.logprobs(groups)).tolist() == flat(learner.logprobs(groups)).tolist()
    assert {p.name for p in tmp_path.iterdir()} == {"adapter"}
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(tiny_model("llama"))


def test_a_fully_tuned_model_is_exported_whole(tiny_model: ModelFolder, tmp_path: Path) -> None:
    learner, groups = make_learner(tiny_model("llama"), adapter=AdapterConfig(method="full")), random_groups()
    save_adapter(learner, tmp_path / "model")
    again = Learner(load(str(tmp_path / "model"), AdapterConfig()))
    assert flat(again.logprobs(groups)).tolist() == flat(learner.logprobs(groups)).tolist()
