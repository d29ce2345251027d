"""What is wrong with a recording is said, with the mend; of a good one nothing is said."""

import io
import itertools
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import soundfile
import soxr

from backend.audio.container import MAX_BLOCKS_BYTES
from backend.audio.quality import Clipping, find_faults
from backend.audio.read import read_reference
from tests.recordings import Samples, encoded, speech_like
from training.demo_voice.espeak_reader import Speaker, read_aloud

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="what reads aloud here is loaded as POSIX does it"
)

RATE_HZ = 22_050
TEXTS = (
    "The fisherman pulled his little boat onto the sand just before sunset.",
    "Did you hear the thunder rolling over the hills last night?",
    "She folded the map carefully, and placed it inside her coat pocket.",
)
LOW, HIGH = Speaker("en-us+m3", pitch=30), Speaker("en-us+f5", pitch=60)
SPEAKERS = (LOW, HIGH, Speaker("en-us+m7", pitch=70), Speaker("en-us+Annie", rate_wpm=190))


@cache
def sentences(speaker: Speaker) -> tuple[Samples, ...]:
    return tuple(read_aloud(list(TEXTS), speaker))


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def spoken(speaker: Speaker = HIGH) -> Samples:
    return np.concatenate([part for each in sentences(speaker) for part in (each, silence(0.2))])


def noise(length: int, level_db: float) -> Samples:
    drawn = np.random.default_rng(5).standard_normal(length)
    return (10 ** (level_db / 20) * drawn).astype(np.float32)


def chords(length: int) -> Samples:
    t = np.arange(length) / RATE_HZ
    notes = np.array([220.0, 277.2, 329.6, 440.0])[:, None, None] * np.arange(1, 6)[:, None]
    sound = np.sin(2 * np.pi * notes * t).sum(axis=(0, 1)) * np.exp(-3 * (t % 0.5))
    level: Samples = (0.1 * sound / np.std(sound)).astype(np.float32)
    return level


def interleaved(pause_s: float, *voices: tuple[Samples, ...]) -> Samples:
    """A sentence of each in turn, with pauses between them."""
    turns = itertools.chain(*zip(*voices, strict=True))
    return np.concatenate([part for each in turns for part in (each, silence(pause_s))])


def wav(samples: Samples) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples.clip(-1, 1), RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()


def told(samples: Samples) -> tuple[str, ...]:
    return read_reference(wav(samples), RATE_HZ, 60.0).warnings


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda each: each.voice)
@pytest.mark.parametrize("level_db", [0, -15])
def test_of_clean_speech_nothing_is_said(speaker: Speaker, level_db: float) -> None:
    assert told(spoken(speaker) * np.float32(10 ** (level_db / 20))) == ()


@pytest.mark.parametrize("container", ["ipod", "mp3", "webm"])
def test_nor_where_it_was_compressed(container: str) -> None:
    codec = {"ipod": "aac", "mp3": "libmp3lame", "webm": "libopus"}[container]
    audio = encoded(soxr.resample(spoken(), RATE_HZ, 48_000), 48_000, container, codec)
    assert read_reference(audio, RATE_HZ, 60.0).warnings == ()


def test_nor_of_silence_around_it_and_an_offset() -> None:
    assert told(np.concatenate([silence(5), spoken(), silence(5)]) + np.float32(0.1)) == ()


def test_nor_of_speech_over_a_quiet_room() -> None:
    assert told(spoken() + noise(len(spoken()), -55)) == ()


