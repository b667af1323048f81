"""An adapter knows the weights of its base, however they are stored, and refuses those of another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.base_record import FILE, record_base, refuse_other_base

ModelFolder = Callable[[str], Path]
PROJECTION = "model.layers.1.self_attn.v_proj.weight"


def other_base(base: Path, folder: Path) -> Path:
    """The same shapes, and one matrix that was fine-tuned."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[PROJECTION] = tensors[PROJECTION] * 1.02
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_adapter_on_another_base_of_the_same_shapes_is_refused_by_name(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    base, adapter = tiny_model("llama"), tmp_path / "adapter"
    save_adapter(Learner(load(str(base), AdapterConfig(rank=2)), 1e-3), adapter)
    load(str(adapter))
    other = other_base(base, tmp_path / "other")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(other)}))
    (adapter / "manifest.json").unlink()
    with pytest.raises(InputError, match=rf"another base than {other}: {PROJECTION} differs, and 1 of "):
        load(str(adapter))
    with pytest.raises(InputError, match=f"trained on, {base}"):
        load(str(other), AdapterConfig(), start=adapter)
    (adapter / FILE).write_text('{"tensors": ["of another program"]}')
    with pytest.raises(InputError, match="is no record of a base"):
        load(str(adapter))
    (adapter / FILE).unlink()  # as an adapter that another program wrote
    load(str(adapter))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_copy_in_another_precision_and_in_other_files_is_the_same_base(
    tiny_model: ModelFolder, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Either may be what the adapter was trained on: fp16 rounds once more than bf16 does alone."""
    base = tiny_model("llama")
    network = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    network.to(dtype).save_pretrained(str(tmp_path / "copy"), max_shard_size="40KB")
    assert len(list((tmp_path / "copy").glob("*.safetensors"))) > 1
    for trained_on, other in ((base, tmp_path / "copy"), (tmp_path / "copy", base)):
        adapter = tmp_path / f"on-{trained_on.name}"
        adapter.mkdir()
        record_base(str(trained_on), adapter)
        refuse_other_base(adapter, str(other))
        with pytest.raises(InputError, match=f"{PROJECTION} differs, and 1 of "):
            refuse_other_base(adapter, str(other_base(base, tmp_path / f"other-than-{trained_on.name}")))


def test_a_base_that_cannot_be_compared_is_refused(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """transformers loads one whose names lack a prefix as if they had it: without a name in common nothing is known."""
    base, adapter, renamed = tiny_model("llama"), tmp_path / "adapter", tmp_path / "renamed"
    adapter.mkdir()
    record_base(str(base), adapter)
    shutil.copytree(base, renamed)
    tensors = load_file(renamed / "model.safetensors")
    shorter = {name.removeprefix("model."): tensor * 1.1 for name, tensor in tensors.items()}
    shorter.pop("lm_head.weight", None)
    save_file(shorter, renamed / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        InputError, match=r"cannot be compared with them: its tensors have other names, such as"
    ):
        refuse_other_base(adapter, str(renamed))
    (renamed / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match=f"no safetensors files. Give the base that it was trained on, {base}"
    ):
        refuse_other_base(adapter, str(renamed))
