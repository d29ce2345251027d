"""The dual autoregressive transformer: a slow one over frames, a fast one over a frame's codes.

Module names are those of the official state dict. Architecture: Fish Speech (arXiv:2411.01156) and
`fish-speech==0.1.0`, `models/text2semantic/llama.py`.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import DualARConfig
from backend.model.kv_cache import KVCache
from backend.model.layers import (
    Block,
    RMSNorm,
    attend_from_one,
    by_columns,
    causal,
    init_transformer_,
    rope_table,
)


class DualAR(nn.Module):
    """Text and code frames in, the next frame's logits out.

    A prompt is a grid: token ids [T] and codes [T, num_codebooks], the codes counting only where
    the token is semantic. Slow logits cover the legal tokens only: column i < codebook_size is
    semantic code i, the last column is the end of speech.
    """

    def __init__(self, config: DualARConfig, semantic_begin_id: int, end_id: int) -> None:
        super().__init__()
        self.config = config
        self.semantic_begin_id, self.end_id = semantic_begin_id, end_id
        slow, fast = config.slow, config.fast
        self.embeddings = nn.Embedding(config.vocab_size, slow.dim)
        self.codebook_embeddings = nn.Embedding(
            config.codebook_size * config.num_codebooks, slow.dim
        )
        self.layers = nn.ModuleList(Block(slow) for _ in range(slow.n_layer))
        self.norm = RMSNorm(slow.dim, slow.norm_eps)
        if not config.tie_word_embeddings:
            self.output = nn.Linear(slow.dim, config.vocab_size, bias=False)
        self.fast_project_in: nn.Module = nn.Identity()
        if fast.dim != slow.dim:
            self.fast_project_in = nn.Linear(slow.dim, fast.dim)
        self.fast_embeddings = nn.Embedding(config.codebook_size, fast.dim)
        self.fast_layers = nn.ModuleList(Block(fast) for _ in range(fast.n_layer))
        self.fast_norm = RMSNorm(fast.dim, fast.norm_eps)
        self.fast_output = nn.Linear(fast.dim, config.codebook_size, bias=False)
        self.legal_head: Tensor
        self.register_buffer("legal_head", torch.empty(0), persistent=False)

    def init_weights_(self, std: float = 0.02) -> None:
        """Fresh random weights, for training and for tests."""
        init_transformer_(self, self.config.slow.n_layer, std)

    @property
    def end_column(self) -> int:
        """Column of the slow logits that means the end of speech."""
        return self.config.codebook_size

    def head_weight(self) -> Tensor:
        """The head's legal rows [codebook_size + 1, dim], end of speech last."""
        full = self.embeddings.weight if self.config.tie_word_embeddings else self.output.weight
        begin = self.semantic_begin_id
        semantic = full[begin : begin + self.config.codebook_size]
        return torch.cat((semantic, full[self.end_id : self.end_id + 1]))

    def freeze_head_(self) -> None:
        """Lay the legal head rows together once, for generation."""
        head = self.head_weight().detach()
        self.legal_head = by_columns(head) if head.device.type == "cpu" else head.contiguous()

    def embed(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """tokens [..., T], codes [..., T, N] -> [..., T, dim]."""
        x = self.embeddings(tokens)
        size, count = self.config.codebook_size, self.config.num_codebooks
        offsets = torch.arange(0, count * size, size, device=codes.device)
        books = self.codebook_embeddings(codes + offsets).sum(-2)
        begin = self.semantic_begin_id
        semantic = ((tokens >= begin) & (tokens < begin + size))[..., None]
        spoken = x + books
        if self.config.scale_codebook_embeddings:
            spoken = spoken / math.sqrt(count + 1)
        return torch.where(semantic, spoken, x)

    def slow(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Hidden states [B, T, dim] of whole grids before the last norm; no cache: for training."""
        x = self.embed(tokens, codes)
        rope = self._rope(torch.arange(tokens.shape[-1], device=tokens.device)[None])
        for layer in self.layers:
            x = layer(x, rope, causal)
        return x

    def slow_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., codebook_size + 1] over the legal tokens."""
        head = self.legal_head if self.legal_head.numel() else self.head_weight()
        return F.linear(self.norm(hidden), head)

    def fast(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Teacher-forced logits [M, N, codebook_size] of codes [M, N]; row 0 means nothing."""
        first = self.fast_project_in(hidden)[:, None]
        x = torch.cat((first, self.fast_embeddings(codes[:, :-1])), dim=1)
        rope = self._fast_rope(0, codes.shape[1], codes.device)
        for layer in self.fast_layers:
            x = layer(x, rope, causal)
        return cast(Tensor, self.fast_output(self.fast_norm(x)))

    def prefill(self, tokens: Tensor, codes: Tensor, cache: KVCache, row: int) -> Tensor:
        """Read a prompt, tokens [T] and codes [T, N], into `row`; its last hidden [1, dim]."""
        x = self.embed(tokens[None], codes[None])
        rope = self._rope(torch.arange(tokens.shape[0], device=tokens.device)[None])

        for index, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                cache.write_row(index, row, k, v)
                return causal(q, k, v)

            x = layer(x, rope, attend)
        return x[:, -1]

    def decode(self, codes: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """One step for every row: the frames just made [B, N] at `positions` [B]; hidden [B, dim].

        `cache.advance()` has counted the new positions.
        """
        tokens = codes[:, :1] + self.semantic_begin_id
        x = self.embed(tokens, codes[:, None])
        rope = self._rope(positions[:, None])
        mask = cache.mask(positions)

        for index, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                return cache.attend_one(index, q, k, v, positions, mask)

            x = layer(x, rope, attend)
        return x[:, 0]

    def _rope(self, positions: Tensor) -> Tensor:
        slow = self.config.slow
        return rope_table(positions, slow.head_dim, slow.rope_base)[:, :, None]

    def _fast_rope(self, begin: int, end: int, device: torch.device) -> Tensor:
        fast = self.config.fast
        positions = torch.arange(begin, end, device=device)[None]
        return rope_table(positions, fast.head_dim, fast.rope_base)[:, :, None]


class FastFrame:
    """Runs the fast transformer through one frame, code book by code book.

    Position 0 takes the slow hidden state and position 1 the semantic code; position 0's logits are
    never used, so both go in together.
    """

    def __init__(self, model: DualAR) -> None:
        self._model = model
        self._rope: Tensor | None = None
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def start(self, hidden: Tensor, semantic: Tensor) -> Tensor:
        """Hidden [B, dim] and semantic codes [B]: logits [B, codebook_size] of code book 1."""
        model = self._model
        if self._rope is None or self._rope.device != hidden.device:
            self._rope = model._fast_rope(0, model.config.num_codebooks, hidden.device)
        pair = (model.fast_project_in(hidden), model.fast_embeddings(semantic))
        self._room_for(hidden.shape[0], pair[0])
        return self._run(torch.stack(pair, dim=1), 0)

    def step(self, book: int, codes: Tensor) -> Tensor:
        """Codes [B] of code book `book`: logits [B, codebook_size] of the next one."""
        return self._run(self._model.fast_embeddings(codes)[:, None], book + 1)

    def _run(self, x: Tensor, begin: int) -> Tensor:
        assert self._rope is not None
        rows, length = x.shape[:2]
        end = begin + length
        rope = self._rope[:, begin:end]

        for index, layer in enumerate(self._model.fast_layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                keys, values = self._keys[index], self._values[index]
                keys[:rows, :, begin:end] = k
                values[:rows, :, begin:end] = v
                if begin == 0:
                    return causal(q, k, v)
                return attend_from_one(q, keys[:rows, :, :end], values[:rows, :, :end])

            x = layer(x, rope, attend)
        return cast(Tensor, self._model.fast_output(self._model.fast_norm(x[:, -1])))

    def _room_for(self, rows: int, like: Tensor) -> None:
        if self._keys and self._keys[0].shape[0] >= rows:
            return
        fast = self._model.config.fast
        shape = (rows, fast.n_local_heads, self._model.config.num_codebooks, fast.head_dim)
        layers = range(fast.n_layer)
        self._keys = [like.new_zeros(shape) for _ in layers]
        self._values = [like.new_zeros(shape) for _ in layers]
