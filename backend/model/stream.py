"""The building blocks of a causal codec, each able to go on where the last piece of a signal ended.

Every module takes `(x, stream)`. With `stream` None the whole signal is given and the past is
silence; with a `Stream` the pieces of one signal are given in order, and the outputs laid end to
end equal the output for the whole.
"""

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import WindowConfig
from backend.model.layers import FeedForward, RMSNorm, rope_table, rotate

QUERY_BLOCK = 512
"""Positions whose attention scores are held at once."""


class Stream:
    """What a codec keeps between two pieces of one signal: each module's tail, by module."""

    def __init__(self) -> None:
        self._tails: dict[nn.Module, Tensor] = {}
        self._positions: dict[nn.Module, int] = {}

    def with_past(self, module: nn.Module, x: Tensor, past: int) -> Tensor:
        """x [..., T] behind its last `past` columns of before (zeros at first), remembered anew."""
        if past == 0:
            return x
        tail = self._tails.get(module)
        if tail is None:
            tail = x.new_zeros((*x.shape[:-1], past))
        joined = torch.cat((tail, x), dim=-1)
        # A copy: a view would keep the whole piece, 195 MB a stream at full size, for 5 of tails.
        self._tails[module] = joined[..., -past:].clone()
        return joined

    def recent(self, module: nn.Module, x: Tensor, keep: int) -> Tensor:
        """x [..., T, D] behind at most its last `keep` rows of before, remembered anew."""
        tail = self._tails.get(module)
        joined = x if tail is None else torch.cat((tail, x), dim=-2)
        # `clone` as above.
        self._tails[module] = (joined[..., -keep:, :] if keep else joined[..., :0, :]).clone()
        return joined

    def position(self, module: nn.Module, length: int) -> int:
        """Where this piece of `length` begins for `module`."""
        begin = self._positions.get(module, 0)
        self._positions[module] = begin + length
        return begin


class Streaming(Protocol):
    """A module of the codec."""

    def __call__(self, x: Tensor, stream: Stream | None) -> Tensor: ...


class StreamSequential(nn.Sequential):
    """One streaming module after another; indices are those of the official state dict."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        for module in self:
            x = cast(Streaming, module)(x, stream)
        return x


class CausalConv(nn.Module):
    """A convolution over x [B, C, T] that sees only the past; stride s gives T/s columns.

    A whole signal whose length is no multiple of the stride is padded with zeros at its end.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels_in, channels_out, kernel_size, stride, dilation=dilation, groups=groups
        )
        self.stride = stride
        self.past = (kernel_size - 1) * dilation + 1 - stride

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        short = -x.shape[-1] % self.stride
        if stream is None:
            x = F.pad(x, (self.past, short))
        elif short:
            raise ValueError(f"a piece of {x.shape[-1]} columns is no multiple of {self.stride}")
        else:
            x = stream.with_past(self, x, self.past)
        return cast(Tensor, self.conv(x))


class CausalTransposedConv(nn.Module):
    """Upsamples x [B, C, T] to [B, C', T·stride]; what reaches past the end is cut off."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels_in, channels_out, kernel_size, stride)
        self.stride = stride
        # Columns before this one whose kernels still reach into its output.
        self.past = (kernel_size - 1) // stride

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        length = x.shape[-1] * self.stride
        if stream is None:
            return cast(Tensor, self.conv(x))[..., :length]
        x = stream.with_past(self, x, self.past)
        begin = self.past * self.stride
        return cast(Tensor, self.conv(x))[..., begin : begin + length]


class Snake(nn.Module):
    """x + sin²(αx)/α, one α a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        y = self.alpha * x
        if y.requires_grad:
            return torch.addcdiv(x, y.sin().square(), self.alpha + 1e-9)
        # In one tensor instead of four: the codec spends much of its time on fresh memory.
        return torch.addcdiv(x, y.sin_().square_(), self.alpha + 1e-9, out=y)


class ConvNeXt(nn.Module):
    """Depthwise convolution, then a small network at each position, added to x."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = CausalConv(dim, dim, 7, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        y = self.norm(self.dwconv(x, stream).transpose(1, 2))
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        return cast(Tensor, x + (self.gamma * y).transpose(1, 2))


class LayerScale(nn.Module):
    """x · γ."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class WindowAttention(nn.Module):
    """Attention over this position and the `window` - 1 before it."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.window, self.head_dim = config.window, config.head_dim
        self.wqkv = nn.Linear(config.dim, 3 * config.n_head * config.head_dim, bias=False)
        self.wo = nn.Linear(config.n_head * config.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, rope: Tensor, stream: Stream | None) -> Tensor:
        length = x.shape[1]
        q, k, v = self.wqkv(x).unflatten(-1, (3, -1, self.head_dim)).unbind(2)
        q, k = rotate(q, rope).transpose(1, 2), rotate(k, rope).transpose(1, 2)
        kv = torch.cat((k, v.transpose(1, 2)), dim=-1)  # [B, H, T, 2D]: one tail for both
        if stream is not None:
            kv = stream.recent(self, kv, self.window - 1)
        keys, values = kv.chunk(2, dim=-1)
        past = keys.shape[2] - length
        blocks = []
        for begin in range(0, length, QUERY_BLOCK):
            end = min(begin + QUERY_BLOCK, length)
            low, high = max(0, past + begin - self.window + 1), past + end
            rows = torch.arange(past + begin, high, device=x.device)[:, None]
            ago = rows - torch.arange(low, high, device=x.device)[None]
            mask = (ago >= 0) & (ago < self.window)
            blocks.append(
                F.scaled_dot_product_attention(
                    q[:, :, begin:end], keys[:, :, low:high], values[:, :, low:high], attn_mask=mask
                )
            )
        y = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)
        return cast(Tensor, self.wo(y.transpose(1, 2).flatten(2)))


class WindowBlock(nn.Module):
    """A transformer block whose two branches are scaled before they are added."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.attention = WindowAttention(config)
        self.feed_forward = FeedForward(config.dim, config.intermediate_size)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention_layer_scale = LayerScale(config.dim)
        self.ffn_layer_scale = LayerScale(config.dim)

    def forward(self, x: Tensor, rope: Tensor, stream: Stream | None) -> Tensor:
        attended = self.attention(self.attention_norm(x), rope, stream)
        x = x + self.attention_layer_scale(attended)
        return cast(Tensor, x + self.ffn_layer_scale(self.feed_forward(self.ffn_norm(x))))


class WindowTransformer(nn.Module):
    """A causal transformer over x [B, C, T]: a limited view of the past, no last position."""

    def __init__(self, config: WindowConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(WindowBlock(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.input_proj: nn.Module = nn.Identity()
        self.output_proj: nn.Module = nn.Identity()
        if channels != config.dim:
            self.input_proj = nn.Linear(channels, config.dim)
            self.output_proj = nn.Linear(config.dim, channels)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        begin = 0 if stream is None else stream.position(self, x.shape[-1])
        positions = torch.arange(begin, begin + x.shape[-1], device=x.device)[None]
        rope = rope_table(positions, self.config.head_dim, self.config.rope_base)[:, :, None]
        y = self.input_proj(x.transpose(1, 2))
        for layer in self.layers:
            y = layer(y, rope, stream)
        return cast(Tensor, self.output_proj(self.norm(y))).transpose(1, 2)
