"""Keys and values of the sequences being spoken: each row has a tensor of its own."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.model.config import (
    CacheGeometry,
    TransformerConfig,
    first_capacity,
    grown_capacity,
)
from backend.model.layers import attend_from_one


@dataclass(slots=True)
class _Row:
    held: Tensor
    """[layers, 2, KV, capacity, D]: keys and values, or as a `KVCache` of another kind says."""
    capacity: int
    """Positions that it has room for."""
    length: int
    """Positions that are written, or about to be."""
    most: int
    """Positions that it can come to hold."""


class KVCache:
    """Rows by their slot, each as long as it needs and grown alone: joining copies nothing.

    Growth is by half, so that the copying it costs stays in proportion to what was written, but not
    past what the row can come to hold.
    """

    together = 1
    """Positions that lie together."""

    def __init__(
        self,
        config: TransformerConfig,
        dtype: torch.dtype,
        device: torch.device,
        slots: int = 1,
        *,
        has_spare: bool = False,
    ) -> None:
        self._config, self._dtype, self._device = config, dtype, device
        self._rows: dict[int, _Row] = {}
        self._spare = slots - 1 if has_spare else None
        """The last slot, which no sequence ever has."""
        self.table = torch.zeros((slots, 2), dtype=torch.int64, device=device)
        """Where each slot's row lies, and its capacity: what a kernel needs to find it."""

    @property
    def geometry(self) -> CacheGeometry:
        """What rows take."""
        return CacheGeometry.of(self._config, self._dtype.itemsize)

    @property
    def allocated_bytes(self) -> int:
        """Bytes held now, but for those of the spare slot."""
        return sum(row.held.nbytes for slot, row in self._rows.items() if slot != self._spare)

    def length(self, slot: int) -> int:
        """Positions of the row of `slot`."""
        return self._rows[slot].length

    def capacity(self, slot: int) -> int:
        """Positions that the row of `slot` has room for."""
        return self._rows[slot].capacity

    def place(self, slot: int) -> tuple[int, int]:
        """Address and capacity of the row of `slot`, for kernels on a CPU."""
        row = self._rows[slot]
        return row.held.data_ptr(), row.capacity

    def open(self, slot: int, prompt: int, most: int = sys.maxsize) -> None:
        """An empty row in `slot` with room for a prompt; it can come to hold `most` positions."""
        assert slot not in self._rows
        capacity = first_capacity(prompt, most)
        self._rows[slot] = _Row(self._empty(capacity), capacity, 0, most)
        self._tell(slot)

    def close(self, slot: int) -> None:
        """Let go of what `slot` holds, if anything."""
        self._rows.pop(slot, None)

    def extend(self, slots: Sequence[int], positions: int = 1) -> None:
        """Make room for so many more positions in each row, and count them.

        Where memory runs out nothing is counted, and the same may be tried again.
        """
        for slot in slots:
            row = self._rows[slot]
            if row.length + positions > row.capacity:
                self._grow(slot, row, row.length + positions)
        for slot in slots:
            self._rows[slot].length += positions

    def shorten(self, slots: Sequence[int], positions: int = 1) -> None:
        """Forget the last positions of each row."""
        for slot in slots:
            self._rows[slot].length -= positions

    def past(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values [KV, length, D] of one layer and row: a view."""
        row = self._rows[slot]
        keys, values = row.held[layer, :, :, : row.length].unbind(0)
        return keys, values

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Store k and v [KV, T, D] as the last positions of one layer and row."""
        keys, values = self.past(layer, slot)
        keys[:, -k.shape[1] :], values[:, -v.shape[1] :] = k, v

    def snapshot(self, slot: int, positions: int) -> Tensor:
        """A copy of the first positions of a row, held as rows are, and no longer than need be."""
        kept = self._empty(-(-positions // self.together) * self.together)
        self._copy(self._rows[slot].held, kept, positions)
        return kept

    def restore(self, slot: int, kept: Tensor, positions: int) -> None:
        """Begin the empty row of `slot` with what `snapshot` gave of so many positions."""
        self.extend([slot], positions)
        self._copy(kept, self._rows[slot].held, positions)

    def attend_one(
        self, layer: int, slots: Sequence[int], q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """Store k and v [B, KV, 1, D] as the last positions of `slots`; q [B, H, 1, D] over all
        that each row holds: [B, H, 1, D]."""
        attended = []
        for index, slot in enumerate(slots):
            self.write(layer, slot, k[index], v[index])
            keys, values = self.past(layer, slot)
            attended.append(attend_from_one(q[index, None], keys[None], values[None]))
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _views(self, held: Tensor, positions: int) -> tuple[Tensor, ...]:
        """What `held` holds of the first positions, and of those that lie together with them."""
        return (held[:, :, :, :positions],)

    def _copy(self, held: Tensor, to: Tensor, positions: int) -> None:
        for view, its in zip(self._views(held, positions), self._views(to, positions), strict=True):
            its.copy_(view)

    def _empty(self, capacity: int) -> Tensor:
        config = self._config
        shape = (config.n_layer, 2, config.n_local_heads, capacity, config.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    def _grow(self, slot: int, row: _Row, positions: int) -> None:
        capacity = row.capacity
        while capacity < positions:
            capacity = grown_capacity(capacity, row.most)
        held = self._empty(capacity)
        self._copy(row.held, held, row.length)
        row.held, row.capacity = held, capacity
        self._tell(slot)

    def _tell(self, slot: int) -> None:
        # Filled, not copied from the host: a copy would wait for the device.
        row = self._rows[slot]
        self.table[slot, 0].fill_(row.held.data_ptr())
        self.table[slot, 1].fill_(row.capacity)
