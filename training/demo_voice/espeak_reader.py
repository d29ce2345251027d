"""Reading aloud by espeak-ng, for tests that need recordings of known words, and for evaluations.

The library comes in the `espeakng-loader` wheel (GPL; a tool of tests and of this folder, never a
dependency of the server). POSIX only.
"""

import _ctypes
import ctypes
import random
from dataclasses import dataclass

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from training.demo_voice.measure import Samples, trim

SAMPLE_RATE_HZ = 22_050
LEVEL_DBFS = -22.0
"""RMS level of what is read aloud re a full-scale constant (32,768)."""
PEAK_LIMIT = 32_000
"""Largest sample magnitude that a gain may produce; a very peaky voice stays below LEVEL_DBFS."""

# espeak-ng's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAM_RATE, _PARAM_VOLUME, _PARAM_PITCH, _PARAM_RANGE = 1, 2, 3, 4
_CHARS_UTF8 = 1
_VOLUME = 60  # of 100; at 100 the loudest variants clip inside espeak-ng
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Speaker:
    """One of espeak-ng's voices and its settings.

    `rate_wpm` is words a minute; `pitch` and `pitch_range` are espeak-ng's own 0 to 99 scales.
    """

    voice: str
    rate_wpm: int = 155
    pitch: int = 50
    pitch_range: int = 50


CALM_SPEAKER = Speaker("en-us+f5", rate_wpm=150, pitch=40, pitch_range=35)
"""A woman's voice, median F0 about 180 Hz."""
_LOW = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Andy", "Lee", "Mike", "adam", "rob")
_HIGH = ("f1", "f2", "f3", "f4", "f5", "Alicia", "Annie", "belinda", "linda", "steph")


def random_speaker(rng: random.Random) -> Speaker:
    """Two thirds of them men's voices; median F0 from 70 to 280 Hz."""
    is_low = rng.random() < 2 / 3
    variant, pitch = (rng.choice(_LOW), rng.randint(15, 95)) if is_low else (
        rng.choice(_HIGH), rng.randint(10, 70))  # fmt: skip
    voice = f"en-us+{variant}"
    return Speaker(voice, rng.randint(130, 190), pitch, rng.randint(30, 70))


class Espeak:
    """espeak-ng in this process; one at a time, for the library keeps global state.

    The library's noise and flutter run on from one utterance to the next, so what is spoken
    depends on the seed and on everything spoken since the object was made.
    """

    def __init__(self, seed: int = 0) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._pieces: list[NDArray[np.int16]] = []
        self._speaker: Speaker | None = None
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        data_path = str(espeakng_loader.get_data_path()).encode()
        rate_hz = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, 0)
        if rate_hz != SAMPLE_RATE_HZ:
            raise RuntimeError(f"espeak_Initialize gave {rate_hz}, expected {SAMPLE_RATE_HZ}")
        self._library.espeak_SetSynthCallback(self._callback)
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))  # espeak-ng draws from both generators
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def close(self) -> None:
        """Unload the library: Terminate alone keeps state that the next voice would hear."""
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def _select(self, speaker: Speaker) -> None:
        if self._library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {speaker.voice!r}")
        for parameter, value in (
            (_PARAM_RATE, speaker.rate_wpm),
            (_PARAM_VOLUME, _VOLUME),
            (_PARAM_PITCH, speaker.pitch),
            (_PARAM_RANGE, speaker.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._speaker = speaker

    def speak(self, text: str, speaker: Speaker) -> NDArray[np.int16]:
        """The whole utterance as espeak-ng makes it, silences included."""
        if speaker != self._speaker:
            self._select(speaker)
        data = text.encode() + b"\0"
        self._pieces.clear()
        status = self._library.espeak_Synth(data, len(data), 0, 0, 0, _CHARS_UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"espeak_Synth failed with {status}")
        if not self._pieces:
            return np.zeros(0, np.int16)
        pcm: NDArray[np.int16] = np.concatenate(self._pieces)
        return pcm


def apply_gain(pcm: NDArray[np.int16], gain: float) -> NDArray[np.int16]:
    """Scale int16 samples, saturating."""
    scaled = np.clip(np.rint(pcm * np.float64(gain)), -32_768, 32_767)
    return scaled.astype(np.int16)


def level_gain(pcm: NDArray[np.int16]) -> float:
    """The factor that brings ``pcm`` to LEVEL_DBFS, or less where PEAK_LIMIT forbids it."""
    wide = pcm.astype(np.float64)
    rms = float(np.sqrt(np.mean(wide**2)))
    peak = float(np.max(np.abs(wide)))
    return min(32_768.0 * 10 ** (LEVEL_DBFS / 20) / rms, PEAK_LIMIT / peak)


def read_aloud(texts: list[str], speaker: Speaker) -> list[Samples]:
    """`texts` at `SAMPLE_RATE_HZ`, without the silence around them, at LEVEL_DBFS."""
    espeak = Espeak(seed=1)
    made = [espeak.speak(text, speaker) for text in texts]
    espeak.close()
    gain = level_gain(np.concatenate(made))
    return [trim(np.float32(1 / 32768) * apply_gain(pcm, gain).astype(np.float32)) for pcm in made]
