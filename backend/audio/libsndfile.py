"""Recordings that libsndfile reads: wav, flac and mp3, a block at a time."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
import soundfile

from backend.audio.limits import MAX_RECORDING_S, check_channels, check_rate, too_long
from backend.audio.pcm import Samples
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference

BLOCK_FRAMES = 1 << 16
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "MP3"})


class SoundFile:
    """A recording in memory; `BadReference` where its header is not acceptable."""

    def __init__(self, audio: bytes) -> None:
        self._audio = audio
        with self._opened() as file:
            _check_header(file)
            self.rate_hz = int(file.samplerate)

    def blocks(self) -> Iterator[Samples]:
        """All of it from the beginning, mixed down.

        Raises `BadReference` where it is damaged, or longer than its header says.
        """
        with self._opened() as file:
            buffer = np.empty((BLOCK_FRAMES, file.channels), np.float32)
            frames = 0
            while len(block := file.read(out=buffer)):
                frames += len(block)
                if frames > MAX_RECORDING_S * self.rate_hz:
                    raise too_long(frames / self.rate_hz)
                with np.errstate(over="ignore"):  # what is no number any more is told by its reader
                    yield block.mean(axis=1)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        try:
            with soundfile.SoundFile(io.BytesIO(self._audio)) as file:
                yield file
        except soundfile.LibsndfileError as error:
            raise BadReference(
                f"speaker_file cannot be decoded ({error.error_string.strip().rstrip('.')}); "
                f"send a {RECORDING_FORMATS} file."
            ) from None


def _check_header(file: soundfile.SoundFile) -> None:
    if file.format not in _FORMATS:
        raise BadReference(
            f"speaker_file is of the format {file.format}; send a {RECORDING_FORMATS} file."
        )
    check_channels(file.channels)
    check_rate(file.samplerate)
    if file.frames > MAX_RECORDING_S * file.samplerate:
        raise too_long(file.frames / file.samplerate)
