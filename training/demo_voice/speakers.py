"""The speakers of the training speech: blends of the teacher's voices, nobody's own."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from training.demo_voice.teacher_styles import VOICES


@dataclass(frozen=True, slots=True)
class Speaker:
    """A blend of voices and how it is read.

    `voices` are weights in the order of `VOICES` and sum to 1. `f0_hz` is the mean that the pitch
    is moved towards, by `MAX_SHIFT` at most; `f0_range` multiplies how far it strays from its
    mean. `stretch` multiplies every frequency of the spectrum, as a shorter throat would.
    """

    name: str
    voices: tuple[float, ...]
    speed: float = 1.0
    stretch: float = 1.0
    f0_hz: float | None = None
    f0_range: float = 1.0


MAX_SHIFT = 7 / 12
"""Octaves."""
FIRST_NUMBERED_ID = 10
DEFAULT_SHARE, NAMED_SHARE = 0.40, 0.012
"""Of all lines: the default speaker's, and each named one's."""
MORE_LOW, LOW_HZ = 0.15, 100.0
"""Share of the other readers who are drawn until their pitch lies below that: low voices are what
a recording is followed worst in."""


def _blend(name: str, parts: dict[str, float], **manner: float) -> Speaker:
    if abs(sum(parts.values()) - 1) > 1e-6:
        raise ValueError(f"the parts of {name} do not sum to 1")
    return Speaker(name, tuple(parts.get(voice, 0.0) for voice in VOICES), **manner)


DEFAULT_SPEAKER = _blend(
    "shoal",
    {"af_heart": 0.45, "af_bella": 0.25, "bf_emma": 0.15, "af_aoede": 0.15},
    f0_range=1.6,  # what is spoken freely moves less than what was learnt
)
NAMED_SPEAKERS = (
    _blend("tern", {"af_aoede": 0.4, "af_kore": 0.35, "bf_lily": 0.25}, f0_hz=225, stretch=1.02),
    _blend("cove", {"bf_isabella": 0.4, "af_nova": 0.3, "bf_alice": 0.3}, f0_hz=165, stretch=0.98),
    _blend("spray", {"af_jessica": 0.4, "af_river": 0.3, "af_alloy": 0.3}, speed=1.08),
    _blend("lagoon", {"bf_emma": 0.45, "bf_alice": 0.3, "af_sarah": 0.25}),
    _blend("fjord", {"am_onyx": 0.4, "am_adam": 0.3, "bm_george": 0.3}, f0_hz=88, stretch=0.97),
    _blend("reef", {"am_michael": 0.45, "am_fenrir": 0.3, "am_puck": 0.25}),
    _blend("dune", {"am_eric": 0.4, "am_liam": 0.3, "am_echo": 0.3}, speed=0.95),
    _blend("brine", {"bm_george": 0.4, "bm_lewis": 0.35, "bm_fable": 0.25}, f0_hz=102),
    _blend("gannet", {"am_puck": 0.45, "bm_daniel": 0.35, "am_santa": 0.2}, f0_hz=150),
)
"""Their ids are 1 to 9, in this order; the default speaker's is 0."""


def _gaussian(rng: random.Random, voices: Sequence[str], sigma: float) -> tuple[float, ...]:
    """A point as far from the voices' mean as they are, times sigma, in their span."""
    draws = {voice: rng.gauss(0, 1) for voice in voices}
    mean = sum(draws.values()) / len(draws)
    scale = sigma / math.sqrt(len(draws))
    return tuple(
        1 / len(draws) + scale * (draws[voice] - mean) if voice in draws else 0.0
        for voice in VOICES
    )


def random_speaker(seed: str) -> Speaker:
    """A new speaker: half are read as they are, the rest lower, higher, livelier or faster.

    A fifth are low voices (75 to 110 Hz), an eighth high ones (220 to 300 Hz).
    """
    rng = random.Random(f"speaker/{seed}")
    kind = rng.random()
    sigma = rng.uniform(1.0, 1.5)
    if kind < 0.5:
        return Speaker(seed, _gaussian(rng, VOICES, sigma))
    voices: Sequence[str] = VOICES
    f0_hz = None
    stretch = rng.uniform(0.93, 1.09)
    if kind < 0.72:
        voices = [voice for voice in VOICES if voice[1] == "m"]
        f0_hz, stretch = rng.uniform(76, 110), rng.uniform(0.90, 1.02)
    elif kind < 0.85:
        voices = [voice for voice in VOICES if voice[1] == "f"]
        f0_hz, stretch = rng.uniform(220, 300), rng.uniform(1.0, 1.12)
    elif kind < 0.95:
        f0_hz = rng.uniform(110, 220)
    return Speaker(
        seed,
        _gaussian(rng, voices, sigma),
        speed=rng.uniform(0.85, 1.2),
        stretch=stretch,
        f0_hz=f0_hz,
        f0_range=rng.uniform(0.8, 1.3),
    )


def reader(shard: int) -> tuple[Speaker, int]:
    """Who reads the shard, and their id."""
    draw = random.Random(f"reader/{shard}").random()
    if draw < DEFAULT_SHARE:
        return DEFAULT_SPEAKER, 0
    place = int((draw - DEFAULT_SHARE) / NAMED_SHARE)
    if place < len(NAMED_SPEAKERS):
        return NAMED_SPEAKERS[place], place + 1
    speaker = random_speaker(str(shard))
    if random.Random(f"low/{shard}").random() < MORE_LOW:
        others = (random_speaker(f"{shard}/{n}") for n in itertools.count())
        speaker = next(s for s in others if s.f0_hz is not None and s.f0_hz < LOW_HZ)
    return speaker, FIRST_NUMBERED_ID + shard


def find_speaker(name: str) -> Speaker:
    """A speaker by name, or the one that grows from any other word."""
    for speaker in (DEFAULT_SPEAKER, *NAMED_SPEAKERS):
        if speaker.name == name:
            return speaker
    return random_speaker(name)
