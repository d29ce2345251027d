"""espeak-ng in this process, through the ``espeakng-loader`` wheel; levels and trimming.

espeak-ng speaks the training text and nothing else; the served voice contains none of its code.
Everything here is mono int16 at 22,050 Hz. Needs numpy and the wheel only, Python 3.11 or later.
"""

import _ctypes
import ctypes

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from training.demo_voice.speakers import Speaker

SAMPLE_RATE_HZ = 22_050
LEVEL_DBFS = -22.0
"""RMS level of every training speaker, trimmed speech, re a full-scale constant (32,768)."""
PEAK_LIMIT = 32_000
"""Largest sample magnitude that a gain may produce; a very peaky voice stays below LEVEL_DBFS."""

_TAIL_S = 0.060
_HEAD_S = 0.010
_SILENCE_RATIO = 0.006  # of the utterance's peak: -44 dB

# espeak-ng's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAM_RATE, _PARAM_VOLUME, _PARAM_PITCH, _PARAM_RANGE = 1, 2, 3, 4
_CHARS_UTF8 = 1
_VOLUME = 60  # of 100; at 100 the loudest variants clip inside espeak-ng
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


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
        """The whole utterance as espeak-ng makes it, silences included, with the gain applied."""
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
        return apply_gain(pcm, speaker.gain)


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


def trim_and_pad(pcm: NDArray[np.int16], frame_samples: int) -> NDArray[np.int16]:
    """Cut silence from both ends, keep 60 ms of tail, pad with zeros to whole frames.

    Empty when there is no sound in ``pcm``.
    """
    magnitude = np.abs(pcm.astype(np.int32))
    sound = np.flatnonzero(magnitude > max(8.0, _SILENCE_RATIO * magnitude.max(initial=0)))
    if sound.size == 0:
        return np.zeros(0, np.int16)
    start = max(0, int(sound[0]) - int(_HEAD_S * SAMPLE_RATE_HZ))
    stop = int(sound[-1]) + 1 + int(_TAIL_S * SAMPLE_RATE_HZ)
    kept = pcm[start:stop]
    n_frames = -(-(stop - start) // frame_samples)
    padded = np.zeros(n_frames * frame_samples, np.int16)
    padded[: kept.size] = kept
    return padded
