"""The causal DAC codec: waveform to code frames, and code frames to waveform piece by piece.

Module names are those of the official state dict with weight norm folded
(`fish_speech/models/dac/modded_dac.py`).
"""

from typing import cast

import torch
from torch import Tensor, nn

from backend.model.config import ENCODE_FRAMES, CodecConfig, WindowConfig
from backend.model.rvq import Quantizer
from backend.model.stream import (
    CausalConv,
    CausalTransposedConv,
    Snake,
    Stream,
    StreamSequential,
    WindowTransformer,
)


class ResidualUnit(nn.Module):
    """x plus a dilated convolution of it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = StreamSequential(
            Snake(channels),
            CausalConv(channels, channels, 7, dilation=dilation),
            Snake(channels),
            CausalConv(channels, channels, 1),
        )

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return cast(Tensor, x + self.block(x, stream))


class EncoderBlock(nn.Module):
    """Three residual units, then down by `stride` to twice the channels."""

    def __init__(self, channels: int, stride: int, n_layer: int, window: int) -> None:
        super().__init__()
        half = channels // 2
        parts: list[nn.Module] = [ResidualUnit(half, dilation) for dilation in (1, 3, 9)]
        parts += [Snake(half), CausalConv(half, channels, 2 * stride, stride=stride)]
        if n_layer:
            transformer = WindowConfig.of_encoder(channels, n_layer, window)
            parts.append(WindowTransformer(transformer, channels))
        self.block = StreamSequential(*parts)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return cast(Tensor, self.block(x, stream))


class Encoder(nn.Module):
    """Waveform [B, 1, samples] -> latents [B, C, samples / prod(rates)]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.encoder_dim
        parts: list[nn.Module] = [CausalConv(1, channels, 7)]
        layers = config.encoder_transformer_layers
        for stride, n_layer in zip(config.encoder_rates, layers, strict=True):
            channels *= 2
            parts.append(EncoderBlock(channels, stride, n_layer, config.encoder_window))
        parts += [Snake(channels), CausalConv(channels, config.latent_dim, 3)]
        self.block = StreamSequential(*parts)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return cast(Tensor, self.block(x, stream))


class DecoderBlock(nn.Module):
    """Up by `stride` to half the channels, then three residual units."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.block = StreamSequential(
            Snake(channels_in),
            CausalTransposedConv(channels_in, channels_out, 2 * stride, stride),
            *(ResidualUnit(channels_out, dilation) for dilation in (1, 3, 9)),
        )

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return cast(Tensor, self.block(x, stream))


class Decoder(nn.Module):
    """Latents [B, C, T] -> waveform [B, 1, T · prod(rates)] within [-1, 1]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        parts: list[nn.Module] = [CausalConv(config.latent_dim, channels, 7)]
        for stride in config.decoder_rates:
            parts.append(DecoderBlock(channels, channels // 2, stride))
            channels //= 2
        parts += [Snake(channels), CausalConv(channels, 1, 7)]
        self.model = StreamSequential(*parts)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return torch.tanh(self.model(x, stream))


class DAC(nn.Module):
    """The whole codec."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.decoder = Decoder(config)

    def encode(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        """Waveform [B, samples] -> codes [B, N, frames]; the last frame is padded with silence.

        In pieces, so that a minute of it takes no more memory than a second or two. With a
        `Stream`, the waveform goes on where that stream's last whole frame ended.
        """
        short = -audio.shape[-1] % self.config.frame_samples
        padded = nn.functional.pad(audio, (0, short))[:, None]
        stream = stream or Stream(audio.shape[0])
        pieces = torch.split(padded, ENCODE_FRAMES * self.config.frame_samples, dim=-1)
        codes = [self.quantizer.encode(self.encoder(piece, stream), stream) for piece in pieces]
        return torch.cat(codes, dim=-1)

    def decode(self, codes: Tensor, stream: Stream | None = None) -> Tensor:
        """Codes [B, N, frames] -> waveform [B, frames · frame_samples].

        With a `Stream`, the codes go on where that stream's last ones ended.
        """
        z = self.quantizer.expand(self.quantizer.look_up(codes), stream)
        return cast(Tensor, self.decoder(z, stream)[:, 0])
