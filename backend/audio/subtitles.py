"""When which sentence is spoken, as WebVTT and SRT."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from backend.core import SpokenSentence

MAX_LINE_COLUMNS = 42
"""What broadcasters put on one line; a Chinese, Japanese or Korean character takes two."""
LINES_PER_CUE = 2

_GRAPHEME = regex.compile(r"\X")
_UNPRINTABLE = regex.compile(r"[\p{Cc}\p{Cs}]")
_CJK = r"[\p{Ps}\p{Pi}]{0,3}[\p{Han}\p{Hiragana}\p{Katakana}]"
_UNBROKEN = regex.compile(
    # An ideograph with the brackets before and the marks after it; else all up to the next one.
    rf"{_CJK}[\p{{M}}\p{{Pe}}\p{{Pf}}\p{{Po}}ー]*|.(?:(?!{_CJK}).)*"
)


@dataclass(frozen=True, slots=True)
class _Cue:
    lines: Sequence[str]
    start_ms: int
    end_ms: int


def webvtt(sentences: Sequence[SpokenSentence], speed: float = 1.0) -> str:
    """A WebVTT file of `sentences` as they sound at `speed`."""
    cues = (
        f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_escaped(cue.lines)}\n"
        for cue in _cues(sentences, speed)
    )
    return "\n".join(["WEBVTT\n", *cues])


def srt(sentences: Sequence[SpokenSentence], speed: float = 1.0) -> str:
    """A SubRip file of `sentences` as they sound at `speed`.

    SubRip knows no escapes: an arrow "-->" in the text is drawn as one character.
    """
    cues = (
        f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n"
        + "\n".join(cue.lines).replace("-->", "→")
        + "\n"
        for number, cue in enumerate(_cues(sentences, speed), start=1)
    )
    return "\n".join(cues)


def _cues(sentences: Sequence[SpokenSentence], speed: float) -> Iterator[_Cue]:
    """Each sentence as one cue, or as several that share its time by their characters."""
    for sentence in sentences:
        lines = _lines(sentence.text)
        length = sum(map(len, lines))
        seconds_per_character = (sentence.end_s - sentence.start_s) / length if length else 0.0
        start_s = sentence.start_s
        for first in range(0, len(lines), LINES_PER_CUE):
            shown = lines[first : first + LINES_PER_CUE]
            end_s = start_s + sum(map(len, shown)) * seconds_per_character
            start_ms = round(start_s / speed * 1000)
            # A cue must end after it starts, were its sentence ever so short.
            yield _Cue(shown, start_ms, max(round(end_s / speed * 1000), start_ms + 1))
            start_s = end_s


def _lines(text: str) -> list[str]:
    """`text` in as few lines of at most MAX_LINE_COLUMNS as can be, about equally long."""
    pieces = _pieces(text)
    fewest = _filled(pieces, MAX_LINE_COLUMNS)
    average = sum(map(_columns, pieces)) // max(1, len(fewest))
    for columns in range(average, MAX_LINE_COLUMNS):
        lines = _filled(pieces, columns)
        if len(lines) == len(fewest):
            return lines
    return fewest


def _filled(pieces: list[str], columns: int) -> list[str]:
    """Lines of pieces as long as `columns` allows, one piece at the least."""
    lines: list[str] = []
    for piece in pieces:
        if lines and _columns(lines[-1]) + _columns(piece) <= columns:
            lines[-1] += piece
        else:
            lines.append(piece.lstrip())
    return lines


def _pieces(text: str) -> list[str]:
    """What no line break may part, with the space in front of it, if any."""
    pieces: list[str] = []
    for word in _UNPRINTABLE.sub(" ", text).split():
        parts = [part for whole in _UNBROKEN.findall(word) for part in _cut(whole)]
        pieces += [" " + parts[0], *parts[1:]]
    return pieces


def _cut(whole: str) -> list[str]:
    """`whole` itself, or in parts where it is longer than a line."""
    parts = [""]
    for grapheme in _GRAPHEME.findall(whole):
        if parts[-1] and _columns(parts[-1]) + _columns(grapheme) > MAX_LINE_COLUMNS:
            parts.append("")
        parts[-1] += grapheme
    return parts


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _escaped(lines: Sequence[str]) -> str:
    return "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
