import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from backend.audio.write import AudioWriter, Outlet, carried_rate_hz, media_type
from backend.core import AudioFormat, AudioOutput
from tests.heard import FORMATS, heard, heard_by_ffmpeg, level_db, pitch_of, streamed, tone, whole

SOURCE_HZ = 24_000
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)
PRIMING_SAMPLES: dict[AudioFormat, int] = {"mp3": 1_152 * 3, "aac": 1_024 * 3}
"""What an encoder may put before and after the samples where no header tells the length."""
needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not installed"
)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("audio_format", FORMATS)
def test_a_tone_stays_that_tone(audio_format: AudioFormat, rate_hz: int) -> None:
    output = AudioOutput(audio_format, rate_hz)
    sound = tone(2.0, SOURCE_HZ)
    file = whole(sound, output, SOURCE_HZ)
    stream = b"".join(streamed(sound, output, SOURCE_HZ))
    for audio, is_told_its_length in ((file, audio_format != "aac"), (stream, False)):
        samples, heard_hz = heard(audio, audio_format, rate_hz)
        assert heard_hz == carried_rate_hz(audio_format, rate_hz)
        assert pitch_of(samples, heard_hz) == pytest.approx(440, abs=0.5)
        assert level_db(samples) == pytest.approx(level_db(sound), abs=1.0)
        more = len(samples) - 2 * heard_hz
        assert 0 <= more <= (0 if is_told_its_length else PRIMING_SAMPLES.get(audio_format, 0))
        if audio_format != "pcm":  # another decoder hears the same
            again, again_hz = heard_by_ffmpeg(audio)
            assert len(again) / again_hz == pytest.approx(len(samples) / heard_hz, abs=1e-3)
            assert pitch_of(again, again_hz) == pytest.approx(440, abs=0.5)


@needs_ffmpeg
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("audio_format", [name for name in FORMATS if name != "pcm"])
def test_ffmpeg_plays_it(audio_format: AudioFormat, is_stream: bool, tmp_path: Path) -> None:
    output = AudioOutput(audio_format)
    sound = tone(2.0, SOURCE_HZ)
    pieces = streamed(sound, output, SOURCE_HZ) if is_stream else [whole(sound, output, SOURCE_HZ)]
    file = tmp_path / "speech"
    file.write_bytes(b"".join(pieces))
    probe = [*("ffprobe", "-v", "error", "-of", "csv=p=0", "-show_entries")]
    told = subprocess.run(
        [*probe, "stream=codec_name,sample_rate,channels", file],
        check=True,
        capture_output=True,
        text=True,
    )
    codec = {"wav": "pcm_s16le"}.get(audio_format, audio_format)
    heard_hz = 48_000 if audio_format == "opus" else SOURCE_HZ
    assert (told.stdout.strip(), told.stderr) == (f"{codec},{heard_hz},1", "")
    decode = [
        *("ffmpeg", "-v", "error", "-i", f"{file}"),
        *("-ar", f"{SOURCE_HZ}", "-f", "s16le", "-"),
    ]
    played = subprocess.run(decode, check=True, capture_output=True)
    assert played.stderr == b""
    samples = np.frombuffer(played.stdout, "<i2").astype(np.float32) / np.float32(32_768)
    assert len(samples) / SOURCE_HZ == pytest.approx(2.0, abs=0.15)
    assert pitch_of(samples, SOURCE_HZ) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("speed", [1.0, 1.25])
@pytest.mark.parametrize("audio_format", FORMATS)
def test_pieces_do_not_matter(audio_format: AudioFormat, speed: float) -> None:
    output = AudioOutput(audio_format, 22_050, speed)
    sound = tone(1.0, SOURCE_HZ)
    outlet = Outlet()
    writer = AudioWriter(outlet, output, SOURCE_HZ)
    rng = np.random.default_rng(0)
    start = 0
    while start < len(sound):
        samples = int(rng.choice([0, 1, 7, 480, 3_000]))
        writer.write(sound[start : start + samples].tobytes())
        start += samples
    writer.close()
    assert outlet.take() == b"".join(streamed(sound, output, SOURCE_HZ, len(sound)))


