"""Ask one training server through the client `tinker`: every reply is waited for only so long, and said whose it was.

The client itself tries again for hours, and waits without end for a server that has died.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ...errors import InputError, TieoutError

T = TypeVar("T")
VERSION = "0.25.0"
"""Of the client: the one that was run against a server."""
ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
"""Of tieout's own optimizer."""
LINEAR = {"beta1": 0.0, "beta2": 0.0, "eps": 1e4}
"""Of a step without memory, g / (|g| + eps): as large as the gradient, where that is far below eps."""
LOSS = "importance_sampling"
"""Loss of the server whose gradient by log-probability is the advantage, where its ratio is 1."""
MOST_BYTES = 1 << 34
"""Of an adapter that is fetched."""


class ServerLost(TieoutError, RuntimeError):
    """A training server gave no reply, an error, or numbers that cannot be right."""


def check_address(url: str) -> None:
    """InputError: it is no address, or holds a password, which would be written into run.json."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"engine_url is {url!r}; expected the address of a server, http://HOST:PORT")
    if "@" in parts.netloc:
        raise InputError(
            "engine_url holds a name or password, and it is kept in files: give http://HOST:PORT, and the key as "
            "TINKER_API_KEY in the environment"
        )


def open_service(url: str) -> Any:
    """The client's `ServiceClient`. The key is that of the environment, TINKER_API_KEY; no file ever holds it."""
    check_address(url)
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    try:
        import tinker
    except ImportError as error:
        raise InputError(
            f"engine 'tinker' needs the client of the API: pip install 'tieout[tinker]' (tinker=={VERSION})"
        ) from error
    key = os.environ.get("TINKER_API_KEY") or "tml-none"  # a server of one's own asks for none
    return tinker.ServiceClient(base_url=url.rstrip("/"), api_key=key)


class Connection:
    """One server, and what is asked of it. Whatever fails is a ServerLost that names the server and the verb."""

    def __init__(self, url: str, service: Any = None, seconds: float = 900.0) -> None:
        """
        Args:
            url: of the server.
            service: the client's `ServiceClient`; made for the address if None.
            seconds: for one reply. Servers compile for every new shape, and may queue.
        """
        self.url, self.seconds = url, seconds
        self.service = open_service(url) if service is None else service

    def ask(self, verb: str, send: Callable[[], Any], seconds: float | None = None) -> Any:
        """What `send` returns, or, where that is a future, its result."""
        limit = seconds or self.seconds

        def whole() -> Any:
            sent = send()
            return sent.result(limit) if hasattr(sent, "result") else sent

        try:
            return within(limit, whole)
        except (TieoutError, KeyboardInterrupt):
            raise
        except TimeoutError as error:
            raise ServerLost(
                f"{self.url} gave no reply to {verb} in {limit:g} s: it may have died. Once it is up again, repeat "
                "the command to resume"
            ) from error
        except Exception as error:  # the client's own, of many kinds, and what it makes of a server's
            raise ServerLost(
                f"{self.url} failed at {verb}: {type(error).__name__}: {_short(error)}. Once that is mended, repeat "
                "the command to resume"
            ) from error

    def served(self) -> list[str]:
        """Names of the bases that the server has."""
        found = self.ask("get_server_capabilities", self.service.get_server_capabilities, 60.0)
        return [str(model.model_name) for model in found.supported_models]

    def fresh(self, base: str, rank: int, seed: int) -> Any:
        """A new adapter on a base: a training client."""
        given: dict[str, Any] = {"base_model": base, "rank": rank, "seed": seed % (2**31)}
        return self.ask("create_model", lambda: self.service.create_lora_training_client(**given))

    def restored(self, path: str, optimizer: bool = False) -> Any:
        """A training client with the weights of a path, and with the optimizer's state."""
        made = self.service
        make = made.create_training_client_from_state
        if optimizer:
            make = made.create_training_client_from_state_with_optimizer
        return self.ask(f"load_state of {path}", lambda: make(path))

    def forward(self, client: Any, rows: Sequence[Any]) -> list[Any]:
        """Outputs of each row: log-probabilities of its targets."""
        reply = self.ask("forward", lambda: client.forward(list(rows), "cross_entropy"))
        return list(reply.loss_fn_outputs)

    def forward_backward(self, client: Any, rows: Sequence[Any]) -> list[Any]:
        """The same; and the gradient of the rows' advantages times log-probabilities is added to the server's."""
        reply = self.ask("forward_backward", lambda: client.forward_backward(list(rows), LOSS))
        return list(reply.loss_fn_outputs)

    def optim_step(
        self, client: Any, rate: float, weight_decay: float = 0.0, adam: Mapping[str, float] = ADAM
    ) -> float | None:
        """One step of AdamW with the gradient since the last one; its norm, None if the server does not say."""
        from tinker import types

        given = types.AdamParams(learning_rate=rate, weight_decay=weight_decay, **adam)
        reply = self.ask("optim_step", lambda: client.optim_step(given))
        norms = [float(x) for name, x in (reply.metrics or {}).items() if "grad_norm" in name]
        return norms[0] if norms else None

    def save_state(self, client: Any, name: str) -> str:
        """Keep weights and optimizer on the server; their path. A name is used once."""
        return str(self.ask("save_state", lambda: client.save_state(name=name)).path)

    def save_for_sampler(self, client: Any, name: str) -> str:
        """Keep the weights for sampling, and for `archive`; their path."""
        reply = self.ask("save_weights_for_sampler", lambda: client.save_weights_for_sampler(name=name))
        return str(reply.path)

    def sampling(self, path: str) -> Any:
        """A sampling client of the weights of a path."""
        return self.ask(
            "create_sampling_client", lambda: self.service.create_sampling_client(model_path=path)
        )

    def archive(self, path: str) -> bytes:
        """The tar file of an adapter that was saved for sampling."""

        def fetch() -> bytes:
            rest = self.service.create_rest_client()
            url = rest.get_checkpoint_archive_url(*_parts(path)).result(self.seconds).url
            return download(url, self.seconds)

        found: bytes = self.ask(f"download of {path}", fetch)
        return found

    def delete(self, path: str) -> None:
        """Delete what a path holds. ServerLost: the server cannot, or has lost it."""
        run, name = _parts(path)
        kind = name if "/" in name else f"sampler_weights/{name}"

        def delete() -> None:
            self.service.create_rest_client().delete_checkpoint(run, kind).result(60.0)

        self.ask(f"delete of {path}", delete, 60.0)


def _parts(path: str) -> tuple[str, str]:
    """The training run of a path, and the checkpoint in it: servers write `weights/`, `sampler_weights/` or neither."""
    run, _, name = path.removeprefix("tinker://").partition("/")
    return run, name


def download(url: str, seconds: float) -> bytes:
    """What lies at an address that a server has named. InputError: it is none of http."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"the server names {url!r} as the place of its archive; expected an http address")
    with urllib.request.urlopen(url, timeout=seconds) as reply:
        return bytes(reply.read(MOST_BYTES))


def within(seconds: float, function: Callable[[], T]) -> T:
    """What a function returns, if it does within so long: else TimeoutError, and it is left to itself."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
