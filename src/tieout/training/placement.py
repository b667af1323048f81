"""Where a run computes, which has no part in what it is known by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..samplers.vllm.server import check_address
from .trackers import check_trackers


@dataclass(frozen=True)
class Placement:
    """Where and how a run computes. Nothing here changes its numbers by more than rounding: when it is resumed, all of
    it may differ."""

    device: str | None = None
    """cpu or cuda; left out: cuda if there is one."""
    vllm: str = ""
    """For methods that sample: addresses of vLLM servers, separated by commas; left out: sample in process."""
    reward_workers: int = 2
    """For methods that sample: processes that call the reward under a deadline; 0 calls it in this one, where nothing
    can stop it."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one group has failed."""
    save_steps: int = 50
    """Steps between checkpoints. On a server of `engine: tinker`, whose memory may be lost, it is every step."""
    trackers: tuple[str, ...] = ()
    """Where metrics go in addition to metrics.jsonl: tensorboard, wandb, trackio, mlflow; offline unless their own
    settings name a server."""
    drafts: bool = False
    """For methods that sample in process: guess several tokens, compute them in one step; up to rounding the same."""
    engine_url: str = ""
    """Address of the server of `engine: tinker`. Its key is read from TINKER_API_KEY in the environment alone."""
    engine_model: str = ""
    """Name of the base on that server; left out: the model's own, or that of the only base it has."""
    engine_check: Literal["full", "server"] = "full"
    """What is examined before the first step. full: the base is loaded here too, and compared; server: only what the
    server says of itself, for a base that this machine cannot hold."""

    def __post_init__(self) -> None:
        check_trackers(self.trackers)
        for address in filter(None, self.vllm.split(",")):
            check_address(address)
        for name in ("reward_workers", "save_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not self.reward_seconds > 0:
            raise InputError(f"reward_seconds is {self.reward_seconds}; it must be above 0")
