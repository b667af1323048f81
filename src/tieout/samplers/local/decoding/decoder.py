"""Decode many prompts' completions as one batch that is refilled while it runs (continuous batching).

Each prompt is computed once, and of one that continues a kept conversation only what is new. Its completions take rows;
when enough rows have ended, waiting prompts take them, and when none wait the batch shrinks. A step computes one token
of every row, and what is guessed to follow it (`drafts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ....learner.models.architecture import cached_numbers, decoder_of, head_of
from ....learner.models.output_head import Head
from ....learner.prefix.attention import SKIP_MASK, AttentionBackend, SharedPrefix
from ....learner.prefix.row_lengths import with_padding
from ....learner.prefix.span import Span
from ... import SamplingParams
from .decode_job import Ended
from .drafts import Drafts
from .kept import Kept
from .kv_cache import KVCache, Recorder
from .sampling import Request, sample_lists

PREFILL_TOKENS = 4096
"""Prompt tokens of one forward."""
CHUNK_LOGITS = 1 << 23
"""Number of logits that may exist at once."""


class Step(Protocol):
    """The next tokens of rows through the model."""

    head: Head
    """Hidden states -> logits."""

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """[T] tokens -> [T, d] the hidden states that predict the next ones; keys and values go into the cache."""
        ...


class SharedStep:
    """The same through the model's own layers, for any architecture whose prompts may be shared."""

    def __init__(self, network: Any) -> None:
        self.decoder, self.head = decoder_of(network), head_of(network)

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        return self.decoder(
            input_ids=tokens[:, None],
            position_ids=cache.positions[:, None],
            attention_mask=SKIP_MASK.to(tokens.device),
            past_key_values=cache,
            plan=cache,
            use_cache=False,
        ).last_hidden_state[:, 0]


@dataclass(frozen=True)
class Waiting:
    """A prompt whose completions have no rows yet."""

    prompt: list[int]
    requests: list[Request]
    state: Tensor | None = None
    """Keys and values of its beginning [L, 2, Hk, P, D], from the turn before; None: it is computed whole."""

    @property
    def fed(self) -> int:
        """Tokens that follow what was kept."""
        return 0 if self.state is None else len(self.prompt) - self.state.shape[3]

    @property
    def new(self) -> int:
        """Tokens to compute."""
        return self.fed or len(self.prompt)


