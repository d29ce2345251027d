"""Languages that nobody speaks."""

import random

import pytest

from training.demo_voice.tongues import tongue

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps."
SAID = b"\x51\x53\x10\x35\x41\x9c\x48\x35\x10\x2c\x7b\x9c\x27\x38\x10\x30\x9c\x45\x35\x3d\x04"


@pytest.mark.parametrize("seed", ["0", "1", "2", "3", "4", "5"])
def test_one_sound_always_becomes_the_same_other(seed: str) -> None:
    own = tongue(seed)
    text, said = own.say(TEXT, SAID, random.Random(0))
    assert (text, said) == tongue(seed).say(TEXT, SAID, random.Random(0)), "it keeps its rules"
    assert text != TEXT and said != SAID
    assert [len(word) for word in text.split()] == [len(word) for word in TEXT.split()]
    short = said.replace(b"\x9e", b"")
    assert len(short) == len(SAID)
    assert bytes(sound for sound in SAID if sound in b"\x10\x9c\x04") == bytes(
        sound for sound in short if sound in b"\x10\x9c\x04"
    ), "stress, pauses and the end stay"


def test_words_come_in_another_order_with_their_sounds() -> None:
    text, said = "one two three", b"\x38\x10\x3e\x10\x77"
    own = tongue("order")
    written = {word.translate(own.letters): sound for word, sound in zip(
        text.split(), said.split(b"\x10"), strict=True)}  # fmt: skip
    for seed in range(5):
        words, sounds = own.say(text, said, random.Random(seed))
        for word, sound in zip(words.lower().split(), sounds.split(b"\x10"), strict=True):
            assert written[word].translate(own.sounds) == sound


def test_they_are_written_in_many_scripts() -> None:
    letters = {letter for n in range(40) for letter in tongue(str(n)).letters.values()}
    for some in ("a", "ж", "λ", "ñ"):
        assert some in letters
    assert all(len(set(tongue(str(n)).letters.values())) > 15 for n in range(40))
