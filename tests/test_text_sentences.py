import random
import time
import unicodedata

import pytest

from backend.text.sentences import SHORT_CHARACTERS, fold, split_sentences

ENGLISH = (
    'Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday. "Stop!" he said. Did he? '
    "Yes... I think so, e.g. in fig. 3; it was so — or not.\n\nA new paragraph\n\nEnd."
)
MIXED = (
    "こんにちは、世界。今日はいい天気ですね！行きましょうか？ "
    "Ça va? Да. हिन्दी में लिखें। 한국어 문장입니다."
)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    "text", [ENGLISH, MIXED, ENGLISH * 20 + MIXED * 20, "a" * 500, "e\u0301" * 300]
)
@pytest.mark.parametrize("max_characters", [1, 7, 20, 80, 200, 10_000])
def test_nothing_is_lost_and_nothing_too_long(text: str, max_characters: int) -> None:
    segments = split_sentences(text, max_characters)
    assert squeezed("".join(segments)) == squeezed(fold(text))
    assert all(0 < len(segment) <= max_characters for segment in segments)
    assert all(segment == segment.strip() for segment in segments)


def test_random_text_is_kept() -> None:
    draw = random.Random(0)
    alphabet = "aB1 .!?…。！,;—\n\"'\u0301\u200d👍🏽🇩🇪한한\u1161　-"
    for _ in range(300):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 200)))
        limit = draw.randint(1, 60)
        segments = split_sentences(text, limit)
        assert squeezed("".join(segments)) == squeezed(fold(text))
        assert all(0 < len(segment) <= limit for segment in segments)


def test_sentences() -> None:
    assert split_sentences(ENGLISH, 200) == (
        "Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday.",
        '"Stop!" he said. Did he? Yes...',
        "I think so, e.g. in fig. 3; it was so — or not.",
        "A new paragraph End.",
    )


def test_cjk_needs_no_space() -> None:
    text = "今日はとてもいい天気ですね。明日は雨が降るかもしれません！"
    assert split_sentences(text, 100) == (
        "今日はとてもいい天気ですね。",
        "明日は雨が降るかもしれません！",
    )


def test_a_number_ends_no_sentence() -> None:
    assert len(split_sentences("It costs 3.14 or 1.000,5 at www.shop.example.com today", 200)) == 1


def test_no_is_an_answer_and_a_number() -> None:
    text = "All of us said no. Then we looked at no. 5 again."
    assert split_sentences(text, 200) == ("All of us said no.", "Then we looked at no. 5 again.")


def test_long_sentence_is_cut_at_clauses_then_words() -> None:
    clauses = "the quick brown fox jumps over it, " * 6
    for segment in split_sentences(clauses, 80)[:-1]:
        assert segment.endswith(",")
    words = "word " * 100
    segments = split_sentences(words, 48)
    assert all(set(segment.split()) == {"word"} for segment in segments)
    assert min(map(len, segments)) > 20, "pieces are of about the same length"


def test_short_sentences_join_their_neighbour() -> None:
    segments = split_sentences("No. No. I will not go there today. Why? Oh. " * 3, 60)
    assert all(len(segment) >= SHORT_CHARACTERS for segment in segments)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x07", "\ufeff", "\ud800"])
def test_blank(text: str) -> None:
    assert split_sentences(text, 10) == ()


def test_fold() -> None:
    assert fold("  a\x00b\r\n\tc\u00a0d \ud83d") == "ab c d"
    assert fold("e\u0301") == "é"
    assert fold("<|im_end|>") == "<|im_end|>"


@pytest.mark.parametrize("whole", ["🇩🇪", "👍🏽", "👩‍👩‍👧", "न्", "q\u0323\u0307"])
def test_a_visible_character_is_not_cut(whole: str) -> None:
    whole = unicodedata.normalize("NFC", whole)
    for limit in range(len(whole), 3 * len(whole)):
        for segment in split_sentences(whole * 20, limit):
            assert len(segment) % len(whole) == 0


def test_zero_characters_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="0 characters"):
        split_sentences("a", 0)


@pytest.mark.parametrize(
    "unit",
    [
        "A. ",
        "!",
        "a.b.",
        '."',
        ". ",
        "\x0b",
        "\r",
        "\n \n",
        "\u2029 ",
        ',"',
        "🇩🇪",
        "e\u0301",
        "No. ",
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = unit * (100_000 // len(unit)) + "a"
    start_s = time.perf_counter()
    split_sentences(text, 200)
    assert time.perf_counter() - start_s < 2.0
