"""The building blocks of a causal codec, each able to go on where the last piece of a signal ended.

Every module takes `(x, stream)`. With `stream` None the whole signal is given and the past is
silence; with a `Stream` the pieces of one signal are given in order, and the outputs laid end to
end equal the output for the whole.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import WindowConfig
from backend.model.layers import FeedForward, RMSNorm, rope_table, rotate

QUERY_BLOCK = 512
"""Positions whose attention scores are held at once."""


class Stream:
    """What a codec keeps between the pieces of signals: each module's tails, a slot a signal.

    A call works at the next piece of some of the signals, one length for all; `select` says which.
    Each tail is one tensor [slots, ...] that lies where it lay when it was first needed, and
    nothing of a call's shapes depends on how far a signal is: a call can be captured in a CUDA
    graph once it was made.
    """

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self._rows: Tensor | None = None
        self._tails: dict[nn.Module, Tensor] = {}
        self._positions: dict[nn.Module, Tensor] = {}

    def select(self, rows: Tensor | None) -> None:
        """Whose pieces come next: slots [B], on the codec's device; None for all in their order."""
        self._rows = rows

    def clear(self, rows: Tensor) -> None:
        """Begin new signals in slots [B]."""
        for kept in (*self._tails.values(), *self._positions.values()):
            kept.index_fill_(0, rows, 0)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tails."""
        return sum(tail.untyped_storage().nbytes() for tail in self._tails.values())

    def with_past(self, module: nn.Module, x: Tensor, past: int, dim: int) -> Tensor:
        """x [B, ...] behind the last `past` columns before it along `dim`, remembered anew.

        Those before a signal's first column are zeros.
        """
        if past == 0:
            return x
        joined = torch.cat((self._read(self.tails(module, x, past, dim)), x), dim)
        self.remember(module, joined, dim)
        return joined

    @property
    def rows(self) -> Tensor | None:
        """What was selected."""
        return self._rows

    def tails(self, module: nn.Module, x: Tensor, past: int, dim: int) -> Tensor:
        """The last `past` columns along `dim` of signals like x [B, ...], all slots'."""
        if module not in self._tails:
            shape = list(x.shape)
            shape[0], shape[dim] = self.slots, past
            self._tails[module] = x.new_zeros(shape)
        return self._tails[module]

    def remember(self, module: nn.Module, joined: Tensor, dim: int) -> None:
        """Keep the end of `joined`, which is behind its past, along `dim`."""
        tails = self._tails[module]
        past = tails.shape[dim]
        self._write(tails, joined.narrow(dim, joined.shape[dim] - past, past))

    def position(self, module: nn.Module, length: int, device: torch.device) -> Tensor:
        """Where pieces of `length` begin for `module` [B]."""
        if module not in self._positions:
            self._positions[module] = torch.zeros(self.slots, dtype=torch.long, device=device)
        positions = self._positions[module]
        begin = self._read(positions)
        if self._rows is None:
            begin = begin.clone()
        self._write(positions, begin + length)
        return begin

    def _read(self, kept: Tensor) -> Tensor:
        return kept if self._rows is None else kept.index_select(0, self._rows)

    def _write(self, kept: Tensor, new: Tensor) -> None:
        if self._rows is None:
            kept.copy_(new)
        else:
            kept.index_copy_(0, self._rows, new)


class Streaming(Protocol):
    """A module of the codec."""

    def __call__(self, x: Tensor, stream: Stream | None) -> Tensor: ...


class StreamSequential(nn.Sequential):
    """One streaming module after another; indices are those of the official state dict."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        for module in self:
            x = cast(Streaming, module)(x, stream)
        return x


def _with_past(module: "CausalConv | CausalTransposedConv", x: Tensor, stream: Stream) -> Tensor:
    """x [B, C, T] behind the columns that `module` still sees."""
    if module.channels_last:
        return stream.with_past(module, x.transpose(1, 2), module.past, 1).transpose(1, 2)
    return stream.with_past(module, x, module.past, 2)


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
        self.channels_last = False
        """Of x and of the weights; only where the stride is 1."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        short = -x.shape[-1] % self.stride
        if stream is None:
            x = F.pad(x, (self.past, short))
        elif short:
            raise ValueError(f"a piece of {x.shape[-1]} columns is no multiple of {self.stride}")
        else:
            x = _with_past(self, x, stream)
        if not self.channels_last:
            return cast(Tensor, self.conv(x))
        return self._depthwise(x) if self.conv.groups > 1 else self._multiplied(x)

    def _multiplied(self, x: Tensor) -> Tensor:
        """As one product of all taps side by side.

        cuDNN is as fast where it finds the right kernel, and for some lengths it takes a direct one
        that is a hundred times slower.
        """
        columns, dilation = x.transpose(1, 2), self.conv.dilation[0]
        length = columns.shape[1] - self.past
        begins = range(0, self.past + 1, dilation)
        taps = torch.cat([columns[:, begin : begin + length] for begin in begins], dim=-1)
        weight = self.conv.weight.transpose(1, 2).flatten(1)  # a view: it is laid out so
        return F.linear(taps, weight, self.conv.bias).transpose(1, 2)

    def _depthwise(self, x: Tensor) -> Tensor:
        """As a sum over windows, in float32: cuDNN takes 70 ms to plan it anew for each shape."""
        weight, bias = self.conv.weight[:, 0], self.conv.bias  # [C, taps], [C]
        assert bias is not None
        windows = x.transpose(1, 2).unfold(1, weight.shape[1], 1)  # [B, T, C, taps]
        y = (windows.float() * weight.float()).sum(-1) + bias.float()
        return y.to(x.dtype).transpose(1, 2)


