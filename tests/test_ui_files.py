"""A take as files and pictures: they decode with its length, and are called what it says."""

import io
import os
import re
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.pages import RATE_HZ, plan, tone
from ui.speaking import picture
from ui.speaking.files import (
    FORMATS,
    audio_file,
    file_name,
    sentence_wav,
    subtitles,
    wav,
)
from ui.speaking.take import Take
from ui.wire import Event

LENGTH_S = 2.5


def made(folder: Path, pcm: bytes, rate_hz: int = RATE_HZ, text: str = "Hello there.") -> Take:
    """A finished take of one sentence."""
    take = Take.create(folder, "me", {"text": text})
    take.take_in(Event("plan", {**plan(text), "sample_rate": rate_hz}))
    take.take_in(Event("sentence.start", {"index": 0, "text": text}))
    take.take_in(Event("audio", {"index": 0}, pcm))
    take.take_in(Event("sentence.end", {"index": 0, "start_s": 0.0, "end_s": take.audio_s}))
    take.take_in(Event("done", {}))
    return take


def decoded(path: Path) -> tuple[str, float, float]:
    """Codec, seconds, and the loudest sample from 0 to 1."""
    count, rate_hz, loudest = 0, 1, 0.0
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        codec = stream.codec_context.name
        to_floats = av.AudioResampler("fltp", "mono")
        for frame in file.decode(stream):
            for each in to_floats.resample(frame):
                count, rate_hz = count + each.samples, each.sample_rate
                loudest = max(loudest, float(np.abs(each.to_ndarray()).max()))
    return codec, count / rate_hz, loudest


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100])
@pytest.mark.parametrize(
    ("kind", "codec"),
    [("wav", "pcm_s16le"), ("mp3", "mp3"), ("opus", "opus"), ("flac", "flac"), ("aac", "aac")],
)
def test_each_format_decodes_with_the_right_length(
    tmp_path: Path, kind: str, codec: str, rate_hz: int
) -> None:
    pcm = tone(LENGTH_S * rate_hz / RATE_HZ)
    path = audio_file(made(tmp_path, pcm, rate_hz), kind)
    found, seconds, loudest = decoded(path)
    assert found.startswith(codec)
    assert seconds == pytest.approx(LENGTH_S, abs=0.05 + 2048 / rate_hz)
    assert 0.1 < loudest < 1.01


def test_wav_and_flac_lose_nothing(tmp_path: Path) -> None:
    pcm = tone(1.0)
    take = made(tmp_path, pcm)
    with wave.open(str(audio_file(take, "wav"))) as file:
        assert file.getparams()[:4] == (1, 2, RATE_HZ, RATE_HZ)
        assert file.readframes(RATE_HZ * 2) == pcm
    with av.open(str(audio_file(take, "flac"))) as flac:
        samples = [frame.to_ndarray().reshape(-1) for frame in flac.decode(audio=0)]
    assert np.concatenate(samples).astype("<i2").tobytes() == pcm


def test_every_format_offered_can_be_made(tmp_path: Path) -> None:
    take = made(tmp_path, tone(0.2))
    for kind in FORMATS:
        assert audio_file(take, kind).suffix == f".{kind}"
    assert not list(take.folder.glob("unfinished*"))


def test_a_file_is_made_once_and_anew_when_the_sound_changed(tmp_path: Path) -> None:
    take = made(tmp_path, tone(0.5))
    first = audio_file(take, "wav")
    first.write_bytes(b"kept")
    assert audio_file(take, "wav").read_bytes() == b"kept"
    take.replace(0, tone(1.0), {}, 3)
    assert decoded(audio_file(take, "wav"))[1] == 1.0


def test_one_sentence_and_bare_wav() -> None:
    with wave.open(io.BytesIO(wav(b"\1\0\2\0", 24_000))) as file:
        assert (file.getframerate(), file.readframes(9)) == (24_000, b"\1\0\2\0")


def test_a_sentence_is_cut_out(tmp_path: Path) -> None:
    take = Take.create(tmp_path, "me", {"text": "a b"})
    take.take_in(Event("plan", plan("a", "b")))
    take.take_in(Event("audio", {"index": 0}, tone(0.5) + tone(0.25, 3000)))
    take.take_in(Event("sentence.end", {"index": 0, "start_s": 0.0, "end_s": 0.5}))
    take.take_in(Event("sentence.end", {"index": 1, "start_s": 0.5, "end_s": 0.75}))
    with wave.open(io.BytesIO(sentence_wav(take, 1))) as file:
        assert file.readframes(99_999) == tone(0.25, 3000)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hello, there: you/all?", "Hello there youall"),
        ("Größe – naïve", "Größe naïve"),
        ("今日は、元気ですか。", "今日は元気ですか"),
        ("مرحبا بكم!", "مرحبا بكم"),
        ("नमस्ते", "नमस्ते"),
        ("e\u0301te\u0301", "été"),
        ("../../etc/passwd", "etcpasswd"),
        ("a\r\nSet-Cookie: x", "a Set-Cookie x"),
        ("?!…", "speech"),
        ("", "speech"),
        ("word " * 40, "word word word word word word word word word word word wo"),
    ],
)
def test_files_are_called_what_they_say(tmp_path: Path, text: str, name: str) -> None:
    take = Take.create(tmp_path, "me", {"text": text})
    assert file_name(take, "mp3") == f"{name}.mp3"


