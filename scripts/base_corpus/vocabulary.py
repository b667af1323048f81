"""The tokenizer: byte-level BPE in which every digit and every mark around a figure is its own token."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .document import Document

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Chat template: nothing is trimmed, dropped or rewritten, so a longer conversation extends a shorter one."""

# A space joins a word only inside a phrase: a label at the start of a line, after a bar or after a quote mark
# is the same tokens, so that quoting it is copying. JSON's marks join each other and never a figure.
_PIECES = "|".join(
    [
        r"[0-9]",
        r"(?<=[A-Za-z,&]) [A-Za-z]+",
        r"[A-Za-z]+",
        r'"[:,] ?"',
        r'"[:,}\]]+',
        r'[}\]]+(?:, ?[\[{]*"?)?',
        r'[\[{]+"?',
        r', ?"',
        r" {2,}",
        r"\.{2,}",
        r"\n+",
        r"[^A-Za-z0-9]",
    ]
)


def train_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` tokens learnt from texts, with the chat template and its special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


class Encoder:
    """Documents -> token ids and which of them are trained."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vocabulary = self.tokenizer.get_vocab()
        self.role = {role: vocabulary[f"<|{role}|>"] for role in ("system", "user", "assistant")}
        self.end = vocabulary["<|end|>"]
        self.plain = plain_tokens(self.tokenizer)

    def __call__(self, document: Document) -> tuple[list[int], list[bool]]:
        """[L] tokens and [L] mask, True where the token is trained."""
        tokens: list[int] = []
        mask: list[bool] = []
        for role, content in document.turns:
            body = self.tokenizer.encode(content).ids if isinstance(content, str) else content
            tokens += [self.role[role], *body, self.end]
            mask += [False, *[role == "assistant"] * (len(body) + 1)]
        return tokens, mask


def plain_tokens(tokenizer: Tokenizer) -> list[int]:
    """The ids whose text is printable ASCII: what random documents are made of."""
    decoded = {index: tokenizer.decode([index]) for index in range(len(SPECIAL), tokenizer.get_vocab_size())}
    return [index for index, text in decoded.items() if text.isascii() and text.isprintable()]
