"""The teacher reads given sentences, on the CPU:
``python -m training.demo_voice.read_aloud --work DIR --read FILE --speaker NAME --out DIR``.

`DIR` is the folder of `teacher_files.py`; the sentences stand one a line, in words. A speaker's
name is the default one's, a named one's, or any other word, from which a new speaker grows.
"""

import argparse
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.demo_voice.kokoro import SAMPLE_RATE_HZ, WAYS
from training.demo_voice.phonemes import Phonemizer
from training.demo_voice.speakers import Speaker, find_speaker
from training.demo_voice.speech import levelled
from training.demo_voice.teacher import Line, Teacher
from training.demo_voice.teacher_packages import UNPACKED

_BATCH_S = 30.0


def read_aloud(
    work: Path, sentences: Sequence[str], speaker: Speaker, seed: int = 0
) -> list[NDArray[np.int16]]:
    """One trimmed recording a sentence, mono, 24,000 Hz, at the level of the training speech.

    Raises ValueError where a sentence has no phonemes.
    """
    phonemize, lines = Phonemizer(work / UNPACKED), []
    for sentence in sentences:
        phonemes = phonemize(sentence)
        if not phonemes:
            raise ValueError(f"the teacher cannot say {sentence!r}")
        lines.append(Line(phonemes, speaker))
    teacher = Teacher(work / "teacher", torch.device("cpu"), WAYS["plain"], _BATCH_S)
    return levelled(teacher.read(lines, seed).recordings())


def main() -> None:
    """Command line: NNN.wav for each line of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of teacher_files.py")
    parser.add_argument("--read", type=Path, required=True, help="text, a sentence a line")
    parser.add_argument("--speaker", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sentences = arguments.read.read_text(encoding="utf-8").splitlines()
    arguments.out.mkdir(parents=True, exist_ok=True)
    read = read_aloud(arguments.work, sentences, find_speaker(arguments.speaker))
    for number, pcm in enumerate(read):
        with wave.open(str(arguments.out / f"{number:03d}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(pcm.astype("<i2").tobytes())


if __name__ == "__main__":
    main()
