"""The words everything is said in: a Group is a prompt, K completions and K scores. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Message = Mapping[str, Any]
"""One turn of a conversation: `role` (system, user, assistant, tool), `content`, and whatever else a chat template
reads: `reasoning_content`, `tool_calls`, `name`."""


class Messages(list[Message]):
    """Messages, with what their row tells the chat template in addition: `tools`, `enable_thinking`."""

    def __init__(self, messages: Iterable[Message] = (), told: Mapping[str, Any] | None = None) -> None:
        super().__init__(messages)
        self.told: Mapping[str, Any] = told or {}

    def __repr__(self) -> str:
        return f"{super().__repr__()} {dict(self.told)}" if self.told else super().__repr__()


class Answer(str):
    """What a sampler wrote, with what it took: `prompt_tokens`, `tokens` and `seconds`."""

    usage: Mapping[str, float]
    sampled: Completion | None
    """Its tokens and log-probabilities, where the sampler knows them."""
    finish_reason: str
    """`stop` or `length`, as of a Completion; empty where the sampler does not know."""

    def __new__(
        cls,
        text: str,
        usage: Mapping[str, float] | None = None,
        sampled: Completion | None = None,
        finish_reason: str = "",
    ) -> Answer:
        answer = super().__new__(cls, text)
        answer.usage, answer.sampled = usage or {}, sampled
        answer.finish_reason = finish_reason or (sampled.finish_reason if sampled else "")
        return answer


Prompt = str | Sequence[Message]
"""Plain text, continued as it stands; or messages, rendered by the model's chat template: see `Messages`."""

Row = Mapping[str, Any]
"""One row of a dataset, with TRL's column names: prompt, completion, chosen, rejected, label, messages."""

Kind = Literal["demonstration", "preference", "ranking", "label", "prompt"]
"""Of rows: the columns that a method learns from; `prompt` for methods that sample."""

Reward = Callable[..., Any]
"""`(completions, prompts=..., **columns) -> list[float | None]`, TRL's signature, or the same as an `async def`: called
once per group on strings. `completions`, `prompts` and every column of the row have K entries; None: does not apply."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Everything after the prompt, in tokens: what the policy wrote, and what tools or users replied."""

    tokens: list[int]
    """[C] token ids, kept verbatim as sampled."""
    mask: list[bool]
    """[C] True where the policy wrote the token (these are trained); False for tool and user tokens."""
    logprobs: list[float] | None = None
    """[C] log-probability in nats under the policy that sampled it; 0.0 where mask is False."""
    text: str = ""
    """The decoded completion."""
    finish_reason: str = "stop"
    """`stop`: the policy ended its turn. `length`: it was cut off."""
    entropies: list[float] | None = None
    """[C] nats, of the distribution that each token was drawn from, where the sampler tells."""
    opened: str = ""
    """The tag of thinking that the rendered prompt left open: a text that never closes it is read as if after it."""
    turns: Sequence[Message] = ()
    """Of an episode: what the policy said and what the environment replied; `text` is the last that the policy said."""


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt, K completions, and how good each is."""

    prompt: list[int]
    """[P] the longest token prefix that all completions share; never trained on."""
    completions: list[Completion]
    """K >= 1."""
    scores: list[float] | None = None
    """[K] higher is better: rewards, 1/0 labels, or 1/0 for chosen/rejected. None: a demonstration."""
    row: Row = field(default_factory=dict)
    """The dataset row it came from, as rewards see it."""
    columns: Mapping[str, list[Any]] = field(default_factory=dict)
    """What `annotate` added for the loss: name -> [K] floats, or [K][C] floats."""

    def with_columns(self, **columns: list[Any]) -> Group:
        """The same group with further columns."""
        return replace(self, columns={**self.columns, **columns})

    @property
    def unique_tokens(self) -> int:
        """P + sum of C: what a forward costs when the prompt is computed once."""
        return len(self.prompt) + sum(len(c.tokens) for c in self.completions)
