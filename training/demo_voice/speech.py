"""Speech for training the demo voice, read by a teacher: ``python -m training.demo_voice.speech
--teacher DIR --out DIR --hours H``, on a GPU or, slowly, on the CPU.

Each shard holds 16 lines read by one speaker: ``NNNNN.npy`` (int16, mono, 24,000 Hz, utterances one
after another, each whole frames long), ``NNNNN.phones.npy`` (uint8, the teacher's phoneme at each
frame's centre, 0 for none), ``NNNNN.pitches.npy`` (uint8, its pitch there as `intonation.py`
numbers it) and ``NNNNN.json``, which appears last: ``{"speaker": {...}, "speaker_id": 0, "items":
[[text, n_frames, foreign], ...]}``; speaker 0 is the default one, 1 to 9
are the named ones, and the first lines of the others are in a made-up language (`tongues.py`). An
empty file ``DONE`` ends the run. ``--first`` begins further on, with other readers; ``--part 1 3``
makes the second of three parts. The same arguments on the same machine give the same lines,
speakers and lengths. ``--probe SECONDS`` measures instead each way of computing. Needs torch and
numpy only, and the folder that ``teacher_files.py`` made.
"""

import argparse
import itertools
import json
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.demo_voice.kokoro import SAMPLE_RATE_HZ, WAYS
from training.demo_voice.speakers import FIRST_NUMBERED_ID, Speaker, reader
from training.demo_voice.teacher import Line, Reading, Recording, Teacher
from training.demo_voice.teacher_lines import LINES_FILE, load_lines
from training.demo_voice.tongues import tongue

LINES_PER_SHARD = 16
FOREIGN_LINES = 3
"""Of those, the first ones, where a numbered speaker reads: said and spelled as no language is."""
FRAME_SAMPLES = 1024
LEVEL_DBFS = -22.0
"""RMS level of every speaker, trimmed speech, re a full-scale constant (32,768)."""
PEAK_LIMIT = 32_000
"""Largest sample magnitude; a very peaky voice stays below LEVEL_DBFS."""
LEVEL_SPREAD_DB = 1.0
"""How far an utterance's level may lie from the middle of its speaker's."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Lines for one speaker."""

    index: int
    speaker: Speaker
    speaker_id: int
    lines: tuple[tuple[str, bytes], ...]

    @property
    def foreign(self) -> int:
        """How many of them, from the first on, are in a made-up language."""
        return FOREIGN_LINES if self.speaker_id >= FIRST_NUMBERED_ID else 0


def shard_at(index: int, lines: Sequence[tuple[str, bytes]]) -> Shard:
    """Lines are read in order; once used up they start over, with other speakers."""
    begin = index * LINES_PER_SHARD
    chosen = [lines[i % len(lines)] for i in range(begin, begin + LINES_PER_SHARD)]
    shard = Shard(index, *reader(index), tuple(chosen))
    if shard.foreign:
        own, rng = tongue(str(index)), random.Random(f"order/{index}")
        for place, line in enumerate(chosen[: shard.foreign]):
            chosen[place] = own.say(*line, rng)
    return replace(shard, lines=tuple(chosen))


def read_shards(teacher: Teacher, shards: Sequence[Shard]) -> Reading:
    """All their lines in one go."""
    lines = [Line(phonemes, shard.speaker) for shard in shards for _, phonemes in shard.lines]
    return teacher.read(lines, seed=shards[0].index)


