"""What can be measured of speech without listening: level, pitch, likeness."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_FRAME_S, _HOP_S = 0.040, 0.010
_MEL_BANDS, _CEPSTRA = 40, 13


def level_dbfs(pcm: Samples) -> float:
    """RMS level re a full-scale constant."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(pcm))) + 1e-9))


def _frames(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    size, hop = int(_FRAME_S * rate_hz), int(_HOP_S * rate_hz)
    padded = np.pad(pcm.astype(np.float64), (0, max(0, size - len(pcm))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def median_pitch_hz(pcm: Samples, rate_hz: int, low_hz: float = 55, high_hz: float = 400) -> float:
    """Median fundamental of the voiced frames, by normalised autocorrelation; 0 if none is."""
    size = int(2.5 * rate_hz / low_hz)  # two periods of the lowest voice, and some
    hop, longest, shortest = int(_HOP_S * rate_hz), int(rate_hz / low_hz), int(rate_hz / high_hz)
    window = np.hanning(size)
    taper = np.correlate(window, window, "full")[size - 1 :]
    found = []
    for begin in range(0, len(pcm) - size, hop):
        frame = pcm[begin : begin + size].astype(np.float64)
        if np.sqrt(np.mean(frame**2)) < 0.01:
            continue
        frame = (frame - frame.mean()) * window
        spectrum = np.fft.rfft(frame, 2 * size)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:size]
        normal = correlation / (correlation[0] + 1e-12) / (taper / taper[0] + 1e-12)
        inside = normal[shortest:longest]
        if inside.max() < 0.6:
            continue
        # The first peak nearly as high as the highest: the highest may be a multiple of the period.
        peaks = np.flatnonzero((inside[1:-1] > inside[:-2]) & (inside[1:-1] >= inside[2:])) + 1
        good = [p for p in peaks if inside[p] > 0.9 * inside.max()]
        if good:
            found.append(rate_hz / (shortest + good[0]))
    return float(np.median(found)) if found else 0.0


def mel_cepstra(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    """[frames, 12] cepstra of log-mel energies, the level left out, the mean removed."""
    frames = _frames(pcm, rate_hz)
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]))) ** 2
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _MEL_BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, rate_hz / 2, power.shape[1])[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bands = np.clip(
        np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, 1
    )
    energies = 10 * np.log10(power @ bands + 1e-6)
    index = np.arange(_MEL_BANDS)
    basis = np.cos(np.pi / _MEL_BANDS * (index[:, None] + 0.5) * index[None, :_CEPSTRA])
    cepstra = energies @ basis[:, 1:] * (2 / _MEL_BANDS)
    centred: NDArray[np.float64] = cepstra - cepstra.mean(0)
    return centred


def warped_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean cepstral distance along the best monotonous alignment of a and b."""
    cost = np.sqrt(np.maximum(np.sum(a**2, 1)[:, None] + np.sum(b**2, 1)[None] - 2 * a @ b.T, 0))
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    steps = np.zeros((rows + 1, columns + 1), np.int32)
    total[0, 0] = 0
    # Anti-diagonal by anti-diagonal: all its cells depend on the two before only.
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        choices = np.stack((total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]))
        best = choices.argmin(0)
        total[i, j] = cost[i - 1, j - 1] + np.take_along_axis(choices, best[None], 0)[0]
        before = np.stack((steps[i - 1, j - 1], steps[i - 1, j], steps[i, j - 1]))
        steps[i, j] = 1 + np.take_along_axis(before, best[None], 0)[0]
    return float(total[rows, columns] / steps[rows, columns])


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, of values without ties."""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
