"""Cache of keys and values for decoding: each prompt once, and the own tokens of every completion.

Every completion attends to its prompt and to itself. The prompt's part is computed for all completions of the prompt
together, and the two parts are merged by their log-sum-exps (Hydragen, https://arxiv.org/abs/2402.05099): exact.

A place holds one prompt, a row one completion. Rows and places are refilled while others continue, so own tokens stand
in columns that all rows share: the token of step s is in column s modulo the room, and a row sees as many of the last
columns as it has lived steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Recorder:
    """Stands where a cache would, and keeps every layer's keys and values of the prompts."""

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers.append(torch.cat([key, value]))
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return 0

    def split(self, lengths: Sequence[int]) -> tuple[Tensor, ...]:
        """Of each prompt of the row [L, 2, Hk, P, D]."""
        return torch.stack(self.layers).split(list(lengths), 3)


class KVCache:
    """Keys and values of B prompts [L, 2, B, Hk, W, D] and of N rows' own tokens [L, 2, N, Hk, room, D]."""

    def __init__(self, like: Tensor, places: int, width: int, rows: int, room: int) -> None:
        """
        Args:
            like: keys and values of one prompt [L, 2, Hk, P, D], for their shape.
            places: B, how many prompts fit.
            width: W, tokens of the longest prompt.
            rows: N, how many completions fit.
            room: tokens per completion, at most.
        """
        layers, two, heads, _, dim = like.shape
        self.prompts = like.new_zeros(layers, two, places, heads, width, dim)
        self.own = like.new_zeros(layers, two, rows, heads, room, dim)
        self.lengths, self.begun = (torch.zeros(places, dtype=torch.long, device=like.device) for _ in "ab")
        self.starts, self.place_of = (torch.zeros(rows, dtype=torch.long, device=like.device) for _ in "ab")
        self.step = 0

    def fill(self, place: int, prompt: Tensor, rows: Sequence[int]) -> None:
        """Put a prompt [L, 2, Hk, P, D] into a place; these rows are its completions, and begin now."""
        self.prompts[:, :, place, :, : prompt.shape[3]] = prompt
        self.lengths[place], self.begun[place] = prompt.shape[3], self.step
        index = torch.tensor(rows, device=self.starts.device)
        self.starts[index], self.place_of[index] = self.step, place

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, and with the prompts that they need."""
        index = torch.tensor(rows, device=self.starts.device)
        self.own, self.starts = self.own[:, :, index], self.starts[index]
        places, self.place_of = self.place_of[index].unique(return_inverse=True)
        self.lengths, self.begun = self.lengths[places], self.begun[places]
        self.prompts = self.prompts[:, :, places, :, : int(self.lengths.max())]

    def arrange(self, rows: Sequence[int]) -> None:
        """Say which rows are alive; to be called after every change, before the next token."""
        live = torch.tensor(rows, device=self.starts.device)
        place, starts = self.place_of[live], self.starts[live]
        lengths = self.lengths[place]
        self.places, self.width, self.oldest = int(place.max()) + 1, int(lengths.max()), int(starts.min())
        self.aligned = int(starts.max()) == self.oldest
        self.ragged = int(lengths.min()) < self.width or len(place.unique()) < self.places
        # Each place's live rows side by side: a grid of places by slots, with row 0 where a place has fewer of them.
        slot = (torch.nn.functional.one_hot(place).cumsum(0) - 1).gather(1, place[:, None])[:, 0]
        self.slots = int(slot.max()) + 1
        grid = live.new_zeros(self.places, self.slots)
        grid[place, slot] = live
        at = torch.zeros_like(self.place_of)
        at[live] = place * self.slots + slot
        # The same with heads: queries [N, Hk] -> [B, Hk, G], and back.
        heads = self.own.shape[3]
        head = torch.arange(heads, device=live.device)
        self.to_grid = (grid[:, None] * heads + head[:, None]).flatten()
        first = at // self.slots * heads * self.slots + at % self.slots
        self.from_grid = (first[:, None] + head * self.slots).flatten()
        seen = self.prompts[:, :, : self.places, :, : self.width]
        self.prompt_layers = [tuple(layer) for layer in seen]  # views, made once and not at every token
        self.own_layers = [tuple(layer) for layer in self.own]

    @property
    def positions(self) -> Tensor:
        """[N] the position of each row's next token; anything for a row that is not alive."""
        return (self.lengths[self.place_of] + self.step - self.starts).clamp(
            max=self.width + self.own.shape[4]
        )

    def begin(self) -> None:
        """Open the next column; all layers then store into it."""
        room = self.own.shape[4]
        self.column, first = self.step % room, self.oldest % room
        self.wrapped = self.column < first
        self.columns = slice(0, room) if self.wrapped else slice(first, self.column + 1)
        self.biases: dict[int | None, tuple[Tensor | None, Tensor | None]] = {}

    def end(self) -> None:
        """Close the column."""
        self.step += 1

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store one new token of every row: [N, Hk, D] twice."""
        keys, values = self.own_layers[layer]
        keys[:, :, self.column] = key
        values[:, :, self.column] = value

    def read(self, layer: int, query: Tensor, scale: float, window: int | None) -> Tensor:
        """[N, H, D] -> [N, H, D]: what each row's newest token takes from its prompt and from its own tokens."""
        if window is not None and self.width + self.step - self.oldest < window:
            window = None
        if window not in self.biases:
            self.biases[window] = self._prompt_bias(window), self._own_bias(window)
        prompt_bias, own_bias = self.biases[window]
        rows, all_heads, dim = query.shape
        heads = self.own.shape[3]
        query = query.reshape(rows * heads, -1, dim)  # query heads that share a key head side by side
        keys, values = (x[:, :, self.columns] for x in self.own_layers[layer])
        own, own_lse = _attend(query.view(rows, heads, -1, dim), keys, values, own_bias, scale)
        keys, values = self.prompt_layers[layer]
        grid = query.index_select(0, self.to_grid).view(self.places, heads, -1, dim)
        prompt, lse = _attend(grid, keys, values, prompt_bias, scale)
        prompt = prompt.reshape(-1, all_heads // heads, dim).index_select(0, self.from_grid)
        lse = lse.reshape(-1, all_heads // heads).index_select(0, self.from_grid)
        share = torch.sigmoid(lse - own_lse.reshape(lse.shape))[..., None].to(own.dtype)
        return torch.lerp(own.reshape(prompt.shape), prompt, share).view(rows, all_heads, dim)

    def _prompt_bias(self, window: int | None) -> Tensor | None:
        """[B, 1, 1, W]: nothing beyond a prompt's end, and nothing further back than the window."""
        if window is None and not self.ragged:
            return None
        lengths, begun = self.lengths[: self.places, None], self.begun[: self.places, None]
        position = torch.arange(self.width, device=lengths.device)
        sees = position < lengths
        if window is not None:
            sees &= lengths + (self.step - begun) - position < window
        return self._bias(sees)

    def _own_bias(self, window: int | None) -> Tensor | None:
        """[N, 1, 1, columns]: nothing from before the row began."""
        if window is None and self.aligned and not self.wrapped:
            return None
        columns = torch.arange(self.columns.start, self.columns.stop, device=self.starts.device)
        age = (self.step - columns) % self.own.shape[4]
        sees = age <= (self.step - self.starts)[:, None]
        if window is not None:
            sees &= age < window
        return self._bias(sees)

    def _bias(self, sees: Tensor) -> Tensor:
        # Not minus infinity: a prompt that is wholly out of sight must have a weight of 0, not of 0 / 0.
        bias = torch.zeros(sees.shape, dtype=self.own.dtype, device=sees.device)
        return bias.masked_fill_(~sees, torch.finfo(bias.dtype).min / 2)[:, None, None]

    # What the attention that models are loaded with asks of a cache and of a plan.

    def get_seq_length(self, *_: Any) -> int:
        return self.step

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store one new token of every row: [N, Hk, 1, D] twice."""
        self.store(layer, key[:, :, 0], value[:, :, 0])
        return key, value

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """[N, H, 1, D] -> [N, H, 1, D]; `key` and `value` are already in the store."""
        return self.read(layer, query[:, :, 0], scale, window)[:, :, None]


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """[B, H, M, D], [B, H, S, D] twice, [B, 1, 1, S] -> [B, H, M, D] and the log-sum-exp of the scores [B, H, M]."""
    if query.device.type == "cpu":
        return _flash(query, keys, values, 0.0, False, attn_mask=bias, scale=scale)
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if bias is not None:
        scores += bias
    lse = scores.logsumexp(-1, keepdim=True)
    return (scores - lse).exp().to(values.dtype) @ values, lse[..., 0]
