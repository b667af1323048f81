"""A tokenizer without a pad token, such as Llama's, through every door: rows lie without padding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tieout.chat.template import Chat
from tieout.cli.evaluate import main as evaluate
from tieout.cli.run import run_recipe
from tieout.cli.train import main as train
from tieout.learner import Learner, LearnerConfig, load
from tieout.rewards.library.reward_model import reward_model
from tieout.types import Completion, Group

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"say {word}"}],
        "completion": word,
        "chosen": word,
        "rejected": word[::-1] * 2,
        "answer": word,
    }
    for word in WORDS
]


@pytest.fixture
def padless(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model whose tokenizer, configuration and generation settings know no pad token."""
    folder = tmp_path / "padless"
    shutil.copytree(tiny_model("llama"), folder)
    for name in ("tokenizer_config.json", "config.json", "generation_config.json", "special_tokens_map.json"):
        if (file := folder / name).exists():
            known = {k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("pad_token")}
            file.write_text(json.dumps(known))
    assert Chat.load(str(folder)).tokenizer.pad_token_id is None
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def trained(method: str, model: Path, data: Path, out: Path, more: Sequence[str] = ()) -> Path:
    train([
        method, "--model", str(model), "--data", str(data), "--out", str(out), "--batch-size", "4",
        "--adapter.rank", "4", *more,
    ])  # fmt: skip
    return out / method / "adapter"


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_it_trains_and_is_evaluated(
    method: str, padless: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = ["--reward", "exact", "--group-size", "2", "--max-new-tokens", "4"]
    adapter = trained(method, padless, data, tmp_path / "run", sampled if method == "grpo" else [])
    capsys.readouterr()
    asked = ["--model", str(adapter), "--data", str(data), "--max-new-tokens", "4", "--reward-workers", "0"]
    evaluate([*asked, "--accept-leakage", "the rows that it was trained on"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[str(adapter)] is not None


def test_a_recipe_runs_to_its_candidate(padless: Path, data: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    rows = [{"prompt": [{"role": "user", "content": f"write {word}"}], "answer": word} for word in WORDS]
    test.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": str(padless),
        "data": {"train": str(data), "test": str(test)},
        "max_new_tokens": 4,
        "adapter": {"rank": 4},
        "placement": {"reward_workers": 0},
        "stages": [
            {"train": "sft", "batch_size": 4},
            {"evaluate": {}},
            {"gate": {}},
            {"ship": {"merged": True, "demonstration": True}},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run_recipe(tmp_path / "recipe.yaml", tmp_path / "run")
    merged = tmp_path / "run" / "candidate" / "merged"
    assert Chat.load(str(merged)).tokenizer.pad_token_id is None
    assert (merged / "model.safetensors").exists()


def test_a_reward_model_scores_at_the_last_real_token(padless: Path, data: Path, tmp_path: Path) -> None:
    """As transformers does for one sequence without padding; and in a batch of unlike lengths the same."""
    from transformers import AutoModelForSequenceClassification

    pairs = tmp_path / "held.jsonl"
    row = {"prompt": [{"role": "user", "content": "spell fee"}], "chosen": "fee", "rejected": "eef"}
    pairs.write_text(json.dumps(row) + "\n")
    full = ["--adapter.method", "full", "--held-out", str(pairs)]
    folder = trained("reward_model", padless, data, tmp_path / "run", full)
    prompt: Any = ROWS[0]["prompt"]
    texts = ["audit", "a", "audit " * 9]
    scores = reward_model(folder)(texts, [prompt] * 3)
    chat, theirs = Chat.load(str(padless)), AutoModelForSequenceClassification.from_pretrained(str(folder))
    groups = [Group(chat.prompt(prompt), [_completion(chat, prompt, text)]) for text in texts]
    with torch.no_grad():
        for score, group in zip(scores, groups, strict=True):
            ids = torch.tensor([[*group.prompt, *group.completions[0].tokens]])
            assert score == pytest.approx(theirs(input_ids=ids).logits.item(), abs=1e-4)
    plain = Learner(load(str(folder)), 1e-3, LearnerConfig(layout="repeated"), frozen=True)
    assert [s for (s,) in plain.scores(groups)] == pytest.approx(scores, abs=1e-4)
    assert len(set(scores)) == 3


def _completion(chat: Chat, prompt: Any, text: str) -> Completion:
    tokens = chat.completion(prompt, text)
    return Completion(tokens, [True] * len(tokens))
