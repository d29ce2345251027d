"""Text that arrives piece by piece."""

import random

import pytest

from backend.core import Sentence
from backend.text.fold import fold
from backend.text.live import LiveSplitter
from backend.text.sentences import PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S

TEXT = (
    "Sure! Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday. He moved to the U.S. She "
    'stayed; it is 3.5 km, e.g. "over there." Is it? Yes... I think so.\n\n1. A list, (laughing) '
    "and more\n\n今日は晴れ。「行くよ。」と言った。そして出た！ मैं ठीक हूँ। ça va, e\u0301te\u0301. "
    "« Bien ! » dit-il. " + "words without any end " * 20 + "and a clause, " * 20 + "the end"
)


def live(pieces: list[str], max_characters: int) -> list[Sentence]:
    splitter = LiveSplitter(max_characters)
    sentences = [sentence for piece in pieces for sentence in splitter.push(piece)]
    return sentences + splitter.flush()


def in_pieces(text: str, characters: int) -> list[str]:
    return [text[i : i + characters] for i in range(0, len(text), characters)]


@pytest.mark.parametrize("max_characters", [1, 10, 40, 200, 2000])
def test_sentences_do_not_depend_on_the_pieces(max_characters: int) -> None:
    whole = live([TEXT], max_characters)
    for characters in (1, 2, 3, 5, 8, 100):
        assert live(in_pieces(TEXT, characters), max_characters) == whole
    assert all(0 < len(sentence.text) <= max_characters for sentence in whole)
    spoken = "".join(sentence.text for sentence in whole)
    assert "".join(spoken.split()) == "".join(fold(TEXT).split())


def test_random_text_does_not_depend_on_the_pieces() -> None:
    draw = random.Random(0)
    alphabet = "aB1 .!?…。！,;—\n\"'\u0301\u200d👍🏽🇩🇪한\u1161　-»と\r\x00"
    for _ in range(500):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 300)))
        limit = draw.randint(1, 60)
        whole = live([text], limit)
        assert live(list(text), limit) == whole
        assert live(in_pieces(text, draw.randint(2, 9)), limit) == whole
        assert all(0 < len(sentence.text) <= limit for sentence in whole)
        spoken = "".join(sentence.text for sentence in whole)
        assert "".join(spoken.split()) == "".join(fold(text).split())


def test_a_sentence_is_told_as_soon_as_it_is_sure() -> None:
    splitter = LiveSplitter(200)
    assert splitter.push("It costs 3.") == []
    assert splitter.push("5 dollars.") == []
    assert splitter.push(" W") == []  # a mark may follow the W
    assert splitter.push("ell") == [Sentence("It costs 3.5 dollars.", SENTENCE_PAUSE_S)]
    assert splitter.push(" done\n\n") == []
    assert splitter.push("N") == [Sentence("Well done", PARAGRAPH_PAUSE_S)]
    assert splitter.push("o, Dr. Smith") == []
    assert splitter.flush() == [Sentence("No, Dr. Smith", PARAGRAPH_PAUSE_S)]
    assert splitter.flush() == []


def test_what_never_ends_is_cut_and_not_kept() -> None:
    splitter = LiveSplitter(100)
    told = sum(len(sentence.text) for sentence in splitter.push("word " * 1000))
    assert told > 3700, "all but the limit and a little"
    assert splitter.push("a" * 1000), "words too"


@pytest.mark.parametrize("text", ["", " \n\n ", "\x00\ufeff"])
def test_blank(text: str) -> None:
    assert live([text], 10) == []


def test_zero_characters_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="0 characters"):
        LiveSplitter(0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a", "!", '."', "word ", "A. ", "No. ", "。", "\n", " ", "e\u0301"]
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    live(list(unit * (100_000 // len(unit))), 400)
