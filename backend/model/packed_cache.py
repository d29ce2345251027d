"""Keys and values in few bits, as the native kernels (`backend/native/attention.c`) read them."""

import torch
from torch import Tensor

from backend.model.config import (
    STEP_BYTES,
    CacheGeometry,
    TransformerConfig,
    packed_bits,
    packed_bytes,
)
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache
from backend.model.packed import PackedLinear, laid_out_for_kernels, laid_out_plainly
from backend.native.structs import TILE


class PackedCache(KVCache):
    """Each key and each value of a head is rounded to whole steps of its own, and held as how many.

    A row is [layers, KV, bytes]: TILE positions together, first the keys of all, then the values.
    Each TILE lies as a matrix of a `PackedLinear`: of keys rows are positions, of values they are
    elements. At its end are the steps' sizes in float32, one a position. Keys of 16 bits are two of
    8, one after the other, which are to be added: the second holds what the first one lost.
    """

    together = TILE

    def __init__(
        self,
        config: TransformerConfig,
        slots: int = 1,
        *,
        has_spare: bool = False,
        is_fine: bool = False,
    ) -> None:
        self.is_fine = is_fine
        self._bits = packed_bits(is_fine)
        super().__init__(config, torch.uint8, torch.device("cpu"), slots, has_spare=has_spare)

    @property
    def geometry(self) -> CacheGeometry:
        """What rows take."""
        return CacheGeometry.packed(self._config, is_fine=self.is_fine)

    def past(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values [KV, length, D] of one layer and row: float32, and a copy."""
        row = self._rows[slot]
        keys, values = (each[layer] for each in self._views(row.held, row.length))
        k = self._opened(keys, self._bits[0], are_keys=True)
        v = self._opened(values, self._bits[1], are_keys=False)
        return k[:, : row.length], v[:, : row.length]

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Round k and v [KV, T, D] to the last positions of one layer and row."""
        row = self._rows[slot]
        keys, values = (each[layer] for each in self._views(row.held, row.length))
        begin = row.length - k.shape[1]
        self._write(keys, k.float(), begin, self._bits[0], are_keys=True)
        self._write(values, v.float(), begin, self._bits[1], are_keys=False)

    def _opened(self, held: Tensor, bits: int, *, are_keys: bool) -> Tensor:
        """Keys or values [KV, blocks * TILE, D] of [KV, blocks, bytes]."""
        if bits == 16:
            first, second = (self._opened(half, 8, are_keys=are_keys) for half in held.chunk(2, -1))
            return first + second
        counts, sizes = self._parts(held, bits, are_keys=are_keys)
        return ((counts.float() - (1 << bits - 1)) * sizes[..., None]).flatten(1, 2)

    def _write(self, held: Tensor, x: Tensor, begin: int, bits: int, *, are_keys: bool) -> None:
        """x [KV, T, D] as the positions from `begin` on of [KV, blocks, bytes]."""
        if bits == 16:
            first, second = held.chunk(2, -1)
            self._write(first, x, begin, 8, are_keys=are_keys)
            kept = self._opened(first, 8, are_keys=are_keys)[:, begin : begin + x.shape[1]]
            self._write(second, x - kept, begin, 8, are_keys=are_keys)
            return
        # What lies together with the first of them is written anew, as it is.
        held, at = held[:, begin // TILE :], begin % TILE
        counts, sizes = (each.flatten(1, 2) for each in self._parts(held, bits, are_keys=are_keys))
        counts[:, at : at + x.shape[1]], sizes[:, at : at + x.shape[1]] = _rounded(x, bits)
        blocks = torch.unflatten(counts, 1, (-1, TILE))
        laid = laid_out_for_kernels(blocks if are_keys else blocks.transpose(2, 3), bits)
        sizes = torch.unflatten(sizes, 1, (-1, TILE))
        held.copy_(torch.cat((laid, sizes.contiguous().view(torch.uint8)), dim=-1))

    def _parts(self, held: Tensor, bits: int, *, are_keys: bool) -> tuple[Tensor, Tensor]:
        """Copies of [KV, blocks, bytes]: counts [KV, blocks, TILE, D], sizes [KV, blocks, TILE]."""
        end = held.shape[-1] - STEP_BYTES * TILE
        sizes = held[..., end:].contiguous().view(torch.float32)
        found = laid_out_plainly(held[..., :end], TILE if are_keys else self._config.head_dim, bits)
        return found if are_keys else found.transpose(2, 3), sizes

    def _empty(self, capacity: int) -> Tensor:
        config = self._config
        position_bytes = self.geometry.row_bytes(1) // (config.n_layer * config.n_local_heads)
        shape = (config.n_layer, config.n_local_heads, capacity * position_bytes)
        return torch.empty(shape, dtype=torch.uint8)

    def _views(self, held: Tensor, positions: int) -> tuple[Tensor, ...]:
        """Keys and values, [layers, KV, blocks, bytes] each, of the blocks of those positions."""
        key, value = (packed_bytes(self._config.head_dim, bits) for bits in self._bits)
        end = held.shape[-1] * key // (key + value)
        return tuple(
            torch.unflatten(each, 2, (-1, TILE * size))[:, :, : -(-positions // TILE)]
            for each, size in ((held[..., :end], key), (held[..., end:], value))
        )


def _rounded(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x [KV, T, D] as counts, whose middle is zero, and the sizes [KV, T] of a step of them.

    What is no number makes no size one. Of six bits the largest takes the step that has no
    counterpart on the other side.
    """
    top, bottom, middle = x.amax(-1), x.amin(-1), 1 << bits - 1
    if bits == 8:
        size = torch.maximum(top, -bottom) / (middle - 1)
    else:
        size = torch.where(top > -bottom, top, bottom) / -middle
    counts = (x / torch.where(size == 0, 1, size)[..., None]).nan_to_num(0, 0, 0).round()
    return (counts.clamp(-middle, middle - 1) + middle).to(torch.uint8), size


def cache_of(model: DualAR, slots: int, *, has_spare: bool = False) -> KVCache:
    """An empty one for rows of `model`: of packed integers where its slow layers are, the finer
    ones for a small model."""
    config, weight = model.config.slow, model.embeddings.weight
    linears = [each for each in model.layers.modules() if isinstance(each, PackedLinear)]
    if min((linear.bits for linear in linears), default=32) > 8:
        return KVCache(config, weight.dtype, weight.device, slots, has_spare=has_spare)
    return PackedCache(config, slots, has_spare=has_spare, is_fine=model.config.is_small)
