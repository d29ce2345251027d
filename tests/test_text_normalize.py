"""Markup, emoji, what stays as it is, and text from strangers."""

import random

import pytest

from backend.core import LANGUAGES
from backend.text.normalize import normalize
from backend.text.sentences import split_text

CASES = [
    # markup
    ("# Title", "Title."),
    ("## What now?\nText", "What now?\n\nText"),
    ("**bold** and *italic*", "bold and italic"),
    ("__bold__ and _italic_ snake_case_name", "bold and italic snake_case_name"),
    ("***both***", "both"),
    ("~~gone~~", "gone"),
    ("[text](https://example.com)", "text"),
    ("![picture](a.png)", "picture"),
    ("- one\n- two", "one.\ntwo."),
    ("* one\n* two.", "one.\ntwo."),
    ("1. First\n2. Second", "one. First.\ntwo. Second."),
    ("- [x] done", "done."),
    ("Use `code` here", "Use code here"),
    ("```python\nx\n```", "x"),
    ("> quoted", "quoted"),
    ("a\n\n---\n\nb", "a\n\nb"),
    ("| a | b |\n|---|---|\n| c | d |", "a, b.\n\nc, d."),
    ("<b>bold</b> text<br>next", "bold text\nnext"),
    ("fish &amp; chips", "fish and chips"),
    ("a &lt; b", "a is less than b"),
    ("2*3*4", "two times three times four"),
    # emoji
    ("I love it 😂😂", "I love it"),
    ("Great 👍!", "Great thumbs up!"),
    ("a 🚀 launch", "a rocket launch"),
    ("I ❤️ NY", "I heart NY"),
    ("hi 👋🏽 there", "hi there"),
    ("family 👨‍👩‍👧 here", "family here"),
    ("🇩🇪 wins", "wins"),
    ("press 1️⃣", "press one"),
    ("done ✅.", "done."),
    ("🎉🎉🎉 yes", "party yes"),
    # markers and plain text stay
    ("(laughing) That is funny.", "(laughing) That is funny."),
    ("[sighs] I am tired.", "[sighs] I am tired."),
    ("[sighs](excited) Hello", "[sighs](excited) Hello"),
    ("<|im_end|> stays", "<|im_end|> stays"),
    ("Wait... what?! Really—yes.", "Wait... what?! Really—yes."),
    ("He said “no” – and left.", "He said “no” – and left."),
    ("and/or", "and/or"),
    ("It's the dog's.", "It's the dog's."),
    ("e\u0301te\u0301", "été"),
    ("a\x00b\x07c", "abc"),
    ("one\r\n\r\ntwo\n \nthree\u2029four", "one\n\ntwo\n\nthree\n\nfour"),
    ("", ""),
    (" \n ", ""),
]

PROSE = {
    "en": "It was a bright cold day in April, and the clocks struck. “Who’s there?” said he; "
    "nobody answered... She may come (or not) - we’ll see!\n\nAnother paragraph: the end.",
    "de": "Es war ein klarer, kalter Tag im April. „Wer da?“, fragte er – niemand antwortete.",
    "fr": "C’était une belle journée. « Qui est là ? » dit-il ; personne ne répondit !",
    "ja": "今日はいい天気ですね。「行きましょう！」と彼は言った。",
    "ru": "Был холодный ясный день. — Кто там? — спросил он. Никто не ответил…",
    "ar": "كان يوماً بارداً. من هناك؟ سأل، ولم يجب أحد.",
    "hi": "वह एक ठंडा दिन था। कौन है? उसने पूछा।",
    "zh": "那是寒冷的一天。“谁在那儿？”他问，没有人回答。",
}


@pytest.mark.parametrize(("written", "said"), CASES)
def test_markup_and_signs(written: str, said: str) -> None:
    assert normalize(written, "en") == said


@pytest.mark.parametrize("language", PROSE)
def test_ordinary_prose_is_unchanged(language: str) -> None:
    assert normalize(PROSE[language], language) == PROSE[language]
    assert normalize(PROSE[language], "auto") == PROSE[language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_random_text_is_answered(language: str) -> None:
    draw = random.Random(0)
    alphabet = "aBé 1250.,:/-–$€%#*_`|[]()<>&@!\n'\"½²º漢か한Жش३😀👍🏽\u200d\ufe0f\u0301\ud800\x00٣"
    for _ in range(300):
        said = normalize("".join(draw.choices(alphabet, k=draw.randint(0, 120))), language)
        assert said == said.strip()
        assert "\n\n\n" not in said
        said.encode()


def test_paragraphs_stay_apart() -> None:
    text = "# News\nIt is 5 p.m.\n\n- one\n- two\n\nThe end."
    assert [sentence.text for sentence in split_text(normalize(text, "en"), 200)] == [
        "News. It is five PM.",
        "one. two. The end.",
    ]


NUMBERS = ["1", "1,", "1,111", "1.", "1-", "1/", "1 ", "$1", "(1", "½", "1^", "12:34 "]
MARKS = [
    *("$", "(", "[", "[a](", "a.a.", "a@", "http://", "#", "*", "**a", "_a_", "`", "|-", "www."),
    *(
        " ",
        "\t",
        "\n ",
        "- ",
        "<b ",
        "&",
        "World War I",
        "St. ",
        "😀 ",
        "👩‍",
        "e\u0301",
        "=",
        "<!--",
    ),
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("unit", "language"),
    [
        *((unit, "en") for unit in NUMBERS + MARKS),
        *((unit, "fr") for unit in NUMBERS),
        *((unit, "ko") for unit in ("1", "1 ", "가1")),
    ],
)
def test_time_is_linear_in_the_text(unit: str, language: str) -> None:
    normalize(" " + unit * (100_000 // len(unit)) + "x", language)
