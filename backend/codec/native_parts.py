"""The half of a codec that decodes, in kernels of our own: the same weights, the same sound."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.codec.native import NativePart, Rows, Step
from backend.model.dac import Decoder, DecoderBlock, ResidualUnit
from backend.model.layers import rope_table
from backend.model.stream import (
    CausalConv,
    CausalTransposedConv,
    ConvNeXt,
    LayerScale,
    Stream,
    StreamSequential,
    WindowBlock,
    WindowTransformer,
)
from backend.native.codec import ATTEND, GATE, GELU, MIX, CodecKernels


class NativeDecoder(NativePart):
    """`Decoder`: latents [B, C, T] -> waveform [B, 1, samples]."""

    most_rows = 16
    """Four frames: more would leave the cache before they are read again."""

    def __init__(self, kernels: CodecKernels, plain: Decoder) -> None:
        super().__init__(kernels)
        first, *blocks, snake, last = plain.model
        source = self._rows("x", cast(CausalConv, first).conv.in_channels)
        rounded = self._rows("a", source.width, past=cast(CausalConv, first).past)
        self._round(source, rounded)
        ups = [cast(CausalTransposedConv, cast(DecoderBlock, block).block[1]) for block in blocks]
        snakes = [cast(DecoderBlock, block).block[0] for block in blocks] + [snake]
        pasts = [up.past for up in ups] + [cast(CausalConv, last).past]
        rounded = self._then(rounded, first, snakes[0], pasts[0], 1)
        for index, block in enumerate(blocks):
            units = list(cast(DecoderBlock, block).block)[2:]
            rounded = self._block(rounded, ups[index], units, snakes[index + 1], pasts[index + 1])
        self._conv(last, rounded, output=self._rows("y", 1, rounded.rate))

    def _then(
        self, source: Rows, conv: nn.Module, snake: nn.Module, past: int, rate: int, **more: Rows
    ) -> Rows:
        """A convolution, and the snake of it as what follows wants it."""
        width = cast(CausalConv, conv).conv.out_channels
        made = self._rows("b" if source.room == "a" else "a", width, rate, past)
        self._conv(conv, source, rounded=made, snake=self._snake(snake), **more)
        return made

    def _block(
        self,
        source: Rows,
        up: CausalTransposedConv,
        units: Sequence[nn.Module],
        snake_behind: nn.Module,
        past_behind: int,
    ) -> Rows:
        width, rate = up.conv.out_channels, source.rate * up.stride
        parts = [tuple(cast(ResidualUnit, unit).block) for unit in units]
        sums = self._rows("x", width, rate)
        pasts = [cast(CausalConv, part[1]).past for part in parts] + [past_behind]
        snakes = [part[0] for part in parts] + [snake_behind]
        rounded = self._rows("b" if source.room == "a" else "a", width, rate, pasts[0])
        self._upsampling(
            up, source, output=sums, rounded=rounded, snake=self._snake(snakes[0], up.stride)
        )
        for index, (_, wide, inner_snake, narrow) in enumerate(parts):
            bent = self._then(rounded, wide, inner_snake, cast(CausalConv, narrow).past, rate)
            is_last = index + 1 == len(parts)
            kept = {"residual": sums} if is_last else {"residual": sums, "output": sums}
            rounded = self._then(bent, narrow, snakes[index + 1], pasts[index + 1], rate, **kept)
        return rounded

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Samples within [-1, 1]."""
        return super().forward(x, stream).tanh_()


