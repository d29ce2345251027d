"""The transformer block that the slow, the fast and the codec's transformers share."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import TransformerConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q [B, H, T, D], k [B, KV, T, D], v [B, KV, T, D]) -> [B, H, T, D]: how a block sees the past."""


class RMSNorm(nn.Module):
    """x / rms(x) · weight, the mean taken in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rope_table(positions: Tensor, head_dim: int, base: float) -> Tensor:
    """Cosines and sines [..., head_dim/2, 2] of `positions` [...], float32.

    The package stores its tables as bfloat16; we round likewise, or logits would differ by 1e-2.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device)[: head_dim // 2].float()
    angles = positions[..., None].float() * (1.0 / base ** (exponents / head_dim))
    table = torch.stack((torch.cos(angles), torch.sin(angles)), dim=-1)
    return table.to(torch.bfloat16).float()


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn the pairs of x [B, T, H, D] by `rope` [B or 1, T, 1, D/2, 2], in float32."""
    pairs = x.float().reshape(*x.shape[:-1], -1, 2)
    if torch.compiler.is_compiling():  # a compiler fuses reals, and leaves complex numbers alone
        (a, b), (cos, sin) = pairs.unbind(-1), rope.unbind(-1)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:  # a turn is a complex product: one operation where sines and cosines apart take ten
        product = torch.view_as_complex(pairs) * torch.view_as_complex(rope)
        turned = torch.view_as_real(product)
    return turned.flatten(-2).type_as(x)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of the last positions, q [B, H, T, D], over all L, each seeing those before it."""
    k, v = k.to(q.dtype), v.to(q.dtype)
    groups, (length, whole) = q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    grouped = groups != 1
    if grouped and q.device.type == "cuda":
        # Only one of CUDA's kernels knows groups, and it wants 16 bits and a recent card. The
        # others would be left with one that writes every score out.
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        grouped = False
    if length == whole:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    seen = torch.ones(length, whole, dtype=torch.bool, device=q.device).tril(whole - length)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=grouped)


def attend_from_one(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """One new position a row: q [B, H, 1, D] over keys and values [B, KV, L, D], [B, H, 1, D].

    Queries that share a key head are laid side by side as if they were positions, so that
    nothing is repeated in memory. `mask` [B, 1, 1, L] says what each row may see: True, or 0 where
    others are minus infinity.
    """
    grouped = q.view(q.shape[0], keys.shape[1], -1, q.shape[-1])
    keys, values = keys.to(q.dtype), values.to(q.dtype)
    return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask).reshape(q.shape)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, but for the attention itself."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.n_head, self.n_local_heads = config.n_head, config.n_local_heads
        self.head_dim = config.head_dim
        width = (config.n_head + 2 * config.n_local_heads) * config.head_dim
        self.wqkv = nn.Linear(config.dim, width, bias=config.qkv_bias)
        self.wo = nn.Linear(config.n_head * config.head_dim, config.dim, bias=config.o_bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def before(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, dim], turned by `rope`, to q [B, H, T, D], k and v [B, KV, T, D]."""
        heads = self.n_head + self.n_local_heads
        qkv = self.wqkv(x).view(*x.shape[:2], -1, self.head_dim)  # [B, T, H + 2 KV, D]
        qk, v = qkv[:, :, :heads], qkv[:, :, heads:]
        if self.qk_norm:
            q, k = qk[:, :, : self.n_head], qk[:, :, self.n_head :]
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=2)
        qk = rotate(qk, rope).transpose(1, 2)
        return qk[:, : self.n_head], qk[:, self.n_head :], v.transpose(1, 2)

    def after(self, attended: Tensor) -> Tensor:
        """What was attended to [B, H, T, D] to what is added to the stream [B, T, dim]."""
        return cast(Tensor, self.wo(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, dim: int, intermediate_size: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, intermediate_size, bias=False)
        self.w3 = nn.Linear(dim, intermediate_size, bias=False)
        self.w2 = nn.Linear(intermediate_size, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.w2(F.silu(self.w1(x)) * self.w3(x)))


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added after.

    What comes before attention and what comes after it can be had apart, for whoever computes the
    attention itself in another way.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config.dim, config.intermediate_size)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, rope: Tensor, attend: Attend = causal) -> Tensor:
        return self.after(x, attend(*self.before(x, rope)))

    def before(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, dim] to q [B, H, T, D], k and v [B, KV, T, D]."""
        return self.attention.before(self.attention_norm(x), rope)

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """The stream [B, T, dim] and what was attended to [B, H, T, D] to the stream behind it."""
        x = x + self.attention.after(attended)
        return cast(Tensor, x + self.feed_forward(self.ffn_norm(x)))


def by_columns(weight: Tensor) -> Tensor:
    """The same matrix [out, in], stored column by column.

    A CPU multiplies one row by it in up to a third of the time: it reads memory front to back and
    adds scaled columns up, instead of summing across each row.
    """
    return weight.detach().t().contiguous().t()


def laid_out(weight: Tensor) -> Tensor:
    """The same matrix as its device multiplies it fastest.

    On a CPU `by_columns`, but not in 16 bits: there a frame of S1-mini's size took a third longer.
    """
    columns = weight.device.type == "cpu" and weight.dtype == torch.float32
    return by_columns(weight) if columns else weight.detach().contiguous()


def lay_out_for_cpu_(module: nn.Module) -> None:
    """Store the weights of every Linear as `laid_out`; what they compute stays the same."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            child.weight = nn.Parameter(laid_out(child.weight), requires_grad=False)


def stored_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers that are in memory."""
    held = (*module.parameters(), *module.buffers())
    return sum(t.nbytes for t in held if not t.is_meta)


def init_transformer_(module: nn.Module, n_layer: int, std: float = 0.02) -> None:
    """Fresh normal(std) weights; projections back into the stream by 1/sqrt(2 n_layer) less."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear):
            into_stream = name.endswith((".wo", ".w2"))
            nn.init.normal_(child.weight, std=std / math.sqrt(2 * n_layer) if into_stream else std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.Embedding):
            nn.init.normal_(child.weight, std=std)
