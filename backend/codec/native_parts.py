"""The parts of a codec in kernels of our own: the same weights, the same sound, the same codes."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.codec.native import NativePart, Rows, Step
from backend.model.config import DECODE_FRAMES, ENCODE_FRAMES, NATIVE_FRAMES, CodecConfig
from backend.model.dac import Decoder, DecoderBlock, Encoder, EncoderBlock, ResidualUnit
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
from backend.native.codec import GATE, GELU, MIX, CodecKernels


class _Part(NativePart):
    """What several parts are made of."""

    def _other(self, source: Rows, width: int, rate: int, past: int = 0) -> Rows:
        """Where what is made of rounded rows is rounded to."""
        return self._rows("b" if source.room == "a" else "a", width, rate, past)

    def _begin(self, conv: nn.Module, rate: int = 1) -> Rows:
        """What is given, rounded for the first convolution."""
        conv = cast(CausalConv | CausalTransposedConv, conv)
        source = self._rows("x", conv.conv.in_channels, rate)
        rounded = self._rows("a", source.width, rate, conv.past)
        self._round(source, rounded)
        return rounded

    def _then(
        self, source: Rows, conv: nn.Module, snake: nn.Module, past: int, **more: Rows
    ) -> Rows:
        """A convolution, and the snake of it as what follows wants it."""
        made = self._other(source, cast(CausalConv, conv).conv.out_channels, source.rate, past)
        self._conv(conv, source, rounded=made, snake=self._snake(snake), **more)
        return made

    def _units(
        self,
        rounded: Rows,
        sums: Rows,
        units: Sequence[nn.Module],
        behind: tuple[nn.Module, int],
    ) -> Rows:
        """Residual units: their sums, and the snake of them that the first one wants, `rounded`.

        The snake of the last one's, and as many earlier rows, are returned as what is `behind` it
        wants them.
        """
        parts = [tuple(cast(ResidualUnit, unit).block) for unit in units]
        wanted = [(part[0], cast(CausalConv, part[1]).past) for part in parts[1:]] + [behind]
        for index, (_, wide, inner_snake, narrow) in enumerate(parts):
            bent = self._then(rounded, wide, inner_snake, cast(CausalConv, narrow).past)
            is_last = index + 1 == len(parts)
            kept = {"residual": sums} if is_last else {"residual": sums, "output": sums}
            snake, past = wanted[index]
            rounded = self._then(bent, narrow, snake, past, **kept)
        return rounded

    def _given_sums(
        self, width: int, snake: nn.Module, past: int, rate: int = 1
    ) -> tuple[Rows, Rows]:
        """What an earlier stage made, and its snake."""
        sums, rounded = self._rows("x", width, rate), self._rows("a", width, rate, past)
        self._round(sums, rounded, snake=self._snake(snake))
        return sums, rounded

    def _mixed(self, mixed: ConvNeXt, sums: Rows, **then: Rows) -> None:
        """A small network at each row, added to `sums`."""
        small = self._rows("b", sums.width, sums.rate)
        wide = self._rows("a", 4 * sums.width, sums.rate)
        self._mix(mixed, sums, small)
        self._linear(mixed.pwconv1, small, bend=GELU, rounded=wide)
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
        numbers = {"taps": len(taps), "dilation": 1, "eps": norm.eps}
        room_bytes = (row_bytes, -(-source.rate * row_bytes // together))
        self._steps.append(
            Step(MIX, source, None, rounded, None, numbers, tensors, source.width, room_bytes)
        )

    def _transform(
        self, plain: WindowTransformer, sums: Rows, begin: int = 0, end: int | None = None
    ) -> None:
        """Layers of a transformer, in place."""
        for layer in list(plain.layers)[begin:end]:
            self._layer(cast(WindowBlock, layer), plain, sums)

    def _layer(self, layer: WindowBlock, plain: WindowTransformer, sums: Rows) -> None:
        config, rate = plain.config, sums.rate
        heads, inner = config.n_head * config.head_dim, config.intermediate_size
        rounded, qkv = self._rows("a", config.dim, rate), self._rows("s", 3 * heads, rate)
        attended, hidden = self._rows("b", heads, rate), self._rows("b", inner, rate)
        self._norm(layer.attention_norm, sums, rounded=rounded)
        self._linear(layer.attention.wqkv, rounded, output=qkv)
        self._attend(config, qkv, attended)
        self._add(layer.attention.wo, attended, sums, layer.attention_layer_scale)
        self._norm(layer.ffn_norm, sums, rounded=rounded)
        both = layer.feed_forward
        # Half a block of one beside half a block of the other, so that they are made together.
        half = self._kernels.block // 2
        pair = [F.pad(w.weight, (0, 0, 0, -inner % half)) for w in (both.w1, both.w3)]
        weight = torch.stack([w.view(-1, half, config.dim) for w in pair], 1).view(-1, config.dim)
        self._product(weight[:, None], None, rounded, bend=GATE, rounded=hidden)
        both.w1.to("meta")
        both.w3.to("meta")
        self._add(both.w2, hidden, sums, layer.ffn_layer_scale)

    def _add(self, linear: nn.Linear, source: Rows, sums: Rows, scale: LayerScale) -> None:
        self._linear(linear, source, scale=scale.gamma, residual=sums, output=sums)


class NativeDecoder(_Part):
    """`Decoder`: latents [B, C, T] -> waveform [B, 1, samples]."""

    def __init__(self, kernels: CodecKernels, plain: Decoder, most: int) -> None:
        """`most` latents at once."""
        super().__init__(kernels)
        self.most = most
        first, *middle, snake, last = plain.model
        blocks = [tuple(cast(DecoderBlock, block).block) for block in middle]
        snakes = [block[0] for block in blocks] + [snake]
        pasts = [cast(CausalTransposedConv, block[1]).past for block in blocks]
        pasts.append(cast(CausalConv, last).past)
        rounded = self._then(self._begin(first), first, snakes[0], pasts[0])
        for index, (_, up, *units) in enumerate(blocks):
            stride = cast(CausalTransposedConv, up).stride
            width = cast(CausalTransposedConv, up).conv.out_channels
            inner = cast(ResidualUnit, units[0]).block
            sums = self._rows("x", width, rounded.rate * stride)
            made = self._other(rounded, width, sums.rate, cast(CausalConv, inner[1]).past)
            snake_of_it = self._snake(inner[0], stride)
            self._upsampling(up, rounded, output=sums, rounded=made, snake=snake_of_it)
            rounded = self._units(made, sums, units, (snakes[index + 1], pasts[index + 1]))
        self._conv(last, rounded, output=self._rows("y", 1, rounded.rate))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Samples within [-1, 1]."""
        return super().forward(x, stream).tanh_()


