"""Speech for training the demo voice, made by espeak-ng.

``python -m training.demo_voice.speech --corpus FILE --out DIR --processes N --hours H`` writes one
shard for each 128 lines read by one speaker: ``NNNNN.npy`` (int16 at 22,050 Hz, utterances one
after another, each whole frames long) and ``NNNNN.json``, which appears last:
``{"speaker": {...}, "speaker_id": 0, "items": [[text, n_frames], ...]}``; speaker 0 is the default
one. An empty file ``DONE`` ends the run. The same arguments give the same files, whatever the
number of processes. Needs numpy and the espeakng-loader wheel only.
"""

import argparse
import gzip
import itertools
import json
import multiprocessing
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.demo_voice.espeak import (
    LEVEL_DBFS,
    SAMPLE_RATE_HZ,
    Espeak,
    apply_gain,
    level_gain,
    trim_and_pad,
)
from training.demo_voice.speakers import DEFAULT_SPEAKER, Speaker, random_speaker

__all__ = [
    "DEFAULT_SPEAKER",
    "LEVEL_DBFS",
    "SAMPLE_RATE_HZ",
    "Espeak",
    "Speaker",
    "generate",
    "random_speaker",
    "trim_and_pad",
]


@dataclass(frozen=True)
class _Chunk:
    """Lines for one speaker; ``index`` names the shard and seeds espeak-ng's noise."""

    index: int
    speaker: Speaker
    speaker_id: int
    lines: tuple[str, ...]


def _chunks(
    lines: Sequence[str], default_share: float, lines_per_speaker: int, seed: int
) -> Iterator[_Chunk]:
    """Endlessly, pass after pass over the lines.

    In each pass a share of the chunks is the default speaker's. Passes come in pairs: the
    default speaker reads other chunks in the second than in the first, as far as the share allows.
    """
    starts = range(0, len(lines), lines_per_speaker)
    for index in itertools.count():
        turn, position = divmod(index, len(starts))
        pair, second = divmod(turn, 2)
        draw = random.Random(f"{seed}/default/{pair}/{position}").random()
        is_default = (1.0 - draw if second else draw) < default_share
        speaker = random_speaker(random.Random(f"{seed}/speaker/{index}"))
        start = starts[position]
        yield _Chunk(
            index=index,
            speaker=DEFAULT_SPEAKER if is_default else speaker,
            speaker_id=0 if is_default else index + 1,
            lines=tuple(lines[start : start + lines_per_speaker]),
        )


def _shard(out_dir: Path, index: int, suffix: str) -> Path:
    return out_dir / f"{index:05d}{suffix}"


def _speak_chunk(chunk: _Chunk, out_dir: Path, frame_samples: int) -> int:
    """Write one shard; its length in samples."""
    espeak = Espeak(seed=chunk.index)
    kept: list[NDArray[np.int16]] = []
    items: list[tuple[str, int]] = []
    ungained = replace(chunk.speaker, gain=1.0)
    for text in chunk.lines:
        pcm = trim_and_pad(espeak.speak(text, ungained), frame_samples)
        if pcm.size:
            kept.append(pcm)
            items.append((text, pcm.size // frame_samples))
    espeak.close()
    if not kept:
        raise RuntimeError(f"{chunk.speaker} said nothing")
    audio = np.concatenate(kept)
    gain = DEFAULT_SPEAKER.gain if chunk.speaker_id == 0 else round(level_gain(audio), 4)
    np.save(_shard(out_dir, chunk.index, ".npy"), apply_gain(audio, gain))
    speaker = asdict(replace(chunk.speaker, gain=gain))
    partial = _shard(out_dir, chunk.index, ".tmp")
    partial.write_text(
        json.dumps({"speaker": speaker, "speaker_id": chunk.speaker_id, "items": items})
    )
    partial.replace(_shard(out_dir, chunk.index, ".json"))
    return audio.size


def generate(
    out_dir: Path,
    lines: Sequence[str],
    processes: int,
    *,
    hours: float,
    frame_samples: int = 1024,
    default_share: float = 0.45,
    lines_per_speaker: int = 128,
    seed: int = 0,
) -> float:
    """Fill the empty folder ``out_dir`` with shards until there are ``hours``; the hours made.

    When the lines are used up they start over with other speakers.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    if any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} is not empty")
    wanted_samples = int(hours * 3600 * SAMPLE_RATE_HZ)
    chunks = _chunks(lines, default_share, lines_per_speaker, seed)
    made_samples = 0
    # Results count in order, and what ran ahead of the last one is deleted: the shards are then
    # the same for any number of processes.
    pending: deque[tuple[int, Future[int]]] = deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while made_samples < wanted_samples:
            while len(pending) < 2 * processes:
                chunk = next(chunks)
                job = pool.submit(_speak_chunk, chunk, out_dir, frame_samples)
                pending.append((chunk.index, job))
            made_samples += pending.popleft()[1].result()
        pool.shutdown(cancel_futures=True)
    for index, _ in pending:
        for suffix in (".json", ".npy"):
            _shard(out_dir, index, suffix).unlink(missing_ok=True)
    (out_dir / "DONE").touch()
    return made_samples / SAMPLE_RATE_HZ / 3600


def main() -> None:
    """Command line of ``generate``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="gzipped text, one line each")
    parser.add_argument("--out", type=Path, required=True, help="empty folder for the shards")
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--hours", type=float, required=True, help="hours of audio, about")
    parser.add_argument("--frame-samples", type=int, default=1024)
    arguments = parser.parse_args()
    lines = gzip.decompress(arguments.corpus.read_bytes()).decode("ascii").splitlines()
    hours = generate(
        arguments.out,
        lines,
        arguments.processes,
        hours=arguments.hours,
        frame_samples=arguments.frame_samples,
    )
    print(f"{hours:.2f} h in {arguments.out}")


if __name__ == "__main__":
    main()
