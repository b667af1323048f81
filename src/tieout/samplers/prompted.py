"""What is put before prompts, a system prompt and examples: as a value, as a file, and as a sampler that does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..rows.messages import prompt_text
from ..storage.atomic import fingerprint, write_json
from ..storage.jsonl import read_json
from ..types import Message, Messages, Prompt, Row
from . import Sampler, SamplingParams

if TYPE_CHECKING:
    from ..chat.template import Chat

Shot = tuple[Prompt, str]
"""A prompt, and what is shown as its completion."""


@dataclass(frozen=True)
class PromptPrefix:
    """What is put before every prompt."""

    system: str = ""
    """A system prompt; of a plain-text prompt, text before it."""
    shots: Sequence[Shot] = ()
    """Examples, as turns; of a plain-text prompt, as text."""
    replaces: str = ""
    """A system message of rows that `system` stands in for; another one of a row's own follows `system`."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """The named parts that `system` was put together from; empty: it has none."""
    searched: Sequence[str] = ()
    """Digests (`question_digest`) of the rows by which it was chosen: nothing is measured on them."""

    def __call__(self, prompt: Prompt) -> Prompt:
        """The prompt as a model gets it: messages after the system prompt and turns, text after text."""
        if isinstance(prompt, str):
            shown = [f"{_as_text(asked)}{_gap(asked)}{said}" for asked, said in self.shots]
            return "\n\n".join([*filter(None, [self.system]), *shown, prompt])
        own = [str(turn["content"]) for turn in prompt[:1] if turn["role"] == "system"]
        kept = [text for text in own if not self.replaces or text != self.replaces]
        system = "\n\n".join(filter(None, [self.system, *kept]))
        turns: list[Message] = [{"role": "system", "content": system}] if system else []
        for asked, said in self.shots:
            turns += [*_without_system(asked), {"role": "assistant", "content": said}]
        return Messages([*turns, *_without_system(prompt)], getattr(prompt, "told", None))

    def on(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with the prompts that a model gets."""
        return [{**row, "prompt": self(row["prompt"])} for row in rows]

    @property
    def digest(self) -> str:
        """SHA-256 of what is put before prompts."""
        shots = [[_plain(asked), said] for asked, said in self.shots]
        replaced = {"replaces": self.replaces} if self.replaces else {}
        return fingerprint({"system": self.system, "shots": shots, **replaced})

    @property
    def plain(self) -> dict[str, Any]:
        """As a prompt file has it."""
        shots = [{"prompt": _plain(asked), "completion": said} for asked, said in self.shots]
        more = {"replaces": self.replaces, "parts": dict(self.parts), "searched": list(self.searched)}
        return {
            "system": self.system,
            "shots": shots,
            **{name: value for name, value in more.items() if value},
        }


KEYS = ("system", "shots", "parts", "replaces", "searched")
"""Of a prompt file."""


def write_prompt(path: Path, prefix: PromptPrefix) -> None:
    """Write a prompt file, JSON, atomically."""
    write_json(path, prefix.plain)


def read_prompt(given: str | Path) -> PromptPrefix:
    """The prefix in a prompt file, as `tieout optimize-prompt` writes it or by hand, or in the JSON that one holds.

    InputError: there is none.
    """
    if str(given).lstrip().startswith("{"):
        return _read(json.loads(str(given)), "the prompt on record")
    if not Path(given).is_file():
        raise InputError(f"prompt file {given} does not exist; `tieout optimize-prompt` writes one")
    return _read(read_json(Path(given)), str(given))


def _read(value: Any, where: str) -> PromptPrefix:
    if not isinstance(value, Mapping) or not set(KEYS[:3]) & set(value) or set(value) - set(KEYS):
        found = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
        raise InputError(f"{where} is no prompt file: it has {found}; expected system and shots")
    shots, parts, searched = value.get("shots", []), value.get("parts", {}), value.get("searched", [])
    whole = isinstance(shots, list) and all(
        isinstance(one, Mapping)
        and isinstance(one.get("prompt"), str | list)
        and isinstance(one.get("completion"), str)
        for one in shots
    )
    texts = [value.get("system", ""), value.get("replaces", "")]
    texts += [*(parts.values() if isinstance(parts, Mapping) else [None])]
    texts += [*(searched if isinstance(searched, list) else [None])]
    if not whole or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"{where}: expected system as a text, and shots as a list of objects with prompt and completion"
        )
    system, replaces = texts[:2]
    if parts and system not in ("", joined(parts)):
        raise InputError(
            f"{where}: the parts make another text than the system prompt; leave one of them out"
        )
    system = joined(parts) or system
    return PromptPrefix(
        system, [(one["prompt"], one["completion"]) for one in shots], replaces, dict(parts), tuple(searched)
    )


def joined(parts: Mapping[str, str]) -> str:
    """The system prompt that named parts make: a blank line between them."""
    return "\n\n".join(filter(None, parts.values()))


def question_digest(row: Row) -> str:
    """64 bits of the question that a row asks, without its system message."""
    return hashlib.sha256(
        prompt_text(row["prompt"], ("system",)).encode("utf-8", "surrogatepass")
    ).hexdigest()[:16]


def check_not_searched(prefix: PromptPrefix, rows: Sequence[Row], accept: str, option: str) -> int:
    """How many rows the prefix was chosen by, or shows. InputError: some, and no reason is given to accept that."""
    shown = {question_digest({"prompt": asked}) for asked, _ in prefix.shots}
    found = sum(question_digest(row) in shown.union(prefix.searched) for row in rows)
    if found and not accept.strip():
        raise InputError(
            f"{found} of {len(rows)} rows chose this prompt, or are shown in it: what is measured on them is what the "
            f"search fitted. Measure on others; or keep them, and say why: {option}"
        )
    return found


class Prompted:
    """A Sampler that asks another one after `before` has changed each prompt. Cases keep the prompt of their row."""

    chat: Chat
    context: int
    """Where the sampler has them: one of text alone, such as an API's, has neither."""

    def __init__(self, sampler: Sampler, before: Callable[[Prompt], Prompt]) -> None:
        self.sampler, self.before = sampler, before
        knows: Any = sampler
        if hasattr(sampler, "chat") and hasattr(sampler, "context"):
            self.chat, self.context = knows.chat, knows.context

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt."""
        return self.sampler.complete([self.before(prompt) for prompt in prompts], params)


def _without_system(prompt: Prompt) -> list[Message]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return list(prompt[1:] if prompt and prompt[0]["role"] == "system" else prompt)


def _as_text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(str(turn["content"]) for turn in prompt)


def _gap(prompt: Prompt) -> str:
    """Between a prompt and its completion in a text: nothing after a text that ends in space."""
    return "" if _as_text(prompt)[-1:].isspace() else " " if isinstance(prompt, str) else "\n"


def _plain(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]
