"""Text that arrives piece by piece: it is read as the whole is."""

import random

import pytest
from hypothesis import given

from backend.core import Sentence
from backend.text.fold import fold
from backend.text.normalize import in_words
from backend.text.normalize.language import Languages
from backend.text.reading import Reading
from backend.text.sentences import PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S, is_sayable
from tests.fuzz.effort import effort
from tests.markdown import ANYTHING, MARKDOWN, cut

TEXT = (
    "Sure! Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday. He moved to the U.S. She "
    'stayed; it is 3.5 km, e.g. "over there." Is it? Yes... I think so.\n\n1. A list, (laughing) '
    "and more\n\n今日は晴れ。「行くよ。」と言った。そして出た！ मैं ठीक हूँ। ça va, e\u0301te\u0301. "
    "« Bien ! » dit-il. " + "words without any end " * 20 + "and a clause, " * 20 + "the end"
)


def in_english(text: str) -> str:
    return in_words(text, Languages("en"))


def read(reading: Reading, pieces: list[str]) -> list[Sentence]:
    sentences = [sentence for piece in pieces for sentence in reading.push(piece)]
    return sentences + reading.flush()


def live(pieces: list[str], max_characters: int) -> list[Sentence]:
    """As it stands."""
    return read(Reading(max_characters, is_live=True), pieces)


def said(pieces: list[str], *, is_live: bool, max_characters: int = 2000) -> list[Sentence]:
    """In words."""
    return read(Reading(max_characters, in_english, is_live=is_live), pieces)


def texts_of(sentences: list[Sentence]) -> list[str]:
    return [sentence.text for sentence in sentences]


def in_pieces(text: str, characters: int) -> list[str]:
    return [text[i : i + characters] for i in range(0, len(text), characters)]


@pytest.mark.parametrize("max_characters", [1, 10, 40, 200, 2000])
def test_sentences_do_not_depend_on_the_pieces(max_characters: int) -> None:
    whole = live([TEXT], max_characters)
    for characters in (1, 2, 3, 5, 8, 100):
        assert live(in_pieces(TEXT, characters), max_characters) == whole
    assert all(0 < len(sentence.text) <= max_characters for sentence in whole)


def test_nothing_is_lost() -> None:
    spoken = "".join(sentence.text for sentence in live([TEXT], 200))
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
        assert [c for c in spoken if c.isalnum()] == [c for c in fold(text) if c.isalnum()]


def test_a_sentence_is_told_as_soon_as_it_is_sure() -> None:
    reading = Reading(200, is_live=True)
    assert reading.push("It costs 3.") == []
    assert reading.push("5 dollars.") == []
    assert reading.push(" W") == []  # a mark may follow the W
    assert reading.push("ell") == [Sentence("It costs 3.5 dollars.", SENTENCE_PAUSE_S)]
    assert reading.push(" done\n\n") == []
    assert reading.push("N") == [Sentence("Well done", PARAGRAPH_PAUSE_S)]
    assert reading.push("o, Dr. Smith") == []
    assert reading.flush() == [Sentence("No, Dr. Smith", PARAGRAPH_PAUSE_S)]
    assert reading.flush() == []


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["Sure!", " H", "er"], [[], [], ["Sure!"]]),
        (["Sure!\n", "\nHe", "re"], [[], ["Sure!"], []]),
        (["# News\n", "It"], [[], ["News."]]),
        (["- It is 5 km. ", "And mo"], [[], ["It is five kilometers."]]),
        (["**Note:** it is. ", "And"], [[], ["Note: it is."]]),
        (["Look. [It is", " so](http", "://x.y). Bye"], [[], [], ["Look.", "It is so."]]),
        (["Yes. 😀", " Well"], [[], ["Yes."]]),
    ],
)  # fmt: skip
def test_no_sentence_waits_for_the_end_of_its_line(
    pieces: list[str], told: list[list[str]]
) -> None:
    reading = Reading(200, in_english, is_live=True)
    assert [texts_of(reading.push(piece)) for piece in pieces] == told


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "Run this first.\n```bash\nls -la\n```\nThen look at the output. It lists files.",
            ["Run this first.", "ls -la.", "Then look at the output.", "It lists files."],
        ),
        (
            "Here is a list:\n\n- First item\n- Second item\n- Third item\n\nThat is all.",
            ["Here is a list:", "First item.", "Second item.", "Third item.", "That is all."],
        ),
        ("| Name | Age |\n|------|-----|\n| Ann | 30 |\n", ["Name, Age.", "Ann, thirty."]),
        ("# News\n> It is 5 p.m.\n---\nMore", ["News.", "It is five PM.", "More"]),
        ("A *b c. D e* and [f. G](http://x.y).\n\n***", ["A b c.", "D e and f.", "G."]),
        ("One.\n\n════\n\n• • •\n\n...\n\n—\n\n😀\n\nTwo.", ["One.", "Two."]),
        ("Fish &amp; <b>chips</b>.<br>Salt", ["Fish and chips.", "Salt"]),
    ],
)
def test_markdown_is_read_live(text: str, sentences: list[str]) -> None:
    for characters in (1, 4, 1000):
        assert texts_of(said(in_pieces(text, characters), is_live=True)) == sentences


