"""An uploaded recording to the samples that a codec encodes: mono, at its rate, without silence.

It is decoded twice, a block at a time: to hear where the voice is, and for what is used of it.
Whatever a file claims or holds, no more is kept than the samples that the codec gets.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from backend.audio.container import open_container
from backend.audio.libsndfile import SoundFile
from backend.audio.limits import MAX_S, MIN_S
from backend.audio.loudness import Loudness
from backend.audio.pcm import Samples
from backend.audio.quality import Clipping, find_faults
from backend.audio.rate import Resampler
from backend.audio.sniff import find_demuxer
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference


class Source(Protocol):
    """A recording that is decoded from its beginning as often as it is read, twice at most."""

    @property
    def rate_hz(self) -> int:
        """Samples a second of what comes out."""

    def blocks(self) -> Iterator[Samples]:
        """All of it, [frames, channels]; raises `BadReference`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A reference recording, ready for the codec."""

    samples: Samples
    """Mono, within [-1, 1], at the rate that was asked for."""
    warnings: tuple[str, ...] = ()
    """What had to be done to it, and what makes it a poor voice: what its sender should know."""


def read_reference(audio: bytes, sample_rate_hz: int, max_reference_s: float) -> Recording:
    """Decode `audio`, a file of `RECORDING_FORMATS`, for a codec of `sample_rate_hz`.

    What is longer than `max_reference_s`, the checkpoint's longest, is trimmed with a warning.
    Raises `BadReference` with what is wrong and what to do.
    """
    with _opened(audio) as source:
        loudness = Loudness(source.rate_hz)
        for block in source.blocks():
            loudness.hear(block)
        voice = loudness.voice()
        length_s = (voice.end - voice.first) / source.rate_hz
        _check_length(length_s)
        end = voice.end
        warnings: tuple[str, ...] = ()
        if length_s > max_reference_s:
            end = voice.first + int(max_reference_s * source.rate_hz)
            warnings = (
                f"speaker_file was trimmed from {length_s:.1f} s to the {max_reference_s:g} s "
                "that this checkpoint listens to",
            )
        clipping = Clipping()
        used = voice.centred(clipping.heard(voice.taken(source.blocks(), end)))
        samples = _resampled(used, end - voice.first, source.rate_hz, sample_rate_hz)
    return Recording(samples, warnings + find_faults(samples, sample_rate_hz, clipping.share))


def _opened(audio: bytes) -> AbstractContextManager[Source]:
    if not audio:
        raise BadReference(f"speaker_file is empty; send a {RECORDING_FORMATS} file.")
    if demuxer := find_demuxer(audio):
        return open_container(audio, demuxer)
    return nullcontext(SoundFile(audio))


def _check_length(length_s: float) -> None:
    if length_s < MIN_S:
        raise BadReference(
            f"speaker_file holds {length_s:.1f} s of sound once its silence is trimmed; "
            f"send {MIN_S:g} to {MAX_S:g} s of one voice."
        )
    if length_s > MAX_S:
        raise BadReference(
            f"speaker_file holds {length_s:.0f} s of sound; cut it to at most {MAX_S:g} s."
        )


def _resampled(used: Iterator[Samples], length: int, source_hz: int, target_hz: int) -> Samples:
    """`length` samples of `source_hz` at `target_hz`."""
    out: Samples = np.empty(math.ceil(length * target_hz / source_hz) + 1, np.float32)
    filled = 0
    for piece in _at_rate(used, source_hz, target_hz):
        np.clip(piece, -1.0, 1.0, out=out[filled : filled + len(piece)])
        filled += len(piece)
    return out[:filled]


def _at_rate(pieces: Iterator[Samples], source_hz: int, target_hz: int) -> Iterator[Samples]:
    if source_hz == target_hz:
        yield from pieces
        return
    resampler = Resampler(source_hz, target_hz)
    for piece in pieces:
        yield resampler.push(piece)
    yield resampler.finish()
