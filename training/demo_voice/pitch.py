"""The fundamental frequency of speech over time.

Overtones are dampened: in a hoarse voice the first formant rings more regularly than the voice
itself. Peaks of the autocorrelation, normalised by the window's, are candidates for the period; of
all ways through them the one is taken that is strong and jumps little. A frame in which that is not
to be voiced has no pitch.
"""

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

HOP_S = 0.010
_RATE_HZ = 12_000
_LOW_HZ, _HIGH_HZ = 50.0, 500.0
_DAMPED_ABOVE_HZ = 150.0
"""By 12 dB an octave."""
_WINDOW_S = 3 / 60
_CANDIDATES = 6
_VOICING, _SILENCE = 0.6, 0.03
"""Correlation, and share of the loudest frame's peak, below which a frame is not voiced."""
_PER_OCTAVE, _JUMP, _ONSET = 0.01, 0.35, 0.14
"""What a low candidate, a jump by an octave and a change of voicing cost, in correlation."""


def pitch_track(pcm: Samples, rate_hz: int) -> NDArray[np.float64]:
    """Hertz every `HOP_S`, 0 where no voice is."""
    sound = soxr.resample(np.asarray(pcm, np.float32), rate_hz, _RATE_HZ).astype(np.float64)
    size, hop = int(_WINDOW_S * _RATE_HZ), int(HOP_S * _RATE_HZ)
    if len(sound) < size:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(_damped(sound), size)[::hop]
    frames = frames - frames.mean(1, keepdims=True)
    peaks = np.abs(frames).max(1)
    window = np.hanning(size)
    correlation = _correlation(frames * window) / _correlation(window[None])
    hertz, strength = _candidates(correlation)
    # A quiet frame may be voiced, if only clearly so.
    loudness = peaks / max(peaks.max(), 1e-9) / _SILENCE
    unvoiced = _VOICING + np.maximum(0, 2 - loudness * (1 + _VOICING))
    return _best_way(hertz, strength, unvoiced)


def _damped(pcm: NDArray[np.float64]) -> NDArray[np.float64]:
    length = len(pcm) + _RATE_HZ // 10  # so that the end does not ring into the beginning
    hertz = np.fft.rfftfreq(length, 1 / _RATE_HZ)
    spectrum = np.fft.rfft(pcm, length) / np.sqrt(1 + (hertz / _DAMPED_ABOVE_HZ) ** 4)
    return np.fft.irfft(spectrum, length)[: len(pcm)]


def _correlation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """[frames, lags], 1 at lag 0."""
    length = 2 ** int(np.ceil(np.log2(2 * frames.shape[1])))
    found = np.fft.irfft(np.abs(np.fft.rfft(frames, length)) ** 2)[:, : frames.shape[1]]
    normal: NDArray[np.float64] = found / (found[:, :1] + 1e-12)
    return normal


def _candidates(
    correlation: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[frames, candidates] in Hz (0 for none) and how strong each is."""
    first, last = int(_RATE_HZ / _HIGH_HZ), int(_RATE_HZ / _LOW_HZ)
    before, at, after = (correlation[:, first + d : last + d] for d in (-1, 0, 1))
    is_peak = (at > before) & (at >= after) & (at > 0.3)
    # A parabola through three points says where between the samples the peak is.
    bend = before - 2 * at + after
    offset = np.where(is_peak, 0.5 * (before - after) / np.where(is_peak, bend, -1), 0)
    height = at - 0.25 * (before - after) * offset
    hertz = _RATE_HZ / (np.arange(first, last) + offset)
    strength = np.where(is_peak, np.minimum(height, 1), -np.inf)
    strength = strength - _PER_OCTAVE * np.log2(_HIGH_HZ / hertz)
    best = np.argsort(-strength, axis=1)[:, :_CANDIDATES]
    strength, hertz = (np.take_along_axis(a, best, 1) for a in (strength, hertz))
    return np.where(np.isfinite(strength), hertz, 0), strength


def _best_way(
    hertz: NDArray[np.float64], strength: NDArray[np.float64], unvoiced: NDArray[np.float64]
) -> NDArray[np.float64]:
    hertz = np.concatenate((np.zeros((len(hertz), 1)), hertz), axis=1)
    strength = np.concatenate((unvoiced[:, None], strength), axis=1)
    octaves = np.log2(np.maximum(hertz, 1))
    is_voiced = hertz > 0
    score, came_from = strength[0], np.zeros(hertz.shape, np.int64)
    for i in range(1, len(hertz)):
        jump = _JUMP * np.abs(octaves[i][:, None] - octaves[i - 1])
        both = is_voiced[i][:, None] & is_voiced[i - 1]
        changed = is_voiced[i][:, None] ^ is_voiced[i - 1]
        total = score - np.where(both, jump, np.where(changed, _ONSET, 0))
        came_from[i] = total.argmax(1)
        score = total.max(1) + strength[i]
    way = np.zeros(len(hertz), np.int64)
    way[-1] = score.argmax()
    for i in range(len(hertz) - 1, 0, -1):
        way[i - 1] = came_from[i, way[i]]
    found: NDArray[np.float64] = hertz[np.arange(len(hertz)), way]
    return found


def median_pitch_hz(pcm: Samples, rate_hz: int) -> float:
    """Of the voiced frames; 0 if none is."""
    track = pitch_track(pcm, rate_hz)
    voiced = track[track > 0]
    return float(np.median(voiced)) if voiced.size else 0.0


def pitch_deviation_semitones(pcm: Samples, rate_hz: int) -> float:
    """Standard deviation of the voiced frames' pitch; 0 if none is.

    Frames more than an octave from the median, where voices creak, do not count.
    """
    track = pitch_track(pcm, rate_hz)
    voiced = track[track > 0]
    if not voiced.size:
        return 0.0
    semitones = 12 * np.log2(voiced / np.median(voiced))
    return float(np.std(semitones[np.abs(semitones) < 12]))
