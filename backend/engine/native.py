"""Frames by kernels in C, a whole one in one call: the way of CPUs."""

from collections.abc import Sequence
from ctypes import pointer, sizeof
from typing import Any, cast

import torch
from torch import Tensor, nn

from backend.engine.frame import State
from backend.engine.slots import WINDOW
from backend.model.config import TransformerConfig
from backend.model.layers import Block, RMSNorm, rope_table
from backend.model.packed import KINDS, PackedLinear
from backend.model.packed_cache import PackedCache
from backend.native import structs
from backend.native.pool import NativePool
from backend.native.structs import (
    FRAME,
    MOST_ROWS,
    QUERIES,
    READ,
    TILE,
    Buffers,
    Layer,
    Span,
    Stack,
)

MOST_POSITIONS = 1 << 16
"""Of which a sum of products with integers stays below 2^31."""

GROUP_ROWS = MOST_ROWS // 2
"""Rows whose frames are made together: the fast transformer begins with two places of each."""


class NativeWay:
    """The model's matrices must be `PackedLinear`, its cache and embeddings on a CPU."""

    name = "native"

    def __init__(self, state: State, pool: NativePool) -> None:
        """Raises ValueError where the kernels are not made for this model."""
        self._state, self._pool, model = state, pool, state.model
        config, rows = model.config, state.slots.count + 1
        if config.max_seq_len > MOST_POSITIONS:
            raise ValueError(f"{config.max_seq_len} positions are more than {MOST_POSITIONS}")
        self._kept: list[Any] = []
        """What the kernels hold an address of."""
        self._spans = (Span * rows)()
        self._slots = torch.zeros(rows, dtype=torch.int64)
        self._made = torch.zeros((rows, config.num_codebooks), dtype=torch.int64)
        width = max(cast(PackedLinear, each).matrix.outputs for each in self._heads())
        self._logits = torch.zeros(config.num_codebooks, rows, width)
        slow, fast = config.slow, config.fast
        self._model = self._described()
        past = (
            *(min(rows, GROUP_ROWS), fast.n_layer, 2),
            *(fast.n_local_heads, config.num_codebooks, fast.head_dim),
        )
        both = (slow, fast)
        qkv = max((c.n_head + 2 * c.n_local_heads) * c.head_dim for c in both)
        buffers = Buffers(
            x=self._room(MOST_ROWS, slow.dim),
            fast_x=self._room(MOST_ROWS, fast.dim),
            qkv=self._room(MOST_ROWS, qkv),
            attended=self._room(MOST_ROWS, max(c.n_head * c.head_dim for c in both)),
            hidden=self._room(MOST_ROWS, max(c.intermediate_size for c in both)),
            logits=self._at(self._logits),
            fast_past=self._room(*past),
            most_rows=rows,
            logits_width=width,
        )
        self._groups = [self._job(buffers, begin) for begin in range(0, rows, GROUP_ROWS)]
        # Drawing takes two numbers a logit, and what QUERIES see two bytes a position.
        positions = config.max_seq_len + TILE
        inputs = max(slow.dim, 2 * width // MOST_ROWS + 1, QUERIES * positions // MOST_ROWS + 1)
        pool.reserve(inputs, positions)

    def prepare(self) -> bool:
        """Nothing is made beforehand."""
        return False

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt into the row of `slot`."""
        cache = self._state.cache
        begin, (past, capacity) = cache.length(slot) - len(tokens), cache.place(slot)
        tokens, codes = tokens.contiguous(), codes.contiguous()
        for at in range(0, len(tokens), MOST_ROWS):
            piece = tokens[at : at + MOST_ROWS]
            self._spans[0] = Span(past, capacity, begin + at, len(piece))
            self._pool.run(
                READ,
                len(piece),
                **self._groups[0],
                tokens=piece.data_ptr(),
                codes=codes[at:].data_ptr(),
            )

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N]."""
        cache = self._state.cache
        for row, slot in enumerate(slots):
            self._slots[row] = slot
            self._spans[row] = Span(*cache.place(slot), cache.length(slot) - 1, 1)
        for group, begin in zip(self._groups, range(0, len(slots), GROUP_ROWS), strict=False):
            self._pool.run(FRAME, min(GROUP_ROWS, len(slots) - begin), **group)
        return self._made[: len(slots)]

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from."""
        config, rows = self._state.model.config, len(slots)
        sizes = [config.codebook_size + 1]
        sizes += [config.residual_codebook_size] * (config.num_codebooks - 1)
        return [self._logits[book, :rows, :size] for book, size in enumerate(sizes)]

    def _job(self, shared: Buffers, begin: int) -> dict[str, Any]:
        """What a job of the rows from `begin` on works on; one group after another shares room."""
        buffers = Buffers.from_buffer_copy(shared)
        buffers.logits = self._logits[:, begin:].data_ptr()
        return {
            "row_slots": self._slots[begin:].data_ptr(),
            "spans": (Span * (len(self._spans) - begin)).from_buffer(
                self._spans, begin * sizeof(Span)
            ),
            "made": self._made[begin:].data_ptr(),
            "model": pointer(self._model),
            "buffers": pointer(buffers),
        }

    def _heads(self) -> tuple[nn.Module | None, nn.Module]:
        return self._state.model.head, self._state.model.fast_output

    def _described(self) -> structs.Model:
        model, slots = self._state.model, self._state.slots
        config, kind = model.config, KINDS[model.embeddings.weight.dtype]
        cache = self._state.cache
        cache_kind = kind
        if isinstance(cache, PackedCache):
            cache_kind = structs.I16 if cache.is_fine else structs.I8
        head, fast_head = self._heads()
        project_in = model.fast_project_in
        books = config.num_codebooks
        return structs.Model(
            slow=self._stack(model.layers, config.slow, config.max_seq_len, cache_kind),
            fast=self._stack(model.fast_layers, config.fast, books, structs.F32),
            head=self._matrix(head),
            fast_head=_first(self._matrix(fast_head), config.residual_codebook_size),
            project_in=(
                structs.Matrix()
                if isinstance(project_in, nn.Identity)
                else self._matrix(project_in)
            ),
            norm=self._norm(model.norm),
            fast_norm=self._norm(model.fast_norm),
            embeddings=self._at(model.embeddings.weight),
            codebook_embeddings=self._at(model.codebook_embeddings.weight),
            fast_embeddings=self._at(model.fast_embeddings.weight),
            embedding_kind=kind,
            semantic_begin=model.semantic_begin_id,
            codebooks=books,
            codebook_size=config.codebook_size,
            residual_size=config.residual_codebook_size,
            window=WINDOW,
            embedding_scale=(books + 1) ** -0.5 if config.scale_codebook_embeddings else 1.0,
            slots=structs.Slots(
                *(
                    self._at(getattr(slots, name))
                    for name in (
                        *("tokens", "codes", "positions", "frames", "history", "keys"),
                        *("temperature", "top_p", "penalty"),
                    )
                )
            ),
        )

    def _stack(
        self, blocks: nn.ModuleList, config: TransformerConfig, positions: int, cache_kind: int
    ) -> Stack:
        layers = (Layer * len(blocks))()
        for index, block in enumerate(cast(Sequence[Block], blocks)):
            attention, forward = block.attention, block.feed_forward
            layers[index] = Layer(
                qkv=self._matrix(attention.wqkv),
                wo=self._matrix(attention.wo),
                gate=self._matrix(forward.w1),
                up=self._matrix(forward.w3),
                down=self._matrix(forward.w2),
                attention_norm=self._norm(block.attention_norm),
                ffn_norm=self._norm(block.ffn_norm),
                q_norm=self._norm(attention.q_norm) if attention.qk_norm else None,
                k_norm=self._norm(attention.k_norm) if attention.qk_norm else None,
            )
        self._kept.append(layers)
        rope = rope_table(torch.arange(positions), config.head_dim, config.rope_base)
        return Stack(
            layers=layers,
            rope=self._at(rope),
            layer_count=len(blocks),
            dim=config.dim,
            heads=config.n_head,
            key_heads=config.n_local_heads,
            head_dim=config.head_dim,
            hidden=config.intermediate_size,
            cache_kind=cache_kind,
            eps=config.norm_eps,
        )

    def _matrix(self, linear: nn.Module | None) -> structs.Matrix:
        if not isinstance(linear, PackedLinear):
            raise ValueError(f"a {type(linear).__name__} is not packed")
        return linear.matrix

    def _norm(self, norm: RMSNorm) -> int:
        return self._at(norm.weight.detach().float())

    def _room(self, *shape: int) -> int:
        return self._at(torch.zeros(shape))

    def _at(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _first(matrix: structs.Matrix, outputs: int) -> structs.Matrix:
    """The first `outputs` of `matrix`: more are never drawn."""
    kept = structs.Matrix.from_buffer_copy(matrix)
    kept.outputs = min(matrix.outputs, outputs - outputs % -structs.TILE)
    return kept
