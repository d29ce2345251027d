"""Where sentences end, how long ones are cut, and the silence between them."""

import random
import unicodedata

import pytest

from backend.text.fold import Folder, fold
from backend.text.sentences import (
    CLAUSE_PAUSE_S,
    PARAGRAPH_PAUSE_S,
    SENTENCE_PAUSE_S,
    SHORT_CHARACTERS,
    WORD_PAUSE_S,
    next_end,
    split_text,
)

ENGLISH = (
    'Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday. "Stop!" he said. Did he? '
    "Yes... I think so, e.g. in fig. 3; it was so — or not.\n\nA new paragraph\n\nEnd."
)
MIXED = (
    "こんにちは、世界。今日はいい天気ですね！行きましょうか？ "
    "Ça va? Да. हिन्दी में लिखें। 한국어 문장입니다."
)


ENDS = [
    "Hello world. ‖This is it.",
    "Dr. Smith went home. ‖He slept.",
    "Mr. and Mrs. Brown met Prof. Lee. ‖They talked.",
    "It was 5 p.m. yesterday. ‖We left.",
    "We met at 5 p.m. ‖Then we left.",
    "We met at 5 p.m. EST today. ‖Then we left.",
    "It begins at 9 a.m. UTC. ‖Then we left.",
    "I paid $3.50 for it. ‖Cheap!",
    "Version 2.1.3 is out. ‖Get it.",
    "See www.example.com for more. ‖Bye.",
    "He lives in the U.S. and works there.",
    "He moved to the U.S. ‖She stayed.",
    "The U.S. Army came.",
    "J. R. R. Tolkien wrote it. ‖I read it.",
    "George W. Bush spoke. ‖We listened.",
    "Well... ‖I think so.",
    "Yes... ‖I think so.",
    "I don't know… ‖Maybe.",
    "He said so … and left.",
    '"Stop!" he said. ‖Did he?',
    "“Stop!” he said. ‖“Why?” ‖She left.",
    'He said: "I will go." ‖Then he left.',
    "“I will go. ‖You stay,” he said. ‖They parted.",
    "He left (he was tired). ‖I stayed.",
    "He left. ‖(He was tired.) ‖I stayed.",
    "Really?! ‖Yes!!! ‖Good.",
    "Use tools, e.g. a hammer. ‖Then rest.",
    "Use tools, i.e. Hammers, etc. and rest.",
    "We bought apples, pears, etc. ‖Then we left.",
    "See fig. 3 and vol. 2 on p. 10. ‖Done.",
    "He is no. 5 on the list. ‖I am no. 6.",
    "All of us said no. ‖Then we left.",
    "She lives on Main St. ‖He does not.",
    "St. Peter and St. Paul came. ‖All sang.",
    "Smith vs. Jones was heard. ‖It ended.",
    "Acme Inc. makes things. ‖Buy them.",
    "He works at Acme Corp. ‖She does not.",
    "On Jan. 5 he came. ‖On Feb. 3 he left.",
    "Gen. Lee and Col. Brown met Sgt. Pepper.",
    "It was me and I. ‖Then you came.",
    "This is plan B. ‖It works.",
    "Yahoo! is a company. ‖I used it.",
    "1. First we cook. ‖2. Then we eat.",
    "It is approx. Five miles. ‖Go.",
    "Go to Mt. Everest. ‖Climb.",
    "Ph.D. students work. ‖They sleep.",
    "He has a Ph.D. ‖She does not.",
    "I was born in 1999. ‖He in 2001.",
    "Is it 3? ‖No, 4.",
    "i am small. i am lower case.",
    "Das ist z. B. ein Haus. ‖Es ist alt.",
    "Das ist z.B. Holz. ‖Es ist alt.",
    "Am 3. Oktober war es so. ‖Er kam.",
    "Herr Dr. Müller kam. ‖Hr. Meier ging.",
    "Es kostet ca. 5 Euro. ‖Kaufen?",
    "M. Dupont est là. ‖Il dort.",
    "Mme. Dupont est là. ‖Elle dort.",
    "« Bonjour ! » dit-il. ‖Elle rit.",
    "¿Cómo estás? ‖¡Muy bien! ‖Gracias.",
    "El Sr. López vino. ‖La Sra. Ruiz no.",
    "Il Sig. Rossi è qui. ‖Dorme.",
    "今日は晴れ。‖明日は雨！‖本当？‖はい。",
    "彼は「行くよ。」と言った。‖そして出た。",
    "你好。‖今天天气好吗？‖很好！",
    "他说：“我走了。”‖然后走了。",
    "안녕하세요. ‖반갑습니다.",
    "मैं ठीक हूँ। ‖आप कैसे हैं? ‖अच्छा।",
    "كيف حالك؟ ‖أنا بخير. ‖شكرا!",
    "Он пришёл. ‖Она ушла! ‖Что?",
    "Это было в 1990 г. ‖Потом он ушёл.",
    "To jest np. dom. ‖Stary.",
    "Merhaba. ‖Nasılsın? ‖İyiyim.",
    "O Sr. Silva veio. ‖Ele dormiu.",
    "... ‖And then he came.",
    "Wait — what? ‖Nothing.",
    "Call me at 555.123.4567. ‖Thanks.",
    "It rose 5.5 percent. ‖It fell 3.2.",
    "That's all, folks! ‖(laughing) Good night.",
    "[sighs] I am tired. ‖(excited) Let us go!",
]
"""Each ‖ is the end of a sentence."""


def spoken(text: str, max_characters: int) -> tuple[str, ...]:
    return tuple(sentence.text for sentence in split_text(text, max_characters))


