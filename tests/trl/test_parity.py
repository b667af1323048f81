"""The same code with one import changed ends with the same adapter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from tieout import trl

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
peer = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share", "tax", "fee", "loan", "gain"]
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"say {w}"}],
        "chosen": [{"role": "assistant", "content": w}],
        "rejected": [{"role": "assistant", "content": w[::-1]}],
    }
    for w in WORDS
]
DEMONSTRATIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]


def trained(
    library: Any, kind: str, rows: list[Any], folder: Path, out: Path, **options: Any
) -> dict[str, torch.Tensor]:
    """Three steps of four rows, as a user writes them."""
    torch.manual_seed(0)
    args = getattr(library, f"{kind}Config")(
        output_dir=str(out), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=3,
        learning_rate=2e-3, warmup_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no",
        disable_tqdm=True,
        train_sampling_strategy="sequential", gradient_checkpointing=False, **options,
    )  # fmt: skip
    trainer = getattr(library, f"{kind}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(
            r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
        ),
    )
    named = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in sorted(named):  # the same start on both sides, and one that says something
            named[name].copy_(torch.randn(named[name].shape, generator=generator) * 0.05)
    trainer.train()
    return {name: p.detach().clone() for name, p in named.items()}


@pytest.mark.parametrize(
    ("kind", "rows", "options"),
    [("DPO", PAIRS, {}), ("DPO", PAIRS, {"loss_type": "ipo", "beta": 0.3}), ("SFT", DEMONSTRATIONS, {})],
)
def test_three_steps_end_with_the_same_adapter(
    kind: str, rows: list[Any], options: dict[str, Any], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_model("llama")
    ours = trained(trl, kind, rows, folder, tmp_path / "ours", **options)
    theirs = trained(peer, kind, rows, folder, tmp_path / "theirs", **options)
    assert ours.keys() == theirs.keys()
    flat = [torch.cat([side[n].flatten() for n in sorted(side)]) for side in (ours, theirs)]
    assert float((flat[0] - flat[1]).norm() / flat[1].norm()) < 1e-4
