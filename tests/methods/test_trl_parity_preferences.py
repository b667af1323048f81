"""Preference methods and the reward model against TRL's trainers: the same batch, model, adapter, loss and gradient.

Where TRL differs on purpose the test says why, and makes both sides compute the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trl_parity import arguments, assert_parity, datasets, move_along, ours, sft_adapter, theirs, trl

from random_groups import gradient, make_learner, stir_weights
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import save_adapter
from tieout.losses.preference import PAIR_LOSSES
from tieout.methods import CPO, DPO, KTO, ORPO, RewardModel, SimPO
from tieout.source import Source
from tieout.types import Completion, Group
from tiny_task import ROWS, make_task

__all__ = ["ours", "sft_adapter"]  # fixtures

ModelFolder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore")


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pairs(learner: Learner) -> list[Group]:
    source = Source(make_task(), learner.model.chat)
    return [source.given(row, [row["chosen"], row["rejected"]], [1.0, 0.0]) for row in ROWS]


@pytest.fixture(scope="module")
def dpo_trainer(
    tiny_model: ModelFolder, sft_adapter: Path, tiny_tokenizer: Any, tmp_path_factory: Any
) -> Any:
    """One trainer for all losses: what a loss needs of its configuration is set before it is asked."""
    rows = [
        {"prompt": r["prompt"], "chosen": said(r["chosen"]), "rejected": said(r["rejected"])} for r in ROWS
    ]
    trainer = trl.DPOTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        args=trl.DPOConfig(**arguments(tmp_path_factory.mktemp("trl")), beta=0.3, max_length=None),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    return trainer, next(iter(trainer.get_train_dataloader()))


SMOOTHED = {"robust": 0.1, "exo_pair": 0.1}
DPO_CASES: dict[str, tuple[DPO, dict[str, Any]]] = {
    name: (
        DPO(beta=0.3, loss_type=name, label_smoothing=SMOOTHED.get(name, 0.0)),  # type: ignore[arg-type]
        {"label_smoothing": SMOOTHED.get(name, 0.0)},
    )
    for name in PAIR_LOSSES
} | {
    "sft term": (
        DPO(beta=0.3, rpo_alpha=0.7),
        {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    ),
    "ld": (DPO(beta=0.3, ld_alpha=0.4), {"ld_alpha": 0.4}),
    "ld of ipo": (DPO(beta=0.3, loss_type="ipo", ld_alpha=0.4), {"ld_alpha": 0.4, "loss_types": ["ipo"]}),
    "forward_kl": (DPO(beta=0.3, divergence="forward_kl"), {"f_divergence_type": "forward_kl"}),
    "js": (DPO(beta=0.3, divergence="js_divergence"), {"f_divergence_type": "js_divergence"}),
    # Their alpha is one minus the paper's, which is ours.
    "alpha": (
        DPO(beta=0.3, divergence="alpha_divergence", divergence_alpha=0.3),
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
    ),
    "hinge of js": (
        DPO(beta=0.3, loss_type="hinge", divergence="js_divergence"),
        {"f_divergence_type": "js_divergence", "loss_types": ["hinge"]},
    ),
}


@pytest.mark.parametrize("name", DPO_CASES)
def test_dpo_losses(dpo_trainer: Any, ours: Learner, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch = dpo_trainer
    method, settings = DPO_CASES[name]
    given = {"loss_types": [method.loss_type], "loss_weights": [1.0], **settings}
    for key, value in given.items():
        assert hasattr(trainer, key)
        monkeypatch.setattr(trainer, key, value)
    parameters = move_along(trainer, ours)
    loss = trainer.compute_loss(trainer.model, batch)
    assert_parity(loss, parameters, ours, pairs(ours), method)


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_kto(
    tiny_model: ModelFolder,
    sft_adapter: Path,
    ours: Learner,
    tiny_tokenizer: Any,
    tmp_path: Path,
    loss_type: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reference point comes from their own mismatched pairs: which stranger a prompt gets is each side's choice."""
    rows = [
        {"prompt": r["prompt"], "completion": said(r["chosen" if i % 3 else "rejected"]), "label": i % 3 > 0}
        for i, r in enumerate(ROWS)
    ]
    trainer = trl.KTOTrainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        args=trl.KTOConfig(
            **arguments(tmp_path),
            beta=0.3,
            max_length=None,
            loss_type=loss_type,
            desirable_weight=0.8,
            undesirable_weight=1.7,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    stir_weights(
        ours, -0.04, seed=8
    )  # to the other side of the start, where the reference point is not clamped to 0
    parameters = move_along(trainer, ours)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    source = Source(make_task(), ours.model.chat)
    groups = [
        source.given(r, [r["chosen" if i % 3 else "rejected"]], [float(i % 3 > 0)])
        for i, r in enumerate(ROWS)
    ]
    if loss_type == "kto":
        strangers = []
        for i in range(len(ROWS)):
            ids = batch["KL_input_ids"][i][batch["KL_attention_mask"][i].bool()].tolist()
            written = int(batch["KL_completion_mask"][i].sum())
            strangers.append(Group(ids[:-written], [Completion(ids[-written:], [True] * written)]))
        own = {tuple(g.prompt + c.tokens) for g in groups for c in g.completions}
        assert not own & {tuple(g.prompt + g.completions[0].tokens) for g in strangers}
        monkeypatch.setattr("tieout.methods.kto.mismatched", lambda _: strangers)
    method = KTO(beta=0.3, loss_type=loss_type, desirable_weight=0.8, undesirable_weight=1.7)
    assert_parity(loss, parameters, ours, groups, method)
    if loss_type == "kto":
        _, metrics = gradient(ours, method.annotate(groups, ours), method)
        assert metrics["kl_reference"] > 0


TEXTS = [
    {"prompt": "abcdefghijk"[i], "chosen": r["chosen"], "rejected": r["rejected"]} for i, r in enumerate(ROWS)
]
"""Prompts of one token: TRL's ORPO trains on the prompt as well, which is then nothing."""


def text_pairs(learner: Learner, batch: dict[str, Any]) -> list[Group]:
    """The groups of TRL's own tokens."""
    groups = []
    for i in range(len(batch["prompt"])):
        sides = []
        for side in ("chosen", "rejected"):
            labels, ids = batch[f"{side}_labels"][i], batch[f"{side}_input_ids"][i]
            sides.append(
                (ids[: int((labels == -100).long().argmin())].tolist(), labels[labels != -100].tolist())
            )
        (prompt, chosen), (same, rejected) = sides
        assert prompt == same
        completions = [Completion(t, [True] * len(t)) for t in (chosen, rejected)]
        groups.append(Group(prompt, completions, [1.0, 0.0]))
    return groups


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (CPO(beta=0.3), {}),
        (CPO(beta=0.3, label_smoothing=0.1, cpo_alpha=0.4), {"label_smoothing": 0.1, "cpo_alpha": 0.4}),
        (CPO(beta=0.3, loss_type="hinge"), {"loss_type": "hinge"}),
        (CPO(beta=0.3, loss_type="ipo", cpo_alpha=0.0), {"loss_type": "ipo", "cpo_alpha": 0.0}),
        (SimPO(), {"loss_type": "simpo", "beta": 2.0, "cpo_alpha": 0.0}),
        (
            SimPO(simpo_gamma=0.2, cpo_alpha=0.5, label_smoothing=0.1),
            {"loss_type": "simpo", "beta": 2.0, "cpo_alpha": 0.5, "simpo_gamma": 0.2, "label_smoothing": 0.1},
        ),
        (ORPO(beta=0.3), {}),
    ],
    ids=["cpo", "cpo smoothed", "cpo hinge", "cpo ipo", "simpo", "cpo-simpo", "orpo"],
)
def test_without_a_reference(
    tiny_model: ModelFolder,
    sft_adapter: Path,
    ours: Learner,
    tiny_tokenizer: Any,
    tmp_path: Path,
    method: Any,
    settings: dict[str, Any],
) -> None:
    """Their cross entropy is over the batch's tokens, as ours; ORPO's takes the prompt in, which the paper does not."""
    if isinstance(method, ORPO):
        from trl.experimental.orpo import ORPOConfig as Config
        from trl.experimental.orpo import ORPOTrainer as Trainer
    else:
        from trl.experimental.cpo import CPOConfig as Config
        from trl.experimental.cpo import CPOTrainer as Trainer
    trainer = Trainer(
        model=theirs(tiny_model("llama"), sft_adapter),
        args=Config(**{**arguments(tmp_path), "beta": 0.3, "max_length": 512, **settings}),
        train_dataset=datasets.Dataset.from_list(TEXTS),
        processing_class=tiny_tokenizer,
    )
    parameters = move_along(trainer, ours)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    groups = text_pairs(ours, batch)
    assert all(len(g.prompt) == 1 for g in groups)
    assert_parity(loss, parameters, ours, groups, method)


