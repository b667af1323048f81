"""QLoRA in a recipe: every stage is on the 4-bit base that was trained, and what differs from it is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import DPO, NO_CHECK, PAIRS, SFT, lines, run

from tieout.evidence.evaluate import read_cases
from tieout.evidence.report import regate
from tieout.learner import load
from tieout.learner.models import bases
from tieout.pipelines.recipe import Recipe
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.shipping.candidate import altered

pytest.importorskip("bitsandbytes")


def test_a_recipe_over_four_bits_is_evaluated_on_them_and_measures_its_merged_model(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []
    real = bases.AutoModelForCausalLM.from_pretrained

    def count(source: str, **options: Any) -> Any:
        loaded.append("quantization_config" in options)
        return real(source, **options)

    monkeypatch.setattr(bases.AutoModelForCausalLM, "from_pretrained", count)
    stages = [NO_CHECK, SFT, PAIRS, DPO, {"evaluate": {}}, {"gate": {}}]
    changes: dict[str, Any] = {"adapter": {"method": "qlora", "rank": 4}}
    out = tmp_path / "run"
    resolved = recipe([*stages, {"ship": {"merged": True, "demonstration": True}}], **changes)
    run(resolved, out)
    # Shared by all stages; in full precision to merge; the adapter on 4 bits, and the merged model once to compare and
    # once to score.
    assert loaded == [True, False, True, False, False]
    first = lines(out / "dpo" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(
        math.log(2), abs=1e-5
    )  # the reference is the SFT adapter over 4 bits

    policy = load(resolved.model, start=out / "dpo" / "adapter", four_bits=True)
    prompts = [f"spell {word}" for word in ("audit", "ledger", "asset")]
    params = SamplingParams(8, temperature=0.0)
    cases = [c for c in read_cases(out / "evaluate" / "dpo.jsonl")["dpo"] if c.track == "negative_controls"]
    assert [c.completion for c in cases] == LocalSampler(policy).complete(prompts, params)

    card = json.loads((out / "candidate" / "card.json").read_text())
    found = card["facts"]["merged_difference"]
    assert found["worst"] > 1e-3  # four bits are not the base
    assert found["scores"]["test"]["n"] == 10
    assert card["facts"]["check"]["worst"].keys() == {"adapter"}
    assert card["facts"]["check"]["worst"]["adapter"] < 1e-4
    text = (out / "candidate" / "README.md").read_text()
    assert "Trained and evaluated over the base in 4 bits" in text
    assert f"differ by up to {found['worst']:.2g} nats" in text
    assert 'load_in_4bit=True, bnb_4bit_quant_type="nf4"' in text
    assert altered(out / "candidate") == []
    assert json.loads((out / "evidence" / "report.json").read_text())["metadata"]["merged"] == found
    assert regate(out / "evidence")["metadata"]["merged"] == found  # also judged again

    # repeating it measures nothing again; without being asked for, no merged model is written
    run(resolved, out)
    assert len(loaded) == 5 + 1  # the one of this test
    assert json.loads((out / "evidence" / "report.json").read_text())["metadata"]["merged"] == found
    other = tmp_path / "other"
    run(recipe([*stages, {"ship": {"demonstration": True}}], **changes), other)
    assert not (other / "candidate" / "merged").exists()
    assert "which was not measured" in (other / "candidate" / "README.md").read_text()
