"""Recordings with a few bytes wrong: samples or a refusal, in bounded time and memory."""

import functools
import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, note
from hypothesis import strategies as st

from backend.audio.read import read_reference
from backend.errors import BadReference
from tests.fuzz.effort import effort, in_proportion
from tests.fuzz.hostile import mutated
from tests.recordings import encoded, speech_like

RATE_HZ = 16_000
CODEC_HZ = 22_050
LONGEST_S = 15.0
SECONDS = 1.6
MOST_BYTES = 100 << 20
KINDS = (
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_24", "DOUBLE", "ULAW", "IMA_ADPCM", "GSM610")),
    *(("WAVEX", "PCM_16"), ("RF64", "FLOAT"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
)
CONTAINERS = (("mp4", "aac"), ("webm", "libopus"), ("adts", "aac"), ("aiff", "pcm_s16be"))


@functools.cache
def recordings() -> tuple[bytes, ...]:
    """One of each kind that libsndfile reads, some with two channels."""
    files = []
    for index, (container, kind) in enumerate(KINDS):
        voice = speech_like(SECONDS, RATE_HZ)
        channels = 1 if kind in ("GSM610", "IMA_ADPCM") else 1 + index % 2
        out = io.BytesIO()
        samples = np.repeat(voice[:, None], channels, axis=1)
        soundfile.write(out, samples, RATE_HZ, format=container, subtype=kind)
        files.append(out.getvalue())
    return tuple(files)


@functools.cache
def containers() -> tuple[bytes, ...]:
    """One of each kind that FFmpeg reads."""
    voice = speech_like(SECONDS, RATE_HZ)
    return tuple(encoded(voice, RATE_HZ, container, codec) for container, codec in CONTAINERS)


def read(data: bytes) -> None:
    """`data` is a recording within its bounds, or none."""
    note(repr(data))
    tracemalloc.start()
    try:
        # Samples that are no numbers are refused, but NumPy warns of them before.
        with in_proportion(len(data)), np.errstate(invalid="ignore", over="ignore"):
            recording = read_reference(data, CODEC_HZ, LONGEST_S)
    except BadReference as refusal:
        assert "speaker_file" in str(refusal)
        assert len(str(refusal)) < 500
    else:
        assert recording.samples.dtype == np.float32
        assert np.isfinite(recording.samples).all()
        assert np.abs(recording.samples).max() <= 1.0
        assert 0 < len(recording.samples) <= LONGEST_S * CODEC_HZ + 1
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < MOST_BYTES


@pytest.mark.parametrize("index", range(len(KINDS)), ids=lambda index: "-".join(KINDS[index]))
def test_seeds_are_recordings(index: int) -> None:
    assert len(read_reference(recordings()[index], CODEC_HZ, LONGEST_S).samples) > CODEC_HZ


@effort(120)
@given(st.deferred(lambda: mutated(recordings())))
def test_a_damaged_recording(data: bytes) -> None:
    read(data)


@effort(10)
@given(st.deferred(lambda: mutated(containers())))
def test_a_damaged_recording_of_a_phone(data: bytes) -> None:
    read(data)


@effort(30)
@given(st.binary(max_size=2_000))
def test_any_bytes(data: bytes) -> None:
    read(data)
