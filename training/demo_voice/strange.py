"""Speech as another room, microphone or line would give it: what a voice is cloned from at home."""

import math

import torch
from torch import Tensor

from training.demo_voice.recipe import SAMPLE_RATE_HZ

_BANDS, _LOWEST_HZ = 8, 50.0
_ROOM_S = 0.35
_EQUALISER_DB = 2.0
"""Spread of the steps from one of its bands to the next. More would teach that the colour of a
recording says nothing of who speaks."""
_TELEPHONE = 0.12
"""Share of what comes over a telephone line."""


def strange(clean: Tensor) -> Tensor:
    """Speech [B, samples], each row made strange in ways of its own, about as loud as before.

    Equaliser, band limits, a telephone's band, room, noise, a neighbour's voice, 8-bit companding,
    clipping: each with a chance of its own.
    """
    count, samples = clean.shape
    device = clean.device

    def chance(share: float) -> Tensor:
        return torch.rand(count, 1, device=device) < share

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, device=device)

    length = 1 << (samples + int(_ROOM_S * SAMPLE_RATE_HZ) - 1).bit_length()
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, length // 2 + 1, device=device).clamp(min=1.0)
    response = torch.where(chance(0.7), _equaliser(count, hz), 1.0)
    low_hz = between(60, 400)
    response = response * torch.where(chance(0.4), (1 + (low_hz / hz) ** 8).rsqrt(), 1.0)
    high_hz = between(2_600, 9_000)
    response = response * torch.where(chance(0.45), (1 + (hz / high_hz) ** 16).rsqrt(), 1.0)
    on_line = chance(_TELEPHONE)
    band = (1 + (between(200, 350) / hz) ** 24 + (hz / between(3_000, 3_700)) ** 48).rsqrt()
    response = response * torch.where(on_line, band, 1.0)
    spectrum = torch.fft.rfft(clean, length) * response
    spectrum = torch.where(chance(0.4), spectrum * _room(count, length, device), spectrum)
    heard = torch.fft.irfft(spectrum, length)[:, :samples]
    loud = heard.square().mean(1, keepdim=True).sqrt()

    white = torch.fft.rfft(torch.randn(count, samples, device=device))
    slope = torch.linspace(1, white.shape[1], white.shape[1], device=device) ** -between(0.0, 0.8)
    noise = torch.fft.irfft(white * slope, samples)
    noise = noise / (noise.square().mean(1, keepdim=True).sqrt() + 1e-9)
    quieter = 10 ** (-between(10, 35) / 20)
    heard = heard + torch.where(chance(0.5), noise * loud * quieter, 0.0)
    quieter = 10 ** (-between(12, 25) / 20)
    heard = heard + torch.where(chance(0.05), heard.roll(1, 0) * quieter, 0.0)

    heard = heard / (heard.abs().amax(1, keepdim=True) + 1e-6)
    coarse = torch.sign(heard) * torch.log1p(255 * heard.abs()) / math.log(256)
    coarse = (coarse * 127).round() / 127
    coarse = torch.sign(coarse) * (256 ** coarse.abs() - 1) / 255
    heard = torch.where(chance(0.12) | on_line & chance(0.6), coarse, heard)
    limit = between(0.3, 0.8)
    heard = torch.where(chance(0.05), torch.minimum(heard, limit).maximum(-limit), heard)
    wanted = clean.square().mean(1, keepdim=True).sqrt() * between(0.7, 1.3)
    return heard * wanted / (heard.square().mean(1, keepdim=True).sqrt() + 1e-6)


def _equaliser(count: int, hz: Tensor) -> Tensor:
    """Smooth random gains [count, frequencies], some decibels up and down."""
    steps = torch.randn(count, _BANDS, device=hz.device) * _EQUALISER_DB
    gains_db = steps.cumsum(1) - steps.cumsum(1).mean(1, keepdim=True)
    place = (hz / _LOWEST_HZ).log2().clamp(min=0) / math.log2(SAMPLE_RATE_HZ / 2 / _LOWEST_HZ)
    place = (place * (_BANDS - 1)).clamp(max=_BANDS - 1.001)
    low = place.long()
    part = place - low
    gain_db = torch.lerp(gains_db[:, low], gains_db[:, low + 1], part)
    return torch.exp(gain_db * (math.log(10) / 20))


def _room(count: int, length: int, device: torch.device) -> Tensor:
    """Spectra [count, length/2 + 1] of a direct sound and echoes that die away."""
    time_s = torch.arange(int(_ROOM_S * SAMPLE_RATE_HZ), device=device) / SAMPLE_RATE_HZ
    reverberation_s = 0.08 + 0.4 * torch.rand(count, 1, device=device)
    echo = torch.randn(count, len(time_s), device=device) * 10 ** (-3 * time_s / reverberation_s)
    echo = echo * (time_s > 0.002)
    echo = echo / (echo.square().sum(1, keepdim=True).sqrt() + 1e-9)
    echo = echo * 10 ** (-(2 + 14 * torch.rand(count, 1, device=device)) / 20)
    echo[:, 0] = 1.0
    spectrum: Tensor = torch.fft.rfft(echo, length)
    return spectrum