@pytest.mark.parametrize("audio_format", FORMATS)
def test_a_stream_holds_the_same_samples_as_a_file(audio_format: AudioFormat) -> None:
    output = AudioOutput(audio_format, 24_000)
    sound = tone(1.0, SOURCE_HZ) * np.linspace(0, 1, SOURCE_HZ, dtype=np.float32)
    file, rate_hz = heard(whole(sound, output, SOURCE_HZ), audio_format, 24_000)
    stream, _ = heard(b"".join(streamed(sound, output, SOURCE_HZ)), audio_format, rate_hz)
    # Only mp3's header tells how many samples to leave out in front.
    offset = 1_105 if audio_format == "mp3" else 0
    # The first frame of all differs by where an mp3 decoder starts.
    assert np.abs(stream[offset:][1_152 : len(file)] - file[1_152:]).max() < 1e-4


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_same_speech_is_the_same_bytes(audio_format: AudioFormat) -> None:
    output = AudioOutput(audio_format, 16_000, 1.1)
    files = [whole(tone(0.5, SOURCE_HZ), output, SOURCE_HZ) for _ in range(2)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("rate_hz", "within_s"), [(8_000, 0.34), (16_000, 0.2), (24_000, 0.15), (44_100, 0.2)]
)
@pytest.mark.parametrize("audio_format", FORMATS)
def test_audio_leaves_early(audio_format: AudioFormat, rate_hz: int, within_s: float) -> None:
    sound = tone(2.0, rate_hz)
    pieces = streamed(sound, AudioOutput(audio_format), rate_hz, rate_hz // 100)
    needed = int(within_s * 100)
    early = b"".join(pieces[:needed])
    samples, _ = heard_by_ffmpeg(early) if audio_format != "pcm" else heard(early, "pcm", rate_hz)
    assert len(samples)
    leaves = [index for index, piece in enumerate(pieces) if piece]
    assert max(np.diff(leaves[1:])) <= 15  # and goes on leaving, in hundredths of a second


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("kind", ["stream", "bytes", "file"])
def test_nothing_said_is_an_empty_file(audio_format: AudioFormat, kind: str) -> None:
    sinks: dict[str, Callable[[], Any]] = {
        "stream": Outlet,
        "bytes": io.BytesIO,
        "file": tempfile.SpooledTemporaryFile,
    }
    with sinks[kind]() as sink:
        writer = AudioWriter(sink, AudioOutput(audio_format, 16_000, 1.5), SOURCE_HZ)
        writer.write(b"")
        writer.close()
        writer.close()
        assert not sink.closed
        if isinstance(sink, Outlet):
            audio = sink.take()
        else:
            sink.seek(0)
            audio = sink.read()
    if audio_format == "wav":
        assert len(audio) == 44
    if audio_format == "pcm" or (audio_format, kind) == ("mp3", "stream"):
        assert audio == b""  # mp3 frames need no header


def test_pcm_is_passed_through() -> None:
    loud = np.array([0.0, 1.0, -1.0, 0.25, 2.0, -2.0, np.nan, np.inf, -np.inf], np.float32)
    expected = [0, 32_767, -32_767, 8_192, 32_767, -32_767, 0, 32_767, -32_767]
    output = AudioOutput("pcm", 22_050)
    assert np.frombuffer(whole(loud, output, 22_050), "<i2").tolist() == expected
    file = whole(loud, AudioOutput("wav"), 22_050)
    assert np.frombuffer(file[44:], "<i2").tolist() == expected


@pytest.mark.parametrize("audio_format", FORMATS)
def test_what_is_no_number_is_silent_at_any_rate_and_tempo(audio_format: AudioFormat) -> None:
    sound = tone(1.0, SOURCE_HZ)
    sound[1000:1010] = np.nan
    sound[2000] = np.inf
    audio = whole(sound, AudioOutput(audio_format, 16_000, 1.25), SOURCE_HZ)
    samples, rate_hz = heard(audio, audio_format, 16_000)
    assert np.isfinite(samples).all()
    assert pitch_of(samples, rate_hz) == pytest.approx(440, rel=0.01)


def test_loud_speech_does_not_wrap_when_resampled() -> None:
    square = np.sign(tone(1.0, SOURCE_HZ))
    samples, _ = heard(whole(square, AudioOutput("pcm", 16_000), SOURCE_HZ), "pcm", 16_000)
    assert np.count_nonzero(np.abs(np.diff(samples)) > 1.5) < 2 * 440  # edges, no more


@pytest.mark.parametrize(
    ("audio_format", "wanted_hz", "carried_hz"),
    [
        ("wav", 12_345, 12_345),
        ("pcm", 96_000, 96_000),
        ("flac", 12_345, 12_345),
        ("opus", 8_000, 8_000),
        ("opus", 8_001, 12_000),
        ("opus", 22_050, 24_000),
        ("opus", 44_100, 48_000),
        ("mp3", 24_001, 32_000),
        ("mp3", 96_000, 48_000),
        ("aac", 4_000, 8_000),
    ],
)
def test_nearest_rate(audio_format: AudioFormat, wanted_hz: int, carried_hz: int) -> None:
    assert carried_rate_hz(audio_format, wanted_hz) == carried_hz
    writer = AudioWriter(Outlet(), AudioOutput(audio_format, wanted_hz), SOURCE_HZ)
    assert writer.sample_rate_hz == carried_hz
    own = AudioWriter(Outlet(), AudioOutput(audio_format), wanted_hz)
    assert own.sample_rate_hz == carried_hz


def test_media_types() -> None:
    told = {name: media_type(name) for name in FORMATS}
    assert told == {
        "wav": "audio/wav",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "flac": "audio/flac",
        "aac": "audio/aac",
        "pcm": "audio/pcm",
    }
    for name in FORMATS:
        writer = AudioWriter(Outlet(), AudioOutput(name, 16_000), SOURCE_HZ)
        assert writer.media_type.startswith(told[name])
    writer = AudioWriter(Outlet(), AudioOutput("pcm", 16_000), SOURCE_HZ)
    assert writer.media_type == "audio/pcm; rate=16000; channels=1"


def test_misuse_is_loud() -> None:
    writer = AudioWriter(Outlet(), AudioOutput("pcm"), SOURCE_HZ)
    with pytest.raises(ValueError, match="multiple"):
        writer.write(b"odd")
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"")
    with pytest.raises(ValueError, match="speed 5"):
        AudioWriter(Outlet(), AudioOutput("pcm", speed=5.0), SOURCE_HZ)


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus", "flac"])
def test_a_file_tells_its_length(audio_format: AudioFormat) -> None:
    with tempfile.SpooledTemporaryFile() as file:
        writer = AudioWriter(file, AudioOutput(audio_format), SOURCE_HZ)
        writer.write(tone(1.5, SOURCE_HZ).tobytes())
        writer.close()
        file.seek(0)
        assert soundfile.info(io.BytesIO(file.read())).duration == 1.5
