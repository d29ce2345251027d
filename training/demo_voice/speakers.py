"""The speakers of the training speech: espeak-ng's US English in many variants."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Speaker:
    """One espeak-ng voice and its settings.

    ``rate_wpm`` is words a minute; ``pitch`` and ``pitch_range`` are espeak-ng's own 0 to 99
    scales; ``gain`` is a plain factor on the samples that brings the voice to LEVEL_DBFS.
    """

    voice: str
    rate_wpm: int = 155
    pitch: int = 50
    pitch_range: int = 50
    gain: float = 1.0


DEFAULT_SPEAKER = Speaker("en-us+f5", rate_wpm=150, pitch=40, pitch_range=35, gain=1.62)
"""A calm woman's voice, median F0 about 180 Hz; the gain was measured on 800 corpus lines."""

# Median F0 about 85 to 110 Hz at pitch 50, 70 to 90 Hz at pitch 20, 115 to 150 Hz at pitch 80.
_LOW_VARIANT_NAMES = """
    Alex Andy Denis Diogo Gene Gene2 Henrique Hugo Lee Mario Michael Mike Reed RicishayMax adam
    benjamin boris david edward edward2 gustave ian iven2 iven3 iven4 john kaukovalta klatt3 klatt4
    klatt5 klatt6 m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel mike2 miguel norbert pablo pedro
    quincy rob robert sandro travis victor
"""
# Median F0 about 175 to 270 Hz at pitch 50, 130 to 210 Hz at pitch 20.
_HIGH_VARIANT_NAMES = """
    Alicia Andrea Annie Nguyen anika aunty belinda f1 f2 f3 f4 f5 grandma linda robosoft6 shelby
    steph steph2 steph3
"""
# Left out: whispers, robots, croaks, and the variants that clip inside espeak-ng.

_LOW_VARIANTS = _LOW_VARIANT_NAMES.split()
_HIGH_VARIANTS = _HIGH_VARIANT_NAMES.split()

_LOW_SHARE, _RAISED_SHARE = 0.34, 0.24


def random_speaker(rng: random.Random) -> Speaker:
    """A speaker other than the default: 40 % have a median F0 below 120 Hz, some reach 280 Hz.

    The gain is left at 1; it is known once the speaker has been heard.
    """
    kind = rng.random()
    if kind < _LOW_SHARE:
        variant, pitch = rng.choice(_LOW_VARIANTS), rng.randint(15, 58)
    elif kind < _LOW_SHARE + _RAISED_SHARE:
        variant, pitch = rng.choice(_LOW_VARIANTS), rng.randint(59, 95)
    else:
        variant, pitch = rng.choice(_HIGH_VARIANTS), rng.randint(10, 70)
    return Speaker(
        voice=f"en-us+{variant}",
        rate_wpm=rng.randint(130, 190),
        pitch=pitch,
        pitch_range=rng.randint(30, 70),
    )
