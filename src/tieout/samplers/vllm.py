"""Sample from vLLM servers: the adapter is swapped after each update while they run, the base never moves.

What makes a server's numbers wrong for training without an error is asked for or refused here: log-probabilities from
before the temperature (vLLM's default), top-p, top-k and penalties from the model's generation config, and prompts
cached with the weights of an earlier step.

Each load has a name of its own, and the one before is taken off. vLLM's `load_inplace` under one name would do, too,
but reads the adapter from disk again at every token (https://github.com/vllm-project/vllm/pull/41482); and a server
that missed a load, or was started anew, does not know the new name: it says so, where it would draw from old weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat import Chat
from ..types import Completion, Prompt
from . import SamplingParams
from .fitness import logprobs_mode, refuse_truncation
from .servers import Refused, Server, ServerDown, everywhere, share_out
from .wire import base_of, best_of, completions_of, request, seed_of

if TYPE_CHECKING:
    from ..learner import Learner


class VLLMSampler:
    """A Sampler and a PolicySampler over one or several vLLM servers of the same base.

    Prompts are dealt to the servers in turn. A server that dies hands its prompts to those that are left, and is asked
    again at every load. Draws follow from (seed, position of the prompt) alone, not from servers or batches.
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
        """Ask all servers what they serve and how they report log-probabilities; at least one must answer.

        Args:
            urls: addresses, such as `http://127.0.0.1:8011`; several as a list, or separated by commas.
            chat: of the policy: tokens to text, and what ends a completion.
            folder: where adapters are written for the servers to read, under the same path; temporary if None.
            api_key: the environment's VLLM_API_KEY if None.
            num_workers: requests under way at the same time, for each server; one request draws a whole group.
            timeout_seconds: for one attempt of one request.
            max_retries: attempts after the first, before a server is given up.
            pause_seconds: before the first retry; doubled for each further one.
            progress: told of completions as they arrive.

        Raises:
            ValueError: a server's log-probabilities cannot be trained on, or the servers hold different models.
            NoServerLeft: none answers.
        """
        addresses = [u.strip() for u in urls.split(",")] if isinstance(urls, str) else list(urls)
        if not addresses or len(set(addresses)) < len(addresses):
            raise ValueError(f"vLLM servers are {urls!r}; give one address or more, each once")
        key = api_key or os.environ.get("VLLM_API_KEY")
        self.servers = [Server(u, key, timeout_seconds, max_retries, pause_seconds) for u in addresses]
        self.chat, self.num_workers, self.progress = chat, num_workers, progress
        self.folder = folder or Path(tempfile.mkdtemp(prefix="tieout-adapters-"))
        self.name = f"tieout-{os.getpid()}-{os.urandom(3).hex()}"
        """How its adapters on the servers begin: two runs may share them."""
        self.origins: list[str] = []
        """Address of the server that drew the last call's completions, for each prompt."""
        self._adapter: Path | None = None
        self._loads = 0
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        served = set(everywhere(self.servers, self._connect))
        if len(served) > 1:
            raise ValueError(
                f"the servers hold different models: {sorted(served)}; start them with the same one"
            )
        ((self.base, self.context),) = served

    # ------------------------------------------------------------------ weights

    def load(self, learner: Learner) -> None:
        """Write the learner's adapter, and swap it in on every server that answers, also on one given up before."""
        from ..learner.checkpoint import save_adapter

        _check_adapter(learner)
        previous, self._loads = self._adapter, self._loads + 1
        self._adapter = self.folder / f"{self.name}-{self._loads:06d}"
        save_adapter(learner, self._adapter)
        for server in self.servers:
            if server.down and self._returned(server):
                server.down = ""
        everywhere(self.servers, self._swap)
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
            raise ValueError(
                f"{error}. Start the server with --enable-lora, --max-lora-rank of at least the adapter's rank, and "
                f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must be able to read {self._adapter}"
            ) from error

    def _forget(self, adapter: Path) -> None:
        """Take an adapter off the servers, and delete it."""
        for server in self.servers:
            if not server.down:
                once = Server(server.url, server.api_key, timeout_seconds=10.0, max_retries=0)
                with suppress(ServerDown, Refused):  # nothing depends on it
                    once.ask("/v1/unload_lora_adapter", {"lora_name": adapter.name}, as_json=False)
        shutil.rmtree(adapter, ignore_errors=True)

    def _returned(self, server: Server) -> bool:
        """Whether a server that was given up answers again."""
        probe = Server(server.url, server.api_key, timeout_seconds=5.0, max_retries=0)
        try:
            return self._connect(probe) == (self.base, self.context)
        except (ServerDown, ValueError):  # or it is another one now
            return False

    def close(self) -> None:
        """Take the adapter off the servers; from then on they draw from the base."""
        if self._adapter:
            self._forget(self._adapter)
            self._adapter = None

    # ------------------------------------------------------------------ draws

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion], with the log-probabilities that the tokens were drawn with.

        ValueError: the draws could not be trained on, or do not fit into the server's context.
        """
        refuse_truncation(params)
        return self._draw([list(p) for p in prompts], num_completions, params)

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt, as text; of the adapter that was loaded last, or the base."""
        tokens = [self.chat.prompt(p) for p in prompts]
        return [group[0].text for group in self._draw(tokens, 1, params)]

    def _draw(
        self, prompts: Sequence[list[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        for prompt in prompts:
            if not prompt:
                raise ValueError("a prompt has no tokens; give at least one")
            if len(prompt) + params.max_new_tokens > self.context:
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens and max_new_tokens={params.max_new_tokens} exceed the "
                    f"server's context of {self.context}; shorten one, or start it with a larger --max-model-len"
                )

        def ask(server: Server, i: int) -> list[Completion]:
            body = self._request(prompts[i], num_completions, params, seed_of(params.seed, params.first_prompt + i))

            def read(reply: Any) -> list[Completion]:
                return completions_of(reply, num_completions, self.chat.text)

            try:
                return server.ask("/v1/completions", body, read)
            except Refused as error:
                if error.status != 404 or self._adapter is None:
                    raise
                self._swap(server)  # it was started anew, and has no adapter
                return server.ask("/v1/completions", body, read)

        progress = self.progress or (lambda count: None)
        drawn = share_out(
            self.servers, len(prompts), ask, self.num_workers, lambda: progress(num_completions)
        )
        self.origins = [server.url for _, server in drawn]
        return [completions for completions, _ in drawn]

    def _request(self, prompt: list[int], count: int, params: SamplingParams, seed: int) -> dict[str, Any]:
        model = self._adapter.name if self._adapter else self.base
        return request(model, prompt, count, params, seed, self.chat.stop_tokens)

    # ------------------------------------------------------------------ what a server is

    def _connect(self, server: Server) -> tuple[str, int]:
        """(name of the base, its context) after the probe. ValueError: not to be trained on."""
        model, context = server.ask("/v1/models", read=base_of)
        for text in ("The", "1 + 1 =", "Total assets were"):
            prompt = self.chat.prompt(text)
            plain, hot = (self._best(server, model, prompt, temperature) for temperature in (1.0, 2.0))
            if (verdict := logprobs_mode(plain, hot)) != "unclear":
                break
        if verdict != "processed_logprobs":
            raise ValueError(
                f"{server.url} reports {verdict}, but training needs the log-probabilities that tokens are drawn "
                "with: start the server with --logprobs-mode processed_logprobs"
            )
        return model, context

    def _best(self, server: Server, model: str, prompt: list[int], temperature: float) -> dict[str, float]:
        """The five likeliest next tokens."""
        body = request(model, prompt, 1, SamplingParams(1, temperature), 0, self.chat.stop_tokens)
        body |= {"logprobs": 5, "return_tokens_as_token_ids": True}
        return server.ask("/v1/completions", body, best_of)


def _check_adapter(learner: Learner) -> None:
    """ValueError where what is trained is more than a LoRA adapter."""
    configs = getattr(learner.model.network, "peft_config", None)
    if configs is None:
        raise ValueError(
            "full fine-tuning cannot be sampled by vLLM here: only adapters are swapped; train LoRA, or sample locally"
        )
    if any(config.use_dora for config in configs.values()):
        raise ValueError("vLLM serves no DoRA adapters; use adapter.method=lora, or sample locally")
