"""A reward model scores alike here, in transformers and in PEFT: whatever its pad token, padded on either side."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from random_groups import stir_weights
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.rewards.library.reward_model import ClassifierReward, reward_model

PROMPT = [{"role": "user", "content": "Which?"}]
TEXTS = ["the first", "no", "the second one, of both"]
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Ends with a line break after the stop token, as ChatML does."""
SMALL = {"vocab_size": 262, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
OWN = {"num_key_value_heads": 2, "intermediate_size": 64}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**SMALL, **OWN),
    "qwen2": lambda: hf.Qwen2Config(**SMALL, **OWN),
    "qwen3": lambda: hf.Qwen3Config(**SMALL, **OWN, head_dim=8),
    "mistral": lambda: hf.MistralConfig(**SMALL, **OWN, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**SMALL, **OWN, head_dim=8, sliding_window=16),
    "phi3": lambda: hf.Phi3Config(**SMALL, **OWN),
    "gpt2": lambda: hf.GPT2Config(**SMALL),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SMALL, intermediate_size=64),
}
PADS = {"own": "<|pad|>", "eos": "<|end|>", "none": None}


@pytest.fixture
def base(new_tokenizer: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """`base("llama", pad)` -> folder of a causal model whose pad token is that."""

    def made(family: str, pad: str | None, template: str | None = None) -> Path:
        tokenizer = new_tokenizer(**({"chat_template": template} if template else {}))
        tokenizer.pad_token = pad
        config = CONFIGS[family]()
        config.pad_token_id, config.eos_token_id, config.bos_token_id = tokenizer.pad_token_id, 1, None
        torch.manual_seed(0)
        network = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        network.save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return made


def trained(base: Path, method: Any, folder: Path) -> Path:
    """A reward model with weights that say something."""
    learner = Learner(load(str(base), AdapterConfig(method, rank=4), head="score", device="cpu"))
    stir_weights(learner)
    save_adapter(learner, folder)
    return folder


def theirs(folder: Path, base: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers or PEFT load them."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    options = {"num_labels": 1, "dtype": torch.float32}
    if not (folder / "adapter_config.json").exists():
        return hf.AutoModelForSequenceClassification.from_pretrained(folder, **options).eval(), tokenizer
    from peft import AutoPeftModelForSequenceClassification

    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, **options).eval()
    if model.config.pad_token_id is None:  # what everybody has to do before a batch
        model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def scores(model: Any, tokenizer: Any, side: str | None, given: list[str]) -> list[float]:
    """Of one batch padded on a side, or of each text alone if None."""
    batches = [given] if side else [[text] for text in given]
    found = []
    for batch in batches:
        inputs = tokenizer(
            batch, padding=bool(side), padding_side=side, return_tensors="pt", add_special_tokens=False
        )
        mask = inputs["attention_mask"]
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            found += model(**{k: v for k, v in inputs.items() if k != "token_type_ids"}).logits[:, 0].tolist()
    return found


def rendered(tokenizer: Any) -> list[str]:
    return [
        tokenizer.apply_chat_template([*PROMPT, {"role": "assistant", "content": text}], tokenize=False)
        for text in TEXTS
    ]


@pytest.mark.parametrize(
    ("method", "pad"), [*(("lora", pad) for pad in PADS), ("full", "none")], ids=lambda value: value
)
@pytest.mark.parametrize("family", CONFIGS)
def test_ours_scores_alike_in_transformers_and_peft(
    base: Callable[..., Path], tmp_path: Path, family: str, pad: str, method: str
) -> None:
    folder = trained(base(family, PADS[pad]), method, tmp_path / "reward")
    ours = reward_model(folder, device="cpu")(TEXTS, [PROMPT] * 3)
    model, tokenizer = theirs(folder, tmp_path / "base")
    assert tokenizer.pad_token_id is not None
    assert model.config.pad_token_id == tokenizer.pad_token_id
    for side in (None, "left", "right"):
        assert scores(model, tokenizer, side, rendered(tokenizer)) == pytest.approx(ours, abs=2e-4), side
    assert max(ours) - min(ours) > 1e-2
    again = ClassifierReward.of(model, tokenizer)(TEXTS, [PROMPT] * 3)
    assert again == pytest.approx(ours, abs=2e-4)


@pytest.mark.parametrize(("pad", "template"), [("own", None), ("eos", CHATML), ("none", CHATML)])
def test_one_that_trl_trained_scores_alike_as_path_and_as_object(
    base: Callable[..., Path], tmp_path: Path, pad: str, template: str | None
) -> None:
    """TRL trains at the rightmost token that is not its pad token, of all that the template writes."""
    from datasets import Dataset
    from peft import LoraConfig

    from trl import RewardConfig, RewardTrainer

    source = base("qwen2", PADS[pad], template)
    model = hf.AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = None if pad == "none" else model.config.pad_token_id
    turn = {"role": "assistant", "content": "yes"}
    rows = [{"prompt": PROMPT, "chosen": [turn], "rejected": [{**turn, "content": "no no"}]}] * 2
    for name, peft in (
        ("whole", None),
        ("adapter", LoraConfig(r=4, task_type="SEQ_CLS", modules_to_save=["score"])),
    ):
        trainer = RewardTrainer(
            copy.deepcopy(model),
            args=RewardConfig(
                str(tmp_path / name), per_device_train_batch_size=2, max_steps=3, learning_rate=1e-2,
                report_to=[], use_cpu=True, bf16=False, save_strategy="no",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=hf.AutoTokenizer.from_pretrained(source),
            peft_config=peft,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(str(tmp_path / name))
        tokenizer = trainer.processing_class
        expected = scores(trainer.model.eval(), tokenizer, "right", rendered(tokenizer))
        path = reward_model(tmp_path / name, device="cpu")(TEXTS, [PROMPT] * 3)
        assert path == pytest.approx(expected, abs=2e-4), name
        given = ClassifierReward.of(trainer.model, tokenizer)(TEXTS, [PROMPT] * 3)
        assert given == pytest.approx(expected, abs=2e-4), name


@pytest.mark.parametrize(("pad", "adapter"), [("own", True), ("eos", False), ("none", True)])
def test_the_trainer_by_trls_name_saves_one_that_transformers_reads_alike(
    base: Callable[..., Path], tmp_path: Path, pad: str, adapter: bool
) -> None:
    """From a classifier as an object, as people come from TRL; the loss of the first step is TRL's."""
    from datasets import Dataset
    from peft import LoraConfig

    import trl
    from tieout.trl import RewardConfig, RewardTrainer

    source = base("llama", PADS[pad], CHATML)
    model = hf.AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    turn = {"role": "assistant", "content": "yes"}
    rows = [{"prompt": PROMPT, "chosen": [turn], "rejected": [{**turn, "content": "no no"}]}] * 2
    peft = LoraConfig(r=4, task_type="SEQ_CLS", modules_to_save=["score"]) if adapter else None
    args: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 1e-2,
        "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    losses = []
    for config, cls in ((trl.RewardConfig, trl.RewardTrainer), (RewardConfig, RewardTrainer)):
        tokenizer = hf.AutoTokenizer.from_pretrained(source)
        trainer = cls(
            copy.deepcopy(model), config(**args), train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer, peft_config=peft,
        )  # fmt: skip
        trainer.train()
        losses.append(next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry))
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    trainer.save_model(str(tmp_path / "saved"))
    ours = reward_model(tmp_path / "saved", device="cpu")(TEXTS, [PROMPT] * 3)
    found, tokenizer = theirs(tmp_path / "saved", source)
    for side in (None, "left", "right"):
        assert scores(found, tokenizer, side, rendered(tokenizer)) == pytest.approx(ours, abs=2e-4), side


def test_a_text_is_read_with_bos_and_eos_as_trl_trains_it(base: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained(base("llama", "<|end|>"), "full", tmp_path / "reward")
    model, tokenizer = theirs(folder, tmp_path / "base")
    ours = reward_model(folder, device="cpu")(TEXTS, ["Which? "] * 3)
    texts = [f"Which? {text}{tokenizer.eos_token}" for text in TEXTS]
    assert scores(model, tokenizer, "left", texts) == pytest.approx(ours, abs=2e-4)
    given = ClassifierReward.of(model, tokenizer)(TEXTS, ["Which? "] * 3)
    assert given == pytest.approx(ours, abs=2e-4)


def test_its_own_template_is_used_next_to_a_policy_with_another(
    base: Callable[..., Path], tmp_path: Path
) -> None:
    """A reward adapter on the policy's base brings its tokenizer; the policy's template is not the reward model's."""
    from tieout.learner.models.loading import load_chat
    from tieout.rewards.library.reward_model import SharedReward

    folder = trained(base("llama", "<|end|>", CHATML), "lora", tmp_path / "reward")
    alone = reward_model(folder, device="cpu")(TEXTS, [PROMPT] * 3)
    policy = Learner(load(str(tmp_path / "base"), AdapterConfig(rank=2), device="cpu"))
    policy.model.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    policy.model.add_reward(folder)
    shared = SharedReward(policy, load_chat(str(folder)), folder=folder)(TEXTS, [PROMPT] * 3)
    assert shared == pytest.approx(alone, abs=2e-4)
