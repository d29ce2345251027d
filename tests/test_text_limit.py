import pytest

from backend.text.limit import truncate


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("short enough", 12, "short enough"),
        ("one two three four", 13, "one two three"),  # the word ends exactly at the limit
        ("one two three four", 15, "one two three"),
        ("one two three", 12, "one two thre"),  # no space within the last fifth
        ("a" * 50, 20, "a" * 20),
        ("word   word   word", 15, "word   word"),
        ("one\ntwo\nthree", 8, "one\ntwo"),
        ("ab", 1, "a"),
        ("你好世界你好世界", 5, "你好世界你"),
        ("सत्रसत्रसत्र", 6, "सत्रस"),  # the virama binds to what follows: not cut through
        ("สวัสดีครับผม", 5, "สวัส"),  # a vowel sign stays with its consonant
        ("e\u0301" * 10, 5, "e\u0301" * 2),
        ("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 10, "👩‍👩‍👧‍👦"),
        ("🇩🇪🇫🇷", 3, "🇩🇪"),
        ("e" + "\u0301" * 30, 10, "e" + "\u0301" * 9),  # one cluster longer than the limit
    ],
)
def test_truncate(text: str, limit: int, kept: str) -> None:
    assert truncate(text, limit) == kept


def test_never_longer_and_never_mid_word_where_a_space_is_near() -> None:
    text = "The quick brown fox jumps over the lazy dog and runs away from it all."
    words = set(text.split())
    for limit in range(30, len(text)):
        kept = truncate(text, limit)
        assert 0.8 * limit - 1 <= len(kept) <= limit
        assert kept.split()[-1] in words
