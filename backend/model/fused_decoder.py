"""The codec's decoder in few kernels of Triton's: the same weights, the same sound."""

from typing import cast

import torch
from torch import Tensor, nn

from backend.model.codec_kernels import conv, snake_behind, to_one
from backend.model.dac import Decoder, DecoderBlock, ResidualUnit
from backend.model.stream import CausalConv, CausalTransposedConv, Snake, Stream


class FusedConv(nn.Module):
    """A convolution over x [B, T, C], behind the snake of x if there is one."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dilation: int = 1, snake: Snake | None = None
    ) -> None:
        super().__init__()
        assert bias is not None
        self.weight = _kept(weight)  # [C', taps, C]
        self.bias, self.dilation = _kept(bias), dilation
        self.alpha = None if snake is None else _kept(snake.alpha.flatten())
        self.past = (weight.shape[1] - 1) * dilation

    @classmethod
    def of(cls, plain: nn.Module, snake: nn.Module | None = None) -> "FusedConv":
        """The same as `plain` behind `snake`."""
        assert snake is None or isinstance(snake, Snake)
        if isinstance(plain, CausalTransposedConv):
            return cls(*_upsampling(plain), snake=snake)
        assert isinstance(plain, CausalConv)
        weight = plain.conv.weight.transpose(1, 2)
        return cls(weight, plain.conv.bias, plain.conv.dilation[0], snake)

    def with_past(self, x: Tensor, stream: Stream, rows: Tensor) -> Tensor:
        """x, or its snake, behind the columns that are still seen: [B, past + T, C]."""
        if self.alpha is None:
            return stream.with_past(self, x, self.past, 1)
        joined = snake_behind(x, stream.tails(self, x, self.past, 1), rows, self.alpha)
        stream.remember(self, joined, 1)
        return joined

    def forward(
        self, joined: Tensor, alpha: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        return conv(
            joined, self.weight, self.bias, dilation=self.dilation, alpha=alpha, residual=residual
        )


class FusedUnit(nn.Module):
    """A residual unit: a dilated convolution and its snake, then the narrow one and the sum."""

    def __init__(self, plain: ResidualUnit) -> None:
        super().__init__()
        first, wide, second, narrow = plain.block
        self.wide, self.narrow = FusedConv.of(wide, first), FusedConv.of(narrow)
        self.alpha = _kept(cast(Snake, second).alpha.flatten())

    def forward(self, x: Tensor, stream: Stream, rows: Tensor) -> Tensor:
        y = self.wide(self.wide.with_past(x, stream, rows), alpha=self.alpha)
        return cast(Tensor, self.narrow(y, residual=x))


class FusedBlock(nn.Module):
    """Up by `stride`, then residual units."""

    def __init__(self, plain: DecoderBlock) -> None:
        super().__init__()
        snake, up, *units = plain.block
        self.stride = cast(CausalTransposedConv, up).stride
        self.up = FusedConv.of(up, snake)
        self.units = nn.ModuleList(FusedUnit(cast(ResidualUnit, unit)) for unit in units)

    def forward(self, x: Tensor, stream: Stream, rows: Tensor) -> Tensor:
        x = self.up(self.up.with_past(x, stream, rows))  # [B, T, stride · C']
        x = x.view(x.shape[0], x.shape[1] * self.stride, -1)
        for unit in self.units:
            x = unit(x, stream, rows)
        return x


class FusedDecoder(nn.Module):
    """`Decoder` on a CUDA device: latents [B, C, T] -> waveform [B, 1, samples], float32."""

    def __init__(self, plain: Decoder) -> None:
        super().__init__()
        first, *blocks, snake, last = plain.model
        self.first, self.last = FusedConv.of(first), FusedConv.of(last, snake)
        self.blocks = nn.ModuleList(FusedBlock(cast(DecoderBlock, block)) for block in blocks)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if stream is None:
            stream = Stream(x.shape[0])
        rows = stream.rows
        if rows is None:
            rows = torch.arange(x.shape[0], device=x.device)
        x = x.transpose(1, 2).contiguous()
        x = self.first(self.first.with_past(x, stream, rows))
        for block in self.blocks:
            x = block(x, stream, rows)
        last = self.last
        return torch.tanh(to_one(last.with_past(x, stream, rows), last.weight[0], last.bias))[
            :, None
        ]


def _upsampling(plain: CausalTransposedConv) -> tuple[Tensor, Tensor]:
    """The same as a convolution to `stride` times the channels: each column's outputs in turn."""
    weight, bias, stride = plain.conv.weight, plain.conv.bias, plain.stride
    assert bias is not None
    channels_in, channels_out, _ = weight.shape
    taps = weight.reshape(channels_in, channels_out, -1, stride).flip(2)  # the oldest first
    return taps.permute(3, 1, 2, 0).flatten(0, 1), bias.repeat(stride)


def _kept(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().contiguous(), requires_grad=False)
