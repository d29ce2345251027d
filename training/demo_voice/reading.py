"""Reading aloud by espeak-ng, for what needs some recording of known words; POSIX only."""

from dataclasses import replace

import numpy as np

from training.demo_voice.espeak import Espeak, apply_gain, level_gain
from training.demo_voice.measure import Samples, trim
from training.demo_voice.speakers import Speaker


def read_aloud(texts: list[str], speaker: Speaker) -> list[Samples]:
    """`texts` at `SAMPLE_RATE_HZ`, without the silence around them, at -22 dBFS."""
    espeak = Espeak(seed=1)
    ungained = replace(speaker, gain=1.0)
    made = [espeak.speak(text, ungained) for text in texts]
    espeak.close()
    gain = level_gain(np.concatenate(made))
    return [trim(np.float32(1 / 32768) * apply_gain(pcm, gain).astype(np.float32)) for pcm in made]
