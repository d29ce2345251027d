"""Where one sentence ends and the next begins: silence, fades, and levels that fit.

A codec leaves as much silence around a sentence as it happens to, a checkpoint begins and ends in
the middle of a wave, and speaks one sentence louder than the next. What becomes of it here depends
on the samples, not on the pieces in which they come: a stream and a file hold the same.
"""

import numpy as np
from numpy.typing import NDArray

from backend.audio.measure import SILENCE_RMS
from backend.audio.pcm import Samples, samples_of

WINDOW_S = 0.005
"""What is looked at in one go, and how long a beginning fades in: too short to blunt the burst of a
"t", too long to be heard as a click."""
TAIL_S = 0.01
"""Of silence that is left at the end of a sentence, to fade out in."""
_QUIET = 10 ** (-33 / 10)
"""A window with 33 dB less power than the loudest of its voice is silence ..."""
_LEAST_QUIET, _MOST_QUIET = SILENCE_RMS**2, 10 ** (-45 / 10)
"""... if that is between these: below lies a codec's noise, above a whisper."""
LEAD_S = 1.0
"""Silence before a sentence that is dropped at most: what is longer is passed on as it comes."""
HELD_S = 1.0
"""Silence within a sentence that is held back at most, in case that the sentence ends with it."""

SPREAD_DB = 0.1
"""How far from the level of its voice a sentence may lie, by the measure used here. By others,
which count pauses or weigh treble otherwise, neighbours are then up to 1.5 dB apart."""
FOLLOW_DB = 0.2
"""How far a sentence moves the level of its voice at most. Two neighbours are thus no more than
2 x `SPREAD_DB` + `FOLLOW_DB` apart, 0.4 dB."""
MOST_DB = 6.0
"""How much a sentence is changed at most: what is further off is another matter than chance."""
SOON_S = 0.7
"""Seconds of voice, loud windows alone, of which the level is half chance: the first half second of
a sentence lies 1.2 dB (standard deviation) from the whole of it."""
_BLOCK = 4
"""Windows of which one power is made for a level: two periods of a low voice."""
_GATE = 10 ** (-10 / 10)
"""Blocks 10 dB below the mean are pauses, and no part of a level: so ITU-R BS.1770 gates."""
_PEAK = 0.99
"""No sample is made louder than this."""

_NONE: Samples = np.zeros(0, np.float32)
Powers = NDArray[np.float64]
"""Mean squares of windows."""


