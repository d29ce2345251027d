"""Test sounds, and what other programs hear in encoded audio."""

import io
from typing import get_args

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from backend.audio.write import AudioWriter, Outlet
from backend.core import AudioFormat, AudioOutput

FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
COMPRESSED: tuple[AudioFormat, ...] = ("mp3", "opus", "flac", "aac")
UNKNOWN_FRAMES = 2**62
Sound = NDArray[np.float32]


def tone(seconds: float, rate_hz: int, pitch_hz: float = 440.0, level: float = 0.5) -> Sound:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    sound: Sound = (level * np.sin(2 * np.pi * pitch_hz * t)).astype(np.float32)
    return sound


def voice(seconds: float, rate_hz: int, pitch_hz: float = 120.0) -> Sound:
    """Like a vowel: a pulse train whose overtones fade, in syllables, nearly at full scale."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    overtones = range(1, int(3500 / pitch_hz))
    glottis = sum(np.sin(2 * np.pi * pitch_hz * n * t + n * n) / n for n in overtones)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * t)
    vowel = glottis * syllables
    sound: Sound = (0.97 * vowel / np.abs(vowel).max()).astype(np.float32)
    return sound


def whole(sound: Sound, output: AudioOutput, rate_hz: int) -> bytes:
    """`sound` in one file, written in one piece."""
    file = io.BytesIO()
    writer = AudioWriter(file, output, rate_hz)
    writer.write(sound.tobytes())
    writer.close()
    return file.getvalue()


def streamed(
    sound: Sound, output: AudioOutput, rate_hz: int, piece_samples: int = 480
) -> list[bytes]:
    """What leaves after each piece of `sound`, and at the end."""
    outlet = Outlet()
    writer = AudioWriter(outlet, output, rate_hz)
    left = []
    for start in range(0, len(sound), piece_samples):
        writer.write(sound[start : start + piece_samples].tobytes())
        left.append(outlet.take())
    writer.close()
    return [*left, outlet.take()]


def heard(audio: bytes, audio_format: AudioFormat, rate_hz: int) -> tuple[Sound, int]:
    """Mono samples and their rate: by libsndfile, what it does not read by FFmpeg."""
    if audio_format == "pcm":
        return np.frombuffer(audio, "<i2").astype(np.float32) / np.float32(32_767), rate_hz
    if audio_format == "aac":
        return heard_by_ffmpeg(audio)
    with soundfile.SoundFile(io.BytesIO(audio)) as file:
        assert file.channels == 1
        if file.frames < UNKNOWN_FRAMES:
            return file.read(dtype="float32"), file.samplerate
    return heard_by_ffmpeg(audio)  # libsndfile cannot read FLAC that does not tell its length


def heard_by_ffmpeg(audio: bytes) -> tuple[Sound, int]:
    """Mono samples and their rate."""
    pieces: list[Sound] = [np.zeros(0, np.float32)]
    with av.open(io.BytesIO(audio), "r") as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono")
        for frame in container.decode(stream):
            pieces += [ready.to_ndarray()[0] for ready in resampler.resample(frame)]
        return np.concatenate(pieces), stream.codec_context.sample_rate


def pitch_of(sound: Sound, rate_hz: int) -> float:
    """The strongest frequency, in Hz, between the bins of the spectrum."""
    bins = 1 << (2 * len(sound) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), bins))
    return float(np.argmax(spectrum)) * rate_hz / bins


def level_db(sound: Sound) -> float:
    """Of its middle half, where no codec fades in or out."""
    middle = sound[len(sound) // 4 : 3 * len(sound) // 4]
    return float(10 * np.log10(np.mean(np.square(middle, dtype=np.float64))))
