"""A decode step by compiled code, with the numbers of `EagerFrame` up to rounding."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from backend.engine.frame import Draw, Drawn
from backend.engine.pieces import NAMES, piece
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.kv_cache import KVCache
from backend.model.layers import rope_table

Run = Callable[[list[Tensor]], list[Tensor]]
"""Compiled code: weights and inputs to outputs. It trusts shapes, strides and alignment."""


def load_pieces(folder: Path, device: torch.device) -> dict[str, Run]:
    """Load what `backend.engine.compile_pieces` wrote; RuntimeError where this system cannot."""
    index = -1 if device.index is None else device.index
    return {name: _load(str(folder / f"{name}.pt2"), index) for name in NAMES}


def _load(path: str, device_index: int) -> Run:
    # Without locks, and so fit to be captured by a CUDA graph: only one thread runs it.
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(path, "model", True, 1, device_index)
    except (AttributeError, TypeError):
        # What stands around it in torch: its import alone takes 80 MB and seconds, which whatever
        # is spoken meanwhile would feel.
        from torch._inductor import aoti_load_package  # noqa: PLC0415

        loader = aoti_load_package(path, run_single_threaded=True, device_index=device_index).loader
    run: Run = loader.boxed_run
    return run


class CompiledFrame:
    """One step of at most `max_rows` rows, which are the first of all states it is given."""

    def __init__(self, model: DualAR, runs: Mapping[str, Run], max_rows: int) -> None:
        self.max_rows = max_rows
        self._model, self._fast = model, FastFrame(model)
        self._layer, self._first, self._next = (runs[name] for name in NAMES)
        layers = range(model.config.slow.n_layer)
        self._layers = [piece(model, "layer", layer).weights() for layer in layers]
        self._first_weights = piece(model, "first").weights()
        self._next_weights = piece(model, "next").weights()
        self._dtype = model.embeddings.weight.dtype
        slow, device = model.config.slow, model.embeddings.weight.device
        self._positions = torch.arange(model.config.max_seq_len, device=device)
        self._turns = rope_table(self._positions, slow.head_dim, slow.rope_base)

    def hidden(self, codes: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """The frames just made [B, N] at `positions` [B] to slow hidden states [B, dim]."""
        model = self._model
        x = model.embed(codes[:, :1] + model.semantic_begin_id, codes[:, None])
        rope = self._turns[positions][:, None, None]
        unseen = self._positions[: cache.longest] > positions[:, None]
        mask = torch.zeros(unseen.shape, dtype=self._dtype, device=unseen.device)
        mask = mask.masked_fill_(unseen, -torch.inf)[:, None, None]
        for index, weights in enumerate(self._layers):
            keys, values = cache.layer(index)
            (x,) = self._layer([*weights, x, rope, mask, positions, keys, values])
        return x[:, 0]

    def draw(self, hidden: Tensor, given: Draw) -> Drawn:
        """Slow hidden states [B, dim] to the next frames."""
        rows, past = given.sampling, self._fast.past(hidden.shape[0])
        semantic, code, first, second, noise, factors = self._first(
            [
                *self._first_weights,
                *(hidden, rows.temperature, rows.top_p, rows.repetition_penalty),
                *(given.keys, given.frames, given.history, self._fast.rope, past),
            ]
        )
        codes, logits = [semantic, code], [first, second]
        for book in range(2, self._model.config.num_codebooks):
            slot, rope, mask = self._fast.at(book)
            inputs = (codes[-1], slot, rope, mask, past, rows.temperature, rows.top_p)
            drawn, wide = self._next([*self._next_weights, *inputs, noise, factors])
            codes.append(drawn)
            logits.append(wide)
        return Drawn(codes, logits)