def test_subtitles_tell_each_spoken_sentence(tmp_path: Path) -> None:
    take = Take.create(tmp_path, "me", {"text": "a b c"})
    take.take_in(Event("plan", plan("A & b.", "<c>", "never")))
    take.take_in(Event("sentence.end", {"index": 0, "start_s": 0.0, "end_s": 1.2345}))
    take.take_in(Event("sentence.end", {"index": 1, "start_s": 3599.9996, "end_s": 3661.5}))
    assert subtitles(take, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,234\nA & b.\n\n2\n01:00:00,000 --> 01:01:01,500\n<c>\n"
    )
    vtt = subtitles(take, "vtt")
    assert vtt.startswith("WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.234\nA &amp; b.\n")
    assert "&lt;c&gt;" in vtt, "WebVTT takes <c> for a class"


def test_no_subtitles_of_nothing(tmp_path: Path) -> None:
    take = Take.create(tmp_path, "me", {"text": "a"})
    assert subtitles(take, "srt") == ""
    assert subtitles(take, "vtt").strip() == "WEBVTT"


def test_a_text_with_an_empty_line_stays_one_cue(tmp_path: Path) -> None:
    take = made(tmp_path, tone(0.5), text="one\n\ntwo")
    cues = re.split(r"\n\n", subtitles(take, "srt").strip())
    assert len(cues) == 1


# -- pictures -------------------------------------------------------------------------------------


def alpha(png: bytes, height: int) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode, image.size) == ("PNG", "LA", (picture.WIDTH, height))
    return np.asarray(image.getchannel("A"))


@pytest.mark.parametrize("draw", [picture.waveform, picture.spectrogram])
@pytest.mark.parametrize("left", [0, 1, 3001])
def test_a_file_that_became_shorter_is_drawn_as_far_as_it_goes(
    draw: Callable[[Take], bytes], left: int, tmp_path: Path
) -> None:
    """Mapped, what is not there any more would end the process."""
    take = made(tmp_path, tone(LENGTH_S))
    os.truncate(take.pcm, left)
    assert Image.open(io.BytesIO(draw(take))).width == picture.WIDTH


@pytest.mark.parametrize("seconds", [0.5, 3.0, 120.0])
def test_waveform_and_spectrogram_of_sound(tmp_path: Path, seconds: float) -> None:
    take = made(tmp_path, tone(seconds))
    wave_shown = alpha(picture.waveform(take), picture.WAVE_HEIGHT)
    assert (wave_shown > 0).mean() > 0.5
    shown = alpha(picture.spectrogram(take), picture.SPECTRUM_HEIGHT)
    assert shown.max() > 100


def test_where_it_is_silent_the_wave_is_a_line(tmp_path: Path) -> None:
    take = made(tmp_path, tone(1.0) + bytes(2 * RATE_HZ))
    shown = alpha(picture.waveform(take), picture.WAVE_HEIGHT) > 0
    loud, silent = shown[:, : picture.WIDTH // 2 - 2], shown[:, picture.WIDTH // 2 + 2 :]
    assert loud.mean() > 0.9
    assert 1 <= silent.sum(axis=0).max() <= 2


def test_a_low_tone_lies_at_the_bottom(tmp_path: Path) -> None:
    times = np.arange(RATE_HZ) / RATE_HZ
    low = (8000 * np.sin(2 * np.pi * 250 * times)).astype("<i2").tobytes()
    shown = alpha(picture.spectrogram(made(tmp_path, low)), picture.SPECTRUM_HEIGHT).astype(int)
    loudest = shown.sum(axis=1).argmax()
    assert loudest / picture.SPECTRUM_HEIGHT == pytest.approx(1 - 250 / 4000, abs=0.03)


@pytest.mark.parametrize(
    "pcm", [b"", bytes(2), bytes(16), bytes(16_000)], ids=["empty", "one", "few", "silent"]
)
def test_pictures_of_nothing_are_empty_ones(tmp_path: Path, pcm: bytes) -> None:
    take = made(tmp_path, pcm)
    assert (alpha(picture.waveform(take), picture.WAVE_HEIGHT) > 0).sum(axis=0).max() <= 2
    assert alpha(picture.spectrogram(take), picture.SPECTRUM_HEIGHT).shape[0] > 0
