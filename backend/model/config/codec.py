"""Shapes and costs of the codec."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backend.errors import BadCheckpoint
from backend.model.config.transformer import RESIDUAL_CODEBOOK_SIZE

ENCODE_FRAMES, DECODE_FRAMES = 32, 24
"""Frames of a recording that are encoded together, of speech that are decoded together at most."""

NATIVE_FRAMES = 4
"""Of speech that the kernels of a CPU take through the decoder at once, however many are given:
more would leave the cache before they are read again."""

STAGE_FRAMES, STAGE_FRAMES_TOGETHER = 16, 128
"""Where many rows are decoded together: frames of a row's piece at most, and of all rows of a call,
which are enough to fill a large card."""

_ENCODER_HEAD_DIM = 64
_ELEMENT_BYTES = 4
"""Codecs compute in float32 whatever the transformer does."""
_KERNEL, _DILATIONS = 7, (1, 3, 9)
"""Of the residual units' convolutions."""
_FILTER_ROWS = 28 * 12
"""Tiles of a piece of work, each at all points."""
_FILTER_NUMBERS = 12 - _KERNEL
"""Of a filter of that many taps beside them, where kernels of our own evaluate it beforehand."""
_STAGE_TENSORS = 4
"""Activations of a residual unit that live at once where its convolutions are fused: its input, the
snake behind its past, and the outputs of both convolutions."""
_UNIT_TENSORS = 6
"""Activations of a residual unit that live at once, in its convolution: its input, the snake's
output, that behind its past, the output, and oneDNN's copies of both in a layout of its own."""


def _conv(channels_in: int, channels_out: int, kernel_size: int) -> int:
    """Weights of a convolution, biases included."""
    return channels_in * channels_out * kernel_size + channels_out


def _residual_unit(channels: int) -> int:
    return 2 * channels + _conv(channels, channels, _KERNEL) + _conv(channels, channels, 1)