def levelled(recordings: Sequence[Recording]) -> list[NDArray[np.int16]]:
    """One speaker's recordings, together at LEVEL_DBFS, each near the middle of them."""
    rms = np.array([np.sqrt(np.mean(r.pcm.astype(np.float64) ** 2)) for r in recordings])
    level_db = 20 * np.log10(rms)
    middle_db = np.median(level_db)
    kept_db = np.clip(level_db, middle_db - LEVEL_SPREAD_DB, middle_db + LEVEL_SPREAD_DB)
    gains = 10 ** ((kept_db - level_db) / 20)
    samples = np.array([r.pcm.size for r in recordings])
    together = np.sqrt(np.sum((rms * gains) ** 2 * samples) / np.sum(samples))
    gains *= 32_768 * 10 ** (LEVEL_DBFS / 20) / together
    peak = max(np.abs(r.pcm).max() * gain for r, gain in zip(recordings, gains, strict=True))
    gains *= min(1.0, PEAK_LIMIT / peak)
    return [
        np.rint(r.pcm * np.float32(gain)).astype(np.int16)
        for r, gain in zip(recordings, gains, strict=True)
    ]


def write_shard(out_dir: Path, shard: Shard, recordings: Sequence[Recording]) -> int:
    """Its length in samples."""
    heard = [(n, r) for n, r in enumerate(recordings) if r.pcm.size]
    items, audio, phones, pitches = [], [], [], []
    for (number, recording), pcm in zip(heard, levelled([r for _, r in heard]), strict=True):
        frames = -(-pcm.size // FRAME_SAMPLES)
        items.append((shard.lines[number][0], frames, number < shard.foreign))
        audio.append(np.pad(pcm, (0, frames * FRAME_SAMPLES - pcm.size)))
        phones.append(recording.phonemes_of_frames(frames, FRAME_SAMPLES))
        pitches.append(recording.pitches_of_frames(frames, FRAME_SAMPLES))
    name = out_dir / f"{shard.index:05d}"
    joined = np.concatenate(audio)
    np.save(name.with_suffix(".npy"), joined)
    np.save(name.with_suffix(".phones.npy"), np.concatenate(phones))
    np.save(name.with_suffix(".pitches.npy"), np.concatenate(pitches))
    entry = {"speaker": asdict(shard.speaker), "speaker_id": shard.speaker_id, "items": items}
    partial = name.with_suffix(".tmp")
    partial.write_text(json.dumps(entry))
    partial.replace(name.with_suffix(".json"))
    return joined.size


class _Writer:
    """Writes shards on a thread of its own until there are enough."""

    def __init__(self, out_dir: Path, hours: float) -> None:
        self._out_dir, self._wanted = out_dir, int(hours * 3600 * SAMPLE_RATE_HZ)
        self._queue: queue.Queue[tuple[Sequence[Shard], Reading] | None] = queue.Queue(2)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.samples = 0
        self._thread.start()

    @property
    def enough(self) -> bool:
        return self._failure is not None or self.samples >= self._wanted

    def put(self, shards: Sequence[Shard], reading: Reading) -> None:
        self._queue.put((shards, reading))

    def close(self) -> None:
        """Wait for what was put; raises what went wrong."""
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self.enough:
                continue
            try:
                self._write(*entry)
            except BaseException as failure:  # noqa: BLE001 - raised again by close
                self._failure = failure

    def _write(self, shards: Sequence[Shard], reading: Reading) -> None:
        recordings = reading.recordings()
        for place, shard in enumerate(shards):
            if self.samples >= self._wanted:
                return
            begin = place * LINES_PER_SHARD
            own = recordings[begin : begin + LINES_PER_SHARD]
            self.samples += write_shard(self._out_dir, shard, own)


def generate(
    teacher: Teacher,
    lines: Sequence[tuple[str, bytes]],
    out_dir: Path,
    hours: float,
    group: int,
    numbers: Iterator[int],
) -> float:
    """Fill the empty folder `out_dir` with the shards of those `numbers`, `group` read at a time,
    until there are `hours`; the hours made."""
    out_dir.mkdir(parents=True, exist_ok=True)
    if any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} is not empty")
    writer = _Writer(out_dir, hours)
    began_s = time.monotonic()
    try:
        while not writer.enough:
            shards = [shard_at(i, lines) for i in itertools.islice(numbers, group)]
            writer.put(shards, read_shards(teacher, shards))
            made_s = writer.samples / SAMPLE_RATE_HZ
            speed = made_s / (time.monotonic() - began_s)
            print(f"speech: {made_s / 3600:.2f} h, {speed:.0f} x real time", flush=True)
    finally:
        writer.close()
    (out_dir / "DONE").touch()
    return writer.samples / SAMPLE_RATE_HZ / 3600


