"""ChatML for a model and tokenizer that have no chat template: TRL's `setup_chat_format`, which TRL 1.x dropped."""

from __future__ import annotations

from typing import Any

from ..errors import InputError

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def setup_chat_format(
    model: Any, tokenizer: Any, format: str = "chatml", resize_to_multiple_of: int | None = None
) -> tuple[Any, Any]:
    """Give both ChatML: the template, its two special tokens, and rows for them in the embeddings.

    InputError: the tokenizer has a template, which would be lost; or another format.
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
    for config in filter(None, (model.config.get_text_config(), getattr(model, "generation_config", None))):
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer
