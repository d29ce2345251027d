"""How long a text takes to read aloud: an unhurried reading, and the longest that may be one."""

import unicodedata
from string import digits

_NARROW_S, _WIDE_S = 1 / 15, 0.2
"""What it takes to say a character: the shipped voice says 15.6 letters a second, and an unhurried
one five syllables."""
_LONGEST_START_S = 2.0
_LONGEST_NARROW_S, _LONGEST_WIDE_S = 0.25, 0.6
"""Longest a character may take to say: a letter of a slow reader; a Han or Hangul syllable, a kana
or a digit, which is read out as a word."""
_BRISK = 0.2
"""The share of that time which even a brisk reader needs."""


def wide_share(text: str) -> float:
    """The share of characters that take long to say: Han, kana, Hangul, digits."""
    if text.isascii():
        wide = sum(map(text.count, digits))
    else:
        wide = sum(c.isdigit() or unicodedata.east_asian_width(c) in "WF" for c in text)
    return wide / max(1, len(text))


def expected_s(characters: float, wide_share: float) -> float:
    """Seconds of an unhurried reading."""
    return _seconds(characters, wide_share, _NARROW_S, _WIDE_S)


def longest_s(characters: float, wide_share: float) -> float:
    """Seconds after which no reading can still be going on."""
    longest = _seconds(characters, wide_share, _LONGEST_NARROW_S, _LONGEST_WIDE_S)
    return _LONGEST_START_S + longest


def briskest_s(characters: float, wide_share: float) -> float:
    """Seconds that even a brisk reading takes."""
    return _BRISK * _seconds(characters, wide_share, _LONGEST_NARROW_S, _LONGEST_WIDE_S)


def _seconds(characters: float, wide_share: float, narrow_s: float, wide_s: float) -> float:
    return characters * (narrow_s * (1 - wide_share) + wide_s * wide_share)
