"""All models of a comparison are loaded in one precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.run import run_recipe
from tieout.cli.sample import main as sample
from tieout.errors import InputError
from tieout.learner import Model
from tieout.pipelines.evaluated import one_dtype, policy_of
from tieout.pipelines.run import Policy
from tieout.training import build
from tieout.training.build import open_model


def test_a_run_says_for_the_others_what_they_are_loaded_in() -> None:
    unknown, fp32, bf16 = (Policy("base", None, dtype=d) for d in ("auto", "fp32", "bf16"))
    assert one_dtype(["a", "b"], [unknown, fp32], "auto") == "fp32"
    assert one_dtype(["a", "b"], [bf16, unknown], "auto") == "bf16"
    assert one_dtype(["a", "b"], [unknown, unknown], "auto") == "auto"
    assert one_dtype(["a", "b"], [fp32, bf16], "fp32") == "fp32"
    with pytest.raises(InputError, match=r"a in fp32, b in bf16.*--dtype fp32 or --dtype bf16"):
        one_dtype(["a", "b"], [fp32, bf16], "auto")


def test_an_adapter_is_known_by_the_run_that_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{i} + 1?", "completion": str(i + 1), "answer": str(i + 1)} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{train: {tmp_path}/rows.jsonl}}\nreward: exact\ndtype: bf16\nplacement: {{device: cpu}}\n"
        "stages:\n  - train: sft\n    batch_size: 8\n"
    )
    run_recipe(recipe, tmp_path / "run")
    assert policy_of(str(tmp_path / "run" / "sft" / "adapter")).dtype == "bf16"
    assert policy_of("tieout-base").dtype == "auto"
    loaded: list[object] = []

    def spy(*names: Any, **given: Any) -> Model:
        loaded.append(given["dtype"])
        return open_model(*names, **given)

    monkeypatch.setattr(build, "open_model", spy)
    adapter = str(tmp_path / "run" / "sft" / "adapter")
    sample(["1 + 1?", "--model", adapter, "--max-new-tokens", "2"])
    sample(["1 + 1?", "--model", adapter, "--max-new-tokens", "2", "--dtype", "fp32"])
    assert loaded == ["bf16", "fp32"]
