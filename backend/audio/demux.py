"""The program that decodes one recording with FFmpeg (PyAV): m4a, webm and what else `sniff` names.

    python -I …/backend/audio/demux.py '{"demuxer": "mov", …}' < recording

`container.py` runs it in a process of its own: FFmpeg believes what a file's tables claim, so a few
kilobytes can ask for gigabytes. It imports nothing of ours, so it runs under any interpreter that
has `av`, numpy and psutil, and answers on stdout, as often as it is read: for each block a line of
JSON and its samples as float32 [frames, channels], then a line for a block of none.
"""

import errno
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

import av
import av.stream
import numpy as np
import psutil
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

CODECS = (
    *("aac", "alac", "opus", "vorbis", "mp3float", "mp3", "flac", "amrnb", "amrwb"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_u8", "pcm_s8"),
    *("pcm_alaw", "pcm_mulaw", "adpcm_ima_qt"),
)
"""The decoders that may run at all; none of them is for video."""

TOO_MUCH = 3
"""The exit code where more was taken than may be."""

_BLOCK_FRAMES = 1 << 14
_LOOK_S = 0.01
_OPTIONS = {
    # Nothing beside the file itself may be opened, whatever it names.
    "protocol_whitelist": "",
    "enable_drefs": "0",
    "use_absolute_path": "0",
    "codec_whitelist": ",".join(CODECS),
    "probesize": "262144",  # what is kept in memory while FFmpeg looks for streams
    "max_samples": "262144",  # a frame; honest ones have at most 65,536
}
_FULL_SCALE = {"i2": 2.0**15, "i4": 2.0**31, "f4": 1.0, "f8": 1.0}


class Problem(Exception):
    """Why there are no samples: a `kind` that `container.py` has a sentence for, and a detail."""

    def __init__(self, kind: str, detail: str | int = "") -> None:
        super().__init__(kind)
        self.kind, self.detail = kind, detail


class _Memory(io.BytesIO):
    """The file; seeking before its start fails as FFmpeg expects, where `BytesIO` would raise."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._length_bytes = len(data)  # to look at the buffer would be to copy it

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = (0, self.tell(), self._length_bytes)[whence]
        return super().seek(base + offset) if base + offset >= 0 else -errno.EINVAL


def decode(
    audio: bytes, demuxer: str, max_channels: int, rates_hz: tuple[int, int], max_s: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The first audio track, piece by piece: rate and samples [frames, channels], never none.

    There are as many channels as in the first piece. Raises `Problem`, or `av.FFmpegError` where
    the file is broken.
    """
    frames, rate_hz, channels = 0, 0, 0
    with av.open(
        _Memory(audio),
        "r",
        format=demuxer,
        options={**_OPTIONS, "format_whitelist": demuxer},
        metadata_errors="replace",
        io_open=_open_nothing,
    ) as container:
        for frame in _frames(container):
            rate_hz = rate_hz or frame.sample_rate
            if frame.sample_rate != rate_hz:
                raise Problem("rate_change")
            if not rates_hz[0] <= rate_hz <= rates_hz[1]:
                raise Problem("rate", rate_hz)
            if frame.layout.nb_channels > max_channels:
                raise Problem("channels", frame.layout.nb_channels)
            # Counted and not read from a header, which may lie, or guess from the bit rate.
            frames += frame.samples
            if frames > max_s * rate_hz:
                raise Problem("long")
            if frame.samples:
                channels = channels or frame.layout.nb_channels
                yield rate_hz, _samples(frame, channels)
    if not frames:
        raise Problem("no_sound")


def _frames(container: InputContainer) -> Iterator[AudioFrame]:
    track = next((stream for stream in container.streams if stream.type == "audio"), None)
    if track is None:
        raise Problem("no_sound")
    for other in container.streams:
        if other is not track:
            with suppress(AttributeError):  # PyAV before 17.1 can only read them and let them go
                other.discard = av.stream.Discard.all
    if not isinstance(track, AudioStream) or track.codec_context is None:
        raise Problem("codec", "unknown")
    if track.codec_context.name not in CODECS:
        raise Problem("codec", track.codec_context.name)
    track.codec_context.thread_count = 1
    track.codec_context.options = {"max_samples": _OPTIONS["max_samples"]}
    for packet in container.demux(track):
        # An empty packet amid others would end the decoder; the last one, without a place, does.
        if packet.size or packet.dts is None:
            yield from track.codec_context.decode(packet)


def _samples(frame: AudioFrame, channels: int) -> NDArray[np.float32]:
    raw = frame.to_ndarray()
    by_channel = raw if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype == np.uint8:
        scaled = (by_channel.astype(np.float32) - 128.0) / 128.0
    else:
        scaled = by_channel.astype(np.float32) / np.float32(_FULL_SCALE[raw.dtype.str[1:]])
    if len(scaled) != channels:  # AAC tells some frames late that it has two
        scaled = np.repeat(scaled.mean(axis=0, dtype=np.float32)[None], channels, axis=0)
    samples: NDArray[np.float32] = scaled.T
    return samples


def _open_nothing(url: str, *_: object) -> NoReturn:
    raise Problem("elsewhere")


def _blocks(
    pieces: Iterator[tuple[int, NDArray[np.float32]]],
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The same in fewer pieces."""
    waiting: list[NDArray[np.float32]] = []
    rate_hz = 0
    for rate_hz, samples in pieces:
        waiting.append(samples)
        if sum(map(len, waiting)) >= _BLOCK_FRAMES:
            yield rate_hz, np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield rate_hz, np.concatenate(waiting)


def _say(header: dict[str, object], samples: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + samples)


def _answer(audio: bytes, asked: dict[str, Any]) -> bool:
    """Say all that is in `audio`, and that it has ended; False where that was too early."""
    rate_hz, rates_hz = 0, tuple(asked["rates_hz"])
    try:
        pieces = decode(audio, asked["demuxer"], asked["max_channels"], rates_hz, asked["max_s"])
        for rate_hz, samples in _blocks(pieces):
            said = samples.astype("<f4", copy=False).tobytes()
            frames, channels = samples.shape
            _say({"rate_hz": rate_hz, "frames": frames, "channels": channels}, said)
    except Problem as problem:
        _say({"problem": problem.kind, "detail": problem.detail})
    except av.FFmpegError as error:
        _say({"problem": "broken", "detail": error.strerror})
    else:
        _say({"rate_hz": rate_hz, "frames": 0, "channels": 1})
        return True
    return False


def _watch(max_memory_bytes: int, max_cpu_s: float) -> None:
    """End this process once it takes more; FFmpeg lets go of Python's lock while it works."""
    process = psutil.Process()
    while True:
        cpu = process.cpu_times()
        if process.memory_info().rss > max_memory_bytes or cpu.user + cpu.system > max_cpu_s:
            os._exit(TOO_MUCH)
        time.sleep(_LOOK_S)


def main() -> None:
    """Answer what the first argument asks of the file on stdin."""
    asked = json.loads(sys.argv[1])
    limits = (asked["max_memory_bytes"], asked["max_cpu_s"])
    threading.Thread(target=_watch, args=limits, daemon=True).start()
    audio = sys.stdin.buffer.read()
    try:
        while _answer(audio, asked):  # as often as it is read: `container.py` ends this process
            pass
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the worker was killed
        os._exit(TOO_MUCH)


if __name__ == "__main__":
    main()
