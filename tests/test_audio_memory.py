"""No recording takes more memory than is leased for it, whatever it claims."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from backend.audio.container import decoding_bytes
from backend.audio.libsndfile import BLOCK_FRAMES
from backend.audio.read import read_reference
from tests.hostile import FOR_LIBSNDFILE, mostly_silent
from tests.recordings import speech_like

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
LISTENS_S = 30.0
RATE_HZ = 44_100

LIMITED = """
import resource, sys
import psutil
from backend.audio.container import decoding_bytes
from backend.audio.read import read_reference
from backend.errors import BadReference
from tests.hostile import wav

_, sample_bytes = sys.argv
audio = sys.stdin.buffer.read()
read_reference(wav(), 44_100, 30.0)  # what the libraries keep for good is not the recording's
taken = psutil.Process().memory_info().vms + int(sample_bytes)
try:
    most = taken + decoding_bytes(audio)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print(len(read_reference(audio, 44_100, 30.0).samples))
except BadReference as error:
    print(error)
"""
"""Reads the recording on its stdin in the memory that is leased for it, and says what it is."""


def read_limited(audio: bytes) -> str:
    samples = 4 * round(LISTENS_S * RATE_HZ)
    done = subprocess.run(
        (sys.executable, "-c", LIMITED, str(samples)),
        input=audio,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    return done.stdout.decode().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only there an address space has a limit")
@pytest.mark.parametrize("name", FOR_LIBSNDFILE)
def test_a_hostile_recording_takes_no_more_than_is_leased(name: str) -> None:
    assert read_limited(FOR_LIBSNDFILE[name]())


@pytest.mark.skipif(sys.platform != "linux", reason="only there an address space has a limit")
def test_two_silent_minutes_at_192_khz_are_read_in_12_mib() -> None:
    audio = mostly_silent(119.0, 192_000)
    assert len(audio) < 300_000
    assert decoding_bytes(audio) + 4 * LISTENS_S * RATE_HZ < 14 * MIB
    assert int(read_limited(audio)) == pytest.approx(4.1 * RATE_HZ, rel=0.05)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000, 191_999])
@pytest.mark.parametrize("channels", [1, 2])
def test_in_blocks_the_same_comes_out_as_in_one_piece(
    tmp_path: Path, rate_hz: int, channels: int
) -> None:
    silence = np.zeros(round(1.237 * rate_hz), np.float32)
    mono = np.concatenate([silence, speech_like(5.0, rate_hz), silence])
    assert len(mono) % BLOCK_FRAMES and len(mono) > BLOCK_FRAMES
    sound = np.stack([mono, 0.5 * mono], axis=1)[:, :channels]
    soundfile.write(tmp_path / "a.wav", sound, rate_hz, subtype="FLOAT")
    recording = read_reference((tmp_path / "a.wav").read_bytes(), 24_000, LISTENS_S)

    mixed = sound.mean(axis=1)
    window = round(0.01 * rate_hz)
    windows = np.pad(mixed, (0, -len(mixed) % window)).reshape(-1, window).astype(np.float64)
    rms = np.sqrt(np.mean(windows**2, axis=1))
    voiced = np.flatnonzero(rms > 0.01 * rms.max())
    margin = round(0.05 * rate_hz)
    used = mixed[voiced[0] * window - margin : (voiced[-1] + 1) * window + margin]
    expected = soxr.resample(used, rate_hz, 24_000)
    assert len(recording.samples) == len(expected)
    assert np.abs(recording.samples - expected.clip(-1.0, 1.0)).max() < 1e-6
