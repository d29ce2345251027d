"""`python -m benchmarks.joins`: what is heard where sentences meet, in ten chapters.

One worker speaks `chapters.txt`; the sentences are joined as they come from it, with the pauses set
between them, and as the server joins them. Both are written in every format and tempo, decoded, and
measured. Prints a table, then one JSON line.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.audio.joins import Levels
from backend.core import AudioOutput, SamplingParams, Sentence
from backend.hardware.need import CheckpointShape
from backend.settings import SHIPPED_VOICE_DIR
from backend.text.sentences import split_text
from backend.worker.messages import Speak
from tests.heard import FORMATS, Sound, heard, whole
from tests.joined import Join, joins
from training.demo_voice.speaking import Reading, Spoken, speak_all

CHAPTERS = Path(__file__).parent / "chapters.txt"
PARAGRAPHS = 2
"""Of a chapter, each a line of the file."""
TEMPI = (0.5, 1.0, 1.5, 2.0)
_CHARACTERS = CheckpointShape.from_folder(SHIPPED_VOICE_DIR).info.max_segment_characters


@dataclass(frozen=True, slots=True)
class Chapter:
    """Sentences one after another, and where the middles of their pauses are, in seconds."""

    sound: Sound
    rate_hz: int
    middles_s: list[float]
    asked_s: list[float]


def chapters() -> list[str]:
    """The texts."""
    lines = CHAPTERS.read_text("utf-8").splitlines()
    return ["\n".join(lines[i : i + PARAGRAPHS]) for i in range(0, len(lines), PARAGRAPHS)]


def speak(seed: int) -> list[tuple[Sentence, Spoken]]:
    """Every sentence of every chapter, by a worker with the shipped voice."""
    script = [sentence for text in chapters() for sentence in split_text(text, _CHARACTERS)]
    readings = [
        Reading(Speak(str(index), sentence.text, SamplingParams(seed=seed + index)))
        for index, sentence in enumerate(script)
    ]
    return list(zip(script, asyncio.run(speak_all(None, readings)), strict=True))


def by_chapter(
    spoken: Sequence[tuple[Sentence, Spoken]],
) -> Iterator[list[tuple[Sentence, Spoken]]]:
    """The sentences of each chapter."""
    start = 0
    for text in chapters():
        count = len(split_text(text, _CHARACTERS))
        yield list(spoken[start : start + count])
        start += count


def joined(sentences: Sequence[tuple[Sentence, Spoken]], is_mended: bool) -> Chapter:
    """A chapter, as the server joins it or as it comes."""
    rate_hz = sentences[0][1].rate_hz
    levels, pieces = Levels(rate_hz), list[Sound]()
    middles_s, asked_s, position = list[float](), list[float](), 0
    for sentence, spoken in sentences:
        pause, tail, sound = round(sentence.pause_s * rate_hz), 0, spoken.pcm
        if is_mended:
            made = sound.tobytes()
            edges = levels.edges("", pause, levels.gain("", made, is_whole=True))
            sound = np.frombuffer(edges.push(made) + edges.finish(), "<f4")
            levels.learn("", edges)
            tail = edges.tail_samples
        pieces += [sound, np.zeros(pause - tail, np.float32)]
        position += len(sound)
        middles_s.append((position - tail + pause / 2) / rate_hz)
        asked_s.append(pause / rate_hz)
        position += pause - tail
    return Chapter(np.concatenate(pieces[:-1]), rate_hz, middles_s[:-1], asked_s[:-1])


def measure(chapter: Chapter, output: AudioOutput) -> list[tuple[Join, float]]:
    """What is heard of a chapter that was written so: each join, and how far its pause is off."""
    rate_hz = chapter.rate_hz
    sound, heard_hz = heard(whole(chapter.sound, output, rate_hz), output.format, rate_hz)
    middles_s = [middle_s / output.speed for middle_s in chapter.middles_s]
    found = joins(sound, heard_hz, middles_s)
    return [
        (join, join.pause_s - asked_s / output.speed)
        for join, asked_s in zip(found, chapter.asked_s, strict=True)
    ]


def figures(measured: Sequence[tuple[Join, float]]) -> dict[str, float]:
    """Of all joins: pauses off in milliseconds, loudest edge, steps of level in dB."""
    off_ms = [1000 * off_s for _, off_s in measured]
    steps_db = [abs(join.step_db) for join, _ in measured]
    return {
        "joins": len(measured),
        "off_ms_least": float(np.min(off_ms)),
        "off_ms_median": float(np.median(off_ms)),
        "off_ms_most": float(np.max(off_ms)),
        "edge_most": max(join.edge for join, _ in measured),
        "step_db_median": float(np.median(steps_db)),
        "step_db_95": float(np.percentile(steps_db, 95)),
        "step_db_most": max(steps_db),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    spoken = list(by_chapter(speak(parser.parse_args().seed)))
    rows = []
    for is_mended in (False, True):
        together = [joined(sentences, is_mended) for sentences in spoken]
        for speed in TEMPI:
            for name in FORMATS:
                output = AudioOutput(name, None, speed)
                found = figures([each for one in together for each in measure(one, output)])
                rows.append({"mended": is_mended, "format": name, "speed": speed, **found})
                print(
                    "  ".join(
                        f"{v:7.2f}" if isinstance(v, float) else f"{v!s:7}"
                        for v in rows[-1].values()
                    )
                )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
