"""Keys and values of the sequences being spoken: one row each, as long as the longest needs."""

import sys

import torch
from torch import Tensor

from backend.model.config import KV_BUCKET, TransformerConfig
from backend.model.layers import attend_from_one


class KVCache:
    """Per layer, keys and values [rows, KV, capacity, D] that grow with what they hold.

    Rows stay packed: the row that leaves is filled by the last one. Growth is by half, so that the
    copying it costs stays in proportion to what was written, but not past what any row can need.
    """

    def __init__(self, config: TransformerConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._config, self._dtype, self._device = config, dtype, device
        self.lengths: list[int] = []
        self._most: list[int] = []
        """Positions that each row can come to hold."""
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = self._capacity = 0

    @property
    def capacity(self) -> int:
        """Positions each row has room for."""
        return self._capacity

    @property
    def allocated_bytes(self) -> int:
        """Bytes held now."""
        return sum(t.nbytes for t in (*self._keys, *self._values))

    @property
    def longest(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """All keys and values [rows, KV, capacity, D] of one layer, as they stand until it grows.

        There may be more rows than `lengths` tells of.
        """
        return self._keys[index], self._values[index]

    def add_row(self, length: int, most: int = sys.maxsize) -> int:
        """Make room for a row of `length` positions to be written; its index.

        It can come to hold `most` of them.
        """
        self._reserve(len(self.lengths) + 1, length, max((most, *self._most)))
        self.lengths.append(length)
        self._most.append(most)
        return len(self.lengths) - 1

    def remove_row(self, row: int) -> None:
        """Free `row`; the last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            used = self.lengths[last]
            for tensor in (*self._keys, *self._values):
                tensor[row, :, :used] = tensor[last, :, :used]
            self.lengths[row], self._most[row] = self.lengths[last], self._most[last]
        self.lengths.pop()
        self._most.pop()
        if not self.lengths:
            self._keys, self._values = [], []
            self._rows = self._capacity = 0

    def advance(self) -> None:
        """Make room for one more position in every row and count it."""
        self._reserve(len(self.lengths), self.longest + 1, max(self._most))
        self.lengths = [length + 1 for length in self.lengths]

    def write_row(self, layer: int, row: int, k: Tensor, v: Tensor) -> None:
        """Store a whole prompt's keys and values [1, KV, T, D] from position 0 on."""
        self._keys[layer][row, :, : k.shape[2]] = k[0]
        self._values[layer][row, :, : v.shape[2]] = v[0]

    def attend_one(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Store k and v [B, KV, 1, D] at `positions`; q [B, H, 1, D] over all that each row holds.

        `mask` [B, 1, 1, L] hides what a shorter row does not hold.
        """
        rows, kv_heads = k.shape[:2]
        keys, values = self._keys[layer][:rows], self._values[layer][:rows]
        index = positions.view(rows, 1, 1, 1).expand(rows, kv_heads, 1, k.shape[-1])
        keys.scatter_(2, index, k)
        values.scatter_(2, index, v)
        used = self.longest
        return attend_from_one(q, keys[:, :, :used], values[:, :, :used], mask)

    def mask(self, positions: Tensor) -> Tensor | None:
        """What each row may see: None where all rows are of one length."""
        if min(self.lengths) == self.longest:
            return None
        seen = torch.arange(self.longest, device=positions.device)
        return (seen[None] <= positions[:, None])[:, None, None]

    def _reserve(self, rows: int, length: int, most: int) -> None:
        if rows <= self._rows and length <= self._capacity:
            return
        capacity = self._capacity
        if length > capacity:
            grown = max(length, min(capacity * 3 // 2, most))
            capacity = -(-grown // KV_BUCKET) * KV_BUCKET
        if rows > self._rows:
            rows = max(rows, self._rows * 3 // 2)
        # Else everything is copied anyway, and the rows that have left are let go of: after a want
        # of memory, whose cure is that one leaves, the next try must ask for less.
        shape = (rows, self._config.n_local_heads, capacity, self._config.head_dim)
        layers = range(self._config.n_layer)
        # Layer by layer: the old and the new tensor of one layer only stand side by side. Where
        # memory runs out midway, layers differ and only what all of them hold is promised.
        self._rows = min(self._rows, rows)
        for tensors in (self._keys, self._values):
            for layer in layers:
                fresh = torch.zeros(shape, dtype=self._dtype, device=self._device)
                if layer < len(tensors):
                    old = tensors[layer][:rows, :, :capacity]
                    fresh[: old.shape[0], :, : old.shape[2]] = old
                    tensors[layer] = fresh
                else:
                    tensors.append(fresh)
        self._rows, self._capacity = rows, capacity
