"""Cache of keys and values for decoding: each prompt once, and the own tokens of every completion.

Every completion attends to its prompt and to itself. The prompt's part is computed for all completions of the prompt
together, and the two parts are merged by their log-sum-exps (Hydragen, https://arxiv.org/abs/2402.05099): exact.

A place holds one prompt, a row one completion; both are refilled while others continue. A row may be fed several
tokens at once, all but the first of them guesses: each sees those before it. The next tokens of a row that keeps only
some take the columns of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
        self.lengths, self.place_of = np.zeros(places, np.int64), np.zeros(rows, np.int64)
        self._fed: tuple[list[int], list[int]] | None = None
        self._next: list[int] = []
        self.column = self.position = np.zeros(0, np.int64)
        """[T] of the new tokens, among the row's own and among all."""
        self.written = self._index(self.column)
        self.extent = self.furthest = 0

    def fill(self, place: int, prompt: Tensor, rows: Sequence[int]) -> None:
        """Put a prompt [L, 2, Hk, P, D] into a place; these rows are its completions, and begin now."""
        self.prompts[:, :, place, :, : prompt.shape[3]] = prompt
        self.lengths[place] = prompt.shape[3]
        self.place_of[list(rows)] = place
        self._fed = None

    def state(self, row: int, own: int) -> Tensor:
        """Keys and values of a row's prompt and of so many of its own tokens [L, 2, Hk, P + own, D]."""
        place = self.place_of[row]
        prompt = self.prompts[:, :, place, :, : self.lengths[place]]
        return torch.cat([prompt, self.own[:, :, row, :, :own]], 3)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, and with the prompts that they need."""
        self.own = self.own[:, :, self._index(np.array(rows))]
        places, self.place_of = np.unique(self.place_of[list(rows)], return_inverse=True)
        self.lengths = self.lengths[places]
        self.prompts = self.prompts[:, :, self._index(places), :, : int(self.lengths.max())]
        self._fed = None

    def begin(self, rows: list[int], counts: list[int], first: list[int]) -> None:
        """Make way for T new tokens, row by row.

        Args:
            rows: R, those that are fed.
            counts: [R] how many tokens each is fed.
            first: [R] how many own tokens each keeps; the new ones follow.
        """
        if self._fed == (rows, counts) and self.width_fed == 1 and first == self._next:
            self.column, self.position = self.column + 1, self.position + 1  # each row kept its one token
            self.written, self.extent, self.furthest = self.written + 1, self.extent + 1, self.furthest + 1
        else:
            if self._fed != (rows, counts):
                self._arrange(np.array(rows), np.array(counts))
            self.column = np.repeat(np.array(first), counts) + self.depth
            self.position = self.lengths[self.place] + self.column
            self.extent, self.furthest = int(self.column.max()) + 1, int(self.position.max())
            self.level = self.width_fed == 1 and int(self.column.min()) + 1 == self.extent
            self.written = self._index((self.first_slot + self.column[:, None]).ravel())
        self._fed, self._next = (rows, counts), [f + 1 for f in first]
        self.positions = self._index(self.position)
        """[T] of the new tokens."""
        self.biases: dict[int | None, tuple[Tensor | None, Tensor | None]] = {}

    def _arrange(self, rows: np.ndarray, counts: np.ndarray) -> None:
        """Where the new tokens stand: in the batch of the layers they are one list [T], for attention two grids."""
        _, _, total, heads, room, _ = self.own.shape
        head, size = np.arange(heads), int(counts.sum())
        self.row = np.repeat(rows, counts)
        self.depth = np.arange(size) - np.repeat(counts.cumsum() - counts, counts)
        self.place = self.place_of[self.row]
        lengths = self.lengths[self.place]
        self.num_places, self.width = int(self.place.max()) + 1, int(lengths.max())
        self.ragged = int(lengths.min()) < self.width or len(np.unique(self.place)) < self.num_places
        # Each place's tokens side by side: a grid of places by slots, with token 0 where a place has fewer.
        order = self.place.argsort(kind="stable")
        tally = np.bincount(self.place, minlength=self.num_places)
        self.slot = np.empty_like(order)
        self.slot[order] = np.arange(size) - np.repeat(tally.cumsum() - tally, tally)
        self.num_slots = int(tally.max())
        # The same with heads: queries [T, Hk] -> [B, Hk, slots], and what they read [B, slots] -> [T].
        self.to_places = self._to_grid(self.num_places, self.num_slots, self.place, self.slot)
        self.from_places = self._from_grid(self.num_slots, self.place, self.slot)
        # Each row's tokens side by side, as many as any is fed; the list itself, if every row is fed one.
        self.width_fed = int(counts.max())
        self.single = self.width_fed == 1 and np.array_equal(self.row, np.arange(total))
        self.from_rows = self._from_grid(self.width_fed, self.row, self.depth)
        if not self.single:
            self.to_rows = self._to_grid(total, self.width_fed, self.row, self.depth)
        # Where column 0 of a token's row begins in the store, for its keys and its values.
        first = (self.row[:, None] * heads + head) * room
        self.first_slot = np.concatenate([first, first + total * heads * room], 1)
        seen = self.prompts[:, :, : self.num_places, :, : self.width]
        self.prompt_layers = [tuple(layer) for layer in seen]  # views, made once and not at every token
        self.own_layers = [tuple(layer) for layer in self.own]
        self.stores = [layer.view(-1, layer.shape[-1]) for layer in self.own]

    def _to_grid(self, height: int, width: int, y: np.ndarray, x: np.ndarray) -> Tensor:
        grid = np.zeros((height, width), np.int64)
        grid[y, x] = np.arange(len(y))
        heads = self.own.shape[3]
        return self._index((grid[:, None] * heads + np.arange(heads)[:, None]).ravel())

    def _from_grid(self, width: int, y: np.ndarray, x: np.ndarray) -> Tensor | None:
        """None: the grid has these tokens in their order, first of all."""
        index = y * width + x
        return None if np.array_equal(index, np.arange(len(index))) else self._index(index)

    def _index(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.own.device)

    def store(self, layer: int, new: Tensor) -> None:
        """Store the new tokens' keys and values [T, 2 * Hk, D]."""
        self.stores[layer].index_copy_(0, self.written, new.flatten(0, 1))

    def read(self, layer: int, query: Tensor, scale: float, window: int | None) -> Tensor:
        """[T, H, D] -> [T, H, D]: what each new token takes from its prompt and from its row up to itself."""
        if window is not None and self.furthest < window:
            window = None
        (tokens, all_heads, dim), (_, _, rows, heads, _, _) = query.shape, self.own.shape
        query = query.reshape(tokens * heads, -1, dim)  # query heads that share a key head side by side
        shared = query.shape[1]
        if window not in self.biases:
            biases = self._prompt_bias(window), self._own_bias(window)
            self.biases[window] = _per_head(biases[0], shared), _per_head(biases[1], shared)
        prompt_bias, own_bias = self.biases[window]
        keys, values = (x.narrow(2, 0, self.extent) for x in self.own_layers[layer])
        mine = query if self.single else query.index_select(0, self.to_rows)
        own, own_lse = _attend(mine.view(rows, heads, -1, dim), keys, values, own_bias, scale)
        keys, values = self.prompt_layers[layer]
        grid = query.index_select(0, self.to_places).view(self.num_places, heads, -1, dim)
        prompt, lse = _attend(grid, keys, values, prompt_bias, scale)
        # Both are ordered as torch writes them, key heads innermost, until the end.
        own, own_lse = (_tokens(x, tokens, all_heads, self.from_rows) for x in (own, own_lse))
        prompt, lse = (_tokens(x, tokens, all_heads, self.from_places) for x in (prompt, lse))
        share = torch.sigmoid(lse - own_lse)[..., None].to(own.dtype)
        read = torch.lerp(own, prompt, share).view(tokens, shared, heads, dim)
        return read.transpose(1, 2).reshape(tokens, all_heads, dim)

    def _prompt_bias(self, window: int | None) -> Tensor | None:
        """[B, slots or 1, W]: nothing beyond a prompt's end, and nothing further back than the window."""
        if window is None and not self.ragged:
            return None
        columns = np.arange(self.width)
        sees = (columns < self.lengths[: self.num_places, None])[:, None]
        if window is not None:
            position = np.zeros((self.num_places, self.num_slots), np.int64)
            position[self.place, self.slot] = self.position
            sees = sees & (position[..., None] - columns < window)
        return self._bias(sees)

    def _own_bias(self, window: int | None) -> Tensor | None:
        """[N, fed, columns]: nothing after the token itself, and nothing further back than the window."""
        if window is None and self.level:
            return None
        last = np.zeros((self.own.shape[2], self.width_fed), np.int64)
        last[self.row, self.depth] = self.column
        age = last[..., None] - np.arange(self.extent)
        return self._bias((age >= 0) if window is None else (age >= 0) & (age < window))

    def _bias(self, sees: np.ndarray) -> Tensor:
        # Not minus infinity: a prompt that is wholly out of sight must have a weight of 0, not of 0 / 0.
        bias = torch.zeros(sees.shape, dtype=self.own.dtype, device=self.own.device)
        return bias.masked_fill_(self._index(~sees), torch.finfo(bias.dtype).min / 2)

    # What the attention that models are loaded with asks of a cache and of a plan.

    def get_seq_length(self, *_: Any) -> int:
        return self.furthest

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store the new tokens: [T, Hk, 1, D] twice."""
        self.store(layer, torch.cat([key, value], 1)[:, :, 0])
        return key, value

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """[T, H, 1, D] -> [T, H, 1, D]; `key` and `value` are already in the store."""
        return self.read(layer, query[:, :, 0], scale, window)[:, :, None]


def _per_head(bias: Tensor | None, shared: int) -> Tensor | None:
    """[B, M, S] -> [B, 1, M * shared, S], or the same for all M."""
    if bias is None or bias.shape[1] == 1:
        return None if bias is None else bias[:, None]
    return bias.repeat_interleave(shared, 1)[:, None]


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """[B, H, M, D], [B, H, S, D] twice, [B, 1, M or 1, S] -> [B, M, H, D] and the scores' log-sum-exp [B, M, H]."""
    if query.device.type == "cpu":
        read, lse = _flash(query, keys, values, 0.0, False, attn_mask=bias, scale=scale)
        return read.transpose(1, 2), lse.transpose(1, 2)
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if bias is not None:
        scores += bias
    lse = scores.logsumexp(-1, keepdim=True)
    read = (scores - lse).exp().to(values.dtype) @ values
    return read.transpose(1, 2), lse[..., 0].transpose(1, 2)


def _tokens(x: Tensor, tokens: int, heads: int, index: Tensor | None) -> Tensor:
    """[B, slots * shared, Hk, ...] -> those of the tokens [T, H, ...]."""
    x = x.reshape(-1, heads, *x.shape[3:])
    return x[:tokens] if index is None else x.index_select(0, index)
