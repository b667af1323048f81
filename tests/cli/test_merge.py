"""`tieout merge`: an adapter into its base, compared with the adapter, and nothing where they differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tieout.shipping.merging
from random_groups import stir_weights
from tieout.cli import main
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter


@pytest.fixture(scope="module")
def adapter(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on the tiny Llama whose weights are not zero."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(rank=4), device="cpu"))
    stir_weights(learner, scale=0.05)
    save_adapter(learner, folder)
    return folder


@pytest.fixture
def merge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["tieout", "merge", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0

    return call


def test_the_merged_model_is_the_adapter_on_its_base(
    merge: Callable[..., int],
    adapter: Path,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import PeftModel

    assert merge(adapter, "--out", tmp_path / "whole") == 0
    said = capsys.readouterr().out
    assert "checked: loaded again, 3 prompts" in said
    assert "vllm serve" in said
    ids = AutoTokenizer.from_pretrained(tmp_path / "whole")(
        "What was revenue?", return_tensors="pt"
    ).input_ids
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    with torch.no_grad():
        bare = base(ids).logits
        expected = PeftModel.from_pretrained(base, adapter)(ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(ids).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, bare, atol=1e-2)
    assert not list(tmp_path.glob(".whole*"))


def test_prompts_are_those_of_the_data(
    merge: Callable[..., int], adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data := tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"q{i}"}) + "\n" for i in range(5))
    )
    assert merge(adapter, "--out", tmp_path / "whole", "--data", data) == 0
    assert "5 prompts" in capsys.readouterr().out


def test_a_merge_that_differs_leaves_nothing(
    merge: Callable[..., int],
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = tieout.shipping.merging.build

    def build(given: Path, base: str, folder: Path, *rest: object, **named: object) -> None:
        real(given, base, folder, *rest, **named)  # type: ignore[arg-type]
        network = AutoModelForCausalLM.from_pretrained(folder / "merged")
        with torch.no_grad():
            network.model.layers[0].self_attn.q_proj.weight.mul_(1.5)
        network.save_pretrained(folder / "merged")

    monkeypatch.setattr(tieout.shipping.merging, "build", build)
    assert merge(adapter, "--out", tmp_path / "whole") == 1
    assert "merged" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_is_refused(
    merge: Callable[..., int],
    adapter: Path,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert merge(tiny_model("llama"), "--out", tmp_path / "whole") == 1
    assert "is a whole model: there is nothing to merge" in capsys.readouterr().err
    assert merge(adapter, "--out", tmp_path) == 1
    assert "is there already" in capsys.readouterr().err
    (run := tmp_path / "run" / "sft").mkdir(parents=True)
    (run / "adapter").symlink_to(adapter)
    (run.parent / "run.json").write_text(json.dumps({"identity": {"adapter": {"method": "qlora"}}}))
    with pytest.raises(ValueError, match="trained over 4 bits"):
        tieout.shipping.merging.merge(run / "adapter", str(tiny_model("llama")), tmp_path / "whole")
