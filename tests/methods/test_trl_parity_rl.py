"""GRPO's family and RLOO against TRL's trainers on fixed rollouts: same loss, same gradient.

The old log-probabilities are a noisy copy of the policy's, so that a good share of the ratios is past a limit, on both
sides. Their scores, advantages, references and losses are computed by their own code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_trl_parity import arguments, assert_parity, datasets, move_along, ours, sft_adapter, theirs, trl

from random_groups import gradient, random_groups, stir_weights, with_own_logprobs
from tieout.advantages import leave_one_out
from tieout.learner import Learner
from tieout.methods import CISPO, DAPO, GRPO, GSPO, RLOO, DrGRPO
from tieout.types import Group

__all__ = ["ours", "sft_adapter"]  # fixtures

ModelFolder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = [(9, [7, 3, 12, 1]), (21, [5, 16, 2, 8]), (4, [11, 6, 6, 9])]
END = 1
"""The token that ends a turn."""
LONGEST = 16


def ended(groups: list[Group]) -> list[Group]:
    """Every second completion ends its turn, the others were cut off."""
    result = []
    for group in groups:
        completions = [
            replace(
                c,
                tokens=[*c.tokens[:-1], END] if k % 2 else c.tokens,
                finish_reason="stop" if k % 2 else "length",
            )
            for k, c in enumerate(group.completions)
        ]
        result.append(replace(group, completions=completions))
    return result


def score(completions: list[str], value: list[float], **_: Any) -> list[float]:
    return value


def rows_of(groups: list[Group]) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}", "value": s} for i, g in enumerate(groups) for s in g.scores or []]


CASES: dict[str, tuple[GRPO, dict[str, Any]]] = {
    "grpo": (GRPO(beta=0.04), {"loss_type": "grpo", "beta": 0.04}),
    "grpo, KL times ratio": (
        GRPO(beta=0.04, kl_correction=True),
        {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True},
    ),
    "grpo, scale of the batch": (
        GRPO(advantage="batch_zscore"),
        {"loss_type": "grpo", "scale_rewards": "batch"},
    ),
    "grpo, cut off ones masked": (
        GRPO(mask_cut_off=True),
        {"loss_type": "grpo", "mask_truncated_completions": True},
    ),
    "dr_grpo": (DrGRPO(max_new_tokens=LONGEST), {"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": (DAPO(max_new_tokens=LONGEST, overlong_share=0.5), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dapo, cut off ones masked": (
        DAPO(mask_cut_off=True, overlong_share=0),
        {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True},
    ),
    "gspo": (
        GSPO(),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "gspo, wide": (
        GSPO(epsilon_low=0.1, epsilon_high=0.2),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.2},
    ),
    # Their epsilon_high of CISPO is the limit itself, the paper's and ours what it is above 1.
    "cispo": (CISPO(), {"loss_type": "cispo", "epsilon_high": 5.0}),
    "cispo, narrow": (CISPO(epsilon_high=0.1), {"loss_type": "cispo", "epsilon_high": 1.1}),
    "sapo": (GRPO(policy_loss="sapo"), {"loss_type": "sapo"}),
    "sapo, far apart": (
        GRPO(policy_loss="sapo", tau_positive=0.5, tau_negative=3.0),
        {"loss_type": "sapo", "sapo_temperature_pos": 0.5, "sapo_temperature_neg": 3.0},
    ),
}


def grpo_trainer(groups: list[Group], model: Any, tokenizer: Any, folder: Path, **options: Any) -> Any:
    completions = [(g, c) for g in groups for c in g.completions]

    def replay(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [g.prompt for g, _ in completions],
            "completion_ids": [c.tokens for _, c in completions],
            "logprobs": [c.logprobs for _, c in completions],
            "env_mask": [[int(m) for m in c.mask] for _, c in completions],
        }

    rewards: list[Any] = [score]
    if options.pop("overlong", False):
        from trl.rewards import get_soft_overlong_punishment

        rewards.append(get_soft_overlong_punishment(LONGEST, LONGEST // 2))
    defaults = {"beta": 0.0, "scale_rewards": "group", "use_bias_correction_kl": False, "num_generations": 4}
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=trl.GRPOConfig(
            **arguments(folder, per_device_train_batch_size=len(completions)),
            **{"max_completion_length": LONGEST, **defaults, **options},
        ),
        train_dataset=datasets.Dataset.from_list(rows_of(groups)),
        processing_class=tokenizer,
        rollout_func=replay,
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.mark.parametrize("case", CASES)
def test_grpo_and_its_relatives(
    tiny_model: ModelFolder,
    sft_adapter: Path,
    ours: Learner,
    tiny_tokenizer: Any,
    tmp_path: Path,
    case: str,
) -> None:
    """Dynamic sampling is the one choice of a preset that TRL lacks; it acts before a batch exists."""
    method, options = CASES[case]
    groups = with_own_logprobs(ended(random_groups(SHAPES, tools="masked" not in case)), ours, noise=0.3)
    if (
        method.overlong_share
    ):  # a tool's tokens count for their penalty, and not for ours: they are not the policy's
        groups = [
            replace(g, completions=[replace(c, mask=[True] * len(c.mask)) for c in g.completions])
            for g in groups
        ]
        options = {**options, "overlong": True}
    model = theirs(tiny_model("llama"), sft_adapter)
    trainer = grpo_trainer(groups, model, tiny_tokenizer, tmp_path, **options)
    parameters = move_along(trainer, ours)
    trainer.model.train()
    inputs = trainer._generate_and_score_completions(rows_of(groups))
    inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
    loss = trainer.compute_loss(trainer.model, inputs)
    _, metrics = gradient(ours, method.annotate(groups, ours), method)
    if case not in ("cispo", "sapo", "sapo, far apart"):
        assert metrics["clipped"] > 0.1
    assert_parity(loss, parameters, ours, groups, method)


def test_truncated_importance_sampling(
    tiny_model: ModelFolder, sft_adapter: Path, ours: Learner, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Theirs acts with vLLM only; the flag is set after the trainer was made, so that none is asked for."""
    method = GRPO(tis_cap=1.2, aggregation="token")
    groups = with_own_logprobs(random_groups(SHAPES), ours, noise=0.3)
    options = {"loss_type": "dapo", "vllm_importance_sampling_mode": "token_truncate"}
    limits = {"vllm_importance_sampling_clip_max": 1.2, "vllm_importance_sampling_clip_min": None}
    model = theirs(tiny_model("llama"), sft_adapter)
    trainer = grpo_trainer(groups, model, tiny_tokenizer, tmp_path, **options, **limits)
    parameters = move_along(trainer, ours)
    trainer.model.train()
    trainer.use_vllm, trainer._last_loaded_step = True, trainer.state.global_step
    inputs = trainer._generate_and_score_completions(rows_of(groups))
    loss = trainer.compute_loss(trainer.model, inputs)
    _, metrics = gradient(ours, method.annotate(groups, ours), method)
    assert 0.1 < metrics["tis_clipped"] < 0.9
    assert_parity(loss, parameters, ours, groups, method)


