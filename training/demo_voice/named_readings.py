"""The named speakers read the recordings that their shipped voices are made of:
``python -m training.demo_voice.named_readings --work DIR --out DIR``.

`--work` is the folder of `teacher_files.py`. Writes NAME.wav and NAME.txt as `voices.py` reads
them; what is said stands in `named/NAME.txt`, a sentence a line.
"""

import argparse
import shutil
from pathlib import Path

import soundfile

from training.demo_voice.heldout_readings import joined
from training.demo_voice.kokoro import SAMPLE_RATE_HZ
from training.demo_voice.read_aloud import read_aloud
from training.demo_voice.speakers import NAMED_SPEAKERS

TEXTS = Path(__file__).parent / "named"


def main() -> None:
    """Command line; what is there already is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of teacher_files.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for speaker in NAMED_SPEAKERS:
        path, text = arguments.out / f"{speaker.name}.wav", TEXTS / f"{speaker.name}.txt"
        shutil.copyfile(text, arguments.out / text.name)
        if not path.exists():
            said, _, _ = text.read_text("utf-8").partition("\n\n")
            pcm = joined(read_aloud(arguments.work, said.splitlines(), speaker))
            soundfile.write(path, pcm, SAMPLE_RATE_HZ)
            print(f"{speaker.name}: {len(pcm) / SAMPLE_RATE_HZ:.1f} s", flush=True)


if __name__ == "__main__":
    main()
