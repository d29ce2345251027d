"""Recordings of phones and browsers: what comes out, what is refused, and what takes too much."""

import ast
import contextlib
import io
import itertools
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import psutil
import pytest
import soundfile
import soxr

from backend.audio import container, demux
from backend.audio.container import max_memory_bytes
from backend.audio.limits import MAX_CHANNELS, MAX_RATE_HZ, MAX_RECORDING_S, MIN_RATE_HZ
from backend.audio.read import read_reference
from backend.audio.sniff import find_demuxer
from backend.errors import BadReference
from backend.fish_worker import install
from tests.hostile import FOR_FFMPEG, code_books, table_bomb
from tests.recordings import Samples, decode_container, encoded, speech_like

SECONDS = 3.0
EXACT = 2.0**-14


class Kind(NamedTuple):
    container: str
    codec: str
    rate_hz: int
    demuxer: str
    error: float | None = None
    """Of each sample; None is a lossy codec."""


KINDS = (
    Kind("ipod", "aac", 44_100, "mov"),
    Kind("ipod", "alac", 44_100, "mov", EXACT),
    Kind("mp4", "aac", 48_000, "mov"),
    Kind("mp4", "flac", 48_000, "mov", EXACT),
    Kind("3gp", "libopencore_amrnb", 8_000, "mov"),
    Kind("mov", "pcm_s16be", 48_000, "mov", EXACT),
    Kind("mov", "pcm_s24le", 48_000, "mov", EXACT),
    Kind("mov", "pcm_u8", 48_000, "mov", 2.0**-7),
    Kind("mov", "pcm_f64be", 48_000, "mov", EXACT),
    Kind("webm", "libopus", 48_000, "matroska"),
    Kind("matroska", "libmp3lame", 44_100, "matroska"),
    Kind("ogg", "libopus", 48_000, "ogg"),
    Kind("ogg", "flac", 48_000, "ogg", EXACT),
    Kind("adts", "aac", 44_100, "aac"),
    Kind("amr", "libopencore_amrnb", 8_000, "amr"),
    Kind("aiff", "pcm_s16be", 44_100, "aiff", EXACT),
    Kind("aiff", "pcm_s32be", 44_100, "aiff", EXACT),
    Kind("caf", "alac", 44_100, "caf", EXACT),
    Kind("caf", "pcm_f32le", 44_100, "caf", EXACT),
)
STEREO = [kind for kind in KINDS if "amr" not in kind.codec]
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"}
INDEX_FIRST = {"moov_size": "20000"}


def made(kind: Kind, seconds: float = SECONDS, layout: str = "mono") -> bytes:
    if kind.codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {kind.codec}")
    samples = speech_like(seconds, kind.rate_hz)
    return encoded(samples, kind.rate_hz, kind.container, kind.codec, layout=layout)


def m4a(
    seconds: float = SECONDS, rate_hz: int = 16_000, options: dict[str, str] | None = None
) -> bytes:
    return encoded(speech_like(seconds, rate_hz), rate_hz, "ipod", "aac", options=options)


def webm(seconds: float = SECONDS) -> bytes:
    return encoded(speech_like(seconds, 48_000), 48_000, "webm", "libopus")


