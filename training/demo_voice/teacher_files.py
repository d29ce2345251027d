"""Everything the teacher needs, in one folder to carry to the GPU machine:
``python -m training.demo_voice.teacher_files --work DIR`` fills ``DIR/teacher``, once, on a CPU.

What is there already is not made again. Needs the `onnx` package, and those that `phonemes.py`
names, which no other part of the project does.
"""

import argparse
import time
from pathlib import Path

from training.demo_voice.corpus import build, describe, fetch_packages
from training.demo_voice.phonemes import Phonemizer
from training.demo_voice.teacher import STYLES_FILE, WEIGHTS_FILE
from training.demo_voice.teacher_convert import convert
from training.demo_voice.teacher_lines import LINES_FILE, save_lines
from training.demo_voice.teacher_packages import UNPACKED, VOICES_FOLDER, fetch, join_model
from training.demo_voice.teacher_styles import pack_styles
from training.demo_voice.teacher_weights import save_weights

_MOST_PHONEMES = 400
"""The teacher's own bound is 510; sentences of 250 characters have some 260."""


def _tell(text: str, began_s: float) -> None:
    print(f"{time.monotonic() - began_s:6.0f} s  {text}", flush=True)


def prepare(work: Path) -> Path:
    """The folder, complete."""
    began_s = time.monotonic()
    folder, unpacked = work / "teacher", work / UNPACKED
    folder.mkdir(parents=True, exist_ok=True)
    fetch(work / "dl", unpacked)
    _tell("packages are there", began_s)
    if not (folder / LINES_FILE).exists():
        corpus = build(fetch_packages(work / "debian"))
        _tell(describe(corpus), began_s)
        phonemize, lines = Phonemizer(unpacked), []
        for count, (text, _) in enumerate(corpus, 1):
            phonemes = phonemize(text)
            if phonemes and len(phonemes) <= _MOST_PHONEMES:
                lines.append((text, phonemes))
            if count % 20_000 == 0:
                _tell(f"{count} lines have phonemes", began_s)
        kept = save_lines(folder / LINES_FILE, lines)
        _tell(f"{kept} of {len(corpus)} lines are kept", began_s)
    if not (folder / STYLES_FILE).exists():
        error = pack_styles(unpacked / VOICES_FOLDER, folder / STYLES_FILE)
        _tell(f"voices packed, {error:.2%} of their spread apart from the originals", began_s)
    if not (folder / WEIGHTS_FILE).exists():
        save_weights(convert(join_model(unpacked)), folder / WEIGHTS_FILE)
    total = sum(file.stat().st_size for file in folder.iterdir())
    _tell(f"{folder}: {total / 2**20:.1f} MiB", began_s)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    prepare(parser.parse_args().work)


if __name__ == "__main__":
    main()
