"""Checks of what the model reads and writes: the end of a turn, special tokens, lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...chat.template import Chat
from ...errors import InputError
from ...rows.spread import spread
from ...types import Row
from ..checks import chat_of
from ..run import Run
from .finding import Finding, found

LOOKED_AT = 256
"""Rows of a split that are rendered, spread over all of them."""
MOST_CUT = 0.02
"""Share of gold completions that may be longer than what is sampled."""


def text_findings(run: Run) -> Iterator[Finding]:
    """Of template, end of turn, special tokens and lengths."""
    chat, context = chat_of(run.recipe.model)
    rows = spread(list(run.task.rows("train")), LOOKED_AT)
    yield _ends(chat, rows)
    yield _special(chat, rows)
    yield from _lengths(run, chat, context, rows)


def _ends(chat: Chat, rows: Sequence[Row]) -> Finding:
    """Whether a completion that is trained on ends with a token that ends sampling."""
    shown = rows[0]["prompt"]
    try:
        tokens = chat.completion(shown, str(rows[0].get("completion") or "answer"))
    except InputError as error:
        return Finding(
            "template", "fail", str(error), "set tokenizer.chat_template, or its eos token, and save both"
        )
    last = chat.tokenizer.convert_ids_to_tokens(tokens[-1:]) if tokens else ["nothing"]
    said = f"a completion ends with {last[0]!r}"
    remedy = "set tokenizer.chat_template to one that ends the assistant's turn with the eos token"
    ends = bool(tokens) and tokens[-1] in chat.stop_tokens
    return found(
        "template",
        said + (", which ends sampling" if ends else ", which does not end sampling"),
        not ends,
        remedy,
    )


def _special(chat: Chat, rows: Sequence[Row]) -> Finding:
    """Eos and pad; and whether prompts begin with two tokens that begin a text."""
    tokenizer = chat.tokenizer
    stops = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(list(chat.stop_tokens)))) or "none"
    pad = tokenizer.pad_token
    said = f"stop tokens: {stops}; pad: {'none' if pad is None else repr(pad)} (rows are packed, no row is padded)"
    begin = tokenizer.bos_token_id
    twice = sum(begin is not None and chat.prompt(row["prompt"])[:2] == [begin, begin] for row in rows)
    if twice:
        said = f"{twice} of {len(rows)} prompts begin with {tokenizer.bos_token!r} twice"
        return Finding(
            "special tokens", "fail", said, "take it out of the prompts, or out of the chat template"
        )
    return found("special tokens", said, not chat.stop_tokens, "set tokenizer.eos_token")


def _lengths(run: Run, chat: Chat, context: int, rows: Sequence[Row]) -> Iterator[Finding]:
    asked = [*rows, *spread(list(run.task.rows("test")), LOOKED_AT)]
    prompts = [len(chat.prompt(row["prompt"])) for row in asked if "prompt" in row]
    room = run.task.max_new_tokens
    longest = max(prompts, default=0)
    said = f"prompts of up to {longest} tokens and {room} new ones, in a context of {context:,}"
    yield found(
        "lengths",
        said,
        longest + room > context,
        "shorten rows, lower max_new_tokens, or say long_rows: drop",
    )
    gold = [(row, text) for row in rows if (text := _gold(run, row))]
    if not gold:
        return
    written = [len(chat.completion(row["prompt"], text)) for row, text in gold]
    over = sum(size > room for size in written)
    said = f"{over} of {len(written)} gold completions are longer than max_new_tokens ({room})"
    said += f"; the longest has {max(written)}"
    remedy = f"max_new_tokens: {max(written)} or more, or the answers are cut off when the model is evaluated"
    yield found(
        "room to answer", said, bool(over), remedy, "fail" if over > MOST_CUT * len(written) else "warn"
    )


def _gold(run: Run, row: Row) -> str | None:
    gold = run.task.gold(row) if run.task.gold is not None else row.get("completion")
    return gold if isinstance(gold, str) else None
