"""The teacher reads what `evaluate` compares with:
``python -m training.demo_voice.heldout_readings --work DIR --out DIR``.

`--work` is the folder of `teacher_files.py`. Writes `teacher/NN.wav`, the default speaker's reading
of held-out sentence NN, and `speakers/NN.wav` with the words in `NN.txt`: twenty speakers that no
shard has, then low ones, until the pitch of ten lies below 110 Hz. What is there already is not
made again. On a CPU; a minute or two of computing for a minute of speech.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from training.demo_voice.evaluate import HELDOUT
from training.demo_voice.exam import LOW_HZ, SPEAKERS
from training.demo_voice.kokoro import SAMPLE_RATE_HZ
from training.demo_voice.pitch import median_pitch_hz
from training.demo_voice.read_aloud import read_aloud
from training.demo_voice.speakers import DEFAULT_SPEAKER, Speaker, random_speaker

LOW_VOICES = 10
SAID = (
    "The lamp in the hallway flickers whenever a heavy truck drives past the house.",
    "I would like two tickets for the evening show, please, somewhere near the front.",
)
"""Some 9 seconds."""
_AT_ONCE = 10
_PAUSE_S = 0.2


def write_teacher(work: Path, folder: Path) -> None:
    """The default speaker's reading of every held-out sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences = list(enumerate(HELDOUT.read_text("utf-8").splitlines()))
    wanted = [(n, text) for n, text in sentences if not (folder / f"{n:02}.wav").exists()]
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        made = read_aloud(work, [text for _, text in some], DEFAULT_SPEAKER)
        for (number, _), pcm in zip(some, made, strict=True):
            soundfile.write(folder / f"{number:02}.wav", pcm, SAMPLE_RATE_HZ)
        print(f"{start + len(some)} of {len(wanted)} sentences", flush=True)


def write_speakers(work: Path, folder: Path) -> None:
    """Unseen speakers; how many of them are low is measured, not believed."""
    folder.mkdir(parents=True, exist_ok=True)
    low = 0
    for number, speaker in enumerate(_speakers()):
        if number >= SPEAKERS and low >= LOW_VOICES:
            return
        path = folder / f"{number:02}.wav"
        pcm = _read(path) if path.exists() else _speak(work, speaker)
        soundfile.write(path, pcm, SAMPLE_RATE_HZ)
        path.with_suffix(".txt").write_text(" ".join(SAID) + "\n", "utf-8")
        low += 0 < median_pitch_hz(pcm, SAMPLE_RATE_HZ) < LOW_HZ
        print(f"{number + 1} speakers, {low} of them low", flush=True)


def _speakers() -> Iterator[Speaker]:
    """Twenty as they are drawn, then those that are to be low."""
    for index in itertools.count():
        speaker = random_speaker(f"unseen/{index}")
        if index < SPEAKERS or (speaker.f0_hz is not None and speaker.f0_hz < LOW_HZ):
            yield speaker


def _read(path: Path) -> NDArray[np.float32]:
    pcm: NDArray[np.float32] = soundfile.read(path, dtype="float32")[0]
    return pcm


def _speak(work: Path, speaker: Speaker) -> NDArray[np.float32]:
    return joined(read_aloud(work, SAID, speaker))


def joined(sentences: Sequence[NDArray[np.int16]]) -> NDArray[np.float32]:
    """One recording (-1 to 1) of sentences at 24,000 Hz, a short pause between them."""
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.int16)
    parts = [part for sentence in sentences for part in (pause, sentence)][1:]
    return np.concatenate(parts).astype(np.float32) / np.float32(32_768)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of teacher_files.py")
    parser.add_argument("--out", type=Path, default=Path(".work/ears"))
    arguments = parser.parse_args()
    write_speakers(arguments.work, arguments.out / "speakers")
    write_teacher(arguments.work, arguments.out / "teacher")


if __name__ == "__main__":
    main()
