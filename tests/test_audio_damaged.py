"""Recordings that programs leave half done: of no length, cut at the front, off zero, reversed."""

import io
import itertools
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from backend.audio import frames
from backend.audio.frames import SEARCHED_BYTES
from backend.audio.libsndfile import SoundFile
from backend.audio.read import read_reference
from backend.audio.sniff import find_demuxer, find_start
from backend.audio.write import AudioWriter, Outlet
from backend.core import AudioOutput
from backend.errors import BadReference
from tests.recordings import Samples, encoded, speech_like

RATE_HZ = 16_000
SECONDS = 2.0
UNKNOWN = 0xFFFFFFFF


def heard(audio: bytes, rate_hz: int = RATE_HZ) -> Samples:
    return read_reference(audio, rate_hz, 30.0).samples


def spoken() -> Samples:
    return speech_like(SECONDS, RATE_HZ)


def pcm() -> bytes:
    return (spoken() * 32_767).astype("<i2").tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None, order: str = "<") -> bytes:
    return struct.pack(f"{order}4sI", name, len(data) if size is None else size) + data


def form(kind: int = 1, bits: int = 16, order: str = "<") -> bytes:
    return chunk(
        b"fmt ",
        struct.pack(f"{order}HHIIHH", kind, 1, RATE_HZ, RATE_HZ * bits // 8, bits // 8, bits),
        order=order,
    )


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    return chunk(name, b"WAVE" + b"".join(chunks), size, order)


INFO = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0")
ODD = chunk(b"note", b"12345") + b"\0"


def ds64(data_bytes: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", data_bytes, data_bytes, data_bytes, 0))


STREAMED: dict[str, Callable[[], bytes]] = {
    "nothing filled in": lambda: riff(form(), chunk(b"data", pcm(), 0), size=0),
    "only the data's size is 0": lambda: riff(form(), chunk(b"data", pcm(), 0)),
    "an empty file's sizes": lambda: riff(form(), chunk(b"data", pcm(), 0), size=36),
    "all ones": lambda: riff(form(), chunk(b"data", pcm(), UNKNOWN), size=UNKNOWN),
    "sox": lambda: riff(form(), chunk(b"data", pcm(), 0x7FFFF000), size=0x7FFFF024),
    "the largest signed": lambda: riff(form(), chunk(b"data", pcm(), 0x7FFFFFFF), size=0x7FFFFFFF),
    "behind what wrote it, 0": lambda: riff(form(), INFO, chunk(b"data", pcm(), 0), size=0),
    "behind what wrote it": lambda: riff(form(), INFO, chunk(b"data", pcm(), UNKNOWN), size=0),
    "behind an odd chunk": lambda: riff(form(), ODD, chunk(b"data", pcm(), 0), size=0),
    "big endian": lambda: riff(
        form(order=">"),
        chunk(b"data", np.frombuffer(pcm(), "<i2").astype(">i2").tobytes(), 0, ">"),
        name=b"RIFX",
        size=0,
        order=">",
    ),
    "RF64 with zeros": lambda: riff(
        ds64(0), form(), chunk(b"data", pcm(), UNKNOWN), name=b"RF64", size=UNKNOWN
    ),
    "RF64 with ones": lambda: riff(
        ds64(2**64 - 1), form(), chunk(b"data", pcm(), UNKNOWN), name=b"RF64", size=UNKNOWN
    ),
    "more than there is": lambda: riff(form(), chunk(b"data", pcm(), len(pcm()) + 1_000)),
}


@pytest.mark.parametrize("name", STREAMED)
def test_a_wav_whose_length_was_not_known_is_read_to_its_end(name: str) -> None:
    sound = heard(STREAMED[name]())
    assert len(sound) == len(spoken())
    assert np.abs(sound - spoken()).max() < 2.0**-14


def test_half_a_sample_at_the_end_is_left() -> None:
    assert len(heard(riff(form(), chunk(b"data", pcm()[:-1], 0), size=0))) == len(spoken()) - 1


def test_a_wav_of_nothing_is_silent() -> None:
    with pytest.raises(BadReference, match="silent"):
        heard(riff(form(), chunk(b"data", b"", 0), size=0))


def test_a_wav_that_tells_its_length_is_not_read_past_it() -> None:
    loud = np.full(RATE_HZ, 32_767, "<i2").tobytes()
    sound = heard(riff(form(), chunk(b"data", pcm()), chunk(b"junk", loud)))
    assert np.abs(sound - spoken()).max() < 2.0**-14


def test_chunks_without_end_are_not_all_looked_at() -> None:
    chunks = b"junk\0\0\0\0" * 2_000_000
    with pytest.raises(BadReference):
        SoundFile(riff(form(), chunks, chunk(b"data", pcm(), 0), size=0))


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus", "flac", "aac"])
def test_our_own_streams_are_recordings(audio_format: str) -> None:
    outlet = Outlet()
    writer = AudioWriter(outlet, AudioOutput(audio_format), RATE_HZ)  # type: ignore[arg-type]
    writer.write(spoken().tobytes())
    writer.close()
    assert len(heard(outlet.take())) / RATE_HZ == pytest.approx(SECONDS, abs=0.15)


# -- cut at the front ------------------------------------------------------------------------------


def mp3(kind: str) -> bytes:
    """With a constant or a varying bit rate, of each version of MPEG."""
    rate_hz = {"mpeg 1": 44_100, "mpeg 2": 22_050, "mpeg 2.5": 8_000, "varying": 44_100}[kind]
    out, voice = io.BytesIO(), speech_like(4.0, rate_hz)
    modes = {"bitrate_mode": "VARIABLE" if kind == "varying" else "CONSTANT"}
    with soundfile.SoundFile(out, "w", rate_hz, 1, format="MP3", **modes) as file:
        file.write(voice)
    return out.getvalue()


MP3 = ("mpeg 1", "mpeg 2", "mpeg 2.5", "varying")


@pytest.mark.parametrize("kind", MP3)
def test_an_mp3_cut_at_its_front_is_heard_from_there(kind: str) -> None:
    audio = mp3(kind)
    whole_s = len(heard(audio)) / RATE_HZ
    for cut in (1, 2, 10, 100, 417, 500, len(audio) // 10, len(audio) // 4):
        rest = audio[cut:]
        assert find_demuxer(rest) == "mp3"
        expected_s = whole_s * (1 - cut / len(audio))
        assert len(heard(rest)) / RATE_HZ == pytest.approx(expected_s, abs=0.5), cut


@pytest.mark.parametrize("cut", [1, 7, 100, 1_000])
def test_an_aac_cut_at_its_front_is_heard_from_there(cut: int) -> None:
    audio = encoded(speech_like(4.0, 44_100), 44_100, "adts", "aac")
    assert find_demuxer(audio[cut:]) == "aac"
    whole, rest = len(heard(audio)), len(heard(audio[cut:]))
    assert whole * 0.85 < rest <= whole + RATE_HZ // 20


@pytest.mark.parametrize(
    "front",
    [
        bytes(4_000),
        b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n",
        b"\xff" * 3_000,
        b"\xff\xfb\x90\x44" * 3,
        np.random.default_rng(3).bytes(100_000),
    ],
    ids=["zeros", "headers", "ones", "looks like frames", "the rest of a picture"],
)
def test_what_stands_in_front_of_an_mp3_is_passed_over(front: bytes) -> None:
    assert len(heard(front + mp3("mpeg 1"))) / RATE_HZ == pytest.approx(4.0, abs=0.5)


def test_a_tag_cut_through_is_passed_over() -> None:
    tag = b"ID3\4\0\0\0\1\0\0" + b"TIT2" + bytes(16_380)
    assert len(heard((tag + mp3("mpeg 1"))[5_000:])) / RATE_HZ == pytest.approx(4.0, abs=0.5)


def test_other_files_are_not_searched_for_frames() -> None:
    for head in (b"RIFF", b"fLaC", b"OggS", b"\0\0\0\x18ftypM4A ", b"caff"):
        assert find_start(head + bytes(12) + mp3("mpeg 1")) == 0
    assert find_start(b"\0\0\0\0no frames at all" * 1_000) == 0


def test_the_search_for_a_frame_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(frames, "_are_in_a_row", lambda _, at: tried.append(at))
    assert frames.find_first_frame(b"\xff\xfb\x90\0" * SEARCHED_BYTES, 0) is None
    assert len(tried) == 4_096
    tried.clear()
    assert frames.find_first_frame(bytes(SEARCHED_BYTES) + mp3("mpeg 1"), 0) is None
    assert not tried


# -- channels and the zero line --------------------------------------------------------------------


def of_channels(*channels: Samples) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.stack(channels, axis=1), RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()


def loud_as(sound: Samples, meant: Samples) -> float:
    """Of `sound` against `meant`, in decibels."""
    return float(20 * np.log10(np.std(sound) / np.std(meant)))


@pytest.mark.parametrize("weaker", [1.0, 0.7, 0.5, 0.3])
@pytest.mark.parametrize("swapped", [False, True])
def test_stereo_of_opposite_phase_is_heard(weaker: float, swapped: bool) -> None:
    voice = spoken()
    pair = (-weaker * voice, voice) if swapped else (voice, -weaker * voice)
    sound = heard(of_channels(*pair))
    assert len(sound) == len(voice)
    assert loud_as(sound, voice) == pytest.approx(0, abs=0.1)


def test_stereo_in_phase_is_mixed() -> None:
    voice, other = spoken(), speech_like(SECONDS, RATE_HZ, 220.0)
    sound = heard(of_channels(voice, other))
    assert np.abs(sound - (voice + other) / 2).max() < 2.0**-14


@pytest.mark.parametrize("channels", [2, 3, 6, 8])
@pytest.mark.parametrize("at", [0, 1])
def test_one_channel_of_many_that_speaks_is_heard(channels: int, at: int) -> None:
    voice, silence = spoken(), np.zeros_like(spoken())
    parts = [silence] * channels
    parts[at] = voice
    assert loud_as(heard(of_channels(*parts)), voice) > -6.1


@pytest.mark.parametrize("kind", ["ipod", "webm"])
def test_opposite_phase_in_a_container_is_heard(kind: str) -> None:
    voice = speech_like(SECONDS, 48_000)
    codec = "libopus" if kind == "webm" else "aac"
    audio = encoded(np.stack([voice, -voice]), 48_000, kind, codec, layout="stereo")
    assert find_demuxer(audio) == ("matroska" if kind == "webm" else "mov")
    assert loud_as(heard(audio, 48_000), voice) == pytest.approx(0, abs=0.7)


@pytest.mark.parametrize("offset", [0.5, -0.3, 0.02, 0.002])
def test_silence_that_does_not_lie_at_zero_is_trimmed(offset: float) -> None:
    silence = np.zeros(RATE_HZ * 2, np.float32)
    sound = np.concatenate([silence, spoken(), silence]) + np.float32(offset)
    recording = heard(of_channels(sound))
    assert len(recording) / RATE_HZ == pytest.approx(SECONDS, abs=0.15)
    assert abs(float(recording.mean())) < 2e-3
    assert loud_as(recording, spoken()) == pytest.approx(0, abs=0.5)


def test_a_zero_that_wanders_is_followed() -> None:
    silence = np.zeros(RATE_HZ * 2, np.float32)
    sound = np.concatenate([silence, spoken(), silence])
    t = np.arange(len(sound)) / RATE_HZ
    wandering = (0.005 * np.cos(2 * np.pi * t / 12)).astype(np.float32)
    recording = heard(of_channels(sound + wandering))
    assert len(recording) / RATE_HZ == pytest.approx(SECONDS, abs=0.3)
    assert abs(float(recording.mean())) < 1e-3


@pytest.mark.parametrize("offset", [0.9, 0.1, -0.01])
def test_silence_off_zero_is_silent(offset: float) -> None:
    with pytest.raises(BadReference, match="silent"):
        heard(of_channels(np.full(RATE_HZ * 3, offset, np.float32)))


def test_one_channel_off_zero_does_not_outshout_the_other() -> None:
    still = np.full(len(spoken()), 0.8, np.float32)
    sound = heard(of_channels(still, spoken()))
    assert loud_as(sound, spoken()) == pytest.approx(-6, abs=0.5)


def test_channels_may_change_midway() -> None:
    parts = [
        encoded(speech_like(1.5, 44_100), 44_100, "adts", "aac", layout=layout)
        for layout in ("mono", "stereo")
    ]
    for first, second in itertools.permutations(parts):
        assert len(heard(first + second)) / RATE_HZ == pytest.approx(3.0, abs=0.3)
