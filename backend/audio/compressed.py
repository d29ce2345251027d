"""mp3, Opus, FLAC and AAC as they are made, through FFmpeg (PyAV).

FFmpeg and not libsndfile, which writes no AAC and holds Ogg pages back until they are full.
"""

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from backend.audio.aac import ConstantRate
from backend.audio.pcm import Samples, int16_samples
from backend.audio.sink import Sink
from backend.core import AudioFormat


@dataclass(frozen=True, slots=True)
class Codec:
    """How FFmpeg makes one format."""

    container: str
    encoder: str
    sample_format: str
    rates_hz: tuple[int, ...]
    """What the format can carry; empty is any rate."""
    max_bit_rate: int | None
    """Bits per second of mono speech; None is lossless."""
    options: dict[str, str]
    """Of the container."""


BITS_PER_SAMPLE = 4
"""Most a lossy format spends: beyond it nothing is heard, and low rates cannot carry more."""

_AT_ONCE = {
    "flush_packets": "1",  # a packet leaves when it is encoded, not when 32 kB are full
    "fflags": "+bitexact",  # no random serial number: the same speech is the same bytes
}
CODECS: dict[AudioFormat, Codec] = {
    "mp3": Codec(
        container="mp3",
        encoder="libmp3lame",
        sample_format="fltp",
        rates_hz=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        max_bit_rate=96_000,  # constant, so that players know the length of a stream from its size
        options={**_AT_ONCE, "id3v2_version": "0"},  # there is no title to tell
    ),
    "opus": Codec(
        container="ogg",
        encoder="libopus",
        sample_format="flt",
        rates_hz=(8_000, 12_000, 16_000, 24_000, 48_000),
        max_bit_rate=48_000,  # fullband mono speech that is hardly told from the original
        # Three Opus packets a page: audio waits 60 ms at most, page headers cost 4 kbit/s.
        options={**_AT_ONCE, "page_duration": "60000"},
    ),
    "flac": Codec(
        container="flac",
        encoder="flac",
        sample_format="s16",
        rates_hz=(),
        max_bit_rate=None,
        options={**_AT_ONCE, "metadata_header_padding": "0"},  # 8 kB before the first sample
    ),
    "aac": Codec(
        container="adts",
        encoder="aac",
        sample_format="fltp",
        rates_hz=(
            *(8_000, 11_025, 12_000, 16_000, 22_050),
            *(24_000, 32_000, 44_100, 48_000),
        ),
        max_bit_rate=96_000,  # FFmpeg's own encoder wants as many as mp3
        options=_AT_ONCE,
    ),
}


class CompressedEncoder:
    """Writes one format to `sink`, each packet as soon as it is encoded.

    Where `sink` can seek, mp3 and FLAC get their exact length in their header at the end, and AAC,
    which has none, a constant rate to tell it from.
    """

    def __init__(self, sink: Sink, codec: Codec, rate_hz: int) -> None:
        self._codec = codec
        self._rate_hz = rate_hz
        self._taken_samples = 0
        self._container = av.open(
            sink, "w", format=codec.container, container_options=codec.options
        )
        # libav's objects hold each other: an abandoned encoder would keep its memory and threads
        # until the garbage collector comes by, which does not see how large they are.
        self._release = weakref.finalize(self, _close_quietly, self._container)
        self._release.atexit = False
        with self._closed_on_error():
            stream = self._container.add_stream(codec.encoder, rate=rate_hz)
            assert isinstance(stream, AudioStream)
            context = stream.codec_context
            context.layout = "mono"
            context.format = codec.sample_format
            context.thread_count = 1
            self._constant_rate = None
            if codec.max_bit_rate:
                bit_rate = min(codec.max_bit_rate, BITS_PER_SAMPLE * rate_hz)
                context.bit_rate = bit_rate
                if codec.encoder == "aac" and sink.seekable():  # a stream has no length
                    self._constant_rate = ConstantRate(bit_rate, rate_hz)
            self._container.start_encoding()
        self._stream = stream

    def write(self, samples: Samples) -> None:
        """Take samples within [-1, 1]."""
        if not self._release.alive:  # libav would crash the process
            raise ValueError("this encoder is closed")
        if not len(samples):
            return
        if self._codec.sample_format == "s16":
            frame = AudioFrame.from_ndarray(int16_samples(samples)[None], "s16", "mono")
        else:
            frame = AudioFrame.from_ndarray(samples[None], self._codec.sample_format, "mono")
        frame.sample_rate = self._rate_hz
        frame.time_base = Fraction(1, self._rate_hz)
        frame.pts = self._taken_samples
        self._taken_samples += len(samples)
        with self._closed_on_error():
            self._mux(frame)

    def close(self) -> None:
        """Write what the encoder still holds, and the container's end."""
        if self._release.alive:
            with self._closed_on_error():
                self._mux(None)
                self._container.close()
            self._release()

    def _mux(self, frame: AudioFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet if self._constant_rate is None else self._filled(packet))

    def _filled(self, packet: "Packet[Any]") -> "Packet[Any]":
        assert self._constant_rate is not None
        filled: Packet[Any] = Packet(self._constant_rate.fill(bytes(packet)))
        filled.stream, filled.time_base = packet.stream, packet.time_base
        filled.pts, filled.dts, filled.duration = packet.pts, packet.dts, packet.duration
        return filled

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._release()
            raise


def _close_quietly(container: OutputContainer) -> None:
    with contextlib.suppress(av.FFmpegError, OSError, ValueError):  # the sink may be gone already
        container.close()
