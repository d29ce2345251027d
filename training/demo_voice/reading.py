"""Reading aloud by espeak-ng, for what needs some recording of known words; POSIX only."""

import io
from dataclasses import replace

import numpy as np
import soundfile

from training.demo_voice.espeak import SAMPLE_RATE_HZ, Espeak, apply_gain, level_gain
from training.demo_voice.measure import Samples
from training.demo_voice.speakers import Speaker


def read_aloud(texts: list[str], speaker: Speaker) -> list[Samples]:
    """`texts` at `SAMPLE_RATE_HZ`, without the silence around them, at -22 dBFS."""
    espeak = Espeak(seed=1)
    ungained = replace(speaker, gain=1.0)
    made = [espeak.speak(text, ungained) for text in texts]
    espeak.close()
    gain = level_gain(np.concatenate(made))
    return [trim(np.float32(1 / 32768) * apply_gain(pcm, gain).astype(np.float32)) for pcm in made]


def trim(pcm: Samples, threshold: float = 0.004) -> Samples:
    """Without what is quieter than `threshold` at both ends."""
    sound = np.flatnonzero(np.abs(pcm) > threshold)
    return pcm[sound[0] : sound[-1] + 1] if sound.size else pcm


def wav_bytes(pcm: Samples, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """A recording to send as a reference."""
    file = io.BytesIO()
    soundfile.write(file, pcm, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()