@effort(150)
@given(cut(MARKDOWN | ANYTHING))
def test_live_text_is_read_as_the_whole_is(texts: tuple[str, list[str]]) -> None:
    """All but that short sentences join others in the whole, and take their pauses along."""
    text, pieces = texts
    written = said([text], is_live=True)
    assert said(pieces, is_live=True) == written
    whole = said([text], is_live=False)
    assert said(pieces, is_live=False) == whole
    assert _flat(written) == _flat(whole)
    assert _paragraph_ends(whole) <= _paragraph_ends(written)
    assert all(is_sayable(sentence.text) for sentence in written + whole)


@effort(60)
@given(cut(MARKDOWN))
def test_short_limits_do_not_depend_on_the_pieces(texts: tuple[str, list[str]]) -> None:
    text, pieces = texts
    for limit in (1, 20, 80):
        written = said([text], is_live=True, max_characters=limit)
        assert said(pieces, is_live=True, max_characters=limit) == written
        assert all(0 < len(sentence.text) <= limit for sentence in written)


def test_long_text_is_read_as_the_short_is() -> None:
    """A fence, a list and a link lie across any place where a long text may be cut."""
    paragraph = (
        "Dr. Smith paid $3.50, and [he left](https://x.y/z_(1)). **Then** he:\n- slept well there\n"
        "- ate\n```sh\nls -la | grep it\n```\nAnd so it went on.\n\n"
    )
    one = texts_of(said([paragraph], is_live=False))
    text = paragraph * 200
    for characters in (1999, 2000, 6000, len(text)):
        assert texts_of(said(in_pieces(text, characters), is_live=False)) == one * 200


def test_a_sentence_without_an_end_is_cut() -> None:
    reading = Reading(100, in_english)
    told = sum(len(sentence.text) for sentence in reading.push("word " * 4000))
    assert told > 10_000, "all but the longest sentence and a little"
    assert all(set(each.split()) == {"word"} for each in texts_of(reading.flush()))


def test_what_never_ends_is_cut_and_not_kept() -> None:
    reading = Reading(100, is_live=True)
    told = sum(len(sentence.text) for sentence in reading.push("word " * 1000))
    assert told > 3700, "all but the limit and a little"
    assert reading.push("a" * 1000), "words too"


@pytest.mark.parametrize("text", ["", " \n\n ", "\x00\ufeff", "...", "═" * 500, "😀", "# \n***"])
def test_blank(text: str) -> None:
    assert said([text], is_live=True) == said([text], is_live=False) == live([text], 10) == []


def test_zero_characters_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="0 characters"):
        Reading(0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a", "!", '."', "word ", "A. ", "No. ", "。", "\n", " ", "e\u0301", ". ", "- a\n"]
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    live(list(unit * (100_000 // len(unit))), 400)
    said(in_pieces(unit * (50_000 // len(unit)), 2000), is_live=False)


def _flat(sentences: list[Sentence]) -> str:
    return "".join("".join(sentence.text.split()) for sentence in sentences)


def _paragraph_ends(sentences: list[Sentence]) -> set[int]:
    """Characters before each pause of a paragraph."""
    ends, characters = set(), 0
    for sentence in sentences:
        characters += len("".join(sentence.text.split()))
        if sentence.pause_s == PARAGRAPH_PAUSE_S:
            ends.add(characters)
    return ends
