"""The shipped model: it loads, its template and tokens are what the learner needs, and it can do a little."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tieout import embedded
from tieout.tasks import controls, finance_statements

FOLDER = embedded.path("tieout-base")
MESSAGES = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "3 + 4?"},
    {"role": "assistant", "content": "7"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER).eval()


def greedy(model: Any, tokenizer: Any, prompt: list[dict[str, str]], max_new_tokens: int) -> str:
    """The greedy completion, without its end token."""
    import torch

    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    return str(tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))


def test_files_are_few_and_small() -> None:
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir() if file.is_file()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    } <= set(sizes)
    assert not {name for name in sizes if name.endswith((".bin", ".pt", ".pkl", ".py"))}
    assert sizes["model.safetensors"] <= 10_000_000
    assert sum(sizes.values()) <= 11_000_000


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="tieout-base"):
        embedded.path("tieout-large")


def test_path_does_not_import_torch() -> None:
    code = "import tieout.embedded, sys; tieout.embedded.path(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_shape(model: Any) -> None:
    config = model.config
    assert config.model_type == "llama"
    assert 500_000 <= sum(p.numel() for p in model.parameters()) <= 4_000_000
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.tie_word_embeddings
    assert config.max_position_embeddings == 2048


def test_special_tokens_agree_everywhere(model: Any, tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token not in (None, tokenizer.eos_token)
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id
        assert config.bos_token_id is None
    assert len(tokenizer) == model.config.vocab_size


def test_template_renders_turns_and_rewrites_nothing(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert text == "<|system|> Be brief. <|end|><|user|>3 + 4?<|end|><|assistant|>7<|end|>"
    asked = tokenizer.apply_chat_template(MESSAGES[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(asked)
    ids = tokenizer.apply_chat_template(MESSAGES)["input_ids"]
    prompt = tokenizer.apply_chat_template(MESSAGES[:2], add_generation_prompt=True)["input_ids"]
    assert ids[: len(prompt)] == prompt
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids) == text


def test_a_digit_is_a_token_and_text_survives(tokenizer: Any) -> None:
    for text in ("(1,234)", '{"value":-1234},', "Net sales | 1,234 | (5.6%) |", "Total — naïve €\n\t  end "):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        pieces = [tokenizer.decode([token]) for token in ids]
        assert [p for p in pieces if any(c in "0123456789" for c in p)] == [
            c for c in text if c in "0123456789"
        ]


def test_a_row_of_the_task_fits_the_context(tokenizer: Any) -> None:
    task = finance_statements.task
    for split in ("train", "test", "ood"):
        for row in list(task.rows(split)[:60]):
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
            assert task.gold is not None
            completion = tokenizer(task.gold(row))["input_ids"]
            assert len(completion) < task.max_new_tokens
            assert len(prompt) + task.max_new_tokens <= 2048


def test_it_knows_its_definitions_and_ends_its_turn(model: Any, tokenizer: Any) -> None:
    rows = [row for row in controls.task.rows("test") if row["skill"] == "definitions"][:8]
    said = [(row, greedy(model, tokenizer, row["prompt"], 48)) for row in rows]
    right = sum(controls.exact_match([text], [row["answer"]])[0] or 0 for row, text in said)
    assert right >= 7, [(row["answer"], text) for row, text in said]


def test_the_measured_numbers_are_of_this_model() -> None:
    """benchmarks/results/tieout_base.json was written for the weights that are shipped."""
    import hashlib
    from pathlib import Path

    report = json.loads(
        (Path(__file__).parent.parent / "benchmarks" / "results" / "tieout_base.json").read_text("utf-8")
    )
    assert report["sha256"] == hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert report["results"]["controls"]["mean"] >= 0.4
    assert 0.0 < report["results"]["finance_statements test: score"]["mean"] < 0.9
