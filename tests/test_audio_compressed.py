import gc
import io
import sys

import psutil
import pytest

from backend.audio.write import AudioWriter, Outlet
from backend.core import AudioFormat, AudioOutput
from tests.heard import COMPRESSED, FORMATS, heard_by_ffmpeg, tone, voice

RATE_HZ = 8_000
PROCESS = psutil.Process()
OPEN_FILES = "num_handles" if sys.platform == "win32" else "num_fds"


class Full(Outlet):
    """A disk with little room left."""

    def __init__(self, room_bytes: int) -> None:
        super().__init__()
        self.room_bytes = room_bytes

    def write(self, data: object, /) -> int:
        self.room_bytes -= len(data)  # type: ignore[arg-type]
        if self.room_bytes < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def speak(sink: Outlet, audio_format: AudioFormat, seconds: int = 2) -> AudioWriter:
    writer = AudioWriter(sink, AudioOutput(audio_format, RATE_HZ, 1.1), RATE_HZ)
    for _ in range(seconds):
        writer.write(voice(1.0, RATE_HZ).tobytes())
    return writer


@pytest.mark.parametrize("audio_format", COMPRESSED)
@pytest.mark.parametrize("room_bytes", [0, 1_000, 5_000])
def test_a_full_disk_is_said_once(audio_format: AudioFormat, room_bytes: int) -> None:
    sink = Full(room_bytes)
    with pytest.raises(OSError, match="No space left"):
        speak(sink, audio_format, seconds=10)
    sink.room_bytes = 10**6
    before = sink.take()
    gc.collect()
    assert len(before) <= room_bytes
    assert sink.take() == b""  # what failed writes no more


@pytest.mark.parametrize("audio_format", COMPRESSED)
def test_closing_after_a_failure_does_nothing(audio_format: AudioFormat) -> None:
    sink = Full(10**6)
    writer = speak(sink, audio_format)
    sink.room_bytes = 0
    with pytest.raises(OSError, match="No space left"):
        for _ in range(10):
            writer.write(tone(1.0, RATE_HZ).tobytes())
    with pytest.raises(ValueError, match="closed"):
        writer.write(tone(1.0, RATE_HZ).tobytes())
    writer.close()
    writer.close()


@pytest.mark.parametrize("audio_format", COMPRESSED)
def test_a_failure_at_the_end_is_said(audio_format: AudioFormat) -> None:
    sink = Full(10**6)
    writer = speak(sink, audio_format)
    sink.room_bytes = 0
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    writer.close()


@pytest.mark.parametrize("audio_format", COMPRESSED)
def test_a_closed_file_is_no_warning(audio_format: AudioFormat) -> None:
    sink = io.BytesIO()
    writer = AudioWriter(sink, AudioOutput(audio_format), RATE_HZ)
    writer.write(tone(0.5, RATE_HZ).tobytes())
    sink.close()
    del writer
    gc.collect()


def test_abandoned_writers_leave_nothing() -> None:
    def abandon(count: int) -> None:
        for index in range(count):
            speak(Outlet(), COMPRESSED[index % len(COMPRESSED)], seconds=1)

    def held() -> tuple[int, int, int]:
        return PROCESS.num_threads(), getattr(PROCESS, OPEN_FILES)(), PROCESS.memory_info().rss

    gc.collect()
    abandon(40)
    threads, files, rss_bytes = held()
    gc.disable()  # they are not to wait for the collector
    try:
        abandon(300)
    finally:
        gc.enable()
    threads_after, files_after, rss_after_bytes = held()
    assert threads_after <= threads
    assert files_after <= files + 4
    assert rss_after_bytes - rss_bytes < 24 * 2**20


@pytest.mark.parametrize("audio_format", FORMATS)
def test_half_an_hour_takes_no_more_memory_than_a_minute(audio_format: AudioFormat) -> None:
    piece = tone(2.0, RATE_HZ).tobytes()
    sink = Outlet()
    # Four times as fast: the encoders have a quarter of the work, and the tempo is watched too.
    writer = AudioWriter(sink, AudioOutput(audio_format, RATE_HZ, 4.0), RATE_HZ)
    rss_bytes = 0
    for index in range(900):
        writer.write(piece)
        assert len(sink.take()) < 40_000
        if index == 30:
            rss_bytes = PROCESS.memory_info().rss
    assert PROCESS.memory_info().rss - rss_bytes < 4 * 2**20
    writer.close()


@pytest.mark.parametrize("audio_format", COMPRESSED)
def test_what_was_sent_before_a_hang_up_can_be_heard(audio_format: AudioFormat) -> None:
    sink = Outlet()
    writer = speak(sink, audio_format)
    samples, rate_hz = heard_by_ffmpeg(sink.take())
    assert len(samples) / rate_hz > 1.4
    writer.close()