class NativeUpsample(_Part):
    """The upsampling behind the code books: latents [B, C, T] -> [B, C, T·factor]."""

    def __init__(self, kernels: CodecKernels, plain: StreamSequential) -> None:
        super().__init__(kernels)
        stages = [tuple(cast(StreamSequential, stage)) for stage in plain]
        rounded = self._begin(stages[0][0])
        for index, (up, network) in enumerate(stages):
            mixed, rate = cast(ConvNeXt, network), rounded.rate * cast(CausalConv, up).stride
            sums = self._rows("s", rounded.width, rate, mixed.dwconv.past)
            self._upsampling(up, rounded, output=sums)
            if index + 1 == len(stages):
                self._mixed(mixed, sums, output=self._rows("y", sums.width, rate))
            else:
                past = cast(CausalTransposedConv, stages[index + 1][0]).past
                rounded = self._rows("b", sums.width, rate, past)
                self._mixed(mixed, sums, rounded=rounded)


class NativeDownsample(_Part):
    """The downsampling before the code books: x [B, C, T·factor] -> [B, C, T]."""

    may_leave_gaps = True

    def __init__(self, kernels: CodecKernels, plain: StreamSequential) -> None:
        super().__init__(kernels)
        stages = [tuple(cast(StreamSequential, stage)) for stage in plain]
        self.unit = math.prod(cast(CausalConv, down).stride for down, _ in stages)
        rounded = self._begin(stages[0][0], self.unit)
        for index, (down, network) in enumerate(stages):
            stride, mixed = cast(CausalConv, down).stride, cast(ConvNeXt, network)
            sums = self._rows("s", rounded.width, rounded.rate // stride, mixed.dwconv.past)
            self._conv(down, rounded, output=sums)
            if index + 1 == len(stages):
                self._mixed(mixed, sums, output=self._rows("y", sums.width, sums.rate))
            else:
                past = cast(CausalConv, stages[index + 1][0]).past
                rounded = self._rows("b", sums.width, sums.rate, past)
                self._mixed(mixed, sums, rounded=rounded)


class NativeTransformer(_Part):
    """Layers of a `WindowTransformer`, and what is before the first and behind the last of them.

    x [B, C, T] -> [B, C, T].
    """

    may_leave_gaps = True

    def __init__(
        self,
        kernels: CodecKernels,
        plain: WindowTransformer,
        channels: int,
        begin: int,
        end: int,
        most: int = DECODE_FRAMES,
    ) -> None:
        """Layers `begin` to `end`, `most` columns at once."""
        super().__init__(kernels)
        self.most = most
        dim = plain.config.dim
        sums = self._rows("x", dim)
        if begin == 0 and isinstance(plain.input_proj, nn.Linear):
            source, rounded = self._rows("y", channels), self._rows("a", channels)
            self._round(source, rounded)
            self._linear(plain.input_proj, rounded, output=sums)
        self._transform(plain, sums, begin, end)
        if end < len(plain.layers):
            return
        if isinstance(plain.output_proj, nn.Linear):
            rounded = self._rows("a", dim)
            self._norm(plain.norm, sums, rounded=rounded)
            self._linear(plain.output_proj, rounded, output=self._rows("y", channels))
        else:
            self._norm(plain.norm, sums, output=self._rows("y", dim))


class NativeEncoder(_Part):
    """Some blocks of an `Encoder`, and what is before the first one and behind the last one.

    The columns before them, of all of them the waveform [B, 1, samples] -> those behind them.
    """

    may_leave_gaps = True

    def __init__(
        self,
        kernels: CodecKernels,
        plain: Encoder,
        begin: int,
        end: int,
        most: int,
    ) -> None:
        """Blocks `begin` to `end`, and at once as many columns as become `most`.

        What is behind the last block counts as one more. The transformer of that block is left out
        where `end` is between the two.
        """
        super().__init__(kernels)
        self.most = most
        first, *middle, snake, last = plain.block
        blocks = [list(cast(EncoderBlock, block).block) for block in middle]
        inner = [cast(ResidualUnit, block[0]).block for block in blocks]
        wanted = [(unit[0], cast(CausalConv, unit[1]).past) for unit in inner]
        wanted.append((snake, cast(CausalConv, last).past))
        self.unit = math.prod(cast(CausalConv, block[4]).stride for block in blocks[begin:end])
        if begin == 0:
            given = self._begin(first, self.unit)
            sums = self._rows("x", cast(CausalConv, first).conv.out_channels, given.rate)
            rounded = self._then(given, first, *wanted[0], output=sums)
        else:
            width = cast(CausalConv, (*(unit[1] for unit in inner), last)[begin]).conv.in_channels
            sums, rounded = self._given_sums(width, *wanted[begin], rate=self.unit)
        for index, block in enumerate(blocks[begin:end], begin):
            units, (inner_snake, strided, *transformer) = block[:3], block[3:]
            down = cast(CausalConv, strided)
            rounded = self._units(rounded, sums, units, (inner_snake, down.past))
            rate, width = rounded.rate // down.stride, down.conv.out_channels
            is_cut = index + 1 == end
            if is_cut and end == len(blocks):
                transformer = []
            sums = self._rows("y" if is_cut and not transformer else "x", width, rate)
            source, (behind, past) = rounded, wanted[index + 1]
            if is_cut and not transformer:
                self._conv(down, source, output=sums)
            elif not transformer:
                rounded = self._other(rounded, width, rate, past)
                self._conv(down, source, output=sums, rounded=rounded, snake=self._snake(behind))
            else:
                self._conv(down, source, output=sums)
                inner_part = cast(WindowTransformer, transformer[0])
                self._transform(inner_part, sums)
                made = self._rows("y", width, rate) if is_cut else sums
                self._norm(inner_part.norm, sums, output=made)
                if not is_cut:
                    rounded = self._rows("a", width, rate, past)
                    self._round(sums, rounded, snake=self._snake(behind))
        if end > len(blocks):
            width = cast(CausalConv, last).conv.out_channels
            self._conv(last, rounded, output=self._rows("y", width, rounded.rate))


def native_part(kernels: CodecKernels, plain: nn.Module, config: CodecConfig) -> NativePart:
    """The same as a `plain` part that decodes, which is taken apart; ValueError for shapes it does
    not know.

    Where there are many columns few frames are computed together, so that they stay in the cache.
    """
    if isinstance(plain, WindowTransformer):
        return NativeTransformer(kernels, plain, config.latent_dim, 0, len(plain.layers))
    if isinstance(plain, Decoder):
        return NativeDecoder(kernels, plain, NATIVE_FRAMES * math.prod(config.downsample_factor))
    return NativeUpsample(kernels, cast(StreamSequential, plain))


def encoding_stages(
    kernels: CodecKernels, config: CodecConfig, plain: nn.Module
) -> Iterator[NativePart]:
    """The same as a `plain` part that encodes, stage by stage, as `native_part`.

    A stage is made, and its part of the weights read, when it is asked for: at
    openaudio-s1-mini's size none is more than 218 of their 828 MB. Where there are few columns,
    many are computed together, so that weights are seldom read.
    """
    latents = math.prod(config.downsample_factor)
    if isinstance(plain, Encoder):
        blocks, stride = len(config.encoder_rates), config.encoder_rates[-1]
        yield NativeEncoder(kernels, plain, 0, blocks - 1, NATIVE_FRAMES * latents * stride)
        most = ENCODE_FRAMES * latents
        *_, transformer = cast(EncoderBlock, plain.block[blocks]).block
        if isinstance(transformer, WindowTransformer):
            yield NativeEncoder(kernels, plain, blocks - 1, blocks, most)
            yield from _halves(kernels, transformer, transformer.config.dim, most)
            yield NativeEncoder(kernels, plain, blocks, blocks + 1, most)
        else:
            yield NativeEncoder(kernels, plain, blocks - 1, blocks + 1, most)
    elif isinstance(plain, WindowTransformer):
        yield from _halves(kernels, plain, config.latent_dim)
    else:
        yield NativeDownsample(kernels, cast(StreamSequential, plain))


def _halves(
    kernels: CodecKernels, plain: WindowTransformer, channels: int, most: int = DECODE_FRAMES
) -> Iterator[NativeTransformer]:
    """Its layers in two stages, `most` columns at once."""
    layers = len(plain.layers)
    for begin, end in itertools.pairwise(sorted({0, (layers + 1) // 2, layers})):
        yield NativeTransformer(kernels, plain, channels, begin, end, most)
