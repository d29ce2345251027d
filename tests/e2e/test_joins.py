"""Where sentences meet, in what the routes answer: pauses, fades and levels, in every format."""

import base64
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest

from backend.audio.joins import TAIL_S
from backend.core import AudioFormat
from backend.text.sentences import split_text
from benchmarks.joins import TEMPI, chapters
from tests.e2e.serving import RATE_HZ, VOICE, Served
from tests.heard import FORMATS, Sound, heard
from tests.joined import joins

pytestmark = pytest.mark.timeout(900)

OFF_S = 0.02
"""How far a pause may be off: nobody hears a third of a second change by so much."""
OFF_AT_SPEED_S = 0.025
"""As that, of what is slowed down; of the voice's time."""
OPUS_S = 0.012
"""More where opus spreads a sound: half of one of its frames."""
TOLD_S = 0.00101
"""How far a told pause may be off at any tempo: begin and end are told to a millisecond."""
STEP_DB = 1.5
STEP_AT_SPEED_DB = 2.0
"""As that, where a tempo leaves out or repeats parts of a sentence, some louder than others."""
FEW = "You never told me about the river. You never asked. He laughed, but not for long."
SOME_TEMPI = (1.0, 0.5, 1.5, 2.0, 1.0, 1.5)
"""For each format one."""
EDGE = 0.03
"""Loudest sample within a millisecond of silence, 20 to 30 dB below speech."""


def spoken(server: Served, text: str, **fields: Any) -> tuple[list[dict[str, Any]], bytes]:
    """The sentences that were told and the audio."""
    form = {"text": text, "long_text": "split", "timestamps": "true", "seed": "3", **fields}
    answer = httpx.post(f"{server.url}/tts", data=form, timeout=600)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return told["sentences"], base64.b64decode(told["audio"])


def check(
    text: str,
    sentences: list[dict[str, Any]],
    sound: Sound,
    rate_hz: int,
    speed: float,
    spread_s: float,
) -> None:
    """Each join of `text`."""
    asked = split_text(text, VOICE.info.max_segment_characters)
    assert [each["text"] for each in sentences] == [each.text for each in asked]
    pauses_s = [sentence.pause_s / speed for sentence in asked[:-1]]
    ends_s = [each["end_s"] for each in sentences[:-1]]
    middles_s = [end_s + pause_s / 2 for end_s, pause_s in zip(ends_s, pauses_s, strict=True)]
    found = joins(sound, rate_hz, middles_s)
    off_s = max(OFF_S, OFF_AT_SPEED_S / speed) + spread_s
    for join, pause_s in zip(found, pauses_s, strict=True):
        assert join.pause_s == pytest.approx(pause_s, abs=off_s)
        assert join.edge < EDGE
        assert abs(join.step_db) <= (STEP_DB if speed == 1.0 else STEP_AT_SPEED_DB)
    for (before, after), pause_s in zip(pairwise(sentences), pauses_s, strict=True):
        told_s = after["start_s"] - before["end_s"]
        # A sentence ends with silence of its own, which is a part of the pause.
        assert pause_s - TAIL_S / speed - TOLD_S <= told_s <= pause_s + TOLD_S


def check_format(server: Served, text: str, name: AudioFormat, speed: float) -> None:
    sentences, audio = spoken(server, text, response_format=name, speed=str(speed))
    sound, rate_hz = heard(audio, name, RATE_HZ)
    spread_s = OPUS_S if name == "opus" else 0.0
    check(text, sentences, sound, rate_hz, speed, spread_s)


@pytest.mark.parametrize(("name", "speed"), list(zip(FORMATS, SOME_TEMPI, strict=True)))
def test_sentences_meet_in_every_format(server: Served, name: AudioFormat, speed: float) -> None:
    paragraph = chapters()[FORMATS.index(name)].split("\n")[0]
    check_format(server, paragraph, name, speed)


@pytest.mark.slow
@pytest.mark.parametrize("speed", TEMPI)
@pytest.mark.parametrize("name", FORMATS)
def test_sentences_meet_in_every_format_at_every_tempo(
    server: Served, name: AudioFormat, speed: float
) -> None:
    number = FORMATS.index(name) * len(TEMPI) + TEMPI.index(speed)
    check_format(server, chapters()[number % 10], name, speed)


@pytest.mark.slow
def test_sentences_meet_in_ten_chapters(server: Served) -> None:
    for text in chapters():
        check_format(server, text, "wav", 1.0)


def test_a_sentence_begins_and_ends_in_silence(server: Served) -> None:
    text = FEW
    sentences, audio = spoken(server, text)
    sound, _ = heard(audio, "wav", RATE_HZ)
    for sentence in sentences:
        start, end = (round(sentence[key] * RATE_HZ) for key in ("start_s", "end_s"))
        start, end = max(0, start - 12), min(len(sound), end + 12)  # told to a millisecond
        assert np.abs(sound[start : start + 12]).max() < 0.01
        assert np.abs(sound[end - 12 : end]).max() < 0.01
    for before, after in pairwise(sentences):
        middle = round((before["end_s"] + after["start_s"]) / 2 * RATE_HZ)
        assert not sound[middle - 100 : middle + 100].any()


def test_without_pauses_sentences_follow_at_once(server: Served) -> None:
    text = FEW
    sentences, _ = spoken(server, text, pauses="0")
    assert all(a["end_s"] == b["start_s"] for a, b in pairwise(sentences))


def test_a_stream_holds_what_a_file_holds(server: Served) -> None:
    text = FEW
    form = {"text": text, "long_text": "split", "response_format": "pcm", "seed": "3"}
    url = f"{server.url}/tts"
    whole = httpx.post(url, data=form, timeout=240).content
    with httpx.stream("POST", url, data={**form, "stream": "true"}, timeout=240) as answer:
        streamed = b"".join(answer.iter_raw())
    assert len(streamed) == len(whole)