def _half(parameters: int, layers: int) -> int:
    """Of a transformer's weights, those of the larger half of its layers."""
    return parameters * ((layers + 1) // 2) // layers


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """A causal transformer of the codec that looks back over `window` positions."""

    dim: int = 1024
    n_layer: int = 8
    n_head: int = 16
    head_dim: int = 64
    intermediate_size: int = 3072
    window: int = 128
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @classmethod
    def of_encoder(cls, channels: int, n_layer: int, window: int) -> Self:
        """The transformer at the end of an encoder block of `channels`."""
        heads, width = channels // _ENCODER_HEAD_DIM, 3 * channels
        return cls(channels, n_layer, heads, _ENCODER_HEAD_DIM, width, window)

    def parameters(self, channels: int) -> int:
        """Weights, the projections from and to `channels` included where those differ."""
        heads = self.n_head * self.head_dim
        block = self.dim * (4 * heads + 3 * self.intermediate_size + 4)
        bridge = 0 if channels == self.dim else 2 * channels * self.dim + self.dim + channels
        return self.n_layer * block + self.dim + bridge

    @property
    def state_bytes(self) -> int:
        """Keys and values of the window that a stream remembers."""
        position = 2 * self.n_layer * self.n_head * self.head_dim
        return (self.window - 1) * position * _ELEMENT_BYTES


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The DAC codec: waveform ↔ one semantic and several residual code books.

    The defaults are the package's `configs/modded_dac_vq.yaml`, which every `codec.pth` follows.
    """

    sample_rate_hz: int = 44_100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    encoder_transformer_layers: tuple[int, ...] = (0, 0, 0, 4)
    encoder_window: int = 512
    latent_dim: int = 1024
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    downsample_factor: tuple[int, ...] = (2, 2)
    semantic_codebook_size: int = 4096
    residual_codebooks: int = 9
    residual_codebook_size: int = RESIDUAL_CODEBOOK_SIZE
    codebook_dim: int = 8
    pre: WindowConfig = field(default_factory=WindowConfig)
    post: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise BadCheckpoint(
                f"encoder rates {self.encoder_rates} and decoder rates {self.decoder_rates} differ"
            )

    @property
    def num_codebooks(self) -> int:
        """Code books of a frame, the semantic one first."""
        return 1 + self.residual_codebooks

    @property
    def frame_samples(self) -> int:
        """PCM samples of one code frame."""
        return math.prod(self.encoder_rates) * math.prod(self.downsample_factor)

    @property
    def frame_rate_hz(self) -> float:
        """Code frames per second of audio."""
        return self.sample_rate_hz / self.frame_samples

    @property
    def parameters(self) -> int:
        """Weights of encoder, quantiser and decoder, weight norm folded."""
        return self._book_parameters + self.encoding_parameters + self.decoding_parameters

    @property
    def encoding_parameters(self) -> int:
        """Those of the parts that only encode."""
        pre = self.pre.parameters(self.latent_dim)
        return self._encoder_parameters + self._resampling_parameters + pre

    @property
    def decoding_parameters(self) -> int:
        """Those of the parts that only decode."""
        post = self.post.parameters(self.latent_dim)
        return post + self._resampling_parameters + self._decoder_parameters

    def encoding_stage_parameters(self, is_native: bool) -> int:
        """Those of the largest stage of encoding, of which one is in memory at a time.

        Kernels of our own have more and smaller ones than torch, and more numbers in some filters.
        """
        *blocks, last = self._encoder_blocks()
        pre = self.pre.parameters(self.latent_dim)
        if not is_native:
            return max(sum(blocks) + last, self._resampling_parameters, pre)
        channels = self.encoder_dim << (len(self.encoder_rates) - 1)
        stages = [sum(blocks), self._resampling_parameters, _half(pre, self.pre.n_layer)]
        if n_layer := self.encoder_transformer_layers[-1]:
            wide = 2 * channels
            transformer = WindowConfig.of_encoder(wide, n_layer, self.encoder_window)
            inner, behind = transformer.parameters(wide), wide + _conv(wide, self.latent_dim, 3)
            stages += [_half(inner, n_layer), behind]
            last -= inner + behind
        filters = 3 * _FILTER_NUMBERS * channels * channels
        return max(*stages, last + filters)

    @property
    def encoding_row_bytes(self) -> int:
        """Of a second of a recording between two stages, where it takes most."""
        channels = self.encoder_dim << (len(self.encoder_rates) - 1)
        columns_s = self.sample_rate_hz / math.prod(self.encoder_rates[:-1])
        return int(columns_s * channels * _ELEMENT_BYTES)

    @property
    def _encoder_parameters(self) -> int:
        return sum(self._encoder_blocks())

    def _encoder_blocks(self) -> list[int]:
        """Weights of each block, what is before the first and behind the last one included."""
        half, found = self.encoder_dim, list[int]()
        for stride, n_layer in zip(
            self.encoder_rates, self.encoder_transformer_layers, strict=True
        ):
            channels = 2 * half
            block = 3 * _residual_unit(half) + half + _conv(half, channels, 2 * stride)
            if n_layer:
                transformer = WindowConfig.of_encoder(channels, n_layer, self.encoder_window)
                block += transformer.parameters(channels)
            found.append(block)
            half = channels
        found[0] += _conv(1, self.encoder_dim, _KERNEL)
        found[-1] += half + _conv(half, self.latent_dim, 3)
        return found

    @property
    def _decoder_parameters(self) -> int:
        last, total = self.decoder_dim, _conv(self.latent_dim, self.decoder_dim, _KERNEL)
        for _, channels, half, stride in self._decoder_blocks(0):
            total += channels + _conv(channels, half, 2 * stride) + 3 * _residual_unit(half)
            last = half
        return total + last + _conv(last, 1, _KERNEL)

    @property
    def _book_parameters(self) -> int:
        dim, size = self.latent_dim, self.codebook_dim
        codes = self.semantic_codebook_size + self.residual_codebooks * self.residual_codebook_size
        return self.num_codebooks * (_conv(dim, size, 1) + _conv(size, dim, 1)) + codes * size

    @property
    def _resampling_parameters(self) -> int:
        """Between the code books and either the encoder or the decoder."""
        dim = self.latent_dim
        convnext = (
            _conv(1, dim, _KERNEL) + _conv(dim, 4 * dim, 1) + _conv(4 * dim, dim, 1) + 3 * dim
        )
        return sum(_conv(dim, dim, f) + convnext for f in self.downsample_factor)

    @property
    def stream_bytes(self) -> int:
        """What is remembered of one text's speech from piece to piece, once it is long enough."""
        last = self.decoder_dim
        past = (_KERNEL - 1) * self.latent_dim * (1 + len(self.downsample_factor))
        for _, channels, half, _ in self._decoder_blocks(0):
            past += channels + (_KERNEL - 1) * half * sum(_DILATIONS)
            last = half
        return (past + (_KERNEL - 1) * last) * _ELEMENT_BYTES + self.post.state_bytes

    def decode_workspace_bytes(self, frames: int = DECODE_FRAMES) -> int:
        """Memory beside weights and streams while `frames` are decoded together."""
        most = _KERNEL * self.latent_dim * self.decoder_dim
        for columns, channels, half, stride in self._decoder_blocks(frames):
            source, target = channels * columns, half * columns * stride
            # Each with oneDNN's copy of the weights. The caller holds the block's input.
            upsampling = 4 * source + 2 * target + 2 * stride * channels * half
            unit = source + _UNIT_TENSORS * target + _KERNEL * half * half
            most = max(most, upsampling, unit)
        return most * _ELEMENT_BYTES

    def native_workspace_bytes(self, frames: int = DECODE_FRAMES, threads: int = 4) -> int:
        """The same where kernels of our own decode: the decoder's rows are those of few frames.

        Each of `threads` has room for the tiles of a filter (`native/codec_filter.h`).
        """
        few = min(frames, NATIVE_FRAMES)
        widest = max(half * c * s for c, _, half, s in self._decoder_blocks(few))
        tiles = threads * _FILTER_ROWS * self.decoder_dim // 2
        post, mixed = self.post, frames * math.prod(self.downsample_factor) * self.latent_dim
        heads = post.n_head * post.head_dim
        attended = 2 * heads * (post.window + frames) + 4 * frames * heads
        inner = frames * (post.dim + 2 * post.intermediate_size)
        rows = 3 * widest + 8 * mixed + attended + inner
        return (rows + tiles) * _ELEMENT_BYTES

    def slot_bytes(self, sequences: int, element_bytes: int = 2) -> int:
        """What a GPU's stage keeps of `sequences` from piece to piece.

        There is a slot more than sequences, of rows that only fill a call up.
        """
        return (sequences + 1) * self.stream_bytes // _ELEMENT_BYTES * element_bytes

    def stage_bytes(self, sequences: int, element_bytes: int = 2) -> int:
        """What that stage takes beside weights: slots and activations."""
        frames = min(STAGE_FRAMES_TOGETHER, STAGE_FRAMES * sequences)
        widest = max(half * c * s for c, _, half, s in self._decoder_blocks(frames))
        return self.slot_bytes(sequences, element_bytes) + _STAGE_TENSORS * widest * element_bytes

    def encode_workspace_bytes(self, frames: int = ENCODE_FRAMES) -> int:
        """Memory beside the weights while a recording is encoded, `frames` at a time."""
        columns, channels = frames * self.frame_samples, self.encoder_dim
        most, past = 0, 0
        for stride, n_layer in zip(
            self.encoder_rates, self.encoder_transformer_layers, strict=True
        ):
            unit = _UNIT_TENSORS * channels * columns + _KERNEL * channels * channels
            columns //= stride
            most = max(most, unit, 4 * channels * channels * stride + 4 * channels * columns)
            past += channels * ((_KERNEL - 1) * sum(_DILATIONS) + stride)
            channels *= 2
            if n_layer:
                window = WindowConfig.of_encoder(channels, n_layer, self.encoder_window)
                past += window.state_bytes // _ELEMENT_BYTES
        return (most + past) * _ELEMENT_BYTES + self.pre.state_bytes

    def _decoder_blocks(self, frames: int) -> Iterator[tuple[int, int, int, int]]:
        """Columns in, channels in, channels out and stride of each, for a piece of `frames`."""
        columns, channels = frames * math.prod(self.downsample_factor), self.decoder_dim
        for stride in self.decoder_rates:
            yield columns, channels, channels // 2, stride
            columns, channels = columns * stride, channels // 2

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read our `codec.json`; BadCheckpoint names a key that is not known."""
        values = dict(raw)
        unknown = sorted(values.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise BadCheckpoint(f"codec.json has unknown keys {', '.join(unknown)}")
        for name in ("pre", "post"):
            if name in values:
                values[name] = WindowConfig(**values[name])
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return dataclasses.asdict(self)
