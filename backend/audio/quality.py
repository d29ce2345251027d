"""What makes a recording a poor voice to speak in, told with what its sender can do about it.

Thresholds are such that clean speech passes; `python -m benchmarks.recordings` measures how often
it does, and how often each fault is found.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backend.audio.pcm import Samples

LEAST_S = 3.0
"""Of a voice: less is hardly a sentence."""
LEAST_LEVEL_DB = -40.0
"""Of full scale, of the loudest windows: microphones speak at -25 to -10 dB."""
LEAST_OVER_BACKGROUND_DB = 20.0
"""Of the voice: clean speech has 27 dB and more between its loudest and its quietest windows."""
LEAST_SPOKEN = 0.4
"""Of the time that is used: people who read are silent for a tenth to a quarter of it."""
MOST_CLIPPED = 1e-3
"""Of all samples, as `Clipping.share` counts them: speech has a hundredth of that."""
LEAST_GAP_SEMITONES = 4.0
"""Between the phrases of a low and those of a high voice; one voice leaves 3.6 at the most."""
LEAST_APART_SEMITONES = 6.0
"""Between the means of the two; of one voice 5.3 at the most."""

_TIMES_MORE = 4
"""At the top of a tone, which nobody cut off, there are 2.4 times as many as a little below."""
_WINDOW_S = 0.03
_SOUND_DB = 40.0
"""Below the loudest window there is no sound."""
_SPOKEN_DB = 30.0
"""Below the voice's level nobody speaks."""
_PAUSE_S = 0.12
_Decibels = NDArray[np.float64]


class Clipping:
    """How many samples lie where the loudest are: as many as that only where some were cut off."""

    _BINS = 1 << 15
    """The exponent of a sample and seven bits behind it: each 0.4 to 0.8 % of its loudness."""

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS, np.int64)

    def heard(self, pieces: Iterator[Samples]) -> Iterator[Samples]:
        """The same samples, which are counted as they pass."""
        for samples in pieces:
            loudness = np.abs(samples).view(np.uint32) >> 16
            self._counts += np.bincount(loudness, minlength=self._BINS)
            yield samples

    @property
    def share(self) -> float:
        """Of all samples those in the loudest two bins, beyond what the two before let expect."""
        loudest = int(np.flatnonzero(self._counts)[-1])
        before, top = (
            self._counts[max(0, end - 2) : end].sum() for end in (loudest - 1, loudest + 1)
        )
        return float((top - _TIMES_MORE * before) / self._counts.sum())


def find_faults(samples: Samples, rate_hz: int, clipped: float) -> tuple[str, ...]:
    """What is wrong with a second or more of a voice, a sentence for each; () is nothing.

    `clipped` is `Clipping.share`, before anything was resampled.
    """
    return tuple(_faults(samples, rate_hz, clipped))


def _faults(samples: Samples, rate_hz: int, clipped: float) -> Iterator[str]:
    windows = _windows(samples, round(_WINDOW_S * rate_hz))
    level_db = float(np.percentile(windows[windows > windows.max() - _SOUND_DB], 95))
    over_background_db = level_db - float(np.percentile(windows, 5))
    length_s = len(samples) / rate_hz
    spoken = float(np.mean(windows > level_db - _SPOKEN_DB))
    if clipped > MOST_CLIPPED:
        yield (
            "speaker_file is distorted, as its loudest parts were cut off; "
            "record it again at a lower level"
        )
    if level_db < LEAST_LEVEL_DB:
        yield (
            f"speaker_file is very quiet ({level_db:.0f} dB of full scale); "
            "record it louder, or nearer to the microphone"
        )
    if over_background_db < LEAST_OVER_BACKGROUND_DB:
        under = f"only {over_background_db:.0f} dB below the voice"
        if _is_tonal(samples, rate_hz):
            yield (
                f"speaker_file has music, a hum or other voices in it, {under}; "
                "send the voice alone"
            )
        else:
            yield (
                f"speaker_file is noisy, {under}; "
                "record it in a quiet room, nearer to the microphone"
            )
    elif spoken < LEAST_SPOKEN:
        yield (
            f"speaker_file is mostly silent ({spoken * length_s:.0f} of {length_s:.0f} s are "
            "spoken); cut its pauses out"
        )
    if length_s < LEAST_S:
        yield (
            f"speaker_file has only {length_s:.1f} s of voice; "
            "5 to 30 s of it are spoken in more faithfully"
        )
    if _has_two_voices(samples, rate_hz):
        yield (
            "speaker_file seems to hold two voices, a low and a high one; send one that is alone"
        )


