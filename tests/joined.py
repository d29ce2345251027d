"""What is heard where two sentences meet, in decoded audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.heard import Sound
from training.demo_voice.measure import SILENCE, speech_level_db

WINDOW_S = 0.005
HOP_S = 0.001
_EDGE_S = 0.001


@dataclass(frozen=True, slots=True)
class Join:
    """Between two sentences."""

    pause_s: float
    """Silence that is heard."""
    edge: float
    """Loudest sample in the last millisecond before the silence and the first one after it."""
    step_db: float
    """How much louder the second is than the first, pauses within them left out."""


def joins(sound: Sound, rate_hz: int, middles_s: Sequence[float]) -> list[Join]:
    """The joins of `sound`, whose pauses have their middles near `middles_s` after its first sound.

    A pause is the silence around or next to the middle; 0 s where there is none.
    """
    loud = _envelope(sound, rate_hz) >= SILENCE
    hop = round(HOP_S * rate_hz)
    onset = int(np.flatnonzero(loud)[0])
    gaps = []
    for middle_s in middles_s:
        middle = min(onset + round(middle_s / HOP_S), len(loud) - 1)
        start, end = _silence(loud, middle)
        gaps.append((start * hop, end * hop))
    edges = [0, *(edge for gap in gaps for edge in gap), len(sound)]
    spoken = [sound[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    levels_db = [speech_level_db(each, rate_hz) for each in spoken]
    near = round(_EDGE_S * rate_hz)
    return [
        Join(
            (end - start) / rate_hz,
            max(_peak(sound[start : start + near]), _peak(sound[end - near : end])),
            after_db - before_db,
        )
        for (start, end), (before_db, after_db) in zip(gaps, pairwise(levels_db), strict=True)
    ]


def _silence(loud: NDArray[np.bool_], middle: int) -> tuple[int, int]:
    """First and last of the silent hops around `middle`; it counts as none where that is loud."""
    before = np.flatnonzero(loud[:middle])
    after = np.flatnonzero(loud[middle:])
    start = int(before[-1]) + 1 if len(before) else 0
    end = middle + int(after[0]) if len(after) else len(loud)
    return start, max(start, end)


def _envelope(sound: Sound, rate_hz: int) -> NDArray[np.float64]:
    """RMS of the window around each hop."""
    window, hop = round(WINDOW_S * rate_hz), round(HOP_S * rate_hz)
    power = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    centres = np.arange(0, len(sound), hop)
    first = np.clip(centres - window // 2, 0, len(sound))
    last = np.clip(centres + window - window // 2, 0, len(sound))
    mean: NDArray[np.float64] = (power[last] - power[first]) / np.maximum(last - first, 1)
    return np.sqrt(np.maximum(mean, 0.0))


def _peak(sound: Sound) -> float:
    return float(np.abs(sound).max(initial=0.0))
