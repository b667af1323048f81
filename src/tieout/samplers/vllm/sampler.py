"""Sample from vLLM servers, whose adapter is swapped after each update.

Settings that would silently bias training are set or refused here: log-probabilities from before the
temperature (vLLM's default), top-p, top-k and penalties from the model's generation config, and prompts
cached with the weights of an earlier step.

Each load has a name of its own, and the previous one is unloaded. vLLM's `load_inplace` under one name would do, too,
but reads the adapter from disk again at every token (https://github.com/vllm-project/vllm/pull/41482); and a server
that missed a load, or was restarted, does not know the new name, and refuses instead of using old weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ...chat.template import Chat
from ...errors import InputError
from ...types import Completion, Prompt
from .. import SamplingParams, answers
from .dispatch import NoServerLeft, dispatch, everywhere
from .server import Refused, Server, ServerDown
from .server_check import probe, refuse_all_but_lora, refuse_truncation
from .wire import Asked, completions_of, request, seed_of

if TYPE_CHECKING:
    from ...learner import Learner


_NEEDS = (
    "A server needs --enable-lora, --max-lora-rank of at least the adapter's, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, "
    "and to see the folder that adapters are written to under the same path"
)


class VLLMSampler:
    """A Sampler and a PolicySampler over one or several vLLM servers of the same base.

    Prompts are dealt to the servers in turn. A server that dies hands its prompts to those that are left, and is asked
    again at every load. Samples depend on (seed, position of the prompt) alone, not on servers or batches.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        chat: Chat,
        *,
        folder: Path | None = None,
        api_key: str | None = None,
        num_workers: int = 64,
        timeout_seconds: float = 600.0,
        max_retries: int = 4,
        pause_seconds: float = 0.5,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Check the model and the log-probabilities of all servers; at least one must answer.

        Args:
            urls: addresses, such as `http://127.0.0.1:8011`; several as a list, or separated by commas.
            chat: of the policy: tokens to text, and what ends a completion.
            folder: where adapters are written for the servers to read, under the same path; temporary if None.
            api_key: the environment's VLLM_API_KEY if None.
            num_workers: concurrent requests per server; one request samples a whole group.
            timeout_seconds: for one attempt of one request.
            max_retries: attempts after the first, before a server is given up.
            pause_seconds: before the first retry; doubled for each further one.
            progress: called with the number of completions that have just arrived.

        Raises:
            ValueError: a server's log-probabilities cannot be trained on, or the servers hold different models.
            NoServerLeft: none answers.
        """
        addresses = [u.strip() for u in urls.split(",")] if isinstance(urls, str) else list(urls)
        if not addresses or len(set(addresses)) < len(addresses):
            raise InputError(f"vLLM servers are {urls!r}; give one address or more, each once")
        key = api_key or os.environ.get("VLLM_API_KEY")
        self.servers = [Server(u, key, timeout_seconds, max_retries, pause_seconds) for u in addresses]
        self.chat, self.num_workers, self.progress = chat, num_workers, progress
        self.folder = folder or Path(tempfile.mkdtemp(prefix="tieout-adapters-"))
        self.name = f"tieout-{os.getpid()}-{os.urandom(3).hex()}"
        """Prefix of its adapters' names on the servers, which two runs may share."""
        self.origins: list[str] = []
        """Address of the server that gave the last call's completions, for each prompt."""
        self._adapter: Path | None = None
        self._loads = 0
        self._vocabulary: int | None = None
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        served = set(everywhere(self.servers, lambda server: probe(server, chat)))
        if len(served) > 1:
            raise InputError(f"the servers hold different models: {sorted(served)}; give them the same one")
        ((self.base, self.context),) = served

    # ------------------------------------------------------------------ weights

    def load(self, learner: Learner) -> None:
        """Write the learner's adapter, and swap it in on every server that answers, also on one given up before."""
        from ...learner.checkpoint import save_adapter

        refuse_all_but_lora(learner)
        self._vocabulary = learner.model.causal.get_input_embeddings().weight.shape[0]
        previous, self._loads = self._adapter, self._loads + 1
        self._adapter = self.folder / f"{self.name}-{self._loads:06d}"
        save_adapter(learner, self._adapter, tokenizer=False)
        for server in filter(self._returned, self.servers):
            server.down = ""
        try:
            everywhere(self.servers, self._swap)
        except NoServerLeft as error:
            raise NoServerLeft(f"{error}\nNone took the adapter. {_NEEDS}") from error
        if previous is not None:
            self._forget(previous)

    def _swap(self, server: Server) -> None:
        assert self._adapter is not None
        body = {"lora_name": self._adapter.name, "lora_path": str(self._adapter)}
        try:
            server.ask("/v1/load_lora_adapter", body, as_json=False)
        except Refused as error:
            if "already" in str(error):  # by another request, or by an attempt whose reply was lost
                return
            raise InputError(f"{error}. {_NEEDS}") from error

    def _forget(self, adapter: Path) -> None:
        """Take an adapter off the servers, and delete it."""
        for server in (s for s in self.servers if not s.down):
            once = replace(server, timeout_seconds=5.0, max_retries=0)
            with suppress(ServerDown, Refused):  # nothing depends on it
                once.ask("/v1/unload_lora_adapter", {"lora_name": adapter.name}, as_json=False)
        shutil.rmtree(adapter, ignore_errors=True)

    def _returned(self, server: Server) -> bool:
        """Whether a server that was given up answers again, and is still what it was."""
        with suppress(ServerDown, ValueError):
            once = replace(server, timeout_seconds=5.0, max_retries=0)
            return bool(server.down) and probe(once, self.chat) == (self.base, self.context)
        return False

    def close(self) -> None:
        """Unload the adapter; from then on the servers sample from the base."""
        if self._adapter:
            self._forget(self._adapter)
        self._adapter = None

    # ------------------------------------------------------------------ sampling

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion], with the log-probabilities under which the tokens were sampled.

        InputError: the samples could not be trained on, or do not fit into the server's context.
        """
        refuse_truncation(params)
        return self._sample([list(p) for p in prompts], num_completions, params)

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt, as text; of the adapter that was loaded last, or the base."""
        started = perf_counter()
        tokens = [self.chat.prompt(p) for p in prompts]
        sampled = [group[0] for group in self._sample(tokens, 1, params)]
        return answers(list(zip(tokens, sampled, strict=True)), started)

    def _sample(
        self, prompts: Sequence[list[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        for prompt in prompts:
            if not prompt:
                raise InputError("a prompt has no tokens; give at least one")
            if len(prompt) + params.max_new_tokens > self.context:
                raise InputError(
                    f"a prompt of {len(prompt)} tokens and max_new_tokens={params.max_new_tokens} exceed the "
                    f"server's context of {self.context}; shorten one, or start it with a larger --max-model-len"
                )

        model = self._adapter.name if self._adapter else self.base
        stops = tuple(self.chat.stop_tokens)
        asked = Asked(num_completions, params.max_new_tokens, stops, self._vocabulary)

        def ask(server: Server, i: int) -> list[Completion]:
            seed = seed_of(params.seed, params.stream(i))
            body = request(model, prompts[i], num_completions, params, seed, self.chat.stop_tokens)

            def read(reply: Any) -> list[Completion]:
                return completions_of(reply, asked, self.chat.text)

            try:
                return server.ask("/v1/completions", body, read)
            except Refused as error:
                if error.status != 404 or self._adapter is None:
                    raise
                self._swap(server)  # it was restarted, and has no adapter
                return server.ask("/v1/completions", body, read)

        done = partial(self.progress or (lambda count: None), num_completions)
        sampled = dispatch(self.servers, len(prompts), ask, self.num_workers, done)
        self.origins = [server.url for _, server in sampled]
        return [completions for completions, _ in sampled]