def _windows(samples: Samples, length: int) -> _Decibels:
    """Decibels of full scale of each `length` samples."""
    whole = samples[: len(samples) // length * length].reshape(-1, length)
    power = np.einsum("ij,ij->i", whole, whole).astype(np.float64) / length
    decibels: _Decibels = 10 * np.log10(power + 1e-18)
    return decibels


# -- what is under the voice -----------------------------------------------------------------------

_SPECTRUM_S = 0.064
_QUIETEST = 0.05
_SPECTRA = 32
_BAND_HZ = (100.0, 4_000.0)
_AROUND_BINS = 16
_PEAK = 8.0
"""Times the power of those around it: of noise one bin in a hundred, with a thirtieth of it all."""
_TONAL = 0.3
"""Of the power: noise has 0.29 at the most, music 0.34 and more."""


def _is_tonal(samples: Samples, rate_hz: int) -> bool:
    """Whether the quietest windows are of tones, not of noise."""
    length = round(_SPECTRUM_S * rate_hz)
    levels = _windows(samples, length)
    quietest = np.argsort(levels)[: min(_SPECTRA, max(1, int(_QUIETEST * len(levels))))]
    windows = samples[: len(levels) * length].reshape(-1, length)[quietest] * np.hanning(length)
    hz = np.fft.rfftfreq(length, 1 / rate_hz)
    power = np.abs(np.fft.rfft(windows)[:, (hz >= _BAND_HZ[0]) & (hz < _BAND_HZ[1])]) ** 2
    padded = np.pad(power, ((0, 0), (_AROUND_BINS, _AROUND_BINS)), mode="reflect")
    around = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND_BINS + 1, axis=1), axis=2
    )
    return bool(power[power > _PEAK * around].sum() > _TONAL * power.sum())


# -- two voices ------------------------------------------------------------------------------------

_PITCH_RATE_HZ = 8_000
_PITCH_WINDOW_S, _PITCH_HOP_S = 0.04, 0.01
_PITCHES_HZ = (65.0, 400.0)
_PERIODIC = 0.6
"""Of what a window would be like a period later, were it exactly periodic."""
_NEARLY_BEST = 0.9
_AT_ONCE_WINDOWS = 128
_LEAST_WINDOWS = 20
"""Of a phrase that have a pitch."""
_LEAST_SHARE = 0.2
"""Of all windows that each of the two voices must have."""


def _has_two_voices(samples: Samples, rate_hz: int) -> bool:
    """Whether phrases fall into low ones and high ones, with nothing in between.

    Voices of like pitch are not told apart: that takes more than a pitch.
    """
    phrases = sorted(_phrases(samples, rate_hz))
    total = sum(count for _, count in phrases)
    for place, ((low, _), (high, _)) in enumerate(itertools.pairwise(phrases), start=1):
        below = sum(count for _, count in phrases[:place])
        if min(below, total - below) < _LEAST_SHARE * total:
            continue
        apart = _mean(phrases[place:]) - _mean(phrases[:place])
        if high - low > LEAST_GAP_SEMITONES and apart > LEAST_APART_SEMITONES:
            return True
    return False


def _mean(phrases: list[tuple[float, int]]) -> float:
    return sum(pitch * count for pitch, count in phrases) / sum(count for _, count in phrases)


def _phrases(samples: Samples, rate_hz: int) -> Iterator[tuple[float, int]]:
    """Of what lies between two pauses: its median pitch in semitones, and how many windows of it
    have one."""
    pitches, levels = _pitches(samples, rate_hz)
    is_quiet = levels < np.percentile(levels, 95) * 10 ** (-25 / 20)
    pause = round(_PAUSE_S / _PITCH_HOP_S)
    places = np.flatnonzero(~is_quiet)
    for phrase in np.split(places, np.flatnonzero(np.diff(places) > pause) + 1):
        known = pitches[phrase]
        known = known[~np.isnan(known)]
        if len(known) >= _LEAST_WINDOWS:
            yield float(np.median(known)), len(known)


def _pitches(samples: Samples, rate_hz: int) -> tuple[_Decibels, _Decibels]:
    """Of each hundredth of a second the pitch in semitones, NaN without one, and the level."""
    step = max(1, rate_hz // _PITCH_RATE_HZ)
    slow: Samples = samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1)
    slow_hz = rate_hz / step
    length, hop = round(_PITCH_WINDOW_S * slow_hz), round(_PITCH_HOP_S * slow_hz)
    windows = np.lib.stride_tricks.sliding_window_view(slow, length)[::hop]
    pitches, levels = [], []
    for start in range(0, len(windows), _AT_ONCE_WINDOWS):
        some = windows[start : start + _AT_ONCE_WINDOWS] * np.hanning(length)
        levels.append(np.sqrt(np.mean(np.square(some), axis=1)))
        pitches.append(_pitches_of(some, slow_hz))
    return np.concatenate(pitches), np.concatenate(levels)


def _pitches_of(windows: NDArray[np.float64], rate_hz: float) -> _Decibels:
    first, last = int(rate_hz / _PITCHES_HZ[1]), int(rate_hz / _PITCHES_HZ[0])
    like = _like_itself(windows, last + 1)
    of_window = _like_itself(np.hanning(windows.shape[1])[None], last + 1)
    alike = like / np.maximum(like[:, :1], 1e-12) * (of_window[:, :1] / of_window)
    inner = alike[:, first:last]
    best = inner.max(axis=1)
    is_peak = (inner > _NEARLY_BEST * best[:, None]) & (inner >= alike[:, first - 1 : last - 1])
    is_peak &= inner >= alike[:, first + 1 : last + 1]
    has_pitch = is_peak.any(axis=1) & (best > _PERIODIC)
    semitones: _Decibels = 12 * np.log2(rate_hz / (first + is_peak.argmax(axis=1)))
    return np.where(has_pitch, semitones, np.nan)


def _like_itself(windows: NDArray[np.float64], delays: int) -> NDArray[np.float64]:
    """The autocorrelation of each, for that many delays."""
    size = 1 << (2 * windows.shape[1]).bit_length()
    power = np.abs(np.fft.rfft(windows, size)) ** 2
    like: NDArray[np.float64] = np.fft.irfft(power)[:, :delays]
    return like
