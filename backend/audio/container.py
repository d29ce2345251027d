"""Recordings from phones and browsers, which libsndfile does not read: decoded by FFmpeg, apart.

Which demuxer FFmpeg uses is chosen here by a file's first bytes, from a closed list without
playlists: left to itself it would guess, and some of what it guesses opens files and addresses. A
process of its own decodes (`demux.py`), and ends where that takes more memory or time than an
honest recording can.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from backend.audio.limits import (
    MAX_CHANNELS,
    MAX_RATE_HZ,
    MAX_RECORDING_S,
    MAX_S,
    MIN_RATE_HZ,
    check_channels,
    check_rate,
)
from backend.audio.pcm import Samples
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference

MAX_MEMORY_BYTES = 512 << 20
"""Of the decoding process: 20 MiB of file and two minutes at 192 kHz take about 300 MiB."""
MAX_CPU_S = 20.0
"""Two minutes of Opus or AAC take about one on a slow core."""

_PROGRAM = Path(__file__).with_name("demux.py")
_ID3_HEADER_BYTES = 10


def find_demuxer(audio: bytes) -> str | None:
    """FFmpeg's name for what `audio` is in; None is nothing for FFmpeg."""
    if audio[4:8] == b"ftyp":
        return "mov"  # m4a, mp4, mov, 3gp
    if audio.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"  # webm
    if audio.startswith((b"#!AMR\n", b"#!AMR-WB\n")):
        return "amr"
    if audio.startswith(b"FORM") and audio[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if audio.startswith(b"caff"):
        return "caf"
    return "aac" if _is_adts(_after_id3(audio)) else None


def decode_container(audio: bytes, demuxer: str) -> tuple[Samples, int]:
    """Mono samples of the first audio track, and their rate; `demuxer` is from `find_demuxer`.

    Raises `BadReference` with what is wrong and what to do.
    """
    asked = {
        "demuxer": demuxer,
        "max_channels": MAX_CHANNELS,
        "rates_hz": (MIN_RATE_HZ, MAX_RATE_HZ),
        "max_s": MAX_RECORDING_S,
        "max_memory_bytes": MAX_MEMORY_BYTES,
        "max_cpu_s": MAX_CPU_S,
    }
    header, _, samples = _run(json.dumps(asked), _after_id3(audio)).partition(b"\n")
    answer = json.loads(header)
    if "problem" in answer:
        raise _bad_reference(answer["problem"], answer["detail"])
    decoded: Samples = np.frombuffer(samples, dtype="<f4").astype(np.float32)
    return decoded, int(answer["rate_hz"])


def _after_id3(audio: bytes) -> bytes:
    """`audio` without the ID3v2 tag that some recorders put in front of AAC."""
    if not audio.startswith(b"ID3") or len(audio) < _ID3_HEADER_BYTES:
        return audio
    length = 0
    for byte in audio[6:_ID3_HEADER_BYTES]:
        length = length << 7 | byte & 0x7F
    return audio[_ID3_HEADER_BYTES + length :]


def _is_adts(audio: bytes) -> bool:
    """Whether AAC begins here: mp3's sync word differs in the two bits of its layer."""
    return len(audio) > 1 and audio[0] == 0xFF and audio[1] & 0xF6 == 0xF0


def _run(asked: str, audio: bytes) -> bytes:
    """What the program answers; `BadReference` where it ended itself, or crashed."""
    done = subprocess.run(
        (sys.executable, "-I", str(_PROGRAM), asked),
        input=audio,
        capture_output=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each would set memory aside
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        check=False,
    )
    if done.returncode == 1:  # a traceback: our fault, and none of the recording's
        raise RuntimeError(f"demux.py failed: {done.stderr.decode(errors='replace')[-2_000:]}")
    if done.returncode:
        raise BadReference(
            "speaker_file claims more than a recording can hold, or is damaged; export it again."
        )
    return done.stdout


def _bad_reference(problem: str, detail: Any) -> BadReference:
    if problem == "channels":
        check_channels(detail)
    if problem == "rate":
        check_rate(detail)
    return BadReference(
        {
            "long": f"speaker_file is longer than {MAX_RECORDING_S:g} s; "
            f"cut it to at most {MAX_S:g} s.",
            "no_sound": "speaker_file holds no sound; send a recording of the voice to speak in.",
            "rate_change": "speaker_file changes its sample rate midway; export it again as wav.",
            "elsewhere": "speaker_file refers to another file; send one that holds the sound.",
            "codec": f"speaker_file holds sound of the codec {detail}, which is not read; "
            "export it again as wav.",
            "broken": f"speaker_file cannot be decoded ({detail}); "
            f"send a {RECORDING_FORMATS} file.",
        }[problem]
    )
