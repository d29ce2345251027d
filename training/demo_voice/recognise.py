"""Speech recognition for judging the demo voice: pocketsphinx with its US-English model."""

import functools
from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray
from pocketsphinx import Decoder

from training.demo_voice.words import normalise_words

__all__ = ["normalise_words", "recognise_one_of", "transcribe", "word_errors"]

_RATE_HZ = 16_000
_SILENCE_S = 0.25
_NOISE_RMS = 3.0  # of 32,768: -81 dBFS, so that the silence is not digital zero


@functools.cache
def _decoder() -> Decoder:
    # cmn="batch": a transcript must not depend on what was recognised before it
    return Decoder(samprate=_RATE_HZ, cmn="batch", loglevel="FATAL")


def transcribe(pcm: NDArray[np.float32], sample_rate_hz: int) -> str:
    """The words heard in mono speech (-1 to 1), lower case, empty when none."""
    return _decode(_decoder(), pcm, sample_rate_hz)


def recognise_one_of(
    pcm: NDArray[np.float32], sample_rate_hz: int, sentences: Sequence[str]
) -> int | None:
    """Which of `sentences` this is, for a recogniser that knows no others; None if it hears none.

    Where it stops before the end of a sentence, the one nearest to what it heard counts.
    """
    said = tuple(" ".join(normalise_words(sentence)) for sentence in sentences)
    heard = _decode(_chooser(said), pcm, sample_rate_hz)
    if not heard:
        return None
    return min(range(len(said)), key=lambda i: word_errors(said[i], heard)[0])


@functools.cache
def _chooser(sentences: tuple[str, ...]) -> Decoder:
    # Beams wide enough that no sentence is given up before it could win.
    beams = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60}
    decoder = Decoder(samprate=_RATE_HZ, cmn="batch", loglevel="FATAL", lm=None, **beams)
    decoder.add_jsgf_string(
        "one", "#JSGF V1.0; grammar one; public <one> = " + " | ".join(sentences) + ";"
    )
    decoder.activate_search("one")
    return decoder


def _decode(decoder: Decoder, pcm: NDArray[np.float32], sample_rate_hz: int) -> str:
    speech = soxr.resample(pcm, sample_rate_hz, _RATE_HZ) * 32_768.0
    silence = np.zeros(int(_SILENCE_S * _RATE_HZ))
    padded = np.concatenate([silence, speech, silence])
    noise = np.random.default_rng(0).standard_normal(padded.size) * _NOISE_RMS
    samples = np.clip(np.rint(padded + noise), -32_768, 32_767).astype(np.int16)
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return str(hypothesis.hypstr) if hypothesis else ""


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(errors, words): the word-level edit distance and the number of reference words."""
    expected, heard = normalise_words(reference), normalise_words(hypothesis)
    row = list(range(len(heard) + 1))
    for i, word in enumerate(expected, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            diagonal, row[j] = row[j], min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
    return row[-1], len(expected)