class NativeUpsample(NativePart):
    """The upsampling behind the code books: latents [B, C, T] -> [B, C, T·factor]."""

    def __init__(self, kernels: CodecKernels, plain: StreamSequential) -> None:
        super().__init__(kernels)
        stages = [cast(StreamSequential, stage) for stage in plain]
        width = cast(CausalTransposedConv, stages[0][0]).conv.in_channels
        source = self._rows("x", width)
        rounded = self._rows("a", width, past=cast(CausalTransposedConv, stages[0][0]).past)
        self._round(source, rounded)
        for index, stage in enumerate(stages):
            up, mixed = cast(CausalTransposedConv, stage[0]), cast(ConvNeXt, stage[1])
            rate = rounded.rate * up.stride
            sums = self._rows("s", width, rate, mixed.dwconv.past)
            self._upsampling(up, rounded, output=sums)
            small, wide = self._rows("b", width, rate), self._rows("a", 4 * width, rate)
            self._mix(mixed, sums, small)
            self._linear(mixed.pwconv1, small, bend=GELU, rounded=wide)
            behind = stages[index + 1][0] if index + 1 < len(stages) else None
            if behind is None:
                then = {"output": self._rows("y", width, rate)}
            else:
                past = cast(CausalTransposedConv, behind).past
                rounded = self._rows("b", width, rate, past)
                then = {"rounded": rounded}
            self._linear(mixed.pwconv2, wide, scale=mixed.gamma, residual=sums, **then)

    def _mix(self, mixed: ConvNeXt, source: Rows, rounded: Rows) -> None:
        conv, norm = mixed.dwconv.conv, mixed.norm
        assert conv.bias is not None
        taps = self._hold(conv.weight.detach().float()[:, 0].t())
        tensors = {
            "taps_of": taps,
            "bias": self._vector(conv.bias),
            "scale": self._vector(norm.weight),
            "offset": self._vector(norm.bias),
        }
        row_bytes, together = 4 * source.width, self._kernels.rows_together
        self._steps.append(
            Step(
                MIX,
                source,
                rounded=rounded,
                numbers={"taps": len(taps), "dilation": 1, "eps": norm.eps},
                tensors=tensors,
                outputs=source.width,
                room_bytes=(row_bytes, -(-source.rate * row_bytes // together)),
            )
        )


class NativeTransformer(NativePart):
    """`WindowTransformer`: x [B, C, T] -> [B, C, T]."""

    def __init__(self, kernels: CodecKernels, plain: WindowTransformer, channels: int) -> None:
        super().__init__(kernels)
        config = self.config = plain.config
        sums = self._rows("x", config.dim)
        if isinstance(plain.input_proj, nn.Linear):
            source, rounded = self._rows("y", channels), self._rows("a", channels)
            self._round(source, rounded)
            self._linear(plain.input_proj, rounded, output=sums)
        for layer in plain.layers:
            self._layer(cast(WindowBlock, layer), sums)
        if isinstance(plain.output_proj, nn.Linear):
            rounded = self._rows("a", config.dim)
            self._norm(plain.norm, sums, rounded=rounded)
            self._linear(plain.output_proj, rounded, output=self._rows("y", channels))
        else:
            self._norm(plain.norm, sums, output=self._rows("y", config.dim))

    def _layer(self, layer: WindowBlock, sums: Rows) -> None:
        config = self.config
        heads, inner = config.n_head * config.head_dim, config.intermediate_size
        rounded, qkv = self._rows("a", config.dim), self._rows("s", 3 * heads)
        attended, hidden = self._rows("b", heads), self._rows("b", inner)
        self._norm(layer.attention_norm, sums, rounded=rounded)
        self._linear(layer.attention.wqkv, rounded, output=qkv)
        self._attend(qkv, attended)
        self._add(layer.attention.wo, attended, sums, layer.attention_layer_scale)
        self._norm(layer.ffn_norm, sums, rounded=rounded)
        both = layer.feed_forward
        # Half a block of one beside half a block of the other, so that they are made together.
        half = self._kernels.block // 2
        pair = [F.pad(w.weight, (0, 0, 0, -inner % half)) for w in (both.w1, both.w3)]
        weight = torch.stack([w.view(-1, half, config.dim) for w in pair], 1).view(-1, config.dim)
        self._product(weight[:, None], None, rounded, bend=GATE, rounded=hidden)
        self._add(both.w2, hidden, sums, layer.ffn_layer_scale)

    def _add(self, linear: nn.Linear, source: Rows, sums: Rows, scale: LayerScale) -> None:
        self._linear(linear, source, scale=scale.gamma, residual=sums, output=sums)

    def _attend(self, qkv: Rows, attended: Rows) -> None:
        config = self.config
        kept = config.n_head * config.head_dim * 2 * 4
        numbers = {
            "heads": config.n_head,
            "window": config.window,
            "state_at": self._state_bytes,
        }
        self._state_bytes += (config.window - 1) * kept
        self._steps.append(
            Step(
                ATTEND,
                qkv,
                rounded=attended,
                numbers=numbers,
                outputs=attended.width,
                room_bytes=(config.window * kept, kept),
            )
        )

    def _prepare(self, length: int, begin: int) -> None:
        config = self.config
        table = rope_table(torch.arange(begin, begin + length), config.head_dim, config.rope_base)
        self._workspace.rooms["rope"][: 4 * table.numel()].view(torch.float32).copy_(
            table.flatten()
        )


def native_part(kernels: CodecKernels, plain: nn.Module, latent_dim: int) -> NativePart:
    """The same as one of the `plain` parts that decode; ValueError for shapes it does not know."""
    if isinstance(plain, WindowTransformer):
        return NativeTransformer(kernels, plain, latent_dim)
    if isinstance(plain, Decoder):
        return NativeDecoder(kernels, plain)
    assert isinstance(plain, StreamSequential)
    return NativeUpsample(kernels, plain)
