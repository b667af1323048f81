"""Bases that models share in turn: loaded once, as they were when they come back, closed to the model before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tieout.learner import AdapterConfig, Model, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.learner import Learner
from tieout.learner.models import bases as module
from tieout.learner.models.bases import Bases
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = module.AutoModelForCausalLM.from_pretrained

    def count(source: str, **options: object) -> object:
        seen.append(source)
        return real(source, **options)

    monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", count)
    return seen


def logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.network(input_ids=torch.arange(6, 30)[None]).logits
    return found


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_shared_base_gives_every_model_the_numbers_of_its_own(
    tiny_model: Callable[[str], Path], tmp_path: Path, loads: list[str], method: str
) -> None:
    name, bases = str(tiny_model("qwen3")), Bases()
    adapter = AdapterConfig(method=method, rank=4)  # type: ignore[arg-type]
    trained = load(name, adapter, seed=3, head="value", value_adapter=True, bases=bases)
    with torch.no_grad():
        for parameter in trained.trained().values():
            parameter.add_(0.05)
    moved, folder = logits(trained), tmp_path / "adapter"
    save_adapter(Learner(trained), folder)
    assert len(loads) == 1
    bare = load(name, bases=bases)
    assert torch.equal(logits(bare), logits(load(name)))
    again = load(name, adapter, start=folder, bases=bases)
    assert torch.equal(logits(again), moved)
    with again.as_reference():
        assert torch.equal(logits(again), moved)
    params = SamplingParams(8, temperature=0.0)
    sampled = [
        LocalSampler(m).complete(["one", "two"], params)
        for m in (load(name, start=folder), load(name, start=folder, bases=bases))
    ]
    assert sampled[0] == sampled[1]
    fresh = load(name, adapter, seed=3, bases=bases)
    assert torch.equal(logits(fresh), logits(load(name, adapter, seed=3)))
    assert not any(p.requires_grad for n, p in fresh.network.named_parameters() if "lora" not in n)
    assert len(loads) == 1 + 3  # the shared one, and those that were compared with it


def test_the_model_before_is_closed_and_full_fine_tuning_shares_nothing(
    tiny_model: Callable[[str], Path], loads: list[str]
) -> None:
    name, bases = str(tiny_model("llama")), Bases()
    before = load(name, AdapterConfig(rank=4), bases=bases)
    load(name, bases=bases)
    with pytest.raises(TypeError):
        logits(before)  # not the bare base's numbers
    full = load(name, AdapterConfig(method="full"), bases=bases)
    assert all(p.requires_grad for p in full.network.parameters())
    assert not any(p.requires_grad for p in load(name, bases=bases).network.parameters())
    load(name, dtype=torch.bfloat16, bases=bases)
    load(name, bases=bases)
    assert len(loads) == 4  # in fp32, for full fine-tuning, in bf16, and again: one is held at a time
