"""Recordings that libsndfile reads: wav, flac and mp3, a block at a time."""

import contextlib
import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from backend.audio.limits import MAX_RECORDING_S, check_channels, check_rate, too_long
from backend.audio.pcm import Samples
from backend.audio.sniff import find_start
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference

BLOCK_FRAMES = 1 << 16
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "MP3"})
_UNKNOWN_FRAMES = 1 << 40
"""No file that can be sent has as many: libsndfile's number where a header tells none."""
_MAX_CHUNKS = 64
"""In front of the samples; honest files have three or four."""
_TO_THE_END = b"\xff\xff\xff\xff"


class SoundFile:
    """A recording in memory; `BadReference` where its header is not acceptable."""

    def __init__(self, audio: bytes) -> None:
        self._view = memoryview(audio)[find_start(audio) :]
        self._patches = _sizes_put_right(self._view)
        with self._opened() as file:
            _check_header(file)
            self.rate_hz = int(file.samplerate)

    def blocks(self) -> Iterator[Samples]:
        """All of it from the beginning, [frames, channels]; they are overwritten by the next.

        Raises `BadReference` where it is damaged, or longer than its header says.
        """
        with self._opened() as file:
            buffer = np.empty((BLOCK_FRAMES, file.channels), np.float32)
            frames = 0
            while len(block := file.read(out=buffer)):
                frames += len(block)
                if frames > MAX_RECORDING_S * self.rate_hz:
                    raise too_long(frames / self.rate_hz)
                yield block

    @contextlib.contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        try:
            with soundfile.SoundFile(_Patched(self._view, self._patches)) as file:
                yield file
        except soundfile.LibsndfileError as error:
            raise BadReference(
                f"speaker_file cannot be decoded ({error.error_string.strip().rstrip('.')}); "
                f"send a {RECORDING_FORMATS} file."
            ) from None


class _Patched(io.RawIOBase):
    """A file in memory, of which nothing is copied, with other bytes in some places."""

    def __init__(self, view: memoryview, patches: dict[int, bytes]) -> None:
        super().__init__()
        self._view, self._patches = view, patches
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = (0, self._at, len(self._view))[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # cffi's is one
        piece = self._view[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        for place, put in self._patches.items():
            for index, byte in enumerate(put, place - self._at):
                if 0 <= index < len(piece):
                    buffer[index : index + 1] = bytes((byte,))
        self._at += len(piece)
        return len(piece)


def _sizes_put_right(view: memoryview) -> dict[int, bytes]:
    """What a WAV's header must say instead, where it was written before its length was known.

    Some programs leave 0 there, which is no sound to libsndfile; RF64 has another place for it.
    """
    kind = bytes(view[:4])
    if kind not in (b"RIFF", b"RIFX", b"RF64") or bytes(view[8:12]) != b"WAVE":
        return {}
    order = ">" if kind == b"RIFX" else "<"
    at, is_unknown = 12, False
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(view):
            break
        name, size = struct.unpack_from(f"{order}4sI", view, at)
        if name == b"data":
            if kind == b"RF64" and is_unknown:
                return {0: b"RIFF", at + 4: _TO_THE_END}
            return {at + 4: _TO_THE_END} if size == 0 else {}
        if name == b"ds64" and at + 24 <= len(view):
            (data_bytes,) = struct.unpack_from("<Q", view, at + 16)
            is_unknown = not 0 < data_bytes <= len(view)
        at += 8 + size + size % 2
    return {}


def _check_header(file: soundfile.SoundFile) -> None:
    if file.format not in _FORMATS:
        raise BadReference(
            f"speaker_file is of the format {file.format}; send a {RECORDING_FORMATS} file."
        )
    check_channels(file.channels)
    check_rate(file.samplerate)
    if MAX_RECORDING_S * file.samplerate < file.frames < _UNKNOWN_FRAMES:
        raise too_long(file.frames / file.samplerate)
