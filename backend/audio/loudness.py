"""Where the voice of a recording is, heard block by block: from when to when, in which channel."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backend.audio.pcm import Samples
from backend.errors import BadReference

WINDOW_S = 0.01
_MARGIN_S = 0.05
"""Silence kept on both sides, so that no soft consonant is cut."""
SILENCE_BELOW_PEAK = 0.01
"""-40 dB: a window this much below the loudest one is silence."""
_SILENCE_RMS = 1e-4
"""-80 dB: a recording whose loudest window is below holds nothing."""
_CANCELS = 0.125
"""Of the loudest channel's power: what a mix has left where channels speak against each other.
Channels of which but one speaks leave a quarter of two."""
_DRIFT_WINDOWS = 50
"""Half a second to both sides: what is slower than that is no voice."""
_LEAST_DRIFT = 1e-3
"""-60 dB of full scale: a recording that lies about zero is used as it is; speech itself leaves a
third of that."""

_Powers = NDArray[np.float64]


class Loudness:
    """What is kept of the blocks: of each channel and their mix, two numbers for a hundredth of a
    second."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._window_samples = max(1, round(WINDOW_S * rate_hz))
        self._tracks: list[_Track] = []

    def hear(self, block: Samples) -> None:
        """Take the next samples [frames, channels]; `BadReference` where some are no numbers."""
        tracks = list(_tracks(block))
        if not np.isfinite(tracks[0]).all():
            raise BadReference("speaker_file holds samples that are no numbers; export it again.")
        if not self._tracks:
            self._tracks = [_Track(self._window_samples) for _ in tracks]
        for track, samples in zip(self._tracks, tracks, strict=True):
            track.hear(samples)

    def voice(self) -> "HeardVoice":
        """Where it is; `BadReference` if there is none. No more blocks are taken after it."""
        levels = [track.levels() for track in self._tracks]
        if not levels or max(float(level.rms.max(initial=0.0)) for level in levels) < _SILENCE_RMS:
            raise BadReference("speaker_file is silent; send a recording of the voice to speak in.")
        powers = [float(np.sum(np.square(level.rms * level.peak))) for level in levels]
        loudest = int(np.argmax(powers))
        track = 0 if powers[0] >= _CANCELS * powers[loudest] else loudest
        return HeardVoice(self._rate_hz, self._window_samples, track, levels[track])


class _Levels:
    """Of one channel, or of the mix, window by window."""

    def __init__(self, means: _Powers, variances: _Powers, peak: float, samples: int) -> None:
        self.peak, self.samples = peak, samples
        drift = _smoothed(means)
        self.drift = drift if np.abs(drift).max(initial=0.0) > _LEAST_DRIFT else None
        """What a zero of the microphone lies at, if not at zero."""
        self.rms = np.sqrt(variances + np.square(means - drift)) / peak
        """Against `peak`, without the drift."""


class HeardVoice:
    """The voice in a recording, and how it is taken out of its blocks."""

    def __init__(self, rate_hz: int, window_samples: int, track: int, levels: _Levels) -> None:
        self.rate_hz, self._window_samples = rate_hz, window_samples
        self._track, self._levels = track, levels
        voiced = np.flatnonzero(levels.rms > levels.rms.max() * SILENCE_BELOW_PEAK)
        margin = round(_MARGIN_S * rate_hz)
        self.first = max(0, int(voiced[0]) * window_samples - margin)
        """The first sample of it."""
        self.end = min(levels.samples, (int(voiced[-1]) + 1) * window_samples + margin)
        """The one after its last."""

    def taken(self, blocks: Iterator[Samples], end: int) -> Iterator[Samples]:
        """The mono samples from `first` to `end`; the rest is not decoded."""
        at = 0
        for block in blocks:
            if at + len(block) > self.first:
                used = block[max(0, self.first - at) : end - at]
                yield next(itertools.islice(_tracks(used), self._track, None))
            at += len(block)
            if at >= end:
                return

    def centred(self, taken: Iterator[Samples]) -> Iterator[Samples]:
        """The same about zero, and within full scale."""
        drift, peak, at = self._levels.drift, self._levels.peak, self.first
        for samples in taken:
            centred = samples
            if drift is not None:
                centres = (np.arange(len(drift)) + 0.5) * self._window_samples
                places = np.arange(at, at + len(samples))
                centred = samples - np.interp(places, centres, drift).astype(np.float32)
            at += len(samples)
            yield centred / np.float32(peak) if peak > 1.0 else centred


def _tracks(block: Samples) -> Iterator[Samples]:
    """The mix of all channels of [frames, channels], then each of them where there are several."""
    with np.errstate(over="ignore"):  # what is no number any more is told by its reader
        yield block.mean(axis=1)
    if block.shape[1] > 1:
        yield from np.moveaxis(block, 1, 0)


class _Track:
    """One channel, or the mix, as it comes."""

    def __init__(self, window_samples: int) -> None:
        self._window_samples = window_samples
        self._means: list[_Powers] = []
        self._variances: list[_Powers] = []
        self._rest: Samples = np.zeros(0, np.float32)
        self._samples = 0
        self._peak = 1.0

    def hear(self, samples: Samples) -> None:
        self._samples += len(samples)
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._window_samples * self._window_samples
        self._take(samples[:whole].reshape(-1, self._window_samples))
        self._rest = samples[whole:].copy()

    def levels(self) -> _Levels:
        if len(self._rest):
            missing = self._window_samples - len(self._rest)
            self._take(np.pad(self._rest, (0, missing), mode="edge")[None])
        means, variances = np.concatenate(self._means), np.concatenate(self._variances)
        return _Levels(means, variances, self._peak, self._samples)

    def _take(self, windows: Samples) -> None:
        means: _Powers = np.mean(windows, axis=1, dtype=np.float64)
        self._means.append(means)
        self._variances.append(np.mean(np.square(windows - means[:, None]), axis=1))


def _smoothed(means: _Powers) -> _Powers:
    """The mean of each and of those around it, fewer near the ends."""
    place = np.arange(len(means))
    start, end = (
        np.maximum(place - _DRIFT_WINDOWS, 0),
        np.minimum(place + _DRIFT_WINDOWS, place[-1]),
    )
    summed = np.concatenate([np.zeros(1), np.cumsum(means)])
    smoothed: _Powers = (summed[end + 1] - summed[start]) / (end + 1 - start)
    return smoothed
