"""Tokenizers of seven architectures: a row is the tokens of its conversation in transformers, split as in TRL."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout.chat.template import Chat
from tieout.errors import InputError

FOUND = importlib.util.find_spec("trl")
FOLDER = Path(FOUND.origin or "").parent / "chat_templates" if FOUND else Path("none")
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="trl is not installed")
TAGS = ["<think>", "</think>"]
ENDS = {
    **dict.fromkeys(
        ("qwen2_5", "qwen3", "qwen3_5_think", "qwen3_5_nothink", "nemotron_3_nano"), "<|im_end|>"
    ),
    "llama3": "<|eot_id|>",
    "gemma3": "<end_of_turn>",
    "phi3": "<|end|>",
    "deepseek_r1_distill": "<｜end▁of▁sentence｜>",
}
"""Template -> how it ends a turn."""
NO_REASONING = {"qwen2_5", "llama3", "gemma3", "phi3", "deepseek_r1_distill"}
"""Templates that know no reasoning in a field."""
OTHERS = [
    *(
        "<|im_start|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<start_of_turn>",
        "<|user|>",
        "<|assistant|>",
    ),
    *("<|system|>", "<｜User｜>", "<｜Assistant｜>", "<s>"),
]
FAST = settings(max_examples=25, suppress_health_check=list(HealthCheck))
WORDS = ["4", "2 + 2", " is", "four", "\n", "\n\n", "  ", "é", "数", "1,234.5", "x.", "🙂", "and so", "\t"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map("".join).filter(str.strip)


def corpus() -> list[str]:
    return [Path(__file__).read_text(encoding="utf-8")] * 2 + [" ".join(WORDS) * 4]


def made(kind: str) -> Any:
    """A tokenizer trained on this file, of the kind that an architecture has."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    specials = ["<unk>", *dict.fromkeys([*ENDS.values(), *OTHERS])]
    split = Regex(
        r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind in ("gpt2", "qwen", "llama3"):
        tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
        tokenizer.pre_tokenizer = (
            pre_tokenizers.ByteLevel(add_prefix_space=False)
            if kind == "gpt2"
            else pre_tokenizers.Sequence([pre_tokenizers.Split(split, "isolated"), bytes_alone])
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(vocab_size=900, special_tokens=specials, initial_alphabet=alphabet)
        if kind == "qwen":
            tokenizer.normalizer = normalizers.NFC()
        if kind == "llama3":
            tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    elif kind == "gemma":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        every = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=every)
    else:  # a space in front of every text, or of the first one only
        scheme = "always" if kind == "mistral" else "first"
        tokenizer = Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
        characters = sorted({c for text in corpus() for c in text} - {" "})
        options: dict[str, Any] = {
            "special_tokens": specials,
            "initial_alphabet": characters,
            "vocab_size": 700,
        }
        trainer = (
            trainers.UnigramTrainer(unk_token="<unk>", **options)
            if kind == "unigram"
            else trainers.BpeTrainer(**options)
        )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


KINDS = ["gpt2", "qwen", "llama3", "gemma", "mistral", "llama2", "unigram"]


@cache
def chat_of(kind: str, name: str) -> Chat:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made(kind),
        bos_token="<s>",
        eos_token=ENDS[name],
        unk_token="<unk>",
        additional_special_tokens=[*dict.fromkeys([*ENDS.values(), *OTHERS])],
        chat_template=(FOLDER / f"{name}.jinja").read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(TAGS)
    return Chat(tokenizer)


def parted(one: list[int], other: list[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("kind", KINDS)
@FAST
@given(question=TEXT, reasoning=TEXT, answer=TEXT, shape=st.sampled_from(["plain", "tag", "field"]))
def test_a_row_is_what_transformers_make_of_it(
    kind: str, name: str, question: str, reasoning: str, answer: str, shape: str
) -> None:
    chat = chat_of(kind, name)

    def encode(text: str) -> list[int]:
        return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    prompt = [{"role": "user", "content": question}]
    content = f"<think>\n{reasoning}\n</think>\n\n{answer}" if shape == "tag" else answer
    reply = {"role": "assistant", "content": content} | (
        {"reasoning_content": reasoning} if shape == "field" else {}
    )
    opened = chat.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    whole = chat.tokenizer.apply_chat_template([*prompt, reply], tokenize=False)
    if shape == "field" and name in NO_REASONING:
        with pytest.raises(InputError, match="leaves out 'reasoning_content'"):
            chat.given(prompt, [[reply]])
        return
    tokens = chat.given(prompt, [[reply]])
    (completion,) = tokens.completions
    end = chat.tokenizer.convert_tokens_to_ids(ENDS[name])
    assert completion.count(end) == 1
    assert completion[-1] == end
    if name == "deepseek_r1_distill" and shape == "tag":  # its template would lose the reasoning
        whole = opened + content.removeprefix("<think>\n") + ENDS[name]
    ours, theirs = [*tokens.prompt, *completion], encode(whole)
    asked = encode(opened)
    if theirs[: len(asked)] == asked or not whole.startswith(opened):
        assert ours == theirs[: len(ours)]
        assert len(tokens.prompt) == parted(asked, theirs)  # where TRL begins the completion
    else:  # a token of the whole spans the border: the policy's prompt ends there all the same
        assert tokens.prompt == asked
        decode = chat.tokenizer.decode
        assert decode(ours) == decode(theirs[: theirs.index(end, len(asked) - 1) + 1])