def _mel_db(pcm: NDArray[np.float32]) -> Tensor:
    """Log-mel spectrum, 60 dB deep, [bands, steps]."""
    wave = torch.from_numpy(pcm)
    power = torch.stft(
        wave, 1024, 256, 1024, torch.hann_window(1024), return_complex=True
    ).abs().square()  # fmt: skip
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, 513)
    edges = 700 * (torch.linspace(0, 8.0, 66).exp() - 1) / (np.exp(8.0) - 1) * 17.14
    low, middle, high = (edges[i : i + 64, None] for i in range(3))
    bands = torch.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clamp_min(0)
    mel = 10 * (bands @ power).clamp_min(1e-9).log10()
    return mel.clamp_min(mel.max() - 60)


def _probe(folder: Path, device: torch.device, seconds: float, group: int, batch_s: float) -> None:
    """Print the speed of each way, and how far it is from the first."""
    lines = load_lines(folder / LINES_FILE)
    shards = [shard_at(i, lines) for i in range(group)]
    first: list[Recording] = []
    for name, way in WAYS.items():
        try:
            teacher = Teacher(folder, device, way, batch_s)
            recordings = read_shards(teacher, shards).recordings()  # also warms up
            audio_s = sum(r.pcm.size for r in recordings) / SAMPLE_RATE_HZ
            began_s, rounds = time.monotonic(), 0
            while time.monotonic() - began_s < seconds / len(WAYS):
                reading = read_shards(teacher, shards)
                rounds += 1
            reading.recordings()
            speed = rounds * audio_s / (time.monotonic() - began_s)
        except RuntimeError as error:
            print(f"{name}: failed, {error}", flush=True)
            continue
        first = first or recordings
        away = [
            float((_mel_db(a.pcm) - _mel_db(b.pcm)).abs().mean())
            for a, b in zip(recordings, first, strict=True)
            if a.pcm.size == b.pcm.size > 1024
        ]
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
        print(
            f"{name}: {speed:.0f} x real time over {rounds} x {audio_s:.0f} s; from the first way "
            f"{np.mean(away):.2f} dB on average, {np.max(away):.2f} at worst in {len(away)} of "
            f"{len(first)} lines of equal length; {memory:.1f} GB",
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="folder of teacher_files.py")
    parser.add_argument("--out", type=Path, help="empty folder for the shards")
    parser.add_argument("--hours", type=float, help="hours of speech, about")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--way", choices=WAYS, help="instead of the fastest for the device")
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "OF"),
                        help="make every OF-th shard, from the I-th on")  # fmt: skip
    parser.add_argument("--group", type=int, default=64, help="shards read at a time")
    parser.add_argument("--batch-seconds", type=float, default=400.0, help="of speech at once")
    parser.add_argument("--probe", type=float, metavar="SECONDS", help="measure each way")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.index is not None:
        torch.cuda.set_device(device)  # kernels start where the current device is
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if arguments.probe:
        _probe(arguments.teacher, device, arguments.probe, arguments.group, arguments.batch_seconds)
        return
    if arguments.out is None or arguments.hours is None:
        parser.error("--out and --hours, or --probe")
    way = WAYS[arguments.way or ("fused" if device.type == "cuda" else "plain")]
    teacher = Teacher(arguments.teacher, device, way, arguments.batch_seconds)
    lines = load_lines(arguments.teacher / LINES_FILE)
    part, parts = arguments.part
    numbers = itertools.count(arguments.first + part, parts)
    hours = generate(teacher, lines, arguments.out, arguments.hours, arguments.group, numbers)
    print(f"{hours:.2f} h in {arguments.out}")


if __name__ == "__main__":
    main()
