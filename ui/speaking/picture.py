"""A take to look at: waveform and spectrogram as masks, which the page fills with its colour."""

import io
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ui.speaking.take import Take

WIDTH = 1200
WAVE_HEIGHT, SPECTRUM_HEIGHT = 96, 128
_WINDOW = 1024
_RANGE_DB = 70.0
"""Between the loudest point of a spectrogram and what is shown as nothing."""
_HIGHEST_HZ = 8000.0

Samples = NDArray[np.int16]


def waveform(take: Take) -> bytes:
    """The loudest sample of each column, as a PNG that is opaque where the wave is."""
    bounds = np.linspace(0, _count(take), WIDTH + 1).astype(int)
    peaks = np.array(
        [
            float(np.abs(piece.astype(np.float32)).max(initial=0)) / 32768
            for piece in _pieces(take, itertools.pairwise(bounds))
        ]
    )
    peaks /= max(0.25, float(peaks.max(initial=0.0)))
    middle = WAVE_HEIGHT / 2
    distance = np.abs(np.arange(WAVE_HEIGHT)[:, None] + 0.5 - middle)
    shown = distance <= np.maximum(0.75, peaks * (middle - 2))[None, :]
    return _png((shown * 255).astype(np.uint8))


def spectrogram(take: Take) -> bytes:
    """Loudness by frequency, low ones at the bottom, as a PNG that is opaque where it is loud."""
    count = _count(take)
    columns = min(WIDTH, max(1, count // 64))
    starts = np.linspace(0, max(0, count - _WINDOW), columns).astype(int)
    window = np.hanning(_WINDOW).astype(np.float32)
    lines = []
    for piece in _pieces(take, ((start, start + _WINDOW) for start in starts)):
        padded = np.pad(piece.astype(np.float32), (0, _WINDOW - len(piece)))
        lines.append(np.abs(np.fft.rfft(padded * window)))
    highest = round(min(1.0, 2 * _HIGHEST_HZ / max(1, take.record.rate_hz)) * (_WINDOW // 2))
    loudness = 20 * np.log10(np.maximum(1.0, np.array(lines).T[:highest]))
    loudest = float(loudness.max(initial=0.0))
    share = np.clip((loudness - loudest + _RANGE_DB) / _RANGE_DB, 0, 1) ** 1.5
    image = Image.fromarray((share[::-1] * 255).astype(np.uint8), "L")
    return _png(np.asarray(image.resize((WIDTH, SPECTRUM_HEIGHT), Image.Resampling.BILINEAR)))


def _count(take: Take) -> int:
    return max(1, take.audio_bytes // 2)


def _pieces(take: Take, bounds: Iterable[tuple[int, int]]) -> Iterator[Samples]:
    """The samples from one place to another, less where the file has less by now.

    Read, not mapped: who tries a take again cuts its file short, and reading a map of what is not
    there any more is the end of the process (SIGBUS).
    """
    if not take.audio_bytes:
        yield from (np.zeros(0, np.int16) for _ in bounds)
        return
    with take.pcm.open("rb") as file:
        for begin, end in bounds:
            file.seek(2 * int(begin))
            data = file.read(2 * int(end - begin))
            yield np.frombuffer(data[: len(data) // 2 * 2], "<i2")


def _png(alpha: NDArray[np.uint8]) -> bytes:
    mask = Image.merge("LA", (Image.new("L", alpha.shape[::-1]), Image.fromarray(alpha, "L")))
    file = io.BytesIO()
    mask.save(file, "png", optimize=True)
    return file.getvalue()
