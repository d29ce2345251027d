"""Speech to bytes in the format, rate and tempo that were asked for, as it comes."""

from typing import Protocol

import numpy as np

from backend.audio.compressed import CODECS, CompressedEncoder
from backend.audio.pcm import Samples, samples_of
from backend.audio.rate import Resampler
from backend.audio.sink import Outlet, Sink
from backend.audio.tempo import Tempo
from backend.audio.wav import PcmEncoder, WavEncoder
from backend.core import AudioFormat, AudioOutput

__all__ = ["AudioWriter", "Outlet", "Sink", "carried_rate_hz", "media_type"]

_MEDIA_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "pcm": "audio/pcm",
}


class _Stage(Protocol):
    """Something between the samples that come and those that are encoded."""

    def push(self, samples: Samples) -> Samples: ...
    def finish(self) -> Samples: ...


class _Encoder(Protocol):
    def write(self, samples: Samples) -> None: ...
    def close(self) -> None: ...


def media_type(audio_format: AudioFormat) -> str:
    """What HTTP calls the format."""
    return _MEDIA_TYPES[audio_format]


def content_type(audio_format: AudioFormat, rate_hz: int) -> str:
    """For `Content-Type`: of bare samples with their rate, which nothing else tells."""
    if audio_format == "pcm":
        return f"{media_type('pcm')}; rate={rate_hz}; channels=1"
    return media_type(audio_format)


def carried_rate_hz(audio_format: AudioFormat, wanted_hz: int) -> int:
    """The lowest rate from `wanted_hz` up that the format can carry, else its highest."""
    codec = CODECS.get(audio_format)
    if codec is None or not codec.rates_hz:
        return wanted_hz
    enough = [rate_hz for rate_hz in codec.rates_hz if rate_hz >= wanted_hz]
    return min(enough, default=max(codec.rates_hz))


class AudioWriter:
    """Encodes speech of `source_rate_hz` into `sink`, which stays open.

    Each `write` hands on all that is ready. Where `sink`, empty at first, can seek, the header
    tells the exact length once closed; else it says that the length is unknown. At speed 1 and
    the same rate the samples reach the encoder unchanged.
    """

    def __init__(self, sink: Sink, output: AudioOutput, source_rate_hz: int) -> None:
        wanted_hz = source_rate_hz if output.sample_rate_hz is None else output.sample_rate_hz
        self.sample_rate_hz = carried_rate_hz(output.format, wanted_hz)
        """Of what is written: the rate asked for, or the nearest the format can carry."""
        self._format = output.format
        self._stages: list[_Stage] = []
        if output.speed != 1.0:
            self._stages.append(Tempo(source_rate_hz, output.speed))
        if self.sample_rate_hz != source_rate_hz:
            self._stages.append(Resampler(source_rate_hz, self.sample_rate_hz))
        self._encoder = _encoder(sink, output.format, self.sample_rate_hz)
        self._is_closed = False

    @property
    def media_type(self) -> str:
        """As `content_type` has it."""
        return content_type(self._format, self.sample_rate_hz)

    def write(self, samples: bytes) -> None:
        """Take float32 little-endian mono samples, however many; they are clipped to [-1, 1]."""
        if self._is_closed:
            raise ValueError("this writer is closed")
        self._pass_on(samples_of(samples), self._stages)

    def close(self) -> None:
        """Write what is still held and the container's end; more calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for index, stage in enumerate(self._stages):
            self._pass_on(stage.finish(), self._stages[index + 1 :])
        self._encoder.close()

    def _pass_on(self, samples: Samples, stages: list[_Stage]) -> None:
        try:
            for stage in stages:
                samples = stage.push(samples)
            # Filters overshoot by a little where speech is as loud as it can be.
            self._encoder.write(np.clip(samples, -1.0, 1.0) if self._stages else samples)
        except BaseException:
            self._is_closed = True  # what follows would not fit what is written
            raise


def _encoder(sink: Sink, audio_format: AudioFormat, rate_hz: int) -> _Encoder:
    if audio_format == "pcm":
        return PcmEncoder(sink)
    if audio_format == "wav":
        return WavEncoder(sink, rate_hz)
    return CompressedEncoder(sink, CODECS[audio_format], rate_hz)
