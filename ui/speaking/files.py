"""A take as files: its sound in every container, its sentences as subtitles, honestly named."""

import contextlib
import io
import unicodedata
import wave
from html import escape
from pathlib import Path

import av
import numpy as np

from ui.speaking.take import BYTES_PER_SAMPLE, Take

FORMATS = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
"""What a take can be downloaded as, and the media type of each."""
SUBTITLES = {"srt": "application/x-subrip", "vtt": "text/vtt"}
_ENCODERS = {
    "mp3": ("mp3", "libmp3lame"),
    "opus": ("ogg", "libopus"),
    "flac": ("flac", "flac"),
    "aac": ("adts", "aac"),
}
"""Container and encoder as FFmpeg names them."""
_BLOCK_SAMPLES = 1 << 16


def file_name(take: Take, kind: str) -> str:
    """`The first words.mp3`: what the file is called that a user downloads."""
    plain = unicodedata.normalize("NFC", take.record.title).rstrip("…. ")
    # Marks are part of letters: without them Hindi and Arabic are other words.
    words = "".join(
        each for each in plain if each in "_-" or each.isspace() or _is_part(each)
    ).split()
    return f"{' '.join(words)[:60].strip() or 'speech'}.{kind}"


def _is_part(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def audio_file(take: Take, kind: str) -> Path:
    """The take's sound as a file of `kind`, one of `FORMATS`; made once, and anew when it changed.

    Raises OSError. It computes: call it in a thread.
    """
    # Named for the sound that it is made of: clocks leap, and the date of a file with them.
    path = take.folder / f"{take.pcm.stem}.{take.audio_bytes}.{kind}"
    if path.is_file():
        return path
    unfinished = take.folder / f"unfinished.{kind}"
    if kind == "wav":
        _write_wav(take, unfinished)
    else:
        _encode(take, unfinished, *_ENCODERS[kind])
    for old in take.folder.glob(f"speech*.{kind}"):
        with contextlib.suppress(OSError):  # on Windows it may be on its way to somebody
            old.unlink()
    unfinished.replace(path)
    return path


def sentence_wav(take: Take, index: int) -> bytes:
    """One finished sentence as a WAV file."""
    sentence = take.record.sentences[index]
    start, end = take.offset(sentence.start_s or 0.0), take.offset(sentence.end_s or 0.0)
    with take.pcm.open("rb") as file:
        file.seek(start)
        return wav(file.read(end - start), take.record.rate_hz)


def wav(pcm: bytes, rate_hz: int) -> bytes:
    """16-bit mono PCM as a WAV file with a whole header."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        _describe(file, rate_hz)
        file.writeframes(pcm)
    return target.getvalue()


def subtitles(take: Take, kind: str) -> str:
    """The finished sentences and when each is heard, as SRT or WebVTT."""
    mark = "," if kind == "srt" else "."
    cues = [
        f"{number}\n{_moment(each.start_s, mark)} --> {_moment(each.end_s, mark)}\n"
        f"{_cue(each.text, kind)}\n"
        for number, each in enumerate(take.record.sentences, start=1)
        if each.start_s is not None and each.end_s is not None
    ]
    return ("" if kind == "srt" else "WEBVTT\n\n") + "\n".join(cues)


def _cue(text: str, kind: str) -> str:
    """One line: an empty one would end the cue; WebVTT takes what looks like HTML for its own."""
    line = " ".join(text.split())
    return line if kind == "srt" else escape(line, quote=False)


def _moment(at_s: float, mark: str) -> str:
    ms = round(at_s * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def _describe(file: wave.Wave_write, rate_hz: int) -> None:
    file.setnchannels(1)
    file.setsampwidth(BYTES_PER_SAMPLE)
    file.setframerate(rate_hz)


def _write_wav(take: Take, path: Path) -> None:
    with take.pcm.open("rb") as pcm, wave.open(str(path), "wb") as file:
        _describe(file, take.record.rate_hz)
        while data := pcm.read(BYTES_PER_SAMPLE * _BLOCK_SAMPLES):
            file.writeframes(data)


def _encode(take: Take, path: Path, container: str, encoder: str) -> None:
    rate_hz = take.record.rate_hz
    carried_hz = _carried_hz(encoder, rate_hz)
    with av.open(str(path), "w", format=container) as output, take.pcm.open("rb") as pcm:
        stream = output.add_stream(encoder, rate=carried_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        fit = av.AudioResampler(stream.format, "mono", carried_hz)
        while data := pcm.read(BYTES_PER_SAMPLE * _BLOCK_SAMPLES):
            samples = np.frombuffer(data, "<i2").reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate = rate_hz
            for fitting in fit.resample(frame):
                output.mux(stream.encode(fitting))
        for fitting in fit.resample(None):
            output.mux(stream.encode(fitting))
        output.mux(stream.encode(None))


def _carried_hz(encoder: str, rate_hz: int) -> int:
    """`rate_hz`, or the nearest above it that the encoder has."""
    rates = sorted(av.Codec(encoder, "w").audio_rates or [rate_hz])
    return next((rate for rate in rates if rate >= rate_hz), rates[-1])
