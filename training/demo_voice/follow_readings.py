"""New speakers read what the voice learns to follow them by:
``python -m training.demo_voice.follow_readings --teacher DIR --out DIR --first 0 --count 300``.

`--teacher` is the folder that `teacher_files.py` made. Each speaker reads two lines of the training
text: NNNN-1.wav and NNNN-2.wav, with the words in .txt. What is there already is not made again. On
a GPU or, at some 4 s a speaker, on a core; several of these may work side by side, each from a
`--first` of its own.
"""

import argparse
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch

from training.demo_voice.kokoro import SAMPLE_RATE_HZ, WAYS
from training.demo_voice.speakers import random_speaker
from training.demo_voice.speech import levelled
from training.demo_voice.teacher import Line, Teacher
from training.demo_voice.teacher_lines import LINES_FILE, load_lines

_CHARACTERS = range(30, 71)
_LINES = 2


def read_speakers(
    teacher: Teacher, lines: Sequence[tuple[str, bytes]], numbers: Sequence[int], folder: Path
) -> None:
    """Some of `lines` each, as speakers read them that no other numbers have."""
    names = [f"follow/{number}" for number in numbers]
    chosen = [random.Random(name).sample(lines, _LINES) for name in names]
    asked = [
        Line(phonemes, random_speaker(name))
        for name, own in zip(names, chosen, strict=True)
        for _, phonemes in own
    ]
    made = iter(teacher.read(asked, numbers[0]).recordings())
    for number, own in zip(numbers, chosen, strict=True):
        said = levelled(list(itertools.islice(made, _LINES)))
        for turn, ((text, _), pcm) in enumerate(zip(own, said, strict=True), start=1):
            path = folder / f"{number:04}-{turn}.wav"
            path.with_suffix(".txt").write_text(text + "\n", "utf-8")
            soundfile.write(path, pcm, SAMPLE_RATE_HZ)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_gpu else "cpu")
    at_once, batch_s = (200, 400.0) if is_gpu else (1, 30.0)
    torch.set_num_threads(1)
    teacher = Teacher(arguments.teacher, device, WAYS["fused" if is_gpu else "plain"], batch_s)
    lines = load_lines(arguments.teacher / LINES_FILE)
    lines = [each for each in lines if len(each[0]) in _CHARACTERS]
    numbers = range(arguments.first, arguments.first + arguments.count)
    missing = [n for n in numbers if not (folder / f"{n:04}-{_LINES}.wav").exists()]
    for begin in range(0, len(missing), at_once):
        read_speakers(teacher, lines, missing[begin : begin + at_once], folder)
        print(f"{begin + at_once} of {len(missing)} speakers", flush=True)


if __name__ == "__main__":
    main()
