"""What can be measured of speech without listening: level and likeness."""

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_FRAME_S, _HOP_S = 0.040, 0.010
_MEL_BANDS, _CEPSTRA = 40, 13
_BLOCK_S = 0.05
_LIKENESS_HZ = 16_000
SILENCE = 10 ** (-50 / 20)
"""-50 dB of full scale, 25 to 30 dB below speech: nobody hears it beside that."""


def level_dbfs(pcm: Samples) -> float:
    """RMS level re a full-scale constant."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(pcm))) + 1e-9))


def speech_level_db(pcm: Samples, rate_hz: int) -> float:
    """RMS of the 50 ms blocks within 10 dB of the mean, so without pauses; -120 of silence."""
    block = round(_BLOCK_S * rate_hz)
    blocks = pcm[: len(pcm) // block * block].reshape(-1, block)
    power = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    power = power[power > SILENCE**2]
    return float(10 * np.log10(power[power > power.mean() / 10].mean())) if power.size else -120.0


def _frames(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    size, hop = int(_FRAME_S * rate_hz), int(_HOP_S * rate_hz)
    padded = np.pad(pcm.astype(np.float64), (0, max(0, size - len(pcm))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def mel_cepstra(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    """[frames, 12] cepstra of log-mel energies, the level left out, the mean removed."""
    cepstra = _cepstra(_mel_energies(pcm, rate_hz))
    centred: NDArray[np.float64] = cepstra - cepstra.mean(0)
    return centred


def voice_statistics(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    """[24] what a speaker sounds like, whatever is said: cepstra's mean and deviation in speech.

    Above 8 kHz nothing is looked at, so that speech of other rates can be compared.
    """
    speech = soxr.resample(np.asarray(pcm, np.float32), rate_hz, _LIKENESS_HZ)
    energies = _mel_energies(speech, _LIKENESS_HZ)
    loudness = energies.max(1)
    cepstra = _cepstra(energies[loudness > loudness.max() - 35])
    return np.concatenate((cepstra.mean(0), cepstra.std(0)))


def nearest(found: list[NDArray[np.float64]], among: list[NDArray[np.float64]]) -> list[int]:
    """Of each in `found` the nearest of `among`, each measure in units of its spread.

    What all in `found` have in common, such as a codec's colour, is taken off, and so it is of
    `among`: who is who remains.
    """
    a, b = np.stack(found), np.stack(among)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = b.std(0) + 1e-9
    distances = np.square(a[:, None] / scale - b[None] / scale).sum(2)
    return [int(i) for i in distances.argmin(1)]


def _mel_energies(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    """[frames, bands] in dB."""
    frames = _frames(pcm, rate_hz)
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]))) ** 2
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _MEL_BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, rate_hz / 2, power.shape[1])[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bands = np.clip(
        np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, 1
    )
    energies: NDArray[np.float64] = 10 * np.log10(power @ bands + 1e-6)
    return energies


def _cepstra(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """[frames, 12], without the one that is the level."""
    index = np.arange(_MEL_BANDS)
    basis = np.cos(np.pi / _MEL_BANDS * (index[:, None] + 0.5) * index[None, :_CEPSTRA])
    cepstra: NDArray[np.float64] = energies @ basis[:, 1:] * (2 / _MEL_BANDS)
    return cepstra


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


def trim(pcm: Samples, threshold: float = 0.004) -> Samples:
    """Without what is quieter than `threshold` at both ends."""
    sound = np.flatnonzero(np.abs(pcm) > threshold)
    return pcm[sound[0] : sound[-1] + 1] if sound.size else pcm


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, of values without ties."""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