def test_rloo(
    tiny_model: ModelFolder, sft_adapter: Path, ours: Learner, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """The policy that sampled is neither the reference nor the policy that is trained, so that the KL in the reward and
    the clip of the whole completion's ratio both act."""
    groups = with_own_logprobs(random_groups(SHAPES, tools=False), ours)
    completions = [(g, c) for g in groups for c in g.completions]
    trainer = trl.RLOOTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        reward_funcs=score,
        args=trl.RLOOConfig(
            **arguments(tmp_path, per_device_train_batch_size=len(completions)),
            num_generations=4,
            max_completion_length=LONGEST,
        ),
        train_dataset=datasets.Dataset.from_list(rows_of(groups)),
        processing_class=tiny_tokenizer,
    )
    trainer._generate = lambda prompts: (
        [g.prompt for g, _ in completions],
        [c.tokens for _, c in completions],
        ["" for _ in completions],
    )
    move_along(trainer, ours)
    trainer.model.train()
    inputs = trainer._generate_and_score_completions(rows_of(groups))
    stir_weights(ours, 0.01, seed=9)
    parameters = move_along(trainer, ours)
    loss = trainer.compute_loss(trainer.model, inputs)
    method = RLOO()
    assert (method.beta, method.epsilon_low, method.epsilon_high) == (
        trainer.beta,
        trainer.epsilon_low,
        trainer.epsilon_high,
    )
    annotated = method.annotate(groups, ours)
    assert [a for g in annotated for a in g.columns["advantages"]] == pytest.approx(
        inputs["advantages"].tolist(), abs=1e-4
    )
    without_kl = [a for g in groups for a in leave_one_out(g.scores or [])]
    assert max(abs(a - b) for a, b in zip(inputs["advantages"].tolist(), without_kl, strict=True)) > 0.01
    _, metrics = gradient(ours, annotated, method)
    assert 0.05 < metrics["clipped"] < 0.95
    assert_parity(loss, parameters, ours, groups, method)
