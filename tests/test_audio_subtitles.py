import html
import itertools
import re
from dataclasses import dataclass

import pytest

from backend.audio.subtitles import MAX_LINE_COLUMNS, srt, webvtt
from backend.core import SpokenSentence

LONG = (
    "The quick brown fox jumps over the lazy dog while the band plays on and nobody, not even the "
    "cat, knows what is going to happen next in this remarkably long sentence."
)
CHINESE = (
    "我们的祖先在很久很久以前就开始讲故事，「他们围坐在火堆旁」，听老人讲述英雄与怪物的传说。" * 2
)
NASTY = [
    "a --> b\n\n00:00:00.000 --> 00:00:09.000\nnot a cue",
    "<b>bold</b> & <v Bob>Tom&amp;Jerry</v> {\\an8}",
    "\x00\x07\r\n\r\n\u2028 line\ttab \x85 \ud800 end",
    "WEBVTT\n\nNOTE hidden",
    "1\n2\n3",
    "((((" * 200,
    "supercalifragilistic" * 20,
    "👩‍👩‍👧‍👦" * 40,
    "각각의 문장은 자막으로 나뉘어 화면에 표시되며 읽기 쉽게 두 줄로 정리됩니다. " * 3,
    "สวัสดีชาวโลกนี่คือประโยคที่ยาวมากและไม่มีช่องว่างเลยแม้แต่ช่องเดียว",
    "a\u0301" * 100,
    LONG,
    CHINESE,
]


@dataclass
class Cue:
    start_ms: int
    end_ms: int
    lines: list[str]


def milliseconds(time: str, point: str) -> int:
    match = re.fullmatch(rf"(\d{{2,}}):([0-5]\d):([0-5]\d)\{point}(\d{{3}})", time)
    assert match, time
    hours, minutes, seconds, rest = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def cue_of(timing: str, lines: list[str], point: str) -> Cue:
    start, arrow, end = timing.split(" ")
    assert arrow == "-->"
    cue = Cue(milliseconds(start, point), milliseconds(end, point), lines)
    assert cue.start_ms < cue.end_ms
    assert 1 <= len(lines) <= 2
    for line in lines:
        assert line == line.strip()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line)
    return cue


def parsed_webvtt(text: str) -> list[Cue]:
    """As the W3C's grammar says, with nothing of it left out but what is not written here."""
    text.encode()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    header, *blocks = text[:-1].split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks:
        timing, *lines = block.split("\n")
        for line in lines:
            assert "-->" not in line
            assert "<" not in line
            assert ">" not in line
            assert not re.search(r"&(?!amp;|lt;|gt;)", line)
        cues.append(cue_of(timing, [html.unescape(line) for line in lines], "."))
    assert all(a.start_ms <= b.start_ms for a, b in itertools.pairwise(cues))
    return cues


def parsed_srt(text: str) -> list[Cue]:
    text.encode()
    if not text:
        return []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    cues = []
    for number, block in enumerate(text[:-1].split("\n\n"), start=1):
        index, timing, *lines = block.split("\n")
        assert index == str(number)
        assert not any("-->" in line for line in lines)
        cues.append(cue_of(timing, lines, ","))
    return cues


def spoken(*texts: str, each_s: float = 5.0) -> tuple[SpokenSentence, ...]:
    return tuple(
        SpokenSentence(text, index * each_s, index * each_s + each_s - 0.2)
        for index, text in enumerate(texts)
    )


def test_a_sentence_is_a_cue() -> None:
    sentences = (SpokenSentence("Hello there.", 0.0, 1.2345), SpokenSentence("Bye.", 3661.5, 3662))
    assert webvtt(sentences) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.234\nHello there.\n\n"
        "01:01:01.500 --> 01:01:02.000\nBye.\n"
    )
    assert srt(sentences) == (
        "1\n00:00:00,000 --> 00:00:01,234\nHello there.\n\n2\n01:01:01,500 --> 01:01:02,000\nBye.\n"
    )


def test_times_follow_the_tempo() -> None:
    sentences = spoken("One.", "Two.", each_s=3.0)
    for speed in (0.5, 1.25, 2.0):
        for cues in (parsed_webvtt(webvtt(sentences, speed)), parsed_srt(srt(sentences, speed))):
            assert [cue.start_ms for cue in cues] == [0, round(3000 / speed)]
            assert [cue.end_ms for cue in cues] == [round(2800 / speed), round(5800 / speed)]


@pytest.mark.parametrize("text", NASTY)
def test_whatever_is_said_is_well_formed(text: str) -> None:
    sentences = spoken("Before.", text, "After.")
    for cues in (parsed_webvtt(webvtt(sentences)), parsed_srt(srt(sentences))):
        assert cues[0].lines == ["Before."]
        assert cues[-1].lines == ["After."]
        assert cues[-1].start_ms == 10_000
        between = cues[1:-1]
        assert (between[0].start_ms, between[-1].end_ms) == (5_000, 9_800)
        lines = [line for cue in between for line in cue.lines]
        assert max(map(len, lines)) <= MAX_LINE_COLUMNS


@pytest.mark.parametrize("text", [*NASTY, "<i>", "&lt;", "-->"])
def test_nothing_is_lost(text: str) -> None:
    cues = parsed_webvtt(webvtt(spoken(text)))
    shown = "".join(line for cue in cues for line in cue.lines)
    kept = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\ud800-\udfff]", "", text)
    assert shown.replace(" ", "") == kept.replace(" ", "")


def test_a_long_sentence_shares_its_time() -> None:
    cues = parsed_webvtt(webvtt(spoken(LONG, each_s=10.2)))
    assert [cue.lines for cue in cues] == [
        ["The quick brown fox jumps over the", "lazy dog while the band plays on"],
        ["and nobody, not even the cat,", "knows what is going to happen next"],
        ["in this remarkably long sentence."],
    ]
    assert [cue.end_ms for cue in cues[:-1]] == [cue.start_ms for cue in cues[1:]]
    characters = [sum(map(len, cue.lines)) for cue in cues]
    for cue, count in zip(cues, characters, strict=True):
        share_ms = 10_000 * count / sum(characters)
        assert cue.end_ms - cue.start_ms == pytest.approx(share_ms, abs=1)


def test_chinese_takes_two_columns_and_no_line_begins_with_a_comma() -> None:
    lines = [line for cue in parsed_srt(srt(spoken(CHINESE))) for line in cue.lines]
    assert max(map(len, lines)) <= MAX_LINE_COLUMNS // 2
    assert not any(line[0] in "，。」" for line in lines)
    assert not any(line[-1] == "「" for line in lines)


def test_characters_of_several_code_points_stay_whole() -> None:
    family = "👩‍👩‍👧‍👦"
    lines = [line for cue in parsed_srt(srt(spoken(family * 40))) for line in cue.lines]
    assert all(line.replace(family, "") == "" for line in lines)


def test_silence_has_no_cue() -> None:
    assert webvtt(()) == webvtt(spoken("", " \n\x00")) == "WEBVTT\n"
    assert srt(()) == srt(spoken("", " ")) == ""
    assert [cue.lines for cue in parsed_srt(srt(spoken("", "One.")))] == [["One."]]


def test_no_time_at_all_is_a_cue_all_the_same() -> None:
    cues = parsed_webvtt(webvtt((SpokenSentence("Oh.", 1.0, 1.0),)))
    assert cues == [Cue(1000, 1001, ["Oh."])]
