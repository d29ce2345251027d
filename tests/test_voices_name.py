"""What a voice may be called."""

import unicodedata

import pytest

from backend.errors import BadField
from backend.voices.name import MAX_NAME_CHARACTERS, checked_name, is_id, look_key, name_key


@pytest.mark.parametrize(
    "name",
    [
        *("A", "Ann", "anna-maria_2.1", "Reader No. 3", "7", "Zoë", "a" * MAX_NAME_CHARACTERS),
        *("小明", "Дикторка", "हिन्दी", "ไทย", "مريم", "이름", "たろう", "Ἀθηνᾶ"),
        *("CON", "nul", "COM1", "aux.txt"),  # no path is ever built from a name
    ],
)
def test_names_of_any_script(name: str) -> None:
    assert checked_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", ".hidden", "a.", " a", "a ", "-a", "_", "\u0301a"),
        *("../a", "a/b", "a\\b", "C:a", "/etc/passwd", "~root", "a\0b", "a\nb", "a\x7fb", "%2e"),
        *("😀", "a😀b", "a\u202eb", "a\u200bb", "a\u00a0b", "\ud800", "<b>", "a'b", 'a"b', "a*"),
        *("a" * (MAX_NAME_CHARACTERS + 1), "ä" * 65, "a" * 1_000_000),
        *("0123456789abcdef" * 2, "0123456789ABCDEF" * 2),
    ],
)
def test_other_names_are_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(BadField, match=r"^name .*\.$") as refused:
        checked_name(name)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("name", "scripts"),
    [
        ("\u0410nna", "Latin and Cyrillic"),
        ("Ann\u0430", "Latin and Cyrillic"),
        ("\u0391nna 2", "Latin and Greek"),
        ("\u13a0nna", "Latin and Cherokee"),
        ("\u0391\u0410", "Greek and Cyrillic"),
        ("Anna Анна", "Latin and Cyrillic"),
    ],
)
def test_letters_that_look_alike_are_of_one_script(name: str, scripts: str) -> None:
    with pytest.raises(BadField, match=f"mixes {scripts} letters"):
        checked_name(name)


@pytest.mark.parametrize(
    "name", ["Anna 小明", "DJ たろう", "Anna 2", "Анна 2", "Zoë", "Voice हिन्दी"]
)
def test_scripts_that_nobody_mistakes_may_be_mixed(name: str) -> None:
    assert checked_name(name)


def test_forms_of_a_letter_look_like_it() -> None:
    for alike in ("Ａｎｎａ", "𝐀𝐧𝐧𝐚", "ᴬnna", "ANNA"):
        assert look_key(alike) == look_key("Anna")
    assert look_key("Anne") != look_key("Anna")
    assert name_key("Ａｎｎａ") != name_key("Anna"), "an old name is still found by itself"


def test_a_name_is_kept_composed() -> None:
    assert checked_name("Zoe\u0308") == "Zoë"
    assert len(checked_name("e\u0308" * MAX_NAME_CHARACTERS)) == MAX_NAME_CHARACTERS


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ann", "aNN"), ("STRASSE", "straße"), ("Zoë", "ZOE\u0308"), ("ΣΊΣΥΦΟΣ", "σίσυφος")],
)
def test_case_is_not_another_name(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_an_id_is_32_hexadecimal_digits() -> None:
    assert is_id("0123456789abcdef" * 2)
    for other in ("", "0" * 31, "0" * 33, "g" * 32, "0" * 32 + "\n", "A" * 32):
        assert not is_id(other)
