"""Recordings as phones and browsers make them, encoded by FFmpeg."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from backend.audio.container import open_container

Samples = NDArray[np.float32]

_VIDEO_FRAMES = 10


def speech_like(seconds: float, rate_hz: int, pitch_hz: float = 140.0) -> Samples:
    """Harmonics of a gliding pitch, in syllables of unequal loudness with pauses between them."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / rate_hz
    voice = sum(np.sin(k * phase) / k for k in range(1, 13))
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * t), 0, 1) * (
        0.6 + 0.4 * np.cos(2 * np.pi * 0.4 * t)
    )
    samples: Samples = (0.25 * voice * syllables).astype(np.float32)
    return samples


def encoded(
    samples: Samples | Sequence[Samples],
    rate_hz: int,
    container: str,
    codec: str,
    *,
    layout: str = "mono",
    has_video: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file of `container` with one audio track for each of `samples`, after a video if wanted.

    All channels of `layout` are alike, unless there are [channels, frames] of samples.
    """
    tracks = [samples] if isinstance(samples, np.ndarray) else samples
    out = io.BytesIO()
    with av.open(out, "w", format=container, container_options=options or {}) as file:
        video = _video(file) if has_video else None
        streams = [file.add_stream(codec, rate=rate_hz) for _ in tracks]
        for stream in streams:
            assert isinstance(stream, AudioStream)
            stream.codec_context.layout = layout
        if video:
            _write_video(file, video)
        for stream, track in zip(streams, tracks, strict=True):
            assert isinstance(stream, AudioStream)
            channels = stream.codec_context.layout.nb_channels
            planes = np.repeat(track[None], channels, axis=0) if track.ndim == 1 else track
            frame = AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return out.getvalue()


def decode_container(audio: bytes, demuxer: str) -> tuple[Samples, int]:
    """All that FFmpeg decodes of `audio`, mixed down, and its rate."""
    with open_container(audio, demuxer) as container:
        return np.concatenate(list(container.blocks())).mean(axis=1), container.rate_hz


def _video(file: OutputContainer) -> VideoStream:
    stream = file.add_stream("mpeg4", rate=10)
    assert isinstance(stream, VideoStream)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _write_video(file: OutputContainer, stream: VideoStream) -> None:
    for shade in range(_VIDEO_FRAMES):
        picture = np.full((64, 64, 3), 20 * shade, np.uint8)
        file.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
    file.mux(stream.encode(None))
