"""`python -m training.demo_voice.evaluate`: is the demo voice what it must be?

Speaks the held-out texts through a real worker process with the server's default sampling, listens
with a recogniser, and measures. What needs recordings reads them from folders: the teacher's
reading of held-out sentence NN as `NN.wav` (from 00), unseen speakers as `NN.wav` with the words in
`NN.txt` (20 of them, then low voices), recordings from elsewhere as `recordings.py` writes them. A
folder that is not there leaves its rows unmeasured. What tells speakers apart is downloaded once.
Prints a table, then one JSON line.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from backend.model.checkpoint import load_checkpoint
from backend.settings import Settings
from training.demo_voice.bounds import MUST
from training.demo_voice.exam import (
    SPEAKERS,
    Found,
    beside_teacher,
    elsewhere,
    everyday,
    long_texts,
    unseen,
)
from training.demo_voice.recordings import collect, read_folder, write_folder
from training.demo_voice.speaker_embedding import speaker_encoder
from training.demo_voice.speaking import alone_on_one_core

HELDOUT = Path(__file__).parent / "heldout.txt"
HELDOUT_LONG = Path(__file__).parent / "heldout_long.txt"

_SEEDS, _TURNS = (1, 2, 3, 4), 3
_QUICK_SENTENCES, _QUICK_LONG = 20, 10
_TIMED = 7


def told(line: str) -> None:
    """Progress, beside the table."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def evaluate(arguments: argparse.Namespace) -> Found:
    """All that can be measured with what there is."""
    model_dir: Path | None = arguments.model_dir
    everything = HELDOUT.read_text("utf-8").splitlines()
    sentences, texts = everything, HELDOUT_LONG.read_text("utf-8").splitlines()
    seeds, turns = list(_SEEDS), _TURNS
    if arguments.quick:
        sentences, texts = sentences[:_QUICK_SENTENCES], texts[:: len(texts) // _QUICK_LONG]
        seeds, turns = seeds[:1], 1
    told(f"{len(sentences)} sentences with {len(seeds)} seeds")
    found, listened = everyday(model_dir, sentences, seeds, told)
    if arguments.teacher.is_dir():
        told("the teacher")
        codec = load_checkpoint(model_dir or Settings().checkpoint_dir)
        found |= beside_teacher(codec, listened[: len(sentences)], arguments.teacher, told)
    told(f"{len(texts)} long texts")
    found |= long_texts(model_dir, texts, told)
    if speakers := read_folder(arguments.speakers):
        told(f"{len(speakers)} unseen speakers")
        several = speakers[:SPEAKERS] if arguments.quick else speakers
        encoder = speaker_encoder(arguments.downloads)
        found |= unseen(model_dir, several, everything, encoder, told)
    if not arguments.recordings.is_dir():
        write_folder(collect(told), arguments.recordings)
    if recordings := read_folder(arguments.recordings):
        told(f"{len(recordings)} recordings from elsewhere")
        found |= elsewhere(model_dir, recordings, everything, turns, told)
    told("alone on one core")
    found["rtf"] = alone_on_one_core(model_dir, sentences[:_TIMED])
    return found


def table(found: Found) -> str:
    """Each bound with its figure, in Markdown."""
    lines = ["| | measured | must | |", "| --- | --- | --- | --- |"]
    for key, bound in MUST.items():
        value = found.get(key)
        limit = f"{bound.side} {bound.write(bound.limit)}"
        if isinstance(value, float | int):
            mark = "yes" if bound.holds(value) else "**no**"
            lines.append(f"| {bound.what} | {bound.write(value)} | {limit} | {mark} |")
        else:
            lines.append(f"| {bound.what} | not measured | {limit} | |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, help="instead of the shipped voice")
    parser.add_argument("--quick", action="store_true", help="a fifth of it, for a first look")
    for name in ("teacher", "speakers", "recordings"):
        parser.add_argument(f"--{name}", type=Path, default=Path(".work/ears") / name)
    parser.add_argument("--downloads", type=Path, default=Path(".work/downloads"))
    found = evaluate(parser.parse_args())
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
