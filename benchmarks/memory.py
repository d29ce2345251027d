"""`python -m benchmarks.memory`: does the worker take the memory that was predicted?

Starts a real worker for each precision and quantization, lets it speak texts of five lengths and
samples its resident memory from outside all the while. The peak is compared with what
`hardware.need` says: from what the worker told once it had loaded, and from the checkpoint's JSON
files alone. Without `--random` the shipped voice is spoken; with it a checkpoint of
openaudio-s1-mini's size, written into that folder if it is not there. A random model does not end
by itself, so its prediction is that of the longest reading. Prints a table, then one JSON line.
"""

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from backend.bench.random_checkpoint import random_checkpoint
from backend.core import MIB, OPEN_SENTENCES, EngineInfo, Quantization, SamplingParams
from backend.hardware.need import ELEMENT_BYTES, CheckpointShape, Reading
from backend.settings import SHIPPED_VOICE_DIR
from backend.text.sentences import split_text
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Speak, WorkerConfig
from backend.worker.supervisor import supervised

KINDS: tuple[Quantization, ...] = ("none", "int8", "int4")
SAMPLE_S = 0.005
SENTENCES = (
    "The old lighthouse keeper climbed the stairs. Every evening he lit the lamp for the ships. "
    "Nobody came to see him any more. He did not mind that very much. "
)


@dataclass(frozen=True, slots=True)
class Case:
    """A checkpoint as it is held in memory, and what it is given to speak."""

    folder: Path
    precision: str
    quantization: Quantization
    lengths: tuple[int, ...]
    """Characters."""
    chunk_length: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Row:
    """One text, in MiB."""

    checkpoint: str
    stored: str
    characters: int
    sentences: int
    frames: int
    measured: float
    from_handshake: float
    from_files: float
    handshake_error: float
    files_error: float
    """Predicted over measured, less 1."""


class PeakSampler(threading.Thread):
    """Looks at a process's resident memory until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._over = psutil.Process(pid), threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            try:
                self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def sampling(pid: int) -> Iterator[PeakSampler]:
    sampler = PeakSampler(pid)
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()


def text_of(characters: int) -> str:
    """So many characters of sentences, the last one ended."""
    repeated = SENTENCES * (characters // len(SENTENCES) + 1)
    return repeated[: characters - 1].rstrip(" .") + "."


async def measure(case: Case, threads: int, calibration_samples: int) -> list[Row]:
    """Every length in turn, short ones first, in one worker."""
    config = WorkerConfig(
        model_dir=str(case.folder),
        device="cpu",
        precision=case.precision,
        num_threads=threads,
        try_compile=True,
        quantization=case.quantization,
        calibration_samples=calibration_samples if case.quantization != "none" else 0,
        log_level="WARNING",
    )
    command = (sys.executable, "-P", "-m", "backend.worker.main", "--config", config.to_json())
    client = supervised(command, Patience(start_attempts=1))
    try:
        info, load_peak_bytes = await _start(client)
        shape = CheckpointShape.from_folder(case.folder)
        resident = shape.resident_bytes(case.precision, case.quantization, "cpu", 1) / MIB
        print(
            f"{shape.name} {_stored(case)}: loaded with {info.memory_mb:.0f} MiB, "
            f"{load_peak_bytes / MIB:.0f} at the most while loading; predicted {resident:.0f}",
            file=sys.stderr,
        )
        return [await _speak(client, info, shape, case, length) for length in case.lengths]
    finally:
        await client.close()


async def _start(client: WorkerClient) -> tuple[EngineInfo, int]:
    """What was loaded, and the most memory that loading took."""
    others = psutil.Process().children()
    client.start()
    while not (started := [c for c in psutil.Process().children() if c not in others]):
        if client.state.phase == "stopped":
            client.loaded()  # raises why
        await asyncio.sleep(SAMPLE_S)
    with sampling(started[0].pid) as sampler:
        info = await client.ready()
    return info, sampler.peak_bytes


async def _speak(
    client: WorkerClient, info: EngineInfo, shape: CheckpointShape, case: Case, length: int
) -> Row:
    texts = [sentence.text for sentence in split_text(text_of(length), case.chunk_length)]
    longest = max(map(len, texts))
    need = shape.request_need(
        length,
        case.precision,
        longest,
        OPEN_SENTENCES,
        reading=case.reading,
        quantization=case.quantization,
    ).total_bytes
    is_open = asyncio.Semaphore(OPEN_SENTENCES)

    async def frames(index: int) -> int:
        speak = Speak("benchmark", texts[index], SamplingParams(seed=1000 * length + index))
        async with is_open:
            return (await client.speak(speak, lambda _: None)).stats.frames

    with sampling(info.pid) as sampler:
        made = await asyncio.gather(*map(frames, range(len(texts))))
    resident = shape.resident_bytes(case.precision, case.quantization, "cpu", 1)
    measured, from_files = sampler.peak_bytes / MIB, (resident + need) / MIB
    from_handshake = info.memory_mb + need / MIB
    return Row(
        checkpoint=shape.name,
        stored=_stored(case),
        characters=length,
        sentences=len(texts),
        frames=sum(made),
        measured=measured,
        from_handshake=from_handshake,
        from_files=from_files,
        handshake_error=from_handshake / measured - 1,
        files_error=from_files / measured - 1,
    )


def _stored(case: Case) -> str:
    if case.quantization == "none":
        return case.precision
    return f"{case.quantization} + {case.precision}"


def table(rows: list[Row]) -> str:
    lines = [
        "| checkpoint | stored | characters | sentences | frames | peak MiB "
        "| after loading | error | from files | error |",
        "| --- " * 10 + "|",
    ]
    for row in rows:
        lines.append(
            f"| {row.checkpoint} | {row.stored} | {row.characters} | {row.sentences} "
            f"| {row.frames} | {row.measured:.0f} "
            f"| {row.from_handshake:.0f} | {row.handshake_error:+.1%} "
            f"| {row.from_files:.0f} | {row.files_error:+.1%} |"
        )
    return "\n".join(lines)


def case_of(random_dir: Path | None, precision: str | None, quantization: Quantization) -> Case:
    """The shipped voice, or the random checkpoint in `random_dir`."""
    if random_dir is None:
        lengths = (40, 100, 250, 500, 1000)
        return Case(SHIPPED_VOICE_DIR, precision or "fp32", quantization, lengths, 200, "expected")
    return Case(random_dir, precision or "bf16", quantization, (4, 12, 24, 48, 96), 24, "longest")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=Path, help="folder of the random checkpoint")
    parser.add_argument("--precision", choices=ELEMENT_BYTES, help="fp32; of the random one bf16")
    parser.add_argument("--quantization", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--calibration-samples", type=int, default=0)
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    arguments = parser.parse_args()
    if arguments.random is not None and not (arguments.random / "config.json").exists():
        random_checkpoint(arguments.random)
    rows: list[Row] = []
    for kind in arguments.quantization:
        case = case_of(arguments.random, arguments.precision, kind)
        rows += asyncio.run(measure(case, arguments.threads, arguments.calibration_samples))
    print(table(rows))
    worst = max(max(abs(row.handshake_error), abs(row.files_error)) for row in rows)
    print(f"\nWorst error {worst:.1%}")
    print(json.dumps({"worst_error": worst, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
