"""What each row of `benchmarks.gpu` does."""

import asyncio
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from backend.bench.random_checkpoint import DTYPES
from backend.core import MIB
from backend.hardware.need import CheckpointShape
from backend.model.checkpoint import load_checkpoint
from backend.nvml import Card
from backend.worker.client import WorkerClient
from benchmarks import gpu_decode, gpu_worker
from benchmarks.gpu_report import Report, Size
from benchmarks.gpu_table import Floor, Row, percentile, spread
from benchmarks.gpu_worker import Case, Crowd, Heard, Memory

SENTENCE = (
    "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships."
)
VOICES = 8
"""Different voices that listeners who come at random ask for."""
BRIEF_FRAMES = 60
"""Of texts of which only the beginning matters."""
ENGINE_ROWS = ("decode_1", "decode_long", "decode_few", "decode_many")
WORKER_ROWS = ("start", "pcm_1", "first_audio", "pcm_many", "memory", "first_audio_many")


# -- the engine alone ------------------------------------------------------------------------------


def engine_rows(report: Report, case: Case, size: Size, floor: Floor, ways: Sequence[str]) -> None:
    """Frames a second of rows that neither join nor leave."""
    work = {
        "decode_1": (f"1 stream, context {size.short}, frames/s", [size.short]),
        "decode_long": (f"1 stream, context {size.long}, frames/s", [size.long]),
        "decode_few": (f"{size.few} streams, context {size.short}", [size.short] * size.few),
        "decode_many": (f"{size.many} streams, mixed contexts", spread(size.many, *size.mixed)),
    }
    if not report.wants(*work):
        return
    checkpoint = load_checkpoint(
        case.folder,
        device=case.device,
        dtype=DTYPES[case.precision],
        codec_dtype=torch.float32,
    )
    for way in ways:
        for name, (said, contexts) in work.items():
            if not report.wants(name):
                continue
            with report.row(name, said if way == "auto" else f"{said} ({way})") as row:
                found = gpu_decode.decode(checkpoint, contexts, size.steps, size.repeats, way)
                middle = gpu_decode.median(found)
                row.value = middle.frames_s
                row.ours = f"{middle.frames_s:,.0f}"
                row.against(floor.frames_s(len(contexts), middle.positions), middle.frames_s)
                row.detail = {
                    "mean_context": middle.positions / len(contexts),
                    "step_ms": middle.step_ms,
                    "repeats_frames_s": [each.frames_s for each in found],
                }
                if name == "decode_many":
                    row.work += f" (mean {middle.positions / len(contexts):.0f})"
                if name == "decode_long" and (short := report.last("decode_1")) is not None:
                    row.ours += f" ({middle.frames_s / short:.2f} of the short one)"


# -- a worker over its pipe ------------------------------------------------------------------------