def sentences(paragraph: str) -> list[str]:
    """All of them, the short too."""
    found, start = [], 0
    while start < len(paragraph):
        end, _ = next_end(paragraph, start, start, is_complete=True)
        found.append(paragraph[start:end])
        start = end or len(paragraph)
    return found


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    "text", [ENGLISH, MIXED, ENGLISH * 20 + MIXED * 20, "a" * 500, "e\u0301" * 300]
)
@pytest.mark.parametrize("max_characters", [1, 7, 20, 80, 200, 10_000])
def test_nothing_is_lost_and_nothing_too_long(text: str, max_characters: int) -> None:
    segments = spoken(text, max_characters)
    assert squeezed("".join(segments)) == squeezed(fold(text))
    assert all(0 < len(segment) <= max_characters for segment in segments)
    assert all(segment == segment.strip() for segment in segments)


def test_random_text_is_kept() -> None:
    draw = random.Random(0)
    alphabet = "aB1 .!?…。！,;—\n\"'\u0301\u200d👍🏽🇩🇪한한\u1161　-"
    for _ in range(300):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 200)))
        limit = draw.randint(1, 60)
        segments = spoken(text, limit)
        assert squeezed("".join(segments)) == squeezed(fold(text))
        assert all(0 < len(segment) <= limit for segment in segments)


def test_sentences() -> None:
    assert spoken(ENGLISH, 200) == (
        "Dr. Smith paid $3.50 to J. R. Brown at 5 p.m. yesterday.",
        '"Stop!" he said. Did he? Yes...',
        "I think so, e.g. in fig. 3; it was so — or not.",
        "A new paragraph End.",
    )


@pytest.mark.parametrize("marked", ENDS)
def test_sentences_end(marked: str) -> None:
    assert sentences(marked.replace("‖", "")) == marked.split("‖")


def test_the_pause_is_what_a_reader_would_make() -> None:
    text = "This is the first sentence. This is the second sentence.\n\nThis is a paragraph."
    assert [sentence.pause_s for sentence in split_text(text, 200)] == [
        SENTENCE_PAUSE_S,
        PARAGRAPH_PAUSE_S,
        PARAGRAPH_PAUSE_S,
    ]
    cut = split_text("this is a long first clause, and this is the second one", 30)
    assert [sentence.pause_s for sentence in cut] == [CLAUSE_PAUSE_S, PARAGRAPH_PAUSE_S]
    cut = split_text("these are only words and no clause", 20)
    assert [sentence.pause_s for sentence in cut] == [WORD_PAUSE_S, PARAGRAPH_PAUSE_S]


def test_a_heading_is_spoken_with_what_follows() -> None:
    text = "The news\n\nIt rained all day long.\n\nYes.\n\nIt will rain tomorrow too."
    assert spoken(text, 200) == (
        "The news It rained all day long.",
        "Yes. It will rain tomorrow too.",
    )


def test_cjk_needs_no_space() -> None:
    text = "今日はとてもいい天気ですね。明日は雨が降るかもしれません！"
    assert spoken(text, 100) == (
        "今日はとてもいい天気ですね。",
        "明日は雨が降るかもしれません！",
    )


def test_a_number_ends_no_sentence() -> None:
    assert len(spoken("It costs 3.14 or 1.000,5 at www.shop.example.com today", 200)) == 1


def test_no_is_an_answer_and_a_number() -> None:
    text = "All of us said no. Then we looked at no. 5 again."
    assert spoken(text, 200) == ("All of us said no.", "Then we looked at no. 5 again.")


def test_long_sentence_is_cut_at_clauses_then_words() -> None:
    clauses = "the quick brown fox jumps over it, " * 6
    for segment in spoken(clauses, 80)[:-1]:
        assert segment.endswith(",")
    words = "word " * 100
    segments = spoken(words, 48)
    assert all(set(segment.split()) == {"word"} for segment in segments)
    assert min(map(len, segments)) > 20, "pieces are of about the same length"


def test_short_sentences_join_their_neighbour() -> None:
    segments = spoken("No. No. I will not go there today. Why? Oh. " * 3, 60)
    assert all(len(segment) >= SHORT_CHARACTERS for segment in segments)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x07", "\ufeff", "\ud800"])
def test_blank(text: str) -> None:
    assert spoken(text, 10) == ()


def test_fold() -> None:
    assert fold("  a\x00b\r\n\tc\u00a0d \ud83d") == "ab c d"
    assert fold("e\u0301") == "é"
    assert fold("<|im_end|>") == "<|im_end|>"


@pytest.mark.parametrize(
    "text", [ENGLISH, MIXED, "e\u0301\u0323 \r\n\r\n\x00a \u1100\u1161\u11a8 "]
)
def test_folding_does_not_depend_on_the_pieces(text: str) -> None:
    whole, single = Folder(), Folder()
    folded = "".join(map(single.push, text)) + single.flush()
    assert folded == whole.push(text) + whole.flush()
    assert folded == unicodedata.normalize("NFC", folded)
    assert folded.replace("\n", " ") == fold(text)


@pytest.mark.parametrize("whole", ["🇩🇪", "👍🏽", "👩‍👩‍👧", "न्", "q\u0323\u0307"])
def test_a_visible_character_is_not_cut(whole: str) -> None:
    whole = unicodedata.normalize("NFC", whole)
    for limit in range(len(whole), 3 * len(whole)):
        for segment in spoken(whole * 20, limit):
            assert len(segment) % len(whole) == 0


def test_zero_characters_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="0 characters"):
        spoken("a", 0)


@pytest.mark.timeout(30)
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
        "“",
        "word ",
        "U.S. A",
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = unit * (100_000 // len(unit)) + "a"
    assert spoken(text, 200)
