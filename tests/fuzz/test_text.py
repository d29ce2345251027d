"""Text of every kind that has rules, in any mixture and any number of times: read, and in time."""

import time

from hypothesis import given
from hypothesis import strategies as st

from backend.core import LANGUAGES
from backend.text.normalize import normalize
from backend.text.sentences import split_text
from tests.fuzz.effort import effort

PIECES = (
    *("$", "$x^2$", "\\frac{", "\\(", "\\)", "\\[", "\\alpha", "{", "}", "^", "_", "$5", "$1,000"),
    *("[1]", "[1, 4–6]", "[^1]", "[", "]", "【1†", "²³", "a[2]", "[x](y)", "[[1]]"),
    *("1h 20m", "5m 30s", "90s", "747s", "2.3m people", "1", "0", "12:30", "10:30 a.m. EST", "Z"),
    *(
        "10 000",
        "1,00,000",
        "1'000",
        "1_000",
        "\u202f000",
        " 000",
        ",00",
        "(555) 123-4567",
        "+44 20",
    ),
    *("0800 ", "-", "–", "−", "+", "=", "/", "*", "×", "<", ">", ":", ".", ",", "'", '"', "’"),
    *(
        "Genesis 1:1-3",
        "3:2",
        "737-800",
        "1/2",
        "24/7",
        "12/25/24",
        "%",
        "°C",
        "km/h",
        " km",
        "1e5",
    ),
    *("Act Ⅳ", "ⅸ", "ﬁ", "①", "Ａ", "𝐛", "½", "⁄", "ʜᴇ", "🅰", "Ⅽ", "ｶﾞ", "ﷺ", "㎏", "№", "º"),
    *(
        "Mr.",
        "MR. ",
        "Co. Ltd.",
        "Henry VIII",
        "I",
        "II",
        "Chapter ",
        "MM",
        "St. ",
        "No. ",
        "et al.",
    ),
    *("C++", "F#", ".NET", "v1.2.3", "Python 3.1", "/etc/hosts", "C:\\a\\b", "a.py", "@a_b", "#Ab"),
    *(
        "a@b.com",
        "http://",
        "www.",
        "localhost:1",
        "~/",
        "Ctrl+C",
        "A+",
        "A/B",
        "α",
        "→",
        ">=",
        "->",
    ),
    *("one ", "The ", "é", "漢", "か", "한", "Ж", "ش", "३", "😀", "\u200d", "\ud800", "\x00"),
    *(" ", "  ", "\n", "\n\n", "\t", "\u3000", "(", ")"),
)
LONGEST = 12_000
_CPU_S = 0.5
_CPU_S_PER_CHARACTER = 150e-6
"""The slowest piece of those that were tried, "x<", took 41 µs on 2 shared cores."""


def read_in_time(text: str, language: str) -> str:
    began_s = time.process_time()
    said = normalize(text, language)
    took_s = time.process_time() - began_s
    assert took_s < _CPU_S + _CPU_S_PER_CHARACTER * len(text), f"{took_s:.2f} s for {text[:40]!r}"
    return said


@effort(100)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.sampled_from(LANGUAGES))
def test_any_mixture_is_read(pieces: list[str], language: str) -> None:
    said = read_in_time("".join(pieces), language)
    assert said == said.strip()
    said.encode()
    assert "\n\n\n" not in said
    for sentence in split_text(said, 80):
        assert 0 < len(sentence.text) <= 80


@effort(12)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
def test_what_is_repeated_is_read_in_proportion(pieces: list[str]) -> None:
    unit = "".join(pieces)
    read_in_time(f" {unit * (LONGEST // len(unit))}x", "en")
