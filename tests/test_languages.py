"""What clients call a language."""

import pytest

from backend.core import LANGUAGES
from backend.errors import BadField
from backend.languages import MAX_LANGUAGE_CHARACTERS, language_code, one_language


@pytest.mark.parametrize(
    ("named", "code"),
    [
        *((code, code) for code in LANGUAGES),
        ("", "auto"),
        (" DE ", "de"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("zh-Hans-CN", "zh"),
        ("cmn", "zh"),
        ("es-419", "es"),
        ("en_US.UTF-8", "en"),
        ("eng", "en"),
        ("ger", "de"),
        ("English", "en"),
        ("american english", "en"),
        ("English (US)", "en"),
        ("Brazilian Portuguese", "pt"),
        ("Chinese (Simplified)", "zh"),
        ("Deutsch", "de"),
        ("Français", "fr"),
        ("Franc\u0327ais", "fr"),
        ("日本語", "ja"),
        ("हिन्दी", "hi"),
        ("русский", "ru"),
        ("Auto", "auto"),
        ("a", "en"),  # as Kokoro's servers call American English
        ("z", "zh"),
    ],
)
def test_names(named: str, code: str) -> None:
    assert language_code(named) == code


@pytest.mark.parametrize("named", ["xx", "nl", "Klingon", "x-de", "12", "-", "e" * 65, "en" * 500])
def test_a_language_that_is_none_names_the_field(named: str) -> None:
    with pytest.raises(BadField, match=r"^lang_code: .* is not known; use one of auto, en, zh"):
        one_language("", named)
    assert MAX_LANGUAGE_CHARACTERS == 64


def test_two_names_of_one_language_agree() -> None:
    assert one_language("de-DE", "German") == "de"
    assert one_language("auto", "fr") == "fr"
    assert one_language("fr", "") == "fr"
    with pytest.raises(BadField, match="language and lang_code are the same, and say de and fr"):
        one_language("de", "fr")
