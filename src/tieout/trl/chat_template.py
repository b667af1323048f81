"""Conversational rows to text, as TRL's `apply_chat_template`, and chat templates for models that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AddedToken, AutoTokenizer

from ..errors import InputError
from ..types import Message
from .turns import is_messages

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def apply_chat_template(
    example: Mapping[str, Any],
    processing_class: Any = None,
    tools: Any = None,
    *,
    tokenizer: Any = None,
    **template_kwargs: Any,
) -> dict[str, Any]:
    """A row whose columns are messages -> the same row with text.

    `messages` becomes `text`. `prompt` is rendered up to the opening of the assistant's turn, and `completion`,
    `chosen` and `rejected` are what the template writes after it. Other columns, and rows of text, stay as they are.

    Args:
        example: the row; its `chat_template_kwargs` are given to the template too.
        processing_class: the tokenizer.
        tools: what the template is told of tools.
        tokenizer: the older name of `processing_class`.
        template_kwargs: given to the template.
    """
    encoder = tokenizer if processing_class is None else processing_class
    options = {"tools": tools or None, **(example.get("chat_template_kwargs") or {}), **template_kwargs}

    def render(messages: Sequence[Message], **how: bool) -> str:
        text: str = encoder.apply_chat_template([dict(m) for m in messages], tokenize=False, **how, **options)
        return text

    result = dict(example)
    if is_messages(example.get("messages")):
        result["text"] = render(result.pop("messages"))
    prompt = example.get("prompt")
    if is_messages(prompt):
        assert prompt is not None
        opened = prompt[-1]["role"] != "assistant"
        result["prompt"] = head = render(
            prompt, add_generation_prompt=opened, continue_final_message=not opened
        )
        for name in ("completion", "chosen", "rejected"):
            if is_messages(example.get(name)):
                whole = render([*prompt, *example[name]])
                if not whole.startswith(head):
                    raise InputError(
                        f"the chat template does not write the prompt in the same way before {name!r}; "
                        "its text cannot be cut off"
                    )
                result[name] = whole[len(head) :]
    else:
        for name in ("completion", "chosen", "rejected"):
            if is_messages(example.get(name)):
                result[name] = render(example[name])
    return result


def setup_chat_format(
    model: Any, tokenizer: Any, format: str = "chatml", resize_to_multiple_of: int | None = None
) -> tuple[Any, Any]:
    """Give both ChatML: the template, its two special tokens, and rows for them in the embeddings.

    ValueError: the tokenizer has a template, which would be lost; or another format.
    """
    if tokenizer.chat_template is not None:
        raise InputError(
            "the tokenizer has a chat template; set tokenizer.chat_template = None to replace it"
        )
    if format != "chatml":
        raise InputError(f"format is {format!r}; chatml is the one there is")
    start, end = "<|im_start|>", "<|im_end|>"
    tokenizer.chat_template = CHATML
    tokenizer.add_tokens([start, end], special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = start, end, end
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=resize_to_multiple_of)
    for config in _configs(model):
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def clone_chat_template(
    model: Any, tokenizer: Any, source_tokenizer_path: str, resize_to_multiple_of: int | None = 64
) -> tuple[Any, Any, list[int]]:
    """Give both another tokenizer's template, its special tokens and its end of a turn.

    Embeddings grow to a multiple of `resize_to_multiple_of`, and the tokenizer is filled up with `<extra_id_N>` to as
    many tokens. Returns also the ids of the tokens that are new.
    """
    source = AutoTokenizer.from_pretrained(source_tokenizer_path)
    tokenizer.chat_template = source.get_chat_template()
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([t for t in source.added_tokens_decoder.values() if t.content not in known])
    tokenizer.eos_token = source.eos_token
    model.resize_token_embeddings(len(tokenizer.get_vocab()), pad_to_multiple_of=resize_to_multiple_of)
    size = model.get_input_embeddings().num_embeddings
    number = 0
    while len(tokenizer.get_vocab()) < size:
        tokenizer.add_tokens(AddedToken(f"<extra_id_{number}>"))
        number += 1
    for config in _configs(model):
        config.eos_token_id = tokenizer.eos_token_id
    return model, tokenizer, sorted(set(tokenizer.get_vocab().values()) - set(known.values()))


def _configs(model: Any) -> list[Any]:
    """Those that name the model's special tokens."""
    generation = getattr(model, "generation_config", None)
    return [model.config.get_text_config(), *([generation] if generation is not None else [])]
