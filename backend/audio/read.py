"""An uploaded recording to the samples that a codec encodes: mono, at its rate, without silence."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from backend.audio.container import decode_container, find_demuxer
from backend.audio.limits import (
    MAX_RECORDING_S,
    MAX_S,
    MIN_S,
    check_channels,
    check_rate,
    too_long,
)
from backend.audio.pcm import Samples
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference

_LIBSNDFILE_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})
_BLOCK_FRAMES = 1 << 16
_WINDOW_S = 0.01
_MARGIN_S = 0.05
"""Silence kept on both sides, so that no soft consonant is cut."""
_SILENCE_BELOW_PEAK = 0.01
"""-40 dB: a window this much below the loudest one is silence."""
_SILENCE_RMS = 1e-4
"""-80 dB: a recording whose loudest window is below holds nothing."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A reference recording, ready for the codec."""

    samples: Samples
    """Mono, within [-1, 1], at the rate that was asked for."""
    warnings: tuple[str, ...] = ()
    """What had to be done to it that its sender should know."""


def read_reference(audio: bytes, sample_rate_hz: int, max_reference_s: float) -> Recording:
    """Decode `audio`, a file of `RECORDING_FORMATS`, for a codec of `sample_rate_hz`.

    What is longer than `max_reference_s`, the checkpoint's longest, is trimmed with a warning.
    Raises `BadReference` with what is wrong and what to do.
    """
    raw, rate_hz = _decode(audio)
    voiced = _trim_silence(raw, rate_hz)
    length_s = len(voiced) / rate_hz
    if length_s < MIN_S:
        raise BadReference(
            f"speaker_file holds {length_s:.1f} s of sound once its silence is trimmed; "
            f"send {MIN_S:g} to {MAX_S:g} s of one voice."
        )
    if length_s > MAX_S:
        raise BadReference(
            f"speaker_file holds {length_s:.0f} s of sound; cut it to at most {MAX_S:g} s."
        )
    warnings: tuple[str, ...] = ()
    if length_s > max_reference_s:
        voiced = voiced[: int(max_reference_s * rate_hz)]
        warnings = (
            f"speaker_file was trimmed from {length_s:.1f} s to the {max_reference_s:g} s "
            "that this checkpoint listens to",
        )
    resampled = (
        soxr.resample(voiced, rate_hz, sample_rate_hz) if rate_hz != sample_rate_hz else voiced
    )
    return Recording(np.clip(resampled, -1.0, 1.0).astype(np.float32), warnings)


def _decode(audio: bytes) -> tuple[Samples, int]:
    """Mono samples within [-1, 1] and their rate."""
    if not audio:
        raise BadReference(f"speaker_file is empty; send a {RECORDING_FORMATS} file.")
    demuxer = find_demuxer(audio)
    samples, rate_hz = decode_container(audio, demuxer) if demuxer else _decode_file(audio)
    if not np.isfinite(samples).all():
        raise BadReference("speaker_file holds samples that are no numbers; export it again.")
    peak = float(np.abs(samples).max(initial=0.0))
    return samples / np.float32(peak) if peak > 1.0 else samples, rate_hz


def _decode_file(audio: bytes) -> tuple[Samples, int]:
    """What libsndfile reads; nothing is decoded before the header is found acceptable."""
    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as file:
            _check_header(file)
            return _decode_blocks(file), int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise BadReference(
            f"speaker_file cannot be decoded ({error.error_string.strip().rstrip('.')}); "
            f"send a {RECORDING_FORMATS} file."
        ) from None


def _check_header(file: soundfile.SoundFile) -> None:
    if file.format not in _LIBSNDFILE_FORMATS:
        raise BadReference(
            f"speaker_file is of the format {file.format}; send a {RECORDING_FORMATS} file."
        )
    check_channels(file.channels)
    check_rate(file.samplerate)
    if file.frames > MAX_RECORDING_S * file.samplerate:
        raise too_long(file.frames / file.samplerate)


def _decode_blocks(file: soundfile.SoundFile) -> Samples:
    # In blocks, each mixed down at once: a header may lie about the length, and eight channels
    # of two minutes would be most of a gigabyte.
    blocks: list[Samples] = []
    frames = 0
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames > MAX_RECORDING_S * file.samplerate:
            raise too_long(frames / file.samplerate)
        blocks.append(block.mean(axis=1))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _trim_silence(samples: Samples, rate_hz: int) -> Samples:
    window = max(1, round(_WINDOW_S * rate_hz))
    padded = np.pad(samples, (0, -len(samples) % window)).reshape(-1, window)
    rms = np.sqrt(np.mean(np.square(padded, dtype=np.float64), axis=1))
    loudest = float(rms.max(initial=0.0))
    if loudest < _SILENCE_RMS:
        raise BadReference("speaker_file is silent; send a recording of the voice to speak in.")
    voiced = np.flatnonzero(rms > loudest * _SILENCE_BELOW_PEAK)
    margin = round(_MARGIN_S * rate_hz)
    start = max(0, int(voiced[0]) * window - margin)
    end = min(len(samples), (int(voiced[-1]) + 1) * window + margin)
    return samples[start:end]
