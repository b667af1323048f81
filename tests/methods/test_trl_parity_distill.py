"""Distillation against TRL's GKD trainer on the same tokens: same loss, same gradient. Its losses are its own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trl_parity import arguments, assert_parity, datasets, move_along, ours, sft_adapter, theirs

from random_groups import random_groups, with_own_logprobs
from tieout.learner import Learner
from tieout.learner.teachers import Teachers
from tieout.methods import Distill
from tieout.training.teachers import open_teacher
from tieout.types import Group

__all__ = ["ours", "sft_adapter"]  # fixtures

ModelFolder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore")


def padded(groups: Sequence[Group], pad: int) -> dict[str, torch.Tensor]:
    """The rows as their collator gives them, a prompt again for each of its completions."""
    rows = [(g.prompt, c) for g in groups for c in g.completions]
    width = max(len(prompt) + len(c.tokens) for prompt, c in rows)
    ids, labels, mask = [], [], []
    for prompt, c in rows:
        whole, room = prompt + c.tokens, width - len(prompt) - len(c.tokens)
        ids.append(whole + [pad] * room)
        mask.append([1] * len(whole) + [0] * room)
        trained = [t if kept else -100 for t, kept in zip(c.tokens, c.mask, strict=True)]
        labels.append([-100] * len(prompt) + trained + [-100] * room)
    return {
        name: torch.tensor(x)
        for name, x in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))
    }


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_gkd(
    tiny_model: ModelFolder,
    sft_adapter: Path,
    ours: Learner,
    tiny_tokenizer: Any,
    tmp_path: Path,
    beta: float,
) -> None:
    """Their teacher is a model of its own, the bare base; ours is the adapter switched off."""
    from transformers import AutoModelForCausalLM

    gkd = pytest.importorskip("trl.experimental.gkd")
    rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}] * 2
    trainer = gkd.GKDTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        teacher_model=AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32),
        args=gkd.GKDConfig(**arguments(tmp_path), beta=beta, max_length=64),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    parameters = move_along(trainer, ours)
    groups = with_own_logprobs(random_groups([(9, [7, 3, 12, 1]), (21, [5, 16]), (4, [11])]), ours)
    count = sum(sum(c.mask) for g in groups for c in g.completions)
    inputs = padded(groups, tiny_tokenizer.pad_token_id)
    loss = trainer.compute_loss(trainer.model.eval(), inputs, num_items_in_batch=count)
    ours.teachers = Teachers({"base": open_teacher(str(tiny_model("llama")), ours)})
    assert_parity(loss, parameters, ours, groups, Distill(teacher="base", beta=beta))
