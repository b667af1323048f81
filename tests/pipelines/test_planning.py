"""Plans: memory by shapes, steps as a real run has them, a device that is not here, and when a run prints its plan."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from small_runs import DPO, GRPO, NO_CHECK, PAIRS, PPO, SFT, lines, run
from transformers import AutoConfig, LlamaConfig

from tieout.chat.template import Chat
from tieout.cli import plan as command
from tieout.cli import train as train_command
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.models import bases
from tieout.methods.ppo import PPO as PPOMethod
from tieout.pipelines.kinds import Train
from tieout.pipelines.planned import Planned, planned_of
from tieout.pipelines.planning import runs
from tieout.pipelines.planning.elsewhere import bytes_of, memory_of
from tieout.pipelines.planning.measure import passes_of
from tieout.pipelines.planning.meter import Meter
from tieout.pipelines.planning.shapes import shapes_of
from tieout.pipelines.planning.work import work_of
from tieout.pipelines.reading import read_recipe
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.execute import execute
from tieout.review.cost import gibibytes
from tieout.storage.runfolder import RunFolder
from tieout.types import Completion, Group

GIB = 2**30


@pytest.mark.parametrize("method", ["lora", "full"])
def test_shapes_are_the_bytes_of_the_real_model(tiny_model: Callable[[str], Path], method: Any) -> None:
    adapter = AdapterConfig(method=method, rank=4)
    model = load(str(tiny_model("llama")), adapter, dtype=torch.float32, device="cpu")
    found = shapes_of(str(tiny_model("llama")), adapter, torch.float32)
    trained = sum(p.numel() * 4 for p in model.trained().values())
    every = sum(p.numel() * 4 for p in {id(p): p for p in model.network.parameters()}.values())
    assert found.weights == every - (trained if method == "lora" else 0)
    assert found.adapter == (trained if method == "lora" else 0)
    assert found.gradients == trained
    learner = Learner(model)
    learner.optimizer.zero()
    learner.optimizer.apply(0.0, 1.0)
    state = [
        x
        for s in learner.optimizer.state.values()
        for x in s.values()
        if torch.is_tensor(x) and x.numel() > 1
    ]
    assert found.optimizer == sum(x.numel() * x.element_size() for x in state)


def test_activations_by_shapes_are_near_those_that_a_real_forward_keeps(
    tiny_model: Callable[[str], Path],
) -> None:
    adapter = AdapterConfig(rank=4)
    model = load(str(tiny_model("llama")), adapter, dtype=torch.float32, device="cpu")
    real = Learner(model).micro_batches.bytes_per_token
    assert shapes_of(str(tiny_model("llama")), adapter, torch.float32).token == pytest.approx(real, rel=0.25)


def llama_8b(folder: Path, like: Path) -> Path:
    """The configuration of Llama 3 8B with a small tokenizer, and no weights."""
    shutil.copytree(like, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    ).save_pretrained(folder)
    return folder


def test_qlora_of_8b_counted_by_hand(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    model = llama_8b(tmp_path / "8b", tiny_model("llama"))
    assert not list(model.glob("*.safetensors"))
    found = shapes_of(str(model), AdapterConfig(method="qlora"), torch.bfloat16)
    d, mid, kv, vocabulary, layers = 4096, 14336, 1024, 128256, 32
    linear = layers * (2 * d * d + 2 * d * kv + 3 * d * mid)
    rest = 2 * vocabulary * d + (2 * layers + 1) * d
    assert found.weights == pytest.approx(linear * (0.5 + 1 / 64 + 1 / 4096) + rest * 2, rel=1e-6)
    adapter = 16 * layers * (2 * (d + d) + 2 * (d + kv) + 3 * (d + mid))
    assert adapter == 41_943_040  # as PEFT prints for this model
    assert found.adapter == found.gradients == 4 * adapter
    assert found.optimizer == 8 * adapter
    assert found.kv == 2 * layers * kv * 2
    assert found.step(2048, recompute=True) < found.step(2048, recompute=False) < 24 * GIB
    assert shapes_of(str(model), AdapterConfig(method="full"), torch.bfloat16).resident > 80 * GIB


def test_a_cuda_device_needs_not_be_here(
    tmp_path: Path,
    write: Callable[..., Path],
    tiny_model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = str(llama_8b(tmp_path / "8b", tiny_model("llama")))
    recipe = str(write([NO_CHECK, SFT, GRPO], model=model, adapter={"method": "qlora"}))
    command.main([recipe, "--device", "cuda", "--memory", "24GiB", "--out", str(tmp_path / "run")])
    said = " ".join(capsys.readouterr().out.split())
    assert "not claimed" in said
    assert "24.00 GiB" in said
    assert "of 24.00 GiB │ yes" in said
    assert "weights in 4 bits 5.31 GiB" in said
    assert "assumed: every completion has 8 tokens" in said
    command.main([recipe, "--device", "cuda", "--memory", "4GiB", "--out", str(tmp_path / "run")])
    said = " ".join(capsys.readouterr().out.split())
    assert "NO" in said
    assert "the largest part is weights in 4 bits" in said
    full = str(write([NO_CHECK, SFT], model=model, adapter={"method": "full"}))
    command.main([full, "--device", "cuda", "--memory", "24GiB", "--out", str(tmp_path / "run")])
    assert "adapter.method lora" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "run").exists()


def test_sizes_and_devices_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bytes_of("24GiB") == bytes_of("24 gb") == 24 * GIB
    for bad in ("", "0", "many", "-3GiB"):
        with pytest.raises(InputError, match="expected a size"):
            bytes_of(bad)
    with pytest.raises(InputError, match="--device cuda"):
        memory_of("24GiB", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--memory 24GiB"):
        memory_of("", "cuda")


def test_steps_and_tokens_are_those_of_the_real_run(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    resolved = recipe([NO_CHECK, SFT, PAIRS, DPO, GRPO, {"evaluate": {}}])
    with RunFolder(tmp_path / "none", writes=False) as folder:
        before = {w.name: w for w in works(Run(resolved, folder, Console(quiet=True)))}
    run(resolved, tmp_path / "run")
    taken = {name: len(lines(tmp_path / "run" / name / "metrics.jsonl")) for name in before}
    assert not before["sft"].at_most
    assert before["sft"].steps == taken["sft"]
    assert before["grpo"].steps == taken["grpo"]
    assert before["dpo"].at_most
    assert before["dpo"].steps >= taken["dpo"]
    assert "rows are not made yet" in before["dpo"].assumed[0]
    with RunFolder(tmp_path / "run", writes=False) as folder:
        after = {w.name: w for w in works(Run(resolved, folder, Console(quiet=True)))}
    assert after["dpo"].steps == taken["dpo"]
    assert not after["dpo"].at_most


def works(made: Run) -> list[Any]:
    return [work_of(made, stage) for stage in made.recipe.stages if isinstance(stage, Train)]


def test_a_measured_plan_has_every_figure(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    resolved = recipe([NO_CHECK, SFT, GRPO, PPO])
    with RunFolder(tmp_path / "none", writes=False) as folder:
        planned = runs.plan_run(Run(resolved, folder, Console(quiet=True)))
    assert [one.name for one in planned] == ["sft", "grpo", "ppo"]
    for one in planned:
        assert one.seconds is not None
        assert one.seconds > 0
        assert one.memory is not None
        assert one.micro_batches >= 1
        assert not one.recompute
    assert not (tmp_path / "none").exists()


def test_a_planned_run_is_that_without_a_plan_to_the_last_bit(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "parameters_of", lambda name: runs.LARGE)
    loaded: list[str] = []
    load_base = bases.load_base
    monkeypatch.setattr(bases, "load_base", lambda *given: loaded.append(given[0]) or load_base(*given))
    resolved = recipe([NO_CHECK, SFT, PAIRS, DPO, GRPO, {"evaluate": {}}])
    run(resolved, tmp_path / "alone")
    alone = len(loaded)
    loaded.clear()
    with RunFolder(tmp_path / "planned") as folder:
        made = Run(resolved, folder, Console(quiet=True))
        before = torch.get_rng_state(), random.getstate()
        runs.plan_before(made)
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()
        assert len(loaded) == 1  # three stages, one model
        execute(made)
    assert len(loaded) == alone
    planned = json.loads((tmp_path / "planned" / "plan.json").read_text())["stages"]
    evaluated = [f"evaluate, {name}" for name in ("base", "sft", "dpo", "grpo")]
    assert [one["name"] for one in planned] == ["sft", "pairs", "dpo", "grpo", *evaluated]
    assert "tokens on average, as right ones have" in planned[1]["assumed"][0]
    assert planned[1]["rows"] < planned[1]["tokens"] < planned[1]["rows"] * 4 * 8
    assert all(one["measured"]["seconds"] > 0 and one["measured"]["memory"] > 0 for one in planned)
    for name in ("sft", "dpo", "grpo"):
        one, other = (tmp_path / kind / name for kind in ("alone", "planned"))
        weights = "adapter/adapter_model.safetensors"
        assert (one / weights).read_bytes() == (other / weights).read_bytes()
        assert untimed(one) == untimed(other)


def untimed(stage: Path) -> list[dict[str, Any]]:
    """Metrics of a stage without those that a clock decides."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in lines(stage / "metrics.jsonl")]


