"""A frame in few kernels of our own, launched as one CUDA graph: the way for GPUs with Triton."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from backend.engine.frame import State, on_device
from backend.engine.fused_stack import (
    FEW_ROWS,
    FusedStack,
    Places,
    has_pdl,
    launch_options,
    linear_of,
    power_of_two,
)
from backend.engine.graphs import captured
from backend.engine.kernels import attention, sampling
from backend.engine.slots import WINDOW
from backend.model.layers import RMSNorm
from backend.model.quantize import QuantizedLinear

ROW_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of rows that there is a graph for."""
PIECE_BUCKETS = (16, 64, 256)
"""Lengths of pieces of a prompt that there is a graph for."""
_SEARCH_STEPS = 13
"""Of two bits each: what is kept of a distribution is found to 5e-7 of a logit."""
_WIDTH_MULTIPLE = 8
"""Of the logits' columns: cuBLAS is slow where rows begin at odd addresses."""


Head = nn.Linear | QuantizedLinear


class FusedWay:
    """Kernels in a graph for each number of rows; on a CPU, in Triton's interpreter, without."""

    name = "fused"

    def __init__(self, state: State) -> None:
        self._state, model = state, state.model
        config, device = model.config, model.embeddings.weight.device
        fast, dtype = config.fast, model.embeddings.weight.dtype
        self._spare, self._device, self._pdl = state.slots.count, device, has_pdl(device)
        rows = min(state.slots.count, ROW_BUCKETS[-1])
        self._buckets = [*(bucket for bucket in ROW_BUCKETS if bucket < rows), rows]
        most = max(rows, PIECE_BUCKETS[-1])
        self._slow = FusedStack(model.layers, config.slow, most, config.max_seq_len)
        self._fast = FusedStack(model.fast_layers, fast, 2 * rows, config.num_codebooks)
        self._places = Places(most, device)
        shape = (rows, fast.n_layer, 2, fast.n_local_heads, config.num_codebooks, fast.head_dim)
        self._past = torch.zeros(shape, dtype=dtype, device=device)
        books = range(1, config.num_codebooks)
        self._fast_places = [Places.of(self._past, None if book == 1 else book) for book in books]
        self._heads = self._made_heads()
        wide = (config.num_codebooks, rows, _padded(config.codebook_size + 1))
        self._logits = torch.empty(wide, device=device)
        """For few rows; more have theirs in the model's own type, as cuBLAS writes them."""
        self._more_logits = self._logits
        if rows > FEW_ROWS and dtype != torch.float32:
            self._more_logits = torch.empty(wide, dtype=dtype, device=device)
        self._made = torch.zeros((rows, config.num_codebooks), dtype=torch.int64, device=device)
        self._slots = torch.full((rows,), self._spare, dtype=torch.int64, device=device)
        self._given: list[int] = []
        self._piece = torch.zeros(3, dtype=torch.int64, device=device)
        """Slot, first position and length of the piece of a prompt that is read."""
        length = PIECE_BUCKETS[-1]
        self._tokens = torch.zeros(length, dtype=torch.int64, device=device)
        self._codes = torch.zeros((length, config.num_codebooks), dtype=torch.int64, device=device)
        self._graphs: dict[tuple[str, int], torch.cuda.CUDAGraph] = {}
        state.cache.open(self._spare, 1, 1)

    def prepare(self) -> bool:
        """Record a graph that there is not; False when all are."""
        if self._device.type != "cuda":
            return False
        wanted = [*(("read", length) for length in PIECE_BUCKETS)]
        wanted += [("frame", rows) for rows in self._buckets]
        missing = next((key for key in wanted if key not in self._graphs), None)
        if missing is not None:
            self._make_ready(*missing)
        return missing is not None

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt into the row of `slot`."""
        begin, most = self._state.cache.length(slot) - len(tokens), PIECE_BUCKETS[-1]
        for at in range(0, len(tokens), most):
            piece = tokens[at : at + most]
            bucket = next(bucket for bucket in PIECE_BUCKETS if bucket >= len(piece))
            self._make_ready("read", bucket)
            self._tokens[: len(piece)] = piece
            self._codes[: len(piece)] = codes[at : at + most]
            for index, value in enumerate((slot, begin + at, len(piece))):
                self._piece[index].fill_(value)
            self._run("read", bucket)

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N]."""
        bucket = self._bucket(len(slots))
        self._make_ready("frame", bucket)
        given = [*slots, *[self._spare] * (bucket - len(slots))]
        if given != self._given:
            self._put(given)
        self._run("frame", bucket)
        return self._made[: len(slots)]

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from."""
        rows = len(slots)
        logits = self._logits_of(self._bucket(rows))
        return [logits[book, :rows, : self._size(book)] for book in range(len(logits))]

    def _bucket(self, rows: int) -> int:
        return next(bucket for bucket in self._buckets if bucket >= rows)

    def _logits_of(self, rows: int) -> Tensor:
        return self._logits if rows <= FEW_ROWS else self._more_logits

    def _size(self, book: int) -> int:
        config = self._state.model.config
        return config.residual_codebook_size if book else config.codebook_size + 1

    def _made_heads(self) -> tuple[Head, Head]:
        """Those of the slow and the fast transformer, as wide as logits are needed."""
        model, config = self._state.model, self._state.model.config
        slow, fast = cast(Head | None, model.head), cast(Head, model.fast_output)
        if slow is None:
            padding = -len(model.legal_head) % _WIDTH_MULTIPLE
            slow = linear_of(nn.functional.pad(model.legal_head, (0, 0, 0, padding)).contiguous())
        if type(fast) is nn.Linear:
            fast = linear_of(fast.weight[: config.residual_codebook_size].contiguous())
        return slow, fast

    def _put(self, given: list[int]) -> None:
        self._slots[: len(given)] = on_device(given, self._device)
        self._given = given

    def _run(self, kind: str, rows: int) -> None:
        if (graph := self._graphs.get((kind, rows))) is not None:
            graph.replay()
        else:
            self._call(kind, rows)

    def _call(self, kind: str, rows: int) -> None:
        if kind == "frame":
            self._frame(rows)
        else:
            self._read(rows)

    def _make_ready(self, kind: str, rows: int) -> None:
        """Have a graph; what is run to make it falls on the slot that no sequence has."""
        if self._device.type != "cuda" or (kind, rows) in self._graphs:
            return
        if kind == "frame":
            self._put([self._spare] * rows)
        else:
            self._piece[2].fill_(0)
        like = next(iter(self._graphs.values()), None)
        self._graphs[kind, rows] = captured(lambda: self._call(kind, rows), like)

    def _read(self, rows: int) -> None:
        self._embed(rows, self._piece, self._tokens, self._codes, is_piece=True)
        self._slow.run(rows, self._places, is_piece=True)

    def _frame(self, rows: int) -> None:
        model, state, fast = self._state.model, self._state.slots, self._fast
        self._embed(rows, self._slots, state.tokens, state.codes, is_piece=False)
        self._slow.run(rows, self._places, is_piece=False)
        hidden = self._slow.x[:rows]
        self._draw(0, rows, self._slow, hidden, model.norm)
        for book, places in enumerate(self._fast_places, start=1):
            # The hidden state and the first code go in together: what follows from the former alone
            # is of no use.
            is_first = book == 1
            count = 2 * rows if is_first else rows
            fast.run(count, places, is_piece=is_first)
            x = fast.x[1:count:2] if is_first else fast.x[:rows]
            self._draw(book, rows, fast, x, model.fast_norm)

    def _embed(
        self, rows: int, given: Tensor, tokens: Tensor, codes: Tensor, *, is_piece: bool
    ) -> None:
        model, config, places = self._state.model, self._state.model.config, self._places
        scale = (config.num_codebooks + 1) ** -0.5 if config.scale_codebook_embeddings else 1.0
        dim = config.slow.dim
        attention.embed[(rows,)](
            *(given, tokens, codes, self._state.slots.positions, self._state.cache.table),
            *(model.embeddings.weight, model.codebook_embeddings.weight, self._slow.x),
            *(places.address, places.capacity, places.position, model.semantic_begin_id, scale),
            *(self._spare, config.num_codebooks, config.codebook_size, dim, power_of_two(dim)),
            *(is_piece, self._pdl),
            **launch_options(self._device),
        )

    def _draw(self, book: int, rows: int, stack: FusedStack, x: Tensor, norm: RMSNorm) -> None:
        """Logits of `book` from x [R, dim], the codes, and what the next step begins with."""
        logits, size = self._logits_of(rows)[book, :rows], self._size(book)
        head = self._heads[min(book, 1)]
        stack.project(x, norm, head, logits[:, : min(head.out_features, _padded(size))])
        self._sample(book, rows)

    def _sample(self, book: int, rows: int) -> None:
        """Draw `book` from its logits."""
        model, config, state = self._state.model, self._state.model.config, self._state.slots
        logits, size, dim = self._logits_of(rows)[book, :rows], self._size(book), config.fast.dim
        hidden, is_same = self._slow.x[:rows], isinstance(model.fast_project_in, nn.Identity)
        if book == 0 and not is_same:
            self._fast.x[: 2 * rows : 2] = model.fast_project_in(hidden)
        sampling.sample[(rows,)](
            *(logits, self._slots, state.keys, state.frames, state.history, state.temperature),
            *(state.top_p, state.penalty, self._made, hidden, model.fast_embeddings.weight),
            *(self._fast.x, state.tokens, state.codes, state.positions),
            *(model.semantic_begin_id, book, logits.stride(0)),
            *(config.num_codebooks, size, power_of_two(size), config.codebook_size),
            *(dim, power_of_two(dim), WINDOW, self._spare),
            *(book == 0, book == config.num_codebooks - 1, book == 0 and is_same),
            *(_SEARCH_STEPS, self._pdl),
            **launch_options(self._device, sample_warps(size)),
        )


def sample_warps(size: int) -> int:
    """Warps that draw from so many logits."""
    return 16 if size > 2048 else 4


def _padded(size: int) -> int:
    return -(-size // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
