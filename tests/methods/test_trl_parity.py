"""Against TRL's own trainers: the same groups, model and adapter give the same loss and gradient.

TRL tokenizes, pads, computes references, advantages and losses with its own code; nothing of it is written again here.
GRPO gets its completions through TRL's `rollout_func`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import gradient, make_learner, random_groups, stir_weights, with_own_logprobs
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import save_adapter
from tieout.methods import DPO, GRPO, SFT
from tieout.source import Source
from tieout.types import Group
from tiny_task import ROWS, make_task

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

ModelFolder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sft_adapter(tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that says something: both sides start from it."""
    folder = tmp_path_factory.mktemp("parity") / "sft"
    save_adapter(make_learner(tiny_model("llama")), folder)
    return folder


@pytest.fixture
def ours(tiny_model: ModelFolder, sft_adapter: Path) -> Learner:
    """The adapter's frozen copy is the reference; the policy has moved away from it."""
    model = load(str(tiny_model("llama")), AdapterConfig(), start=sft_adapter)
    learner = Learner(model, config=LearnerConfig(max_grad_norm=float("inf"), layout="packed"))
    stir_weights(learner, 0.02, seed=8)
    return learner


def theirs(folder: Path, adapter: Path) -> Any:
    """The same start, loaded by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(adapter), is_trainable=True)


def arguments(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "per_device_train_batch_size": len(ROWS),
        "save_strategy": "no",
        **more,
    }


def move_along(trainer: Any, learner: Learner) -> dict[str, torch.nn.Parameter]:
    """Put our policy's weights into TRL's model (after it took its reference): name -> parameter."""
    parameters = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    wanted = learner.model.trained()
    assert parameters.keys() == wanted.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(wanted[name])
    return parameters


def assert_parity(
    loss: torch.Tensor, parameters: Any, learner: Learner, groups: list[Group], method: Any
) -> None:
    their_gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(parameters.values()))])
    our_gradient, metrics = gradient(learner, method.annotate(groups, learner), method)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)  # sums that cancel
    cosine = torch.nn.functional.cosine_similarity(our_gradient.double(), their_gradient.double(), dim=0)
    assert cosine > 0.99999
    assert our_gradient.norm().item() == pytest.approx(their_gradient.norm().item(), rel=1e-4)
    assert metrics["shared_prefix"] == 1


def test_sft(
    tiny_model: ModelFolder, sft_adapter: Path, ours: Learner, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Their default: the completion's tokens only, mean over the tokens of the batch."""
    rows = [
        {"prompt": r["prompt"], "completion": [{"role": "assistant", "content": r["completion"]}]}
        for r in ROWS
    ]
    trainer = trl.SFTTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        args=trl.SFTConfig(**arguments(tmp_path), max_length=None),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    parameters = move_along(trainer, ours)
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    source = Source(make_task(), ours.model.chat)
    groups = [source.given(row, [row["completion"]], None) for row in ROWS]
    assert_parity(loss, parameters, ours, groups, SFT())


def test_dpo(
    tiny_model: ModelFolder, sft_adapter: Path, ours: Learner, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Their reference too is a copy of the adapter that the policy started from."""

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = [
        {"prompt": r["prompt"], "chosen": said(r["chosen"]), "rejected": said(r["rejected"])} for r in ROWS
    ]
    trainer = trl.DPOTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        args=trl.DPOConfig(**arguments(tmp_path), beta=0.3, max_length=None, loss_type="sigmoid"),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    parameters = move_along(trainer, ours)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    source = Source(make_task(), ours.model.chat)
    groups = [source.given(row, [row["chosen"], row["rejected"]], [1.0, 0.0]) for row in ROWS]
    fed = sorted(
        ids[m.bool()].tolist() for ids, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    )
    assert fed == sorted(g.prompt + c.tokens for g in groups for c in g.completions)
    assert loss.item() != pytest.approx(0.6931, abs=1e-3)  # the policy has left its reference
    assert_parity(loss, parameters, ours, groups, DPO(beta=0.3))


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("tools", [False, True])
def test_grpo(
    tiny_model: ModelFolder,
    sft_adapter: Path,
    ours: Learner,
    tiny_tokenizer: Any,
    tmp_path: Path,
    beta: float,
    tools: bool,
) -> None:
    """`loss_type="grpo"` is the paper's mean over completions (their default since is DAPO's over tokens), and
    `scale_rewards="group"` its z-score, whose epsilon of 1e-4 and K - 1 are ours as well. Their default multiplies
    the KL by the ratio since (DeepSeek-V3.2); the paper's, and ours, does not. The old log-probabilities are a noisy
    copy of the policy's, so that a good share of the ratios is clipped, on both sides.
    """
    groups = random_groups([(9, [7, 3, 12, 1]), (21, [5, 16, 2, 8]), (4, [11, 6, 6, 9])], tools=tools)
    groups = with_own_logprobs(groups, ours, noise=0.3)
    completions = [(g, c) for g in groups for c in g.completions]

    def replay(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [g.prompt for g, _ in completions],
            "completion_ids": [c.tokens for _, c in completions],
            "logprobs": [c.logprobs for _, c in completions],
            "env_mask": [[int(m) for m in c.mask] for _, c in completions],
        }

    def score(completions: list[str], value: list[float], **_: Any) -> list[float]:
        return value

    rows = [{"prompt": f"{i}", "value": s} for i, g in enumerate(groups) for s in g.scores or []]
    options = arguments(tmp_path, per_device_train_batch_size=len(rows))
    trainer = trl.GRPOTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        reward_funcs=score,
        args=trl.GRPOConfig(
            **options,
            beta=beta,
            num_generations=4,
            loss_type="grpo",
            scale_rewards="group",
            use_bias_correction_kl=False,
            max_completion_length=16,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
        rollout_func=replay,
    )
    parameters = move_along(trainer, ours)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(rows)
    inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
    loss = trainer.compute_loss(trainer.model, inputs)
    method = GRPO(beta=beta)
    _, metrics = gradient(ours, method.annotate(groups, ours), method)
    assert 0.2 < metrics["clipped"] < 0.8
    assert_parity(loss, parameters, ours, groups, method)
