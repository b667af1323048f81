"""Rows without a prompt, with padding, and flags of single turns, over the kinds of tokenizers that models have."""

from __future__ import annotations

import functools
import string
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tieout.chat.reader import TOKENS, Reader
from tieout.chat.template import Chat
from tieout.chat.tokens import unpadded_end, unpadded_query
from tieout.rows import RowsError, check_rows

KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"},
    "qwen": {"eos": "<|im_end|>", "pad": "<|endoftext|>"},
    "llama3": {"bos": "<|begin|>", "eos": "<|eot|>", "pad": "<|eot|>", "adds": "<|begin|> $A"},
    "llama2": {"bos": "<s>", "eos": "</s>", "pad": "</s>", "adds": "<s> $A", "spaced": True},
    "gemma": {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "adds": "<bos> $A", "spaced": True},
    "adds eos": {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "adds": "$A </s>"},
    "no pad": {"eos": "<|end|>", "pad": None},
}
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
TEXT = st.text(string.ascii_lowercase + " ", min_size=1, max_size=12).filter(lambda t: t.strip() == t)
IDS = st.lists(st.integers(10, 30), min_size=2, max_size=8)


@functools.cache
def tokenizer_of(kind: str) -> Any:
    shape = {"spaced": False, "adds": "", "bos": None, **KINDS[kind]}
    special = list(dict.fromkeys(filter(None, (shape["bos"], shape["eos"], shape["pad"]))))
    letters = ["▁", *map(chr, range(33, 127))] if shape["spaced"] else pre_tokenizers.ByteLevel.alphabet()
    vocab = {token: i for i, token in enumerate([*special, *sorted(letters)])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    piece = pre_tokenizers.Metaspace(prepend_scheme="first", split=False) if shape["spaced"] else None
    made.pre_tokenizer = piece or pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = (
        decoders.Metaspace(prepend_scheme="first", split=False) if shape["spaced"] else decoders.ByteLevel()
    )
    if shape["adds"]:
        pairs = [(token, vocab[token]) for token in special if token in shape["adds"]]
        made.post_processor = processors.TemplateProcessing(shape["adds"], special_tokens=pairs)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=shape["bos"], eos_token=shape["eos"], pad_token=shape["pad"],
        chat_template=TEMPLATE,
    )  # fmt: skip


def read(kind: str, row: dict[str, Any], reads: str = "demonstrations", **options: Any) -> dict[str, Any]:
    reader = Reader(Chat(tokenizer_of(kind)), **options)
    tokens: dict[str, Any] = getattr(reader, reads)([row])[0][TOKENS]
    return tokens


def whole(kind: str, text: str) -> list[int]:
    """The ids of a text as transformers has them, ended once."""
    tokenizer = tokenizer_of(kind)
    ids = tokenizer(text)["input_ids"]
    return [*(ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids), tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXT)
@settings(max_examples=15)
def test_an_empty_prompt_takes_the_first_token_and_no_more(kind: str, text: str) -> None:
    ids = whole(kind, text)
    expected = {"prompt": ids[:1], "completions": [ids[1:]], "masks": [[True] * len(ids[1:])]}
    assert read(kind, {"prompt": "", "completion": text}) == expected
    assert read(kind, {"prompt": "", "completion": text, "label": False}, "labelled") == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole_pairs", [False, True])
def test_pairs_of_an_empty_prompt_share_a_token_or_are_refused_by_their_row(
    kind: str, whole_pairs: bool
) -> None:
    alike, other = (
        {"prompt": "", "chosen": "ab", "rejected": "ac"},
        {"prompt": "", "chosen": "ab", "rejected": "cb"},
    )
    made = read(kind, alike, "pairs", whole=whole_pairs)
    for completion, text in zip(made["completions"], ("ab", "ac"), strict=True):
        assert [*made["prompt"], *completion] == whole(kind, text)
    spaced_or_begun = whole(kind, "ab")[0] == whole(kind, "cb")[0]
    if spaced_or_begun:
        assert read(kind, other, "pairs", whole=whole_pairs)["prompt"]
    else:
        with pytest.raises(ValueError, match=r"row 0 of the dataset: the prompt is empty, .* give a prompt"):
            read(kind, other, "pairs", whole=whole_pairs)


# ---------------------------------------------------------------- padding


FORMS = {"list": list, "numpy": np.array, "torch": torch.tensor}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind]["pad"]])
@given(
    ids=IDS, side=st.sampled_from(["left", "right"]), form=st.sampled_from(sorted(FORMS)),
    column=st.sampled_from(["", "labels", "assistant_masks", "completion_mask"]), room=st.integers(0, 4),
)  # fmt: skip
@settings(max_examples=20)
def test_padding_of_given_ids_is_neither_read_nor_trained(
    kind: str, ids: list[int], side: str, form: str, column: str, room: int
) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.padding_side = side
    row = {"input_ids": ids}
    if column == "labels":
        row[column] = [-100, *ids[1:]]
    elif column:
        row[column] = [0, *([1] * (len(ids) - 1))]
    padded = dict(tokenizer.pad({"input_ids": ids}, padding="max_length", max_length=len(ids) + room))
    fill = [-100 if column == "labels" else 1] * room
    if column:
        padded[column] = fill + row[column] if side == "left" else row[column] + fill
    given_form = {name: FORMS[form](values) for name, values in padded.items()}
    assert read(kind, given_form) == read(kind, row)
    assert read(kind, row)["completions"] == [ids[1:]]


