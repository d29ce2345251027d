"""What is wrong with the sound of a sentence, whatever is said in it."""

import numpy as np
from numpy.typing import NDArray

from training.demo_voice.measure import SILENCE, Samples

JUMP = 0.02
"""First or last sample of a sentence: -34 dB of full scale out of nothing is a click."""
DC = 10 ** (-60 / 20)
"""Mean of the samples; 16 bits have 33 steps up to there."""
HUM_DBFS = -60.0
LEVEL_STEP_DB = 1.5

_HOP_S = 0.001
_BURST_S, _APART_S = 0.008, 0.025
_MAINS_HZ = (50.0, 60.0)
_HUM_BLOCK_S = 0.5
_PROMINENT_DB = 10.0


def defects(pcm: Samples, rate_hz: int) -> list[str]:
    """Names of what is wrong with one sentence: "click at the start", "DC", "hum" …"""
    found = edge_clicks(pcm, rate_hz)
    if abs(float(np.mean(pcm, dtype=np.float64))) > DC:
        found.append("DC")
    if hum_dbfs(pcm, rate_hz) > HUM_DBFS:
        found.append("hum")
    return found


def edge_clicks(pcm: Samples, rate_hz: int) -> list[str]:
    """Sound that begins or ends in a jump, or with a burst too short for any consonant.

    A "t" bursts too, but goes on in breath, or follows a closure that is longer than what parts a
    click from the speech it belongs to.
    """
    if not len(pcm):
        return []
    loud = _envelope(pcm, rate_hz) > SILENCE
    found = []
    for name, samples, is_loud in (("start", pcm, loud), ("end", pcm[::-1], loud[::-1])):
        if abs(float(samples[0])) > JUMP or _begins_in_a_burst(is_loud):
            found.append(f"click at the {name}")
    return found


def _begins_in_a_burst(loud: NDArray[np.bool_]) -> bool:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(np.int8)))
    if len(edges) < 4:
        return False
    first, end, following = edges[:3]
    is_short = (end - first) * _HOP_S <= _BURST_S
    return bool(is_short and (following - end) * _HOP_S >= _APART_S)


def _envelope(pcm: Samples, rate_hz: int) -> NDArray[np.float32]:
    """Loudest sample of each millisecond."""
    hop = round(_HOP_S * rate_hz)
    padded = np.pad(np.abs(pcm), (0, -len(pcm) % hop))
    peaks: NDArray[np.float32] = padded.reshape(-1, hop).max(1)
    return peaks


def hum_dbfs(pcm: Samples, rate_hz: int) -> float:
    """Level of a mains line that stands out all the time; -120 where none does.

    A low voice has energy there too, but moves on.
    """
    block = round(_HUM_BLOCK_S * rate_hz)
    blocks = [pcm[start : start + block] for start in range(0, len(pcm) - block + 1, block)]
    return max(
        min((_line_dbfs(each, rate_hz, mains_hz) for each in blocks), default=-120.0)
        for mains_hz in _MAINS_HZ
    )


def _line_dbfs(pcm: Samples, rate_hz: int, mains_hz: float) -> float:
    window = np.hanning(len(pcm))
    spectrum = np.abs(np.fft.rfft(pcm * window, 4 * len(pcm))) * 2 / window.sum()
    off = np.abs(np.fft.rfftfreq(4 * len(pcm), 1 / rate_hz) - mains_hz)
    line = spectrum[off < 1].max()
    beside = np.sqrt(np.mean(np.square(spectrum[(off > 5) & (off < 15)])))
    is_prominent = 20 * np.log10((line + 1e-9) / (beside + 1e-9)) > _PROMINENT_DB
    return float(20 * np.log10(line / np.sqrt(2) + 1e-9)) if is_prominent else -120.0


def level_steps(levels_db: list[float]) -> int:
    """How many sentences lie more than `LEVEL_STEP_DB` from the one before."""
    return int(np.sum(np.abs(np.diff(levels_db)) > LEVEL_STEP_DB))
