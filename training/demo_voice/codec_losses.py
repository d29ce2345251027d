"""What makes a decoded waveform count as close to the original: spectra, and a critic."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.demo_voice.recipe import SAMPLE_RATE_HZ

MEL_SCALES = ((64, 8), (128, 15), (256, 30), (512, 60), (1024, 100), (2048, 160), (4096, 200))
"""(window in samples, mel bands): the longest tells apart the harmonics of a 70 Hz voice."""


def _mel_bands(bands: int, window: int) -> Tensor:
    """Triangular filters [window/2 + 1, bands], each of area one."""
    top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, window // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return torch.minimum(rise, fall).clamp(min=0) * 200 / (high - low)


_COLOUR_WINDOW = 1024


class SpectralLoss(nn.Module):
    """Distances of log-mel and log-linear magnitudes over several windows, and of each mel band's
    mean and deviation over time, which say who speaks: (mel, linear, colour).

    Alone, the first two leave a voice duller and more even than it was: an average errs least.
    """

    def __init__(self) -> None:
        super().__init__()
        for window, bands in MEL_SCALES:
            self.register_buffer(f"window_{window}", torch.hann_window(window))
            self.register_buffer(f"bands_{window}", _mel_bands(bands, window))

    def forward(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both [B, samples], float32."""
        mel, linear, colour = (made.new_zeros(()) for _ in range(3))
        both = torch.cat((made, real))
        for window, _ in MEL_SCALES:
            hann, bands = getattr(self, f"window_{window}"), getattr(self, f"bands_{window}")
            spectrum = torch.stft(both, window, window // 4, window=hann, return_complex=True)
            power = torch.view_as_real(spectrum).square().sum(-1)
            magnitude = (power + 1e-8).sqrt().transpose(1, 2)
            a, b = (magnitude @ bands).clamp(min=1e-5).log10().chunk(2)
            mel = mel + (a - b).abs().mean()
            if window == _COLOUR_WINDOW:
                colour = (a.mean(1) - b.mean(1)).abs().mean()
                colour = colour + (_deviation(a) - _deviation(b)).abs().mean()
            if window >= 512:
                a, b = magnitude.clamp(min=1e-3).log10().chunk(2)
                c, d = magnitude.chunk(2)
                linear = linear + (a - b).abs().mean() + (c - d).norm() / (d.norm() + 1e-3)
        return mel, linear, colour


def _deviation(levels: Tensor) -> Tensor:
    """Over time, of [B, time, bands]; its slope is finite where nothing changes."""
    return (levels.var(1, correction=0) + 1e-4).sqrt()


class _SpectrumCritic(nn.Module):
    """Convolutions over a complex spectrogram."""

    def __init__(self, window: int, width: int = 32) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("hann", torch.hann_window(window))
        self.layers = nn.ModuleList(
            (
                nn.Conv2d(2, width, (3, 9), padding=(1, 4)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(1, 4)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(2, 4), dilation=(2, 1)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(4, 4), dilation=(4, 1)),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, 1, 3, padding=1),
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        assert isinstance(self.hann, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.stft(
                x.float(),
                self.window,
                self.window // 4,
                window=self.hann,
                return_complex=True,
                normalized=True,
            )
            # [B, 2, time, frequency]
            y = torch.view_as_real(spectrum).permute(0, 3, 2, 1).contiguous()
        return _features(self.layers, y)


class _PeriodCritic(nn.Module):
    """Convolutions over the waveform folded at a period: hears pitch and its jitter."""

    def __init__(self, period: int, width: int = 24) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width, 4 * width)
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)) for a, b in pairs
        )
        self.layers.append(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.pad(x, (0, -x.shape[-1] % self.period))
        return _features(self.layers, x.unflatten(-1, (-1, self.period))[:, None])


def _features(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Every layer's output, the last one the verdict."""
    features = []
    for layer in layers:
        x = layer(x)
        features.append(x)
        x = F.leaky_relu(x, 0.2)
    return features


class Critic(nn.Module):
    """Tells decoded speech from real; one list of features a view."""

    def __init__(self) -> None:
        super().__init__()
        views: list[nn.Module] = [_SpectrumCritic(window) for window in (2048, 1024, 512)]
        views += [_PeriodCritic(period) for period in (2, 3, 5, 7, 11)]
        self.views = nn.ModuleList(views)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """x [B, samples]."""
        return [view(x) for view in self.views]


def critic_loss(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Least squares: real is one, made is zero."""
    pairs = zip(real, made, strict=True)
    return torch.stack(
        [(1 - r[-1].float()).square().mean() + m[-1].float().square().mean() for r, m in pairs]
    ).mean()


def generator_loss(real: list[list[Tensor]], made: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """(to pass for real, to look alike in every feature)."""
    passes = torch.stack([(1 - m[-1].float()).square().mean() for m in made]).mean()
    alike = [
        (a.float() - b.float()).abs().mean() / (a.float().abs().mean() + 1e-4)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r[:-1], m[:-1], strict=True)
    ]
    return passes, torch.stack(alike).mean()