@pytest.mark.parametrize("start", ["lora", "classifier"])
@pytest.mark.parametrize("margins", [False, True])
def test_reward_model(
    tiny_model: ModelFolder, tiny_tokenizer: Any, tmp_path: Path, margins: bool, start: str
) -> None:
    """A LoRA with its score head on a causal base, and a sequence-classification checkpoint trained in full."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    adapter = AdapterConfig(method="lora" if start == "lora" else "full", rank=4)
    first = make_learner(tiny_model("llama"), adapter=adapter, head="score")
    save_adapter(first, tmp_path / "start")
    learner = Learner(
        load(str(tmp_path / "start"), adapter if start != "lora" else AdapterConfig()),
        config=LearnerConfig(max_grad_norm=float("inf"), layout="packed"),
    )
    if start == "lora":
        base = AutoModelForSequenceClassification.from_pretrained(tiny_model("llama"), num_labels=1)
        model = PeftModel.from_pretrained(base, str(tmp_path / "start"), is_trainable=True)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start")
    rows = [
        {
            "prompt": r["prompt"],
            "chosen": said(r["chosen"]),
            "rejected": said(r["rejected"]),
            **({"margin": 0.1 * i} if margins else {}),
        }
        for i, r in enumerate(ROWS)
    ]
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(
            **arguments(tmp_path / "trl"), max_length=None, center_rewards_coefficient=0.05
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    named = dict(trainer.model.named_parameters())
    source = Source(make_task(), learner.model.chat)
    groups = [
        source.given({**r, "margin": row.get("margin")}, [r["chosen"], r["rejected"]], [1.0, 0.0])
        for r, row in zip(ROWS, rows, strict=True)
    ]
    # Ours are in another order: the decoder's, then the head.
    ordered = []
    for name in learner.model.trained():
        theirs_name = name.replace("score_head.weight", "score.weight")
        (found,) = [
            p
            for n, p in named.items()
            if n.endswith(theirs_name)
            or (n.endswith("score.modules_to_save.default.weight") and "score" in name)
        ]
        ordered.append((name, found))
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    fed = sorted(
        ids[m.bool()].tolist() for ids, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    )
    assert fed == sorted(g.prompt + c.tokens for g in groups for c in g.completions)
    assert_parity(loss, dict(ordered), learner, groups, RewardModel(center_rewards_coefficient=0.05))


def test_the_policy_has_left_its_reference(ours: Learner) -> None:
    """Else every log-ratio above would be 0, and half of the losses the same."""
    stir_weights(ours, 0.0)
    groups = DPO().annotate(pairs(ours), ours)
    _, metrics = gradient(ours, groups, DPO())
    assert abs(metrics["reward_chosen"]) > 0.01
    assert torch.isfinite(torch.tensor(metrics["loss"]))
