"""What judges the shipped voice hears what is said, and nothing where nothing is."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.demo_voice import recognise
from training.demo_voice.compare import WordErrors, repeated, word_errors
from training.demo_voice.espeak_reader import SAMPLE_RATE_HZ, Speaker, read_aloud
from training.demo_voice.measure import Samples
from training.demo_voice.recognise import transcribe

RATE_HZ = 16_000
SPEAKER = Speaker("en-us+m1", rate_wpm=150)
"""Of espeak-ng's voices one that Whisper understands."""
TEXT = "The bakery on the corner sells fresh rolls every morning until they run out."
needs_a_reader = pytest.mark.skipif(
    sys.platform == "win32", reason="what reads aloud here is loaded as POSIX does it"
)


def noise(level: float) -> Samples:
    drawn = np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    return (level * drawn).astype(np.float32)


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros(3 * RATE_HZ, np.float32),
        np.zeros(10, np.float32),
        noise(1e-4),
        noise(0.05),
        (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)).astype(np.float32),
    ],
    ids=["silence", "hardly anything", "a codec's noise", "noise", "a tone"],
)
def test_nothing_is_heard_where_nobody_speaks(pcm: NDArray[np.float32]) -> None:
    heard = transcribe(pcm, RATE_HZ)
    assert heard.text == ""
    assert heard.no_speech > recognise.MOST_NO_SPEECH


@needs_a_reader
def test_what_is_said_is_heard_at_any_rate() -> None:
    (pcm,) = read_aloud([TEXT], SPEAKER)
    heard = transcribe(pcm, SAMPLE_RATE_HZ)
    assert word_errors(TEXT, heard.text).errors <= 1
    assert heard.no_speech < 0.25
    assert heard.log_probability > -0.7
    slower = transcribe(pcm, SAMPLE_RATE_HZ * 9 // 10)
    assert word_errors(TEXT, slower.text).errors <= 2


@needs_a_reader
def test_speech_longer_than_the_window_is_heard_whole() -> None:
    texts = [f"Sentence number {number}. {TEXT}" for number in ("one", "two", "three", "four")]
    pause = np.zeros(SAMPLE_RATE_HZ // 2, np.float32)
    pcm = np.concatenate(
        [part for each in read_aloud(texts * 2, SPEAKER) for part in (each, pause)]
    )
    assert len(pcm) / SAMPLE_RATE_HZ > 35
    errors = word_errors(" ".join(texts * 2), transcribe(pcm, SAMPLE_RATE_HZ).text)
    assert errors.rate < 0.4  # espeak-ng's sentences, one after another, are not easy
    assert errors.deletions < 0.1 * errors.words


def test_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"another")
    monkeypatch.setattr(recognise, "files", lambda package: tmp_path)
    recognise._loaded.cache_clear()
    with pytest.raises(RuntimeError, match="not the recogniser that was measured"):
        transcribe(noise(0.05), RATE_HZ)
    recognise._loaded.cache_clear()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("We meet at 6:45 on March 14.", "We meet at six forty-five on March 14th."),
        ("He comes at half past seven.", "He comes at 7:30."),
        ("At 6:45, or at 10:15, 250 people came.", "At 645 or at 10 15, 250 people came."),
        ("It costs $72.50.", "It costs 72 dollars and 50 cents."),
        ("It's our neighbour's colour, isn't it?", "It is our neighbors color, is not it"),
        ("They travelled on, and he apologised.", "They traveled on and he apologized"),
        ("A bookshop for ill-disposed men.", "A book shop for ill disposed men"),
        ("They need 250 grams.", "They need two hundred fifty grams"),
        ("We can't go; I'm ill.", "we cannot go, I am ill"),
        ("Mr. Thompson and Dr. Miller", "Mister Thompson and Doctor Miller"),
        ("In 1950 and 2020, 250,000", "in nineteen fifty and twenty twenty 250 thousand"),
        ("Her number is 555 0198.", "Her number is 5550198"),
    ],
)  # fmt: skip
def test_how_it_is_written_is_no_error(said: str, heard: str) -> None:
    assert word_errors(said, heard).errors == 0


@pytest.mark.parametrize(
    ("heard", "kinds"),
    [
        ("the cat sat on the mat", (0, 0, 0)),
        ("the cat sat on a mat", (1, 0, 0)),
        ("the cat sat on the the mat", (0, 1, 0)),
        ("the cat on mat", (0, 0, 2)),
        ("a cat sat there on mat", (1, 1, 1)),
        ("", (0, 0, 6)),
    ],
)
def test_errors_are_told_apart(heard: str, kinds: tuple[int, int, int]) -> None:
    errors = word_errors("The cat sat on the mat.", heard)
    assert (errors.substitutions, errors.insertions, errors.deletions) == kinds
    assert errors.errors == sum(kinds)
    assert errors.rate == pytest.approx(sum(kinds) / 6)


def test_errors_add_up() -> None:
    assert WordErrors(4, 1, 0, 2) + WordErrors(6, 0, 1, 0) == WordErrors(10, 1, 1, 2)


def test_what_is_said_twice_is_noticed() -> None:
    said = "The dog ran home and the dog ran away."
    assert not repeated(said, said)
    assert repeated(said, "The dog ran home and the dog ran away and the dog ran away.")
    assert repeated("We went to the shop.", "We went to the we went to the shop")
