"""The dual autoregressive transformer: a slow one over frames, a fast one over a frame's codes.

Module names are those of the official state dict. Architecture: Fish Speech (arXiv:2411.01156) and
`fish-speech==0.1.0`, `models/text2semantic/llama.py`.
"""

import math
from collections.abc import Sequence
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
    causal,
    init_transformer_,
    laid_out,
    rope_table,
    stored_bytes,
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
        self.head: nn.Module | None = None
        """Multiplies by the head's legal rows, where those are quantized or packed."""

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
        self.legal_head = laid_out(self.head_weight())

    def weight_bytes_per_frame(self) -> int:
        """Bytes of weights that one frame reads, whatever the number of rows: the slow layers and
        the head once, the fast ones and their head once a code book after the first."""
        head = self.head
        if head is None:
            rows = self.config.codebook_size + 1
            slow = rows * self.config.slow.dim * self.embeddings.weight.element_size()
        else:
            slow = stored_bytes(head)
        slow += stored_bytes(self.layers)
        fast = stored_bytes(self.fast_layers) + stored_bytes(self.fast_output)
        return slow + max(1, self.config.num_codebooks - 1) * fast

    def embed(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """tokens [..., T], codes [..., T, N] -> [..., T, dim]."""
        dtype = self.norm.weight.dtype  # what is computed in: of packed matrices more than is held
        x = self.embeddings(tokens).to(dtype)
        size, count = self.config.codebook_size, self.config.num_codebooks
        offsets = torch.arange(0, count * size, size, device=codes.device)
        books = self.codebook_embeddings(codes + offsets).to(dtype).sum(-2)
        begin = self.semantic_begin_id
        semantic = ((tokens >= begin) & (tokens < begin + size))[..., None]
        spoken = x + books
        if self.config.scale_codebook_embeddings:
            spoken = spoken / math.sqrt(count + 1)
        return torch.where(semantic, spoken, x)

    def slow(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Hidden states [B, T, dim] of whole grids before the last norm; no cache: for training."""
        x = self.embed(tokens, codes)
        rope = self.slow_rope(torch.arange(tokens.shape[-1], device=tokens.device)[None])
        for layer in self.layers:
            x = layer(x, rope, causal)
        return x

    def slow_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., codebook_size + 1] over the legal tokens."""
        hidden = self.norm(hidden)
        if self.head is not None:
            return cast(Tensor, self.head(hidden))
        head = self.legal_head if self.legal_head.numel() else self.head_weight()
        return F.linear(hidden, head)

    def fast(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Teacher-forced logits [M, N, codebook_size] of codes [M, N]; row 0 means nothing."""
        first = self.fast_project_in(hidden)[:, None]
        x = torch.cat((first, self.fast_embeddings(codes[:, :-1])), dim=1)
        rope = self.fast_rope(0, codes.shape[1], codes.device)
        for layer in self.fast_layers:
            x = layer(x, rope, causal)
        return cast(Tensor, self.fast_output(self.fast_norm(x)))

    def prefill(self, tokens: Tensor, codes: Tensor, cache: KVCache, slot: int) -> Tensor:
        """Read the next piece of a prompt, tokens [T] and codes [T, N], into the row of `slot`.

        `cache.extend` has counted its positions. The last hidden state [1, dim].
        """
        x = self.embed(tokens[None], codes[None])
        length, end = tokens.shape[0], cache.length(slot)
        rope = self.slow_rope(torch.arange(end - length, end, device=tokens.device)[None])

        for index, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                cache.write(index, slot, k[0], v[0])
                keys, values = cache.past(index, slot)
                return causal(q, keys[None], values[None])

            x = layer(x, rope, attend)
        return x[:, -1]

    def decode(
        self,
        tokens: Tensor,
        codes: Tensor,
        positions: Tensor,
        cache: KVCache,
        slots: Sequence[int],
    ) -> Tensor:
        """One step for the rows of `slots`: tokens [B] with codes [B, N] at `positions` [B].

        `cache.extend` has counted the new positions. Hidden states [B, dim].
        """
        x = self.embed(tokens[:, None], codes[:, None])
        rope = self.slow_rope(positions[:, None])

        for index, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                return cache.attend_one(index, slots, q, k, v)

            x = layer(x, rope, attend)
        return x[:, 0]

    def slow_rope(self, positions: Tensor) -> Tensor:
        """The turns of `positions` [B, T]."""
        slow = self.config.slow
        return rope_table(positions, slow.head_dim, slow.rope_base)[:, :, None]

    def fast_start(self, hidden: Tensor, semantic: Tensor, rope: Tensor, past: Tensor) -> Tensor:
        """Hidden [B, dim] and semantic codes [B] into the first two slots of `past`.

        The logits [B, codebook_size] of code book 1. `rope` and `past` are those of a `FastFrame`.
        """
        # What is hidden counts for nothing times its value; what the last frame left might be NaN.
        past.zero_()
        pair = (self.fast_project_in(hidden), self._fast_embedded(semantic))
        x = torch.stack(pair, dim=1)

        for index, layer in enumerate(self.fast_layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                past[:, 0, index, :, :2] = k
                past[:, 1, index, :, :2] = v
                return causal(q, k, v)

            x = layer(x, rope, attend)
        return cast(Tensor, self.fast_output(self.fast_norm(x[:, -1])))

    def fast_next(
        self, codes: Tensor, slot: Tensor, rope: Tensor, mask: Tensor, past: Tensor
    ) -> Tensor:
        """Codes [B] of one book into `slot` [1] of `past`; logits [B, codebook_size] of the next.

        Every slot is attended over and `mask` hides those to come: no shape depends on `slot`.
        """
        x = self._fast_embedded(codes)[:, None]

        for index, layer in enumerate(self.fast_layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
                keys, values = past[:, 0, index], past[:, 1, index]
                keys.index_copy_(2, slot, k)
                values.index_copy_(2, slot, v)
                return attend_from_one(q, keys, values, mask)

            x = layer(x, rope, attend)
        return cast(Tensor, self.fast_output(self.fast_norm(x[:, -1])))

    def _fast_embedded(self, codes: Tensor) -> Tensor:
        x: Tensor = self.fast_embeddings(codes)
        return x.to(self.fast_norm.weight.dtype)

    def fast_rope(self, begin: int, end: int, device: torch.device) -> Tensor:
        """The turns of slots `begin` to `end`."""
        fast = self.config.fast
        positions = torch.arange(begin, end, device=device)[None]
        return rope_table(positions, fast.head_dim, fast.rope_base)[:, :, None]


class FastFrame:
    """Runs the fast transformer through one frame, code book by code book.

    Slot 0 takes the slow hidden state and slot n the code of book n - 1. Slot 0's logits are never
    used, so the first two go in together.
    """

    def __init__(self, model: DualAR, device: torch.device | None = None) -> None:
        weight, count = model.fast_norm.weight, model.config.num_codebooks
        device = weight.device if device is None else device
        self._model = model
        self._past = torch.empty(0, dtype=weight.dtype, device=device)
        self.rope = model.fast_rope(0, 2, device)
        """The turns of the first two slots."""
        hidden = torch.full((count, count), -torch.inf).triu(1).to(weight.dtype)
        # Tensors of their own, not slices of one: a kernel wants their memory aligned.
        self._at = [
            (
                torch.tensor([slot], device=device),
                model.fast_rope(slot, slot + 1, device),
                hidden[slot].clone().view(1, 1, 1, count).to(device),
            )
            for slot in range(count)
        ]

    def start(self, hidden: Tensor, semantic: Tensor) -> Tensor:
        """Hidden [B, dim] and semantic codes [B]: logits [B, codebook_size] of code book 1."""
        return self._model.fast_start(hidden, semantic, self.rope, self.past(hidden.shape[0]))

    def step(self, book: int, codes: Tensor) -> Tensor:
        """Codes [B] of code book `book`: logits [B, codebook_size] of the next one."""
        return self._model.fast_next(codes, *self.at(book + 1), self.past(codes.shape[0]))

    def at(self, slot: int) -> tuple[Tensor, Tensor, Tensor]:
        """`slot` [1], its turn and its mask, as `DualAR.fast_next` takes them."""
        return self._at[slot]

    def past(self, rows: int) -> Tensor:
        """Keys and values [rows, 2, layers, KV, slots, D] of the frame being made."""
        if self._past.shape[0] < rows:
            fast, slots = self._model.config.fast, self._model.config.num_codebooks
            shape = (rows, 2, fast.n_layer, fast.n_local_heads, slots, fast.head_dim)
            self._past = self._past.new_zeros(shape)
        return self._past[:rows]
