"""Eager operations recorded as CUDA graphs: the way for GPUs without Triton."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from backend.engine.frame import State, draw_frame, on_device, spoken_codes
from backend.engine.graphs import captured
from backend.model.dual_ar import FastFrame
from backend.model.layers import Block


class GraphWay:
    """What the eager way does, but attention, in graphs for each number of rows.

    Attention stays between the graphs: a row's keys and values move when they grow, and a graph
    cannot follow. On a CPU the same pieces run without graphs.
    """

    name = "graph"

    def __init__(self, state: State) -> None:
        self._state, model, most = state, state.model, state.slots.count
        slow, like = model.config.slow, model.embeddings.weight
        self._buckets = row_buckets(most)
        self._fast = FastFrame(model)
        self._fast.past(most)  # a graph must find it where it was
        self._slots = torch.full((most,), self._nobody, device=like.device)
        self._given: list[int] = []
        self._rope = torch.zeros(most, 1, 1, slow.head_dim // 2, 2, device=like.device)
        self._x = like.new_zeros(most, 1, slow.dim)
        heads = slow.n_head + 2 * slow.n_local_heads
        self._qkv = like.new_zeros(most, heads, 1, slow.head_dim)
        self._attended = like.new_zeros(most, slow.n_head, 1, slow.head_dim)
        self._codes = self._slots.new_zeros(most, model.config.num_codebooks)
        self._logits: dict[int, list[Tensor]] = {}
        self._runs: dict[int, list[Callable[[], None]]] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def prepare(self) -> bool:
        """Record what is run for some number of rows; False when all are."""
        rows = next((rows for rows in self._buckets if rows not in self._runs), None)
        if rows is not None:
            self._make_ready(rows)
        return rows is not None

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt into the row of `slot`."""
        self._state.model.prefill(tokens, codes, self._state.cache, slot)

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N]."""
        rows = self._bucket(slots)
        self._make_ready(rows)
        self._put([*slots, *[self._nobody] * (rows - len(slots))])
        *runs, last = self._runs[rows]
        for layer, run in enumerate(runs):
            run()
            self._attend(layer, slots)
        last()
        return self._codes[: len(slots)]

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from."""
        return [logits[: len(slots)] for logits in self._logits[self._bucket(slots)]]

    @property
    def _nobody(self) -> int:
        """The slot of rows that only fill a bucket."""
        return self._state.slots.count

    def _bucket(self, slots: Sequence[int]) -> int:
        return next(rows for rows in self._buckets if rows >= len(slots))

    def _put(self, given: list[int]) -> None:
        """Tell the device whose rows these are."""
        if given == self._given:
            return
        self._slots[: len(given)] = on_device(given, self._slots.device)
        self._given = given

    def _make_ready(self, rows: int) -> None:
        if rows not in self._runs:
            self._put([self._nobody] * rows)
            self._runs[rows] = self._prepared(rows)

    def _prepared(self, rows: int) -> list[Callable[[], None]]:
        """What is run for so many rows, with attention in between."""
        blocks = [cast(Block, block) for block in self._state.model.layers]
        pieces: list[Callable[[], None]] = [partial(self._first, rows, blocks[0])]
        pieces += [partial(self._between, rows, *pair) for pair in pairwise(blocks)]
        pieces.append(partial(self._last, rows, blocks[-1]))
        if self._slots.device.type != "cuda":
            return pieces
        runs: list[Callable[[], None]] = []
        for piece in pieces:
            self._graph = captured(piece, like=self._graph)
            runs.append(self._graph.replay)
        return runs

    def _first(self, rows: int, block: Block) -> None:
        """The frames made last to the first layer's queries, keys and values."""
        model, state, slots = self._state.model, self._state.slots, self._slots[:rows]
        self._rope[:rows] = model.slow_rope(state.positions[slots, None])
        self._x[:rows] = model.embed(state.tokens[slots, None], state.codes[slots, None])
        self._look(rows, block)

    def _between(self, rows: int, before: Block, after: Block) -> None:
        """What the layer `before` attended to, to what `after` attends with."""
        self._x[:rows] = before.after(self._x[:rows], self._attended[:rows])
        self._look(rows, after)

    def _last(self, rows: int, block: Block) -> None:
        """What the last layer attended to, to the codes of the frame, which is recorded."""
        model, state, slots = self._state.model, self._state.slots, self._slots[:rows]
        hidden = block.after(self._x[:rows], self._attended[:rows])[:, 0]
        sampling = state.unknown_sampling(slots)
        codes, logits = draw_frame(model, self._fast, state, slots, sampling, hidden)
        state.record(
            slots, spoken_codes(codes, model.config.codebook_size), model.semantic_begin_id
        )
        state.positions[self._nobody :].zero_()  # or it would leave every table of positions
        self._codes[:rows] = codes
        self._logits[rows] = logits  # whoever holds them keeps a graph's memory from being reused

    def _look(self, rows: int, block: Block) -> None:
        torch.cat(block.before(self._x[:rows], self._rope[:rows]), dim=1, out=self._qkv[:rows])

    def _attend(self, layer: int, slots: Sequence[int]) -> None:
        slow, qkv = self._state.model.config.slow, self._qkv[: len(slots)]
        keys, values = slow.n_head, slow.n_head + slow.n_local_heads
        q, k, v = qkv[:, :keys], qkv[:, keys:values], qkv[:, values:]
        self._attended[: len(slots)] = self._state.cache.attend_one(layer, slots, q, k, v)


def row_buckets(most: int) -> list[int]:
    """Numbers of rows that are prepared for: powers of two, and `most` itself."""
    return [1 << n for n in range((most - 1).bit_length())] + [most]