def envelope(samples: Samples, rate_hz: int) -> Samples:
    """Loudness of each 20 ms."""
    window = rate_hz // 50
    windows = samples[: len(samples) // window * window].reshape(-1, window)
    loudness: Samples = np.sqrt(np.mean(np.square(windows), axis=1))
    return loudness


def bands(samples: Samples, rate_hz: int) -> Samples:
    """Decibels between 100 and 1600 Hz, in thirds of an octave."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    edges = 100 * 2 ** (np.arange(13) / 3)
    found = [power[(hz >= low) & (hz < high)].sum() for low, high in itertools.pairwise(edges)]
    decibels: Samples = 10 * np.log10(np.array(found, np.float32) / power.sum() + 1e-6)
    return decibels


def same_sound(heard: Samples, meant: Samples, rate_hz: int, colour_db: float = 1.0) -> None:
    assert len(heard) / rate_hz == pytest.approx(len(meant) / rate_hz, abs=0.08)
    a, b = envelope(heard, rate_hz), envelope(meant, rate_hz)
    windows = min(len(a), len(b)) - 4
    best = max(np.corrcoef(a[late : late + windows], b[:windows])[0, 1] for late in range(4))
    assert best > 0.97
    assert 20 * np.log10(np.std(heard) / np.std(meant)) == pytest.approx(0, abs=1.0)
    loud = bands(meant, rate_hz) > -25
    assert loud.sum() >= 3
    assert np.abs(bands(heard, rate_hz) - bands(meant, rate_hz))[loud].max() < colour_db


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.container} {kind.codec}")
def test_what_was_said_is_what_is_heard(kind: Kind) -> None:
    audio, meant = made(kind), speech_like(SECONDS, kind.rate_hz)
    assert find_demuxer(audio) == kind.demuxer
    heard, rate_hz = decode_container(audio, kind.demuxer)
    assert heard.dtype == np.float32
    assert rate_hz == kind.rate_hz
    same_sound(heard, meant, rate_hz, 3.0 if "amr" in kind.codec else 1.0)  # a telephone's codec
    if kind.error is not None:
        assert len(heard) == len(meant)
        assert np.abs(heard - meant).max() < kind.error


@pytest.mark.parametrize("kind", STEREO, ids=lambda kind: f"{kind.container} {kind.codec}")
def test_both_channels_are_mixed(kind: Kind) -> None:
    heard, rate_hz = decode_container(made(kind, layout="stereo"), kind.demuxer)
    same_sound(heard, speech_like(SECONDS, kind.rate_hz), rate_hz)


def test_it_comes_out_at_the_rate_of_the_codec_without_its_silence() -> None:
    said = speech_like(4.0, 44_100)
    silence = np.zeros(44_100, np.float32)
    audio = encoded(np.concatenate([silence, said, silence]), 44_100, "ipod", "aac")
    recording = read_reference(audio, 24_000, 30.0)
    assert len(recording.samples) / 24_000 == pytest.approx(4.0, abs=0.3)
    assert recording.warnings == ()
    heard = recording.samples
    assert np.std(heard) == pytest.approx(np.std(soxr.resample(said, 44_100, 24_000)), rel=0.2)


def test_what_libsndfile_reads_never_reaches_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_PROGRAM", "/nowhere")
    for kind in ("WAV", "WAVEX", "RF64", "FLAC", "MP3"):
        file = io.BytesIO()
        soundfile.write(file, speech_like(2.0, 16_000), 16_000, format=kind)
        assert find_demuxer(file.getvalue()) is None
        assert len(read_reference(file.getvalue(), 16_000, 30.0).samples)
        tagged = b"ID3\4\0\0\0\0\0\5" + bytes(5) + file.getvalue()
        assert find_demuxer(tagged) is None


@pytest.mark.parametrize("options", [FRAGMENTED, INDEX_FIRST], ids=["fragments", "index first"])
def test_an_mp4_may_be_laid_out_otherwise(options: dict[str, str]) -> None:
    heard, rate_hz = decode_container(m4a(options=options), "mov")
    same_sound(heard, speech_like(SECONDS, rate_hz), rate_hz)


def test_a_tag_in_front_of_aac_is_passed_over() -> None:
    audio = made(Kind("adts", "aac", 44_100, "aac"))
    tag = b"ID3\4\0\0\0\0\2\0" + b"\xff\xfb" * 128  # which looks like mp3
    assert find_demuxer(tag + audio) == "aac"
    plain, _ = decode_container(audio, "aac")
    assert np.array_equal(decode_container(tag + audio, "aac")[0], plain)


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_of_a_movie_with_ten_streams_the_first_voice_is_heard(kind: str) -> None:
    voices = [speech_like(SECONDS, 16_000, 100.0 + 40 * number) for number in range(9)]
    audio = encoded(voices, 16_000, kind, "aac", has_video=True)
    with av.open(io.BytesIO(audio)) as file:
        assert len(file.streams) == 10
        assert file.streams[0].type == "video"
    heard, rate_hz = decode_container(audio, str(find_demuxer(audio)))
    same_sound(heard, voices[0], rate_hz)


def test_video_is_never_decoded() -> None:
    audio = encoded(speech_like(1.0, 16_000), 16_000, "mp4", "aac", has_video=True)
    with av.open(io.BytesIO(audio)) as file:
        assert file.streams.video[0].codec_context.name not in demux.CODECS
    kinds = {av.codec.Codec(name, "r").type for name in demux.CODECS}
    assert kinds == {"audio"}


# -- what is refused -------------------------------------------------------------------------------


def silent_movie() -> bytes:
    return encoded([], 16_000, "mp4", "aac", has_video=True)


def aiff(samples: Samples, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="AIFF")
    return file.getvalue()


def empty_m4a() -> bytes:
    """Its index is whole, but nothing is in the mdat."""
    audio = m4a(options=INDEX_FIRST)
    at = audio.index(b"mdat") - 4
    return audio[:at] + struct.pack(">I4s", 8, b"mdat")


def two_rates() -> bytes:
    return b"".join(made(Kind("adts", "aac", rate_hz, "aac"), 1.5) for rate_hz in (44_100, 22_050))


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (silent_movie, "holds no sound"),
        (empty_m4a, "holds no sound|cannot be decoded"),
        (two_rates, "changes its sample rate"),
        (lambda: aiff(np.zeros((16_000, 9), np.float32), 16_000), "9 channels.*at most 8"),
        (lambda: aiff(np.zeros(4_000, np.float32), 2_000), "2000 samples a second"),
        (lambda: m4a(121.0, 8_000), "longer than 120 s; cut it to at most 60 s"),
        (lambda: m4a(62.0, 8_000), "6[12] s of sound; cut it"),
        (lambda: m4a(0.5), r"0\.\d s of sound"),
        (lambda: encoded(np.zeros(48_000, np.float32), 48_000, "webm", "libopus"), "silent"),
        (lambda: encoded(speech_like(2.0, 44_100), 44_100, "matroska", "ac3"), "codec ac3"),
        (lambda: m4a()[:40], "cannot be decoded"),
        (lambda: b"\x1aE\xdf\xa3" + bytes(1000), "cannot be decoded"),
        (lambda: b"\0\0\0\x18ftypM4A " + bytes(1000), "cannot be decoded|no sound"),
    ],
)
def test_what_is_wrong_is_said(audio: Callable[[], bytes], says: str) -> None:
    with pytest.raises(BadReference, match=says) as caught:
        read_reference(audio(), 16_000, 30.0)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def decoded(audio: bytes) -> Samples | None:
    """In this process, for speed; None where a `BadReference` would have been raised."""
    rates_hz = (MIN_RATE_HZ, MAX_RATE_HZ)
    try:
        demuxer = str(find_demuxer(audio))
        frames = demux.decode(audio, demuxer, MAX_CHANNELS, rates_hz, MAX_RECORDING_S)
        return np.concatenate([samples for _, samples in frames])
    except (demux.Problem, av.FFmpegError):
        return None


CUT_KINDS = [
    *[kind for kind in KINDS if kind.codec in ("aac", "alac", "libopus", "libopencore_amrnb")],
    Kind("aiff", "pcm_s16be", 44_100, "aiff"),
]


@pytest.mark.parametrize("kind", CUT_KINDS, ids=lambda kind: f"{kind.container} {kind.codec}")
@pytest.mark.parametrize("from_end", [False, True])
def test_cut_off_anywhere_it_is_refused_or_shorter(kind: Kind, from_end: bool) -> None:
    audio = made(kind, 1.0)
    whole = len(speech_like(1.0, kind.rate_hz))
    near = range(16, 600, 13)
    cuts = [len(audio) - cut for cut in near] if from_end else [*near, *_spread(len(audio))]
    for cut in cuts:
        heard = decoded(audio[:cut])
        assert heard is None or len(heard) < whole + kind.rate_hz * 0.1


def _spread(length: int) -> list[int]:
    return [length * part // 40 for part in range(2, 40)]


@pytest.mark.parametrize("kind", CUT_KINDS, ids=lambda kind: f"{kind.container} {kind.codec}")
def test_damage_never_raises_anything_else(kind: Kind, capfd: pytest.CaptureFixture[str]) -> None:
    audio = made(kind, 0.5)
    random = np.random.default_rng(7)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(audio, np.uint8).copy()
        at = random.integers(12, len(audio), 40)
        damaged[at] = random.integers(0, 256, 40)
        refused += decoded(damaged.tobytes()) is None
    assert refused or kind.codec in ("libopencore_amrnb", "pcm_s16be"), "none was damaged"
    assert capfd.readouterr() == ("", "")  # FFmpeg has much to say of each


def test_a_truncated_upload_is_refused_by_the_process_too() -> None:
    for audio in (m4a()[:-700], m4a(options=INDEX_FIRST)[:5000], webm()[:200]):
        with pytest.raises(BadReference, match="speaker_file"):
            read_reference(audio, 16_000, 30.0)
    browser_was_closed = webm()[:-2_000]
    assert len(read_reference(browser_was_closed, 16_000, 30.0).samples) > 1.5 * 16_000


def with_duration(audio: bytes, seconds: float) -> bytes:
    """The mp4 with another length in each header that tells one."""
    changed = bytearray(audio)
    for box, scale_at, length_at in ((b"mvhd", 16, 20), (b"mdhd", 16, 20)):
        at = audio.index(box)
        (scale,) = struct.unpack_from(">I", audio, at + scale_at)
        struct.pack_into(">I", changed, at + length_at, min(0xFFFFFFFF, round(seconds * scale)))
    struct.pack_into(">I", changed, audio.index(b"tkhd") + 24, round(seconds * 1000))
    return bytes(changed)


@pytest.mark.parametrize("claimed_s", [0.0, 0.5, 36_000.0])
def test_what_a_header_says_of_the_length_is_not_believed(claimed_s: float) -> None:
    heard, rate_hz = decode_container(with_duration(m4a(), claimed_s), "mov")
    assert len(heard) / rate_hz == pytest.approx(SECONDS, abs=0.1)
    with pytest.raises(BadReference, match="longer than 120 s"):
        decode_container(with_duration(m4a(125.0, 8_000), claimed_s), "mov")


def test_an_honest_hour_is_refused_without_decoding_it_all() -> None:
    audio = b"#!AMR\n" + (b"\x3c" + bytes(31)) * (3600 * 50)  # a frame each 20 ms
    with pytest.raises(BadReference, match="longer than 120 s"):
        decode_container(audio, "amr")


# -- what takes too much ---------------------------------------------------------------------------


class _Heaviest:
    """The most memory that a child of this process was seen to take, in bytes.

    Until it is what it was started as, a child has this process's command line and memory.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._process, self._ended = psutil.Process(), threading.Event()
        self._own = self._process.cmdline()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Heaviest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            with contextlib.suppress(psutil.Error):
                for child in self._process.children():
                    if child.cmdline() != self._own:
                        self.bytes = max(self.bytes, child.memory_info().rss)


def test_a_table_that_claims_gigabytes_takes_none() -> None:
    own_bytes, bomb = psutil.Process().memory_info().rss, table_bomb()
    with _Heaviest() as heaviest, pytest.raises(BadReference, match="claims more than"):
        decode_container(bomb, "mov")
    assert heaviest.bytes > max_memory_bytes(bomb) * 3 / 4, "it claimed nothing"
    assert heaviest.bytes < max_memory_bytes(bomb) * 1.5
    assert psutil.Process().memory_info().rss - own_bytes < 50 << 20


@pytest.mark.parametrize("name", FOR_FFMPEG)
def test_hostile_recordings_are_decoded_in_what_is_leased(name: str) -> None:
    audio = FOR_FFMPEG[name]()
    own_bytes = psutil.Process().memory_info().rss
    with _Heaviest() as heaviest, pytest.raises(BadReference):
        read_reference(audio, 16_000, 30.0)
    assert heaviest.bytes < max_memory_bytes(audio) * 1.5
    assert psutil.Process().memory_info().rss - own_bytes < 50 << 20


def test_code_books_never_reach_libsndfile() -> None:
    """Which would take 2 GiB for 3 kB of them, behind tags too."""
    tag = b"ID3\4\0\0\0\0\0\0"
    for tags in range(5):
        assert find_demuxer(tag * tags + code_books(1)) == "ogg"
    with pytest.raises(BadReference, match="more tags"):
        read_reference(tag * 5 + code_books(1), 16_000, 30.0)
    for end in (tag[:7], tag + b"ID3"):
        with pytest.raises(BadReference, match="cannot be decoded"):
            read_reference(end, 16_000, 30.0)


def test_what_computes_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_CPU_S", 0.0)
    with pytest.raises(BadReference, match="claims more than"):
        decode_container(m4a(), "mov")


def test_the_longest_honest_recording_stays_below_the_limits() -> None:
    rate_hz = 48_000
    samples = np.zeros(119 * rate_hz, np.float32)
    samples[: 3 * rate_hz] = speech_like(3.0, rate_hz)
    audio = encoded(samples, rate_hz, "mov", "pcm_s16le")
    assert len(audio) > 11_000_000
    heard, _ = decode_container(audio, "mov")
    assert len(heard) == len(samples)


def test_a_bug_of_ours_is_none_of_the_recordings(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(container, "MAX_CHANNELS", "eight")
    with pytest.raises(RuntimeError, match="as the log says"):
        decode_container(m4a(), "mov")
    assert "TypeError" in capfd.readouterr().err


def test_the_program_needs_nothing_of_ours() -> None:
    """The other engine runs it under an interpreter in which Shoal is not installed."""
    tree = ast.parse(Path(demux.__file__).read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    }
    ours = {str(module).partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    assert ours == {"av", "numpy", "psutil"}
    beside = install._BESIDE.read_text("utf-8").splitlines()
    assert ours <= {line.partition("==")[0] for line in beside}
