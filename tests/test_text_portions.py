"""Long texts in portions: nothing is lost, most are one, and none is too long to wait for."""

import random

import pytest

from backend.text.portions import MOST_CHARACTERS, PORTION_CHARACTERS, portions
from backend.text.sentences import Splitter, split_text

PARAGRAPH = "Dr. Smith paid $3.50 to J. R. Brown. He left at 5 p.m. and came home.\n\n"
ALPHABET = " \n.!?。aAé字,\u2029"


@pytest.mark.parametrize(
    "text",
    ["", "Short.", PARAGRAPH * 500, "word " * 20_000, "x" * 100_000, "字。" * 30_000, "\n" * 9000],
)
def test_joined_they_are_the_text(text: str) -> None:
    pieces = list(portions(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= MOST_CHARACTERS for piece in pieces)


def test_any_text_is_kept_whole() -> None:
    rng = random.Random(5)
    for _ in range(50):
        text = "".join(rng.choices(ALPHABET, weights=(9, 3, 1, 1, *[4] * 8), k=20_000))
        pieces = list(portions(text))
        assert "".join(pieces) == text
        assert all(0 < len(piece) <= MOST_CHARACTERS for piece in pieces)


def test_a_text_of_paragraphs_is_cut_between_them() -> None:
    pieces = list(portions(PARAGRAPH * 200))
    assert len(pieces) > 5
    assert all(piece.endswith("\n\n") and len(piece) >= PORTION_CHARACTERS for piece in pieces[:-1])


def test_a_long_paragraph_is_cut_after_a_sentence() -> None:
    text = "Dr. Smith paid the bill and left. " * 1000
    assert all(piece.endswith("left. ") for piece in portions(text))


@pytest.mark.parametrize("text", [PARAGRAPH * 300, "A heading\n\n" + PARAGRAPH * 100 + "End."])
def test_sentences_are_those_of_the_whole(text: str) -> None:
    splitter = Splitter(200)
    sentences = [each for portion in portions(text) for each in splitter.push(portion)]
    assert (*sentences, *splitter.flush()) == split_text(text, 200)