def test_masks_of_a_given_row_all_count() -> None:
    row = {"input_ids": [5, 6, 7, 8], "assistant_masks": [0, 1, 1, 0], "completion_mask": [0, 0, 1, 1]}
    assert read("qwen", row)["masks"] == [[False, True, False]]
    assert read("qwen", row, completion_only=False)["masks"] == [[True, True, False]]
    with pytest.raises(ValueError, match="'labels' has 3 entries, and attention_mask 4"):
        read("qwen", {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7], "attention_mask": [1, 1, 1, 0]})


@pytest.mark.parametrize("kind", KINDS)
@given(ids=IDS, ended=st.booleans(), room=st.integers(0, 4))
@settings(max_examples=20)
def test_a_padded_response_is_the_response(kind: str, ids: list[int], ended: bool, room: int) -> None:
    tokenizer = tokenizer_of(kind)
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    response = [*ids, *([eos] if ended or (room and pad == eos) else [])]
    row = response + [pad if pad is not None else eos] * room
    mask = [1] * len(response) + [0] * room
    assert unpadded_end(row, mask, pad, [eos]) == (response, [True] * len(response))
    if pad is not None:
        assert unpadded_end(torch.tensor(row), None, pad, [eos]) == (response, [True] * len(response))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind]["pad"]])
@given(ids=IDS, side=st.sampled_from(["left", "right"]), room=st.integers(2, 4))
@settings(max_examples=20)
def test_a_padded_query_is_the_query(kind: str, ids: list[int], side: str, room: int) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.padding_side = side
    row = tokenizer.pad({"input_ids": ids}, padding="max_length", max_length=len(ids) + room)["input_ids"]
    also = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert unpadded_query(row, tokenizer.pad_token_id, also, False) == ids
    assert unpadded_query(ids, tokenizer.pad_token_id, also, False) == ids


def test_one_token_that_may_be_bos_or_eos_stays() -> None:
    assert unpadded_query([1, 5, 6, 1], 1, [1, 1], False) == [1, 5, 6, 1]
    assert unpadded_query([1, 1, 1, 5], 1, [1, 1], True) == [1, 5], "the tokenizer's own"
    assert unpadded_query([0, 0], 0, [1], False) == []


# ---------------------------------------------------------------- labels and flags


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True), np.int64(1)])
def test_labels_may_be_of_numpy_and_torch(value: Any) -> None:
    row = {"prompt": "say ", "completion": "it", "label": value}
    assert Reader(Chat(tokenizer_of("qwen"))).labelled([row])[0]["label"] is True
    assert check_rows([row], "label")[0]["label"] is True


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, "true", "False", np.array([1, 0]), torch.tensor([True, False]), [True]]
)
def test_other_labels_are_refused_by_their_row(value: Any) -> None:
    row = {"prompt": "say ", "completion": "it", "label": value}
    with pytest.raises(ValueError, match="row 0: KTO needs a column 'label' of true and false"):
        Reader(Chat(tokenizer_of("qwen"))).labelled([row])
    with pytest.raises(RowsError, match="row 1: 'label' is "):
        check_rows([row], "label")


FLAGGED = {
    "weight": (1, 0),
    "train": (True, False),
    "training": (True, False),
    "loss": (True, False),
    "masked": (0, 1),
}


def talk(flag: str, *values: Any) -> list[dict[str, Any]]:
    said = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    return [
        {"role": role, "content": text} | ({} if value is None else {flag: value})
        for (role, text), value in zip(said, values, strict=True)
    ]


@pytest.mark.parametrize("flag", FLAGGED)
def test_flags_of_single_turns_are_what_is_trained_or_refused(flag: str) -> None:
    on, off = FLAGGED[flag]
    plain = talk(flag, None, None, None, None)
    assert read("qwen", {"messages": talk(flag, None, on, None, on)}) == read("qwen", {"messages": plain})
    with pytest.raises(
        ValueError, match=rf"row 0 of the dataset: messages\[1\] has {flag} .*, but this turn is trained"
    ):
        read("qwen", {"messages": talk(flag, None, off, None, on)})
    # The command line and recipes train the last turn alone.
    assert check_rows([{"messages": talk(flag, None, off, None, on)}], "demonstration") == check_rows(
        [{"messages": plain}], "demonstration"
    )
    for values, place in (((None, on, None, on), 1), ((None, None, None, off), 3)):
        with pytest.raises(
            RowsError, match=rf"row 1: messages\[{place}\] has {flag} .*: flags of single turns"
        ):
            check_rows([{"messages": talk(flag, *values)}], "demonstration")


def test_flags_of_a_completion_are_read_too() -> None:
    prompt = [{"role": "user", "content": "a"}]
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": "b", "weight": 0.5}]}
    for reads in (lambda: read("qwen", row), lambda: check_rows([row], "demonstration")):
        with pytest.raises(ValueError, match=r"completion'?\[0\] has weight 0\.5"):
            reads()
    said = {"prompt": prompt, "completion": [{"role": "assistant", "content": "b", "train": "it"}]}
    assert read("qwen", said)["completions"]
