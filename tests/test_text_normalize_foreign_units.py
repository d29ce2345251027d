"""Short texts of every language whole in it: numbers, money, units, ordinals, dates and times."""

import re
from pathlib import Path

import pytest

from backend.core import LANGUAGES
from backend.text.normalize import normalize
from backend.text.normalize.foreign_units import UNITS
from backend.text.normalize.foreign_words import WORDS
from backend.text.normalize.number import cardinal
from backend.text.normalize.number_tables import chinese, hindi, native_korean
from benchmarks.language import sentences

SAID = Path(__file__).parent / "said" / "foreign.tsv"
"""Lines "language, written, said", with tabs between them; read through by us, line by line."""
CASES = [tuple(line.split("\t")) for line in SAID.read_text("utf-8").splitlines()]
OTHERS = [each for each in LANGUAGES if each not in ("auto", "en")]
_LEFT = re.compile(r"\d|[°²³%€$£]")


@pytest.mark.parametrize(("language", "written", "said"), CASES)
def test_said(language: str, written: str, said: str) -> None:
    assert normalize(written, language) == said


@pytest.mark.parametrize("language", OTHERS)
def test_there_are_cases(language: str) -> None:
    assert sum(each == language for each, _, _ in CASES) >= 10
    assert language in WORDS and language in UNITS


@pytest.mark.parametrize("language", OTHERS)
def test_no_figure_is_left_of_short_sentences(language: str) -> None:
    for sentence in sentences(language):
        said = normalize(sentence, language)
        assert not _LEFT.search(said), (sentence, said)


@pytest.mark.parametrize("language", OTHERS)
def test_every_unit_is_said_after_every_kind_of_number(language: str) -> None:
    point = "." if language in ("zh", "ja", "ko", "hi", "ar") else ","
    for unit in UNITS[language]:
        for number in (
            "0",
            "1",
            "2",
            "3",
            "5",
            "11",
            "21",
            "22",
            "100",
            f"1{point}5",
            f"0{point}05",
        ):
            for written in (f"{number} {unit}", f"{number}{unit}", f"-{number} {unit}"):
                said = normalize(written, language)
                assert not _LEFT.search(said), (written, said)
                assert "  " not in said and "|" not in said and "{" not in said, (written, said)


@pytest.mark.parametrize("language", OTHERS)
def test_every_sign_of_money_is_said(language: str) -> None:
    point = "." if language in ("zh", "ja", "ko", "hi", "ar") else ","
    for sign in WORDS[language].currencies:
        for number in ("0", "1", "2", "5", "21", f"1{point}5", f"0{point}50", f"5{point}50"):
            # A full stop ends a sentence, and one in another script is that script's.
            is_prefix = sign[-1] != "." and (sign.isascii() or not sign.isalpha())
            for written in (
                f"{number} {sign}",
                f"{number}{sign}",
                *[f"{sign} {number}"] * is_prefix,
            ):
                said = normalize(written, language)
                assert not re.search(r"[\d|{+]", said), (written, said)
                assert sign == "元" or not said.endswith(sign), (written, said)


@pytest.mark.parametrize(
    ("value", "in_chinese", "in_hindi"),
    [
        (0, "零", "शून्य"),
        (10, "十", "दस"),
        (20, "二十", "बीस"),
        (101, "一百零一", "एक सौ एक"),
        (1010, "一千零一十", "एक हज़ार दस"),
        (10_001, "一万零一", "दस हज़ार एक"),
        (1_234_567, "一百二十三万四千五百六十七", "बारह लाख चौंतीस हज़ार पाँच सौ सड़सठ"),
        (20_000_000, "二千万", "दो करोड़"),
        (100_000_001, "一亿零一", "दस करोड़ एक"),
        (10**12, "一万亿", "दस खरब"),
    ],
)
def test_tables_of_numbers(value: int, in_chinese: str, in_hindi: str) -> None:
    assert (chinese(value), hindi(value)) == (in_chinese, in_hindi)


def test_numbers_of_the_tables_are_each_their_own() -> None:
    values = [*range(2000), *(10**n + k for n in range(3, 15) for k in (0, 1, 10, 999))]
    for table in (chinese, hindi):
        assert len({table(value) for value in set(values)}) == len(set(values))
    assert len({native_korean(value) for value in range(1, 100)}) == 99
    assert cardinal("9" * 15, "zh").startswith("九百九十九万亿")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("language", ["de", "ru", "zh", "ko", "hi"])
@pytest.mark.parametrize(
    "unit",
    [
        *("1", "1 ", "1.", "1,", "1.000", "1 000 ", "1:", "1/", "1-", "+1", "€1", "1 km", "1. "),
        *("0 1", "%1", "1° ", "a1", "1'", "X", "der 1. ", "+1 (1) ", "1/1/", "12:00:"),
    ],
)
def test_time_is_linear_in_the_text(language: str, unit: str) -> None:
    normalize(unit * (20_000 // len(unit)), language)