class CausalTransposedConv(nn.Module):
    """Upsamples x [B, C, T] to [B, C', T·stride]; what reaches past the end is cut off."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels_in, channels_out, kernel_size, stride)
        self.stride = stride
        self.channels_last = False
        # Columns before this one whose kernels still reach into its output.
        self.past = (kernel_size - 1) // stride
        self.product: Tensor | None = None
        """Weights [taps · C, stride · C'] where it is computed as a product."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if self.product is not None:
            return self._multiplied(x, stream, self.product)
        length = x.shape[-1] * self.stride
        if stream is None:
            return cast(Tensor, self.conv(x))[..., :length]
        x = _with_past(self, x, stream)
        begin = self.past * self.stride
        return cast(Tensor, self.conv(x))[..., begin : begin + length]

    def as_product(self) -> Tensor:
        """The weights as a matrix [taps · C, stride · C'] for `product`.

        It multiplies each column, and those before it that reach into its output, laid side by
        side, to its `stride` outputs. Channels must be last.
        """
        weight = self.conv.weight.detach()
        channels_in, channels_out, kernel_size = weight.shape
        if kernel_size % self.stride:
            raise ValueError(f"kernels of {kernel_size} are no multiple of {self.stride}")
        taps = weight.reshape(channels_in, channels_out, -1, self.stride).permute(2, 0, 3, 1)
        return taps.reshape(-1, self.stride * channels_out).contiguous()

    def _multiplied(self, x: Tensor, stream: Stream | None, product: Tensor) -> Tensor:
        length = x.shape[-1]
        x = F.pad(x, (self.past, 0)) if stream is None else _with_past(self, x, stream)
        columns = x.transpose(1, 2)
        taps = [columns[:, self.past - ago :][:, :length] for ago in range(self.past + 1)]
        y = torch.cat(taps, dim=-1) @ product  # [B, T, stride · C']
        y = y.view(y.shape[0], length * self.stride, -1)
        if self.conv.bias is not None:
            y = y + self.conv.bias
        return y.transpose(1, 2)


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


class View(NamedTuple):
    """Which positions of a piece look at which of those there are, the past's included."""

    asking: slice
    seen: slice
    mask: Tensor
    """[asking, seen], or [B, 1, asking, seen]."""


def views(length: int, past: int, window: int, begin: Tensor) -> list[View]:
    """What a piece of `length` sees over its own positions and `past` before them.

    `begin` [B, 1] says where each row's piece begins: before a signal's first position is nothing.
    """
    found = []
    for first in range(0, length, QUERY_BLOCK):
        end = min(first + QUERY_BLOCK, length)
        low, high = max(0, past + first - window + 1), past + end
        columns = torch.arange(low, high, device=begin.device)
        ago = torch.arange(past + first, high, device=begin.device)[:, None] - columns
        mask = (ago >= 0) & (ago < window)
        if past:
            mask = mask & (begin + columns >= past)[:, None, None]
        found.append(View(slice(first, end), slice(low, high), mask))
    return found


class WindowAttention(nn.Module):
    """Attention over this position and the `window` - 1 before it."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.window, self.head_dim = config.window, config.head_dim
        self.wqkv = nn.Linear(config.dim, 3 * config.n_head * config.head_dim, bias=False)
        self.wo = nn.Linear(config.n_head * config.head_dim, config.dim, bias=False)

    def forward(
        self, x: Tensor, rope: Tensor, views: Sequence[View], stream: Stream | None
    ) -> Tensor:
        q, k, v = self.wqkv(x).unflatten(-1, (3, -1, self.head_dim)).unbind(2)
        q, k = rotate(q, rope).transpose(1, 2), rotate(k, rope).transpose(1, 2)
        kv = torch.cat((k, v.transpose(1, 2)), dim=-1)  # [B, H, T, 2D]: one tail for both
        if stream is not None:
            kv = stream.with_past(self, kv, self.window - 1, 2)
        keys, values = kv.chunk(2, dim=-1)
        blocks = [
            F.scaled_dot_product_attention(
                q[:, :, asking], keys[:, :, seen], values[:, :, seen], attn_mask=mask
            )
            for asking, seen, mask in views
        ]
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

    def forward(
        self, x: Tensor, rope: Tensor, views: Sequence[View], stream: Stream | None
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x), rope, views, stream)
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
        length, window = x.shape[-1], self.config.window
        if stream is None:
            past, begin = 0, torch.zeros(1, dtype=torch.long, device=x.device)
        else:
            past, begin = window - 1, stream.position(self, length, x.device)
        begin = begin[:, None]
        positions = begin + torch.arange(length, device=x.device)
        rope = rope_table(positions, self.config.head_dim, self.config.rope_base)[:, :, None]
        seen = views(length, past, window, begin)
        y = self.input_proj(x.transpose(1, 2).to(self.norm.weight.dtype))
        for layer in self.layers:
            y = layer(y, rope, seen, stream)
        return cast(Tensor, self.output_proj(self.norm(y))).transpose(1, 2)