async def worker_rows(report: Report, case: Case, size: Size, floor: Floor) -> None:
    """Everything that is asked of a worker with the checkpoint of real size."""
    codec = CheckpointShape.from_folder(case.folder).codec
    long = gpu_worker.text_for(size.text_frames, codec.frame_rate_hz)
    short = gpu_worker.text_for(size.text_frames // 2, codec.frame_rate_hz)
    brief = gpu_worker.text_for(BRIEF_FRAMES, codec.frame_rate_hz)
    if report.wants("start"):
        await start_row(report, case, brief, size)
    if not report.wants(*WORKER_ROWS[1:]):
        return
    card = Card("")
    before_bytes = gpu_worker.used_bytes(card)
    async with gpu_worker.worker(case) as client:
        info = client.loaded()
        voices = tuple(
            gpu_worker.voice_of(info, codec, size.reference_frames, seed) for seed in range(VOICES)
        )
        await settled(client, brief, size.settle_s)
        if report.wants("pcm_1"):
            with report.row("pcm_1", "text to PCM, 1 stream") as row:
                heard = [await gpu_worker.say(client, long, seed) for seed in range(size.repeats)]
                alone(row, heard, floor)
                rtf = statistics.median(each.took_s / each.audio_s for each in heard)
                row.value, row.ours = rtf, f"RTF {rtf:.4f}"
        if report.wants("first_audio"):
            work = f"first audio, warm, reference of {size.reference_frames} frames, in the worker"
            with report.row("first_audio", work) as row:
                firsts = await first_audio(client, brief, size, voices[:1])
                without = await first_audio(client, brief, size, ())
                row.value = statistics.median(firsts)
                row.ours = f"{row.value:.1f} ms (without {statistics.median(without):.1f})"
                row.detail = {"ms": firsts, "without_reference_ms": without}
        if report.wants("pcm_many", "memory"):
            memory = Memory(client, card, before_bytes)
            async with memory.watching():
                await many_row(report, client, short, size, size.many, codec.frame_samples, floor)
            if report.wants("memory"):
                memory_row(report, case, memory, short, size.many)
        if report.wants("first_audio_many"):
            work = f"first audio p95, some {size.half} streams, arriving at random"
            with report.row("first_audio_many", work) as row:
                seconds = (size.warm_s, size.random_s)
                firsts = await gpu_worker.first_audio_at_random(
                    client, short, voices, size.half, codec.frame_samples, seconds
                )
                p95, p50 = (1000 * percentile(firsts, share) for share in (0.95, 0.5))
                row.value, row.ours = p95, f"{p95:.0f} ms (p50 {p50:.0f}, {len(firsts)} arrivals)"
                row.detail = {"ms": [1000 * each for each in firsts]}


async def start_row(report: Report, case: Case, text: str, size: Size) -> None:
    """A worker's start with no kernels kept, and again with those of the first time."""
    with (
        report.row("start", "worker start → the fast path speaks") as row,
        tempfile.TemporaryDirectory() as kept,
    ):
        settle_s = size.settle_s
        once = replace(case, cache_dir=kept)
        cold, again = [await gpu_worker.start(once, text, settle_s) for _ in range(2)]
        row.value = again.fast_s
        row.ours = (
            f"{again.fast_s:.1f} s (ready {again.ready_s:.1f}; "
            f"the first time {cold.fast_s:.1f}, ready {cold.ready_s:.1f})"
        )
        row.detail = {
            "kept": [again.ready_s, again.first_audio_s, again.fast_s],
            "cold": [cold.ready_s, cold.first_audio_s, cold.fast_s],
        }


async def settled(client: WorkerClient, text: str, settle_s: float) -> None:
    """Speak once, and leave the worker idle for so long: meanwhile it makes all ready."""
    await gpu_worker.say(client, text, 0)
    await asyncio.sleep(settle_s)


async def first_audio(client: WorkerClient, text: str, size: Size, voices: Any) -> list[float]:
    """Milliseconds to first audio of texts one after another, once the voice is known."""
    heard = [await gpu_worker.say(client, text, seed, voices) for seed in range(3 + size.latencies)]
    return [1000 * each.first_audio_s for each in heard[3:]]


def alone(row: Row, heard: list[Heard], floor: Floor) -> float:
    """Frames a second of texts that were spoken one after another, told against the floor."""
    frames_s = statistics.median(each.frames / each.took_s for each in heard)
    positions = heard[0].prompt_tokens + heard[0].frames / 2
    row.against(floor.frames_s(1, positions), frames_s)
    row.detail = {"frames_s": [each.frames / each.took_s for each in heard]}
    return frames_s


async def many_row(
    report: Report,
    client: WorkerClient,
    text: str,
    size: Size,
    streams: int,
    frame_samples: int,
    floor: Floor,
    name: str = "pcm_many",
    work: str = "text to PCM",
) -> None:
    """Frames a second that `streams` hear together, texts beginning and ending all the while."""
    with report.row(name, f"{work}, {streams} streams, frames/s in all") as row:
        one = await gpu_worker.say(client, text, 0)
        async with Crowd(client, streams, text) as crowd:
            await crowd.during(size.warm_s)
            row.value = await crowd.during(size.counted_s) / frame_samples
        row.ours = f"{row.value:,.0f}"
        row.against(
            floor.frames_s(streams, streams * (one.prompt_tokens + one.frames / 2)), row.value
        )


def memory_row(report: Report, case: Case, memory: Memory, text: str, streams: int) -> None:
    """What `pcm_many` took beside what was promised for it."""
    with report.row("memory", "memory beyond weights, codec, promised keys and values") as row:
        if not memory.held_bytes:
            raise RuntimeError("the worker holds no GPU memory")
        promised = gpu_worker.Promised.to(case, text, streams)
        weight_bytes = memory.client.loaded().weight_bytes
        known_bytes = weight_bytes + promised.cache_bytes + promised.slot_bytes
        row.value = (memory.held_bytes - known_bytes) / 1e6
        error = promised.total_bytes / memory.card_bytes - 1 if memory.card_bytes else float("nan")
        row.ours = f"{row.value:,.0f} MB (plan {error:+.0%} of {memory.card_bytes / MIB:,.0f} MiB)"
        row.detail = {
            "held_mb": memory.held_bytes / 1e6,
            "weights_mb": weight_bytes / 1e6,
            "codec_slots_mb": promised.slot_bytes / 1e6,
            "promised_cache_mb": promised.cache_bytes / 1e6,
            "most_cache_mb": memory.cache_bytes / 1e6,
            "card_mb": memory.card_bytes / 1e6,
            "predicted_mb": promised.total_bytes / 1e6,
        }


async def demo_rows(report: Report, case: Case, size: Size, floor: Floor) -> None:
    """The shipped voice, text to sound."""
    if not report.wants("demo_1", "demo_many"):
        return
    frame_samples = CheckpointShape.from_folder(case.folder).codec.frame_samples
    async with gpu_worker.worker(case) as client:
        await settled(client, SENTENCE, size.settle_s)
        if report.wants("demo_1"):
            with report.row("demo_1", "shipped voice, text to PCM, 1 stream, frames/s") as row:
                heard = [
                    await gpu_worker.say(client, SENTENCE, seed) for seed in range(size.repeats)
                ]
                row.value = alone(row, heard, floor)
                row.ours = f"{row.value:,.0f}"
        if report.wants("demo_many"):
            await many_row(
                report, client, SENTENCE, size, size.half, frame_samples, floor,
                "demo_many", "shipped voice, text to PCM",
            )  # fmt: skip


# -- the server under load -------------------------------------------------------------------------


def load_rows(report: Report, case: Case, arguments: str) -> None:
    """`benchmarks.load` with the same checkpoint: its own table stands in the output."""
    if report.wants("first_audio_http"):
        with report.row("first_audio_http", "the same, at the HTTP client") as row:
            (alone,) = load(case, "--clients 1 --voice --seconds 5")
            row.value = float(alone["first_audio_p50_ms"])
            row.ours, row.detail = f"{row.value:.1f} ms", alone
    if report.wants("load"):
        with report.row("load", "HTTP under load, frames/s in all") as row:
            found = load(case, arguments)
            row.value = max(float(each["frames_per_s"]) for each in found)
            row.ours = "; ".join(map(_under_load, found))
            row.detail = {"clients": found}
            if (engine := report.last("pcm_many")) is not None:
                row.ours += f" ({row.value / engine:.2f} of the engine's)"


def _under_load(found: dict[str, Any]) -> str:
    p50_ms, p95_ms = found["first_audio_p50_ms"], found["first_audio_p95_ms"]
    speed = f"{found['clients']} clients {found['frames_per_s']:,} frames/s"
    return f"{speed}, first audio {p50_ms:.0f} / {p95_ms:.0f} ms"


def load(case: Case, arguments: str) -> list[dict[str, Any]]:
    """The rows of a run of `benchmarks.load`, one for each number of clients."""
    command = [sys.executable, "-m", "benchmarks.load", "--model-dir", str(case.folder)]
    command += shlex.split(arguments)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])["rows"]
    for row in rows:
        if not row["outcomes"].get("200"):
            raise RuntimeError(f"{row['clients']} clients heard nothing: {row['outcomes']}")
    return rows
