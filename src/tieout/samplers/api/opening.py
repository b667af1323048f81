"""Models behind APIs by name, `api:NAME`, and the options that every command on them shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from .ledger import Budget, Ledger
from .sampler import APISampler

API = "api:"


@dataclass(frozen=True)
class APIOptions:
    """How models behind an API are called."""

    calls: Path = Path("runs/calls")
    """Of models behind an API: folder of the ledger, which keeps every reply, so that none is paid for twice."""
    max_calls: int = 0
    """Budget of the ledger, earlier commands included: calls sent, retries too; 0: no limit."""
    max_call_tokens: int = 0
    """Budget of the ledger: tokens read and written; a call counts at its most until it has come back."""
    max_cost: float = 0.0
    """Budget of the ledger in money; needs the --price of every model in it."""
    call_workers: int = 8
    """Calls at the same time."""
    call_retries: int = 4
    """Attempts after the first, after the pause that the server asks for."""
    call_seconds: float = 120.0
    """For one attempt, to the last byte of its reply."""
    text_as_message: bool = False
    """Ask a plain-text prompt as a message of the user, for servers without /completions."""

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_call_tokens", "max_cost"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 0")

    def ledger(self, prices: Mapping[str, str]) -> Ledger:
        """The ledger. `prices`: `api:NAME` -> price."""
        budget = Budget(self.max_calls or None, self.max_call_tokens or None, self.max_cost or None)
        own = {name.removeprefix(API): text for name, text in prices.items() if is_api(name)}
        return Ledger(self.calls, budget, own)


def is_api(name: str) -> bool:
    """Whether a name is that of a model behind an API."""
    return name.startswith(API)


def open_api(
    name: str,
    options: APIOptions | None = None,
    ledger: Ledger | None = None,
    progress: Callable[[int], None] | None = None,
) -> APISampler:
    """A sampler of `api:NAME`, at OPENAI_BASE_URL with OPENAI_API_KEY. InputError: no name, no key or no address."""
    options = options or APIOptions()
    model = name.removeprefix(API)
    if not is_api(name) or not model.strip():
        raise InputError(f"{name!r} is no model behind an API; expected api:NAME, such as api:gpt-4o-mini")
    return APISampler(
        model,
        num_workers=options.call_workers,
        max_retries=options.call_retries,
        timeout_seconds=options.call_seconds,
        ledger=ledger if ledger is not None else options.ledger({}),
        text_as_message=options.text_as_message,
        progress=progress,
    )