class Edges:
    """The samples of one sentence on their way to the listener, with its borders mended.

    Silence before and after the voice is dropped, but for `TAIL_S`, which is a part of the pause of
    `pause_samples` that follows. Beginning and end are faded; all else is multiplied by `gain`, and
    unchanged where that is 1. No more than 10 ms are held back, and silence, until sound follows.
    `loudest` is the power of the loudest window that was heard of the voice before.
    """

    def __init__(
        self, rate_hz: int, pause_samples: int, gain: float = 1.0, loudest: float = 0.0
    ) -> None:
        self._window = _window_samples(rate_hz)
        self._kept = min(round(TAIL_S / WINDOW_S), pause_samples // self._window)
        """Windows of silence that are not dropped."""
        self._most_held = round(HELD_S / WINDOW_S)
        self._lead = round(LEAD_S / WINDOW_S) * self._window
        self._gain = np.float32(gain)
        self._is_begun = self._is_heard = False
        self._dropped = 0
        self._before = _NONE
        """The window before the first that is heard: the soft beginning of a sound."""
        self._rest = _NONE
        """Too little for a window."""
        self._held = _NONE
        """The window to fade where nothing follows, and the silence that might be the last."""
        self._quiet = 0
        """Windows of silence up to here."""
        self._powers: list[Powers] = []
        self.loudest = loudest
        """Power of the loudest window of the voice, before the gain."""
        self.tail_samples = 0
        """Silence at the end of what was handed on, once it is finished."""

    @property
    def level_db(self) -> float | None:
        """Of what came, before the gain; None where that is silent."""
        voiced = _voiced(np.concatenate([np.zeros(0), *self._powers]))
        return _db(voiced) if len(voiced) else None

    def push(self, piece: bytes) -> bytes:
        """What can be handed on once `piece` is in; both are float32 little-endian samples."""
        return _bytes(self._pushed(samples_of(piece)))

    def finish(self) -> bytes:
        """The rest; nothing may be pushed after it."""
        return _bytes(self._finished())

    def _pushed(self, samples: Samples) -> Samples:
        # Copied once, and nothing of it is kept: no cache holds the samples of hundreds of streams.
        held = len(self._held)
        ready = np.concatenate([self._held, self._rest, samples])
        end = held + (len(ready) - held) // self._window * self._window
        ready, self._rest = ready[:end], ready[end:].copy()
        if end == held:
            return _NONE
        powers = _powers(ready[held:], self._window)
        if not self._is_begun:  # nothing is held yet
            ready, powers = self._begun(ready, powers)
        if not len(ready):
            return _NONE
        if self._gain != 1:
            ready[held:] *= self._gain
        self._powers.append(powers)
        loudest = np.maximum(np.maximum.accumulate(powers), self.loudest)  # up to each window
        self.loudest = float(loudest[-1])
        loud = np.flatnonzero(powers >= _quiet(loudest))
        self._is_heard = self._is_heard or len(loud) > 0
        self._quiet = len(powers) - 1 - int(loud[-1]) if len(loud) else self._quiet + len(powers)
        split = max(0, len(ready) - (1 + self._excess) * self._window)
        self._held = ready[split:].copy()
        return ready[:split]

    def _finished(self) -> Samples:
        if not self._is_heard:  # it is as silent, and as long, as it was made
            return np.zeros(self._dropped + len(self._held) + len(self._rest), np.float32)
        if len(self._rest) and _powers(self._rest, len(self._rest))[0] >= _quiet(self.loudest):
            end = np.concatenate([self._held, self._rest * self._gain])
        else:
            end = self._held[: len(self._held) - self._excess * self._window].copy()
            self.tail_samples = (self._quiet - self._excess) * self._window
        fading = min(len(end), max(self.tail_samples, self._window))
        end[len(end) - fading :] *= _rise(fading)[::-1]
        return end

    @property
    def _excess(self) -> int:
        """Windows of silence that are held back."""
        return min(max(0, self._quiet - self._kept), self._most_held)

    def _begun(self, samples: Samples, powers: Powers) -> tuple[Samples, Powers]:
        """What is left of the windows once the silence before the voice is dropped."""
        heard = np.flatnonzero(powers >= _quiet(self.loudest))
        if not len(heard):
            self._dropped += len(samples)
            self._before = samples[-self._window :].copy()
            self._is_begun = self._dropped >= self._lead
            return _NONE, powers[:0]
        self._is_begun = True
        first = int(heard[0])
        if not first and len(self._before):
            samples = np.concatenate([self._before, samples])
            powers = np.concatenate([_powers(self._before, self._window), powers])
        else:
            kept = max(0, first - 1)
            samples, powers = samples[kept * self._window :].copy(), powers[kept:]
        samples[: self._window] *= _rise(self._window)
        return samples, powers


class Levels:
    """The level of each voice of a request, near which its sentences are brought."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._levels_db: dict[str, float] = {}
        self._loudest: dict[str, float] = {}

    def edges(self, voice: str, pause_samples: int, gain: float) -> Edges:
        """For the next sentence in that voice."""
        return Edges(self._rate_hz, pause_samples, gain, self._loudest.get(voice, 0.0))

    def knows(self, voice: str) -> bool:
        """Something was heard in that voice."""
        return voice in self._levels_db

    def gain(self, voice: str, made: bytes, *, is_whole: bool) -> float:
        """What to multiply a sentence by, of which float32 samples are `made`; 1 for the first of
        its voice. The less there is of it, the less it is changed; it never clips."""
        level_db = self._levels_db.get(voice)
        samples = samples_of(made)
        voiced = _voiced(_powers(samples, _window_samples(self._rate_hz)))
        if level_db is None or not len(voiced):
            return 1.0
        off_db = _db(voiced) - level_db
        if not is_whole:
            voiced_s = len(voiced) * _BLOCK * WINDOW_S
            off_db *= voiced_s / (voiced_s + SOON_S)
        beyond_db = off_db - float(np.clip(off_db, -SPREAD_DB, SPREAD_DB))
        gain = 10 ** (-float(np.clip(beyond_db, -MOST_DB, MOST_DB)) / 20)
        loudest = float(np.abs(samples).max()) if is_whole else _PEAK
        return min(gain, max(1.0, _PEAK / loudest))

    def learn(self, voice: str, sentence: Edges) -> None:
        """A sentence was spoken in that voice."""
        level_db = sentence.level_db
        if level_db is None:
            return
        self._loudest[voice] = sentence.loudest
        known_db = self._levels_db.get(voice, level_db)
        moved_db = float(np.clip(level_db - known_db, -FOLLOW_DB, FOLLOW_DB))
        self._levels_db[voice] = known_db + moved_db


def _bytes(samples: Samples) -> bytes:
    return samples.astype("<f4", copy=False).tobytes()


def _quiet(loudest: float | Powers) -> Powers:
    """Power below which a window is silence, in a voice of which another was so loud."""
    # As np.clip, which takes twice as long for so few.
    quiet: Powers = np.minimum(np.maximum(_QUIET * np.asarray(loudest), _LEAST_QUIET), _MOST_QUIET)
    return quiet


def _rise(samples: int) -> Samples:
    """From 0 to 1, without a corner."""
    phase = (np.arange(samples, dtype=np.float32) + 0.5) / samples
    rise: Samples = np.square(np.sin(np.pi / 2 * phase))
    return rise


def _window_samples(rate_hz: int) -> int:
    return max(1, round(WINDOW_S * rate_hz))


def _powers(samples: Samples, window: int) -> Powers:
    """Of each whole window."""
    whole = len(samples) // window * window
    windows = samples[:whole].reshape(-1, window)
    # In 32 bits, in a quarter of the time that 64 take: a window is short.
    powers: Powers = np.einsum("ij,ij->i", windows, windows).astype(np.float64) / window
    return powers


def _voiced(powers: Powers) -> Powers:
    """Of the blocks that are a part of the level."""
    whole = len(powers) // _BLOCK * _BLOCK
    powers = powers[:whole].reshape(-1, _BLOCK).mean(axis=1)
    heard = powers[powers >= SILENCE_RMS**2]
    voiced: Powers = heard[heard >= _GATE * heard.mean()] if len(heard) else heard
    return voiced


def _db(powers: Powers) -> float:
    return float(10 * np.log10(powers.mean()))