def test_completions_of_a_policy_that_is_there_are_sampled_to_their_ends(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "stop_tokens", tuple(range(0, 100_000, 20)))  # a random model seldom ends
    grpo = {**GRPO, "from": "base", "max_new_tokens": 64}
    resolved = recipe([NO_CHECK, SFT, {**grpo, "name": "own"}, {**grpo, "name": "later", "from": "sft"}])
    with RunFolder(tmp_path / "none", writes=False) as folder:
        made = Run(resolved, folder, Console(quiet=True))
        _, own, later = runs.plan_run(made)
        _, asked, _ = runs.plan_run(made, length=64)
    (said,) = [note for note in own.assumed if "as the policy writes now" in note]
    mean = float(said.split(": ")[1].split()[0])
    assert 0 < mean < 64
    assert not own.longest
    assert later.longest  # its policy is not trained yet
    assert "every completion has 64 tokens" in later.assumed
    assert "every completion has 64 tokens" in asked.assumed
    assert own.tokens < later.tokens == asked.tokens


def test_without_time_every_figure_comes_of_the_largest_micro_batch_of_all(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    updated: list[int] = []
    update = Meter.update
    monkeypatch.setattr(Meter, "update", lambda self, part: updated.append(part[1]) or update(self, part))
    monkeypatch.setattr(runs, "BUDGET", 0.0)
    resolved = recipe([NO_CHECK, SFT, PAIRS, {**DPO, "batch_size": 2}, {**GRPO, "max_new_tokens": 64}])
    with RunFolder(tmp_path / "none", writes=False) as folder:
        planned = runs.plan_run(Run(resolved, folder, Console(quiet=True)))
    assert len(updated) == 1
    sft, _, _, grpo = planned  # pairs and DPO between them
    assert updated[0] >= grpo.tokens / grpo.steps > sft.tokens / sft.steps
    for one in planned:
        assert one.seconds is not None
        assert one.seconds > 0
    assert grpo.memory is not None
    assert sft.memory is not None
    assert grpo.memory >= sft.memory > 2**20


def test_what_a_plan_elsewhere_consists_of_adds_up(
    tmp_path: Path, write: Callable[..., Path], tiny_model: Callable[[str], Path]
) -> None:
    model = str(llama_8b(tmp_path / "8b", tiny_model("llama")))
    stages = [NO_CHECK, SFT, {**GRPO, "group_size": 64, "max_new_tokens": 64}]
    twice = {"activation_checkpointing": True}
    resolved = read_recipe(write(stages, model=model, adapter={"method": "lora"}, learner=twice), None, ())
    with RunFolder(tmp_path / "none", writes=False) as folder:
        sft, grpo = runs.plan_run(Run(resolved, folder, Console(quiet=True)), 0, 80 * GIB, "bf16")
    for one, kind in ((sft, "activations"), (grpo, "KV cache")):
        assert one.parts is not None
        assert one.memory == int(sum(one.parts.values()))
        assert any(name.startswith(kind) for name in one.parts)


def test_passes_are_how_often_a_group_is_learned_from() -> None:
    groups = [Group([1], [Completion([2], [True])] * 2, [0.0, 1.0]) for _ in range(4)]
    assert passes_of(PPOMethod(num_ppo_epochs=3), groups) == 3


@pytest.mark.parametrize("seconds", [599.0, 601.0])
def test_only_a_long_run_prints_its_plan_and_every_planned_one_keeps_it(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    planned = [Planned("sft", 20, False, 100, 2, 1.0, False, GIB, 2 * GIB, seconds, assumed=("rows differ",))]
    console = Console(record=True, width=160, quiet=False, force_terminal=False)
    resolved = recipe([NO_CHECK, SFT, {"evaluate": {}}, {"gate": {}}])
    with RunFolder(tmp_path / "run") as folder:
        made = Run(resolved, folder, console)
        runs.plan_before(made, lambda _: planned)  # small bases are never measured
        assert not (tmp_path / "run" / "plan.json").exists()
        monkeypatch.setattr(runs, "parameters_of", lambda name: runs.LARGE)
        runs.plan_before(made, lambda _: planned)
    said = console.export_text()
    assert ("plan on this machine" in said) == (seconds > 600)
    assert ("sft: assumed: rows differ" in said) == (seconds > 600)
    _, printed = run(resolved, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "plan.json").read_text())["stages"][0]
    steps = lines(tmp_path / "run" / "sft" / "metrics.jsonl")
    taken = sum(step["collect_seconds"] + step["update_seconds"] for step in steps)
    assert kept["seconds"] == seconds
    assert kept["measured"]["seconds"] == pytest.approx(taken)
    assert kept["measured"]["memory"] > 10 * 2**20
    (line,) = planned_of(tmp_path / "run")
    assert "10 min planned" in line
    assert line in " ".join(printed.split())
    page = (tmp_path / "run" / "evidence" / "report.html").read_text()
    assert 'data-column="Time planned">10 min<' in page
    assert f'data-column="Memory">{gibibytes(kept["measured"]["memory"])}<' in page


def test_train_plans_and_writes_nothing(
    tmp_path: Path,
    files: dict[str, str],
    tiny_model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--model", str(tiny_model("llama")), "--data", files["train"], "--out", str(tmp_path / "run")]
    train_command.main(["sft", *given, "--plan", "--batch-size", "8"])
    said = " ".join(capsys.readouterr().out.split())
    assert "plan on this machine" in said
    train_command.main(["sft", *given, "--plan", "--plan-memory", "24GiB", "--device", "cuda"])
    assert "not claimed" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_configuration_is_all_that_is_read(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    config = AutoConfig.from_pretrained(tiny_model("llama"))
    config.save_pretrained(tmp_path / "bare")
    assert shapes_of(str(tmp_path / "bare"), AdapterConfig(rank=4), torch.bfloat16).weights > 0