POOR: dict[str, tuple[Callable[[], Samples], str, str]] = {
    "quiet": (lambda: 0.01 * spoken(), "very quiet", "nearer to the microphone"),
    "clipped": (lambda: 6 * spoken(), "distorted", "at a lower level"),
    "clipped, then made quieter": (
        lambda: np.float32(0.3) * (6 * spoken()).clip(-1, 1),
        "distorted",
        "at a lower level",
    ),
    "noise": (lambda: spoken() + noise(len(spoken()), -32), "noisy", "in a quiet room"),
    "nothing but noise": (lambda: noise(5 * RATE_HZ, -20), "noisy", "in a quiet room"),
    "music": (lambda: spoken() + chords(len(spoken())), "music", "the voice alone"),
    "nothing but music": (lambda: chords(8 * RATE_HZ), "music", "the voice alone"),
    "a hum": (
        lambda: (
            spoken()
            + (0.05 * np.sin(2 * np.pi * 150 * np.arange(len(spoken())) / RATE_HZ)).astype(
                np.float32
            )
        ),
        "a hum",
        "the voice alone",
    ),
    "silence within": (lambda: interleaved(12, sentences(HIGH)), "mostly silent", "cut its pauses"),
    "short": (lambda: sentences(HIGH)[0][: 2 * RATE_HZ], "only 2.0 s", "5 to 30 s"),
    "two voices": (lambda: interleaved(0.3, sentences(LOW), sentences(HIGH)), "two", "alone"),
}


@pytest.mark.parametrize("name", POOR)
def test_what_is_poor_is_said_with_its_mend(name: str) -> None:
    made, fault, mend = POOR[name]
    said = told(made())
    assert len(said) == 1, said
    assert said[0].startswith("speaker_file ")
    assert fault in said[0]
    assert mend in said[0].partition(";")[2]
    assert said[0].isascii(), "it goes into a header"
    assert len(said[0]) < 160


def test_several_faults_are_all_said() -> None:
    voice = 0.01 * sentences(HIGH)[0][: 2 * RATE_HZ]
    said = told(voice + noise(len(voice), -62))
    assert [word in " ".join(said) for word in ("quiet", "noisy", "only 2.0 s")] == [True] * 3


def test_what_was_trimmed_is_judged_by_what_is_used() -> None:
    good_then_noise = np.concatenate([spoken(), noise(20 * RATE_HZ, -20)])
    said = read_reference(wav(good_then_noise), RATE_HZ, 8.0).warnings
    assert len(said) == 1
    assert "trimmed" in said[0]


def test_a_tone_is_not_called_distorted() -> None:
    for pitch_hz in (50.0, 220.0, 3_000.0):
        clipping = Clipping()
        sound = np.sin(2 * np.pi * pitch_hz * np.arange(3 * RATE_HZ) / RATE_HZ)
        assert list(clipping.heard(iter([(0.7 * sound).astype(np.float32)])))
        assert clipping.share < 0


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_every_rate_of_a_codec_is_judged(rate_hz: int) -> None:
    assert find_faults(speech_like(4.0, rate_hz), rate_hz, 0.0) == ()
    assert find_faults(speech_like(1.0, rate_hz), rate_hz, 0.0)


@pytest.mark.parametrize(
    "odd",
    [
        np.eye(1, 2 * RATE_HZ, RATE_HZ, dtype=np.float32)[0],
        np.sign(np.sin(np.arange(2 * RATE_HZ))).astype(np.float32),
        np.full(2 * RATE_HZ, 1e-5, np.float32),
        np.zeros(RATE_HZ, np.float32),
    ],
    ids=["a click", "a square wave", "hardly anything", "nothing"],
)
def test_any_samples_are_judged(odd: Samples) -> None:
    assert all(each.startswith("speaker_file ") for each in find_faults(odd, RATE_HZ, 0.0))


@pytest.mark.parametrize(
    "made", [lambda length: noise(length, -20), chords], ids=["noise", "music"]
)
def test_a_minute_is_judged_in_the_memory_that_its_decoding_took(
    made: Callable[[int], Samples],
) -> None:
    samples = np.resize(made(5 * RATE_HZ), 60 * 44_100)
    find_faults(samples[:RATE_HZ], 44_100, 0.0)  # what numpy keeps for good
    tracemalloc.start()
    try:
        assert find_faults(samples, 44_100, 0.0)
        assert tracemalloc.get_traced_memory()[1] < MAX_BLOCKS_BYTES
    finally:
        tracemalloc.stop()