class Decoder:
    """Fills the requests of prompts, with at most so many rows and so many bytes of keys and values."""

    def __init__(
        self,
        network: Any,
        step: Step,
        params: SamplingParams,
        stop_tokens: Sequence[int],
        max_rows: int,
        cache_bytes: float = float("inf"),
        ended: Ended | None = None,
        drafts: Drafts | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.network, self.step, self.params = network, step, params
        self.decoder, self.head = decoder_of(network), step.head
        self.stop, self.ended = set(stop_tokens), ended
        self.max_rows, self.cache_bytes = max_rows, cache_bytes
        self.device = next(network.parameters()).device
        self.cache: KVCache | None = None
        self.rows: list[Request | None] = []
        self.place_of: list[int] = []
        self.drafter = drafts.begin(self.device.type) if drafts else None
        self.kept = kept

    @torch.inference_mode()
    def run(self, prompts: Sequence[list[int]], requests: Sequence[list[Request]]) -> None:
        """Every prompt has as many requests. The longest prompts go first: those that follow fit into their places."""
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        self.group = len(requests[0])
        if self.group > 1:
            self.kept = None
        known = [self.kept.find(prompts[i]) if self.kept else None for i in order]
        self.waiting = [
            Waiting(prompts[i], requests[i], state) for i, state in zip(order, known, strict=True)
        ]
        self.num_places = self._plan()
        while self.waiting or any(self.rows):
            self._admit()
            if any(self.rows):
                self._shrink()
                self._step()
        if self.drafter:
            self.drafter.end()

    def _live(self) -> list[int]:
        return [i for i, request in enumerate(self.rows) if request]

    def _step(self) -> None:
        """The next token of every row, and those of its draft that turn out to be right."""
        assert self.cache is not None
        live = self._live()
        requests = [r for r in self.rows if r]
        drafts: list[list[int]] = [[] for _ in requests]
        if self.drafter:
            drafts = self.drafter.guess(requests, self.params.max_new_tokens)
        fed = [t for r, draft in zip(requests, drafts, strict=True) for t in (r.tokens[-1], *draft)]
        self.cache.begin(live, [1 + len(d) for d in drafts], [r.fed + len(r.tokens) - 1 for r in requests])
        hidden = self.step(torch.tensor(fed, device=self.device), self.cache)
        kept = self._sample(live, drafts, hidden)
        if self.drafter:
            self.drafter.saw(drafts, kept)

    def _sample(self, rows: Sequence[int], drafts: Sequence[list[int]], hidden: Tensor) -> list[int]:
        """Sample after every token of these rows [T, d] -> how many each keeps. One that has ended leaves its row."""
        requests = [r for i in rows if (r := self.rows[i])]
        uniforms = [
            u
            for r, draft in zip(requests, drafts, strict=True)
            for u in r.uniforms[len(r.tokens) : len(r.tokens) + len(draft) + 1]
        ]
        size = max(1, CHUNK_LOGITS // self.network.config.get_text_config().vocab_size)
        sampled: list[tuple[int, float, float]] = []
        for start in range(0, len(uniforms), size):
            part = slice(start, start + size)
            _, columns = sample_lists(self.head.logits(hidden[part]), uniforms[part], self.params)
            sampled += zip(*columns, strict=True)
        at, kept, ended = 0, list[int](), 0
        for row, request, draft in zip(rows, requests, drafts, strict=True):
            before = len(request.tokens)
            for i, guess in enumerate((*draft, None)):
                request.keep(*sampled[at + i])
                if self._has_ended(request):
                    self._leave(row, request)
                    ended += 1
                    break
                if request.tokens[-1] != guess:
                    break
            at += len(draft) + 1
            kept.append(len(request.tokens) - before)
        if ended and self.ended:
            self.ended(ended)
        return kept

    def _has_ended(self, request: Request) -> bool:
        return request.tokens[-1] in self.stop or len(request.tokens) == self.params.max_new_tokens

    def _leave(self, row: int, request: Request) -> None:
        self.rows[row] = None
        if self.kept is not None and self.cache is not None:
            state = self.cache.state(row, request.fed + len(request.tokens) - 1)
            self.kept.keep([*request.prompt, *request.tokens[:-1]], state)
        if self.drafter:
            self.drafter.leave(request)

    def _shrink(self) -> None:
        """Once no prompt waits and a third of the rows has ended, the others close up."""
        live = self._live()
        if self.waiting or len(live) > 0.7 * len(self.rows):
            return
        assert self.cache is not None
        self.cache.keep(live)
        self.rows = [self.rows[i] for i in live]

    # ------------------------------------------------------------------ new prompts

    def _plan(self) -> int:
        """Set up the rows that memory allows -> the number of places for prompts."""
        config = self.network.config.get_text_config()
        per_token = cached_numbers(config) * next(self.network.parameters()).element_size()
        per_group = per_token * (self.group * self.params.max_new_tokens + len(self.waiting[0].prompt))
        groups = int(max(1, min(self.max_rows // self.group, self.cache_bytes // per_group)))
        groups = min(groups, len(self.waiting))
        self.rows = [None] * (groups * self.group)
        self.place_of = [0] * len(self.rows)
        # A prompt keeps its place until its last completion ends; a few more let others begin before that.
        return groups if self.group == 1 or groups == len(self.waiting) else groups + (groups + 1) // 2

    def _admit(self) -> None:
        """Compute waiting prompts and sample the first tokens of their rows, once an eighth of the rows is free."""
        live = self._live()
        busy = {self.place_of[i] for i in live}
        free = [i for i, request in enumerate(self.rows) if not request]
        places = [b for b in range(self.num_places) if b not in busy]
        count = min(len(free) // self.group, len(places), len(self.waiting))
        if not count or len(free) < len(self.rows) / 8:
            return
        chosen, self.waiting = self.waiting[:count], self.waiting[count:]
        for part in _chunks(chosen):
            new = [one.prompt for one in part if one.state is None]
            computed, last = self._prefill(new) if new else ((), None)
            given = iter(computed)
            states = [next(given) if one.state is None else one.state for one in part]
            if self.cache is None:
                all_of_them = [*chosen, *self.waiting]
                room = self.params.max_new_tokens + max(one.fed for one in all_of_them)
                width = max(len(one.prompt) - one.fed for one in all_of_them)
                self.cache = KVCache(states[0], self.num_places, width, len(self.rows), room)
            begun: list[int] = []
            for one, state in zip(part, states, strict=True):
                rows, place = [free.pop(0) for _ in one.requests], places.pop(0)
                self.cache.fill(place, state, rows)
                for row, request in zip(rows, one.requests, strict=True):
                    self.rows[row], self.place_of[row] = request, place
                    request.prompt, request.fed = one.prompt, one.fed
                if self.drafter:
                    self.drafter.admit(one.prompt, one.requests)
                begun += rows
            self._first(begun, last)

    def _first(self, rows: Sequence[int], last: Tensor | None) -> None:
        """The first tokens of rows, after the rest of a prompt that continues what was kept.

        last: [B, d] of the prompts that were computed whole; None: there are none.
        """
        assert self.cache is not None
        continuing = [i for i in rows if (r := self.rows[i]) and r.fed]
        if last is not None:
            whole = [i for i in rows if i not in set(continuing)]
            self._sample(whole, [[] for _ in whole], last.repeat_interleave(self.group, 0))
        if continuing:
            requests = [r for i in continuing if (r := self.rows[i])]
            counts = [r.fed for r in requests]
            tokens = [token for r in requests for token in r.prompt[len(r.prompt) - r.fed :]]
            self.cache.begin(continuing, counts, [0] * len(counts))
            hidden = self.step(torch.tensor(tokens, device=self.device), self.cache)
            ends = torch.tensor(counts, device=self.device).cumsum(0) - 1
            self._sample(continuing, [[] for _ in continuing], hidden[ends])

    def _prefill(self, prompts: Sequence[list[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One row -> keys and values of each [L, 2, Hk, P, D], and its last hidden state [B, d]."""
        lengths = [len(p) for p in prompts]
        recorder, starts = Recorder(), np.cumsum([0, *lengths])
        backend: AttentionBackend = "merge" if self.device.type == "cpu" else "dense"
        size = int(starts[-1])
        spare = with_padding(size, self.network.dtype, self.device) - size
        own = [*lengths, spare] if spare else lengths
        spans = tuple(Span(int(s), n, ()) for s, n in zip(starts, own, strict=False))
        hidden = self.decoder(
            input_ids=torch.tensor([[t for p in prompts for t in p] + [0] * spare], device=self.device),
            position_ids=torch.cat([torch.arange(n) for n in own])[None].to(self.device),
            attention_mask=SKIP_MASK.to(self.device),
            past_key_values=recorder,
            plan=SharedPrefix(spans, backend),
            use_cache=False,
        ).last_hidden_state[0]
        return recorder.split(own)[: len(lengths)], hidden[
            torch.as_tensor(starts[1:] - 1, device=self.device)
        ]


def _chunks(waiting: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """Parts of at most PREFILL_TOKENS tokens to compute, or one prompt."""
    part: list[Waiting] = []
    for one in waiting:
        if part and sum(other.new for other in part) + one.new > PREFILL_TOKENS:
            yield part
            part = []
        part.append(one)
    if part:
        yield part
