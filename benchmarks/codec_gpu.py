"""`python -m benchmarks.codec_gpu`: the codec's decoder at full size, random weights, on a GPU.

Prints frames a second for numbers of rows, piece lengths and ways to compute, how far below the
sound the rounding of each type lies, and where the time of one way goes. It needs torch alone, and
Triton where its kernels are measured. What fails says so, and the rest goes on.
"""

import argparse
import copy
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from backend.codec.slots import SlotDecoder
from backend.codec.stage import CodecStage
from backend.codec.way import DTYPES, PLAIN, Way, take_fastest_, ways
from backend.model.codec_layout import Kernels, lay_out_decoder_
from backend.model.config import CodecConfig
from backend.model.dac import DAC
from backend.model.stream import Stream

FRAME_GFLOP = 6.3
"""Of the decoder's products, a frame at full size."""
ROWS, FRAMES = (1, 4, 8, 16, 32, 64, 128), (2, 4, 8, 16)
FEW_ROWS, FEW_FRAMES = (1, 64), (2, 8)
MEASURED_S = 0.12
DEVICE = torch.device("cuda")


@dataclass(frozen=True, slots=True)
class Run:
    """A way to compute, and how it is run."""

    way: Way
    is_graph: bool = False
    tries_kernels: bool = False
    """`torch.backends.cudnn.benchmark`."""
    everything: bool = False
    """All sizes, instead of a few."""

    @property
    def name(self) -> str:
        kind = "graph" if self.is_graph else "eager"
        return f"{self.way} {kind}{' tries' if self.tries_kernels else ''}"


def runs() -> list[Run]:
    """What is measured, the most telling first: the time may end before the list does."""
    return [
        Run(Way("fp16", "fused"), is_graph=True, everything=True),
        Run(Way("fp16", "channels last"), is_graph=True, everything=True),
        Run(Way("fp16", "fused")),
        Run(Way("bf16", "fused"), is_graph=True),
        Run(Way("fp32", "plain")),
        Run(Way("fp32", "plain"), is_graph=True),
        Run(Way("fp32", "fused"), is_graph=True),
        Run(Way("fp32", "channels last"), is_graph=True),
        Run(Way("fp16", "plain"), is_graph=True),
        Run(Way("fp16", "channels last"), is_graph=True, tries_kernels=True),
    ]


def random_codec() -> DAC:
    """The decoding half, at full size, with weights that keep activations near 1."""
    with torch.device("meta"):
        codec = DAC(CodecConfig())
    quantizer = codec.quantizer
    parts = (quantizer.semantic_quantizer, quantizer.quantizer, quantizer.post_module)
    torch.manual_seed(0)
    for part in (*parts, quantizer.upsample, codec.decoder):
        part.to_empty(device=DEVICE)
        for name, weight in part.named_parameters():
            _randomize(name, weight)
    codec.encoder = nn.Identity()  # type: ignore[assignment]
    quantizer.downsample = quantizer.pre_module = nn.Identity()  # type: ignore[assignment]
    return codec.eval().requires_grad_(False)


@torch.no_grad()
def _randomize(name: str, weight: Tensor) -> None:
    kind = name.rpartition(".")[2]
    if kind == "bias":
        mean, std = 0.0, 0.05
    elif kind == "gamma":
        mean, std = 0.5, 0.1
    elif kind == "alpha" or weight.ndim == 1:
        mean, std = 1.0, 0.2
    elif "codebook." in name:
        mean, std = 0.0, 1.0
    else:
        pointwise = weight.ndim == 3 and weight.shape[-1] == 1 and "_proj" not in name
        gain = 0.3 if pointwise or weight.shape[0] == 1 else 1.0
        mean, std = 0.0, gain / math.sqrt(weight[0].numel())
    weight.copy_(torch.randn_like(weight) * std + mean)
    if kind == "alpha":
        weight.copy_(weight.abs() + 0.1)


def some_codes(codec: DAC, rows: int, frames: int) -> Tensor:
    """Random codes [rows, N, frames]."""
    config = codec.config
    codes = torch.randint(0, 1024, (rows, config.num_codebooks, frames), device=DEVICE)
    codes[:, 0] = torch.randint(0, config.semantic_codebook_size, (rows, frames), device=DEVICE)
    return codes


def laid_out(codec: DAC, way: Way) -> DAC:
    """A copy of `codec`."""
    codec = copy.deepcopy(codec)
    lay_out_decoder_(codec, way.dtype, way.kernels)
    return codec


@contextmanager
def kernels(tries: bool, tf32: bool = True) -> Iterator[None]:
    """cuDNN's choices."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=tries, allow_tf32=tf32):
        yield


def call_of(
    codec: DAC, stream: Stream, rows: int, frames: int, is_graph: bool
) -> Callable[[], Tensor]:
    """One piece of `frames` for `rows` signals, ready to be called again and again."""
    codes = some_codes(codec, rows, frames)
    places = torch.arange(rows, device=DEVICE)

    def call() -> Tensor:
        stream.select(places)
        return codec.decode(codes, stream)

    if not is_graph:
        return call
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> Tensor:
        graph.replay()
        return kept

    return replay


def seconds(call: Callable[[], Tensor]) -> float:
    """Of one call, on the device's clock."""
    call()
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    call()
    torch.cuda.synchronize()
    times = max(2, min(200, int(MEASURED_S / (time.perf_counter() - began_s))))
    begin, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    begin.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / times / 1e3


def snr_db(wanted: Tensor, found: Tensor) -> float:
    """How far the difference lies below the sound."""
    wanted, found = wanted.double(), found.double()
    return float(10 * torch.log10(wanted.square().mean() / (wanted - found).square().mean()))


def print_snr(codec: DAC) -> None:
    """Each way against float32 without TF32."""
    codes = some_codes(codec, 4, 48)
    with kernels(tries=False, tf32=False):
        wanted = laid_out(codec, PLAIN).decode(codes)
    print(
        f"SNR against fp32 without TF32 (sound of rms {float(wanted.square().mean().sqrt()):.3f}):"
    )
    for precision in DTYPES:
        for kind in get_args(Kernels):
            way = Way(precision, kind)
            with saying(str(way)):
                changed = laid_out(codec, way)
                stream, pieces = Stream(5), []
                stream.select(torch.arange(4, device=DEVICE))
                for piece in torch.split(codes, [2, 4, 8, 16, 18], -1):
                    pieces.append(changed.decode(piece, stream).float())
                found = snr_db(wanted, torch.cat(pieces, -1))
                print(f"  {way!s:24} {found:6.1f} dB")


@contextmanager
def saying(name: str) -> Iterator[None]:
    """A failure within is printed, and the next thing is done."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the boundary of one measurement
        print(f"  {name}: FAILED: {type(error).__name__}: {error}")
        if not isinstance(error, torch.OutOfMemoryError):
            print("    " + traceback.format_exc(limit=-3).replace("\n", "\n    "))
    finally:
        torch.cuda.empty_cache()


def measure(codec: DAC, run: Run, until_s: float) -> Iterator[dict[str, object]]:
    """Print and yield the figures of one run."""
    changed = laid_out(codec, run.way)
    all_rows, all_frames = (ROWS, FRAMES) if run.everything else (FEW_ROWS, FEW_FRAMES)
    stream = Stream(max(all_rows) + 1)
    for rows in all_rows:
        for frames in all_frames:
            if time.perf_counter() > until_s:
                print(f"  {run.name}: no time left")
                return
            with saying(f"{run.name}, {rows} x {frames}"), kernels(run.tries_kernels):
                one_s = seconds(call_of(changed, stream, rows, frames, run.is_graph))
                made = rows * frames / one_s
                print(
                    f"  {run.name:40} {rows:4} rows x {frames:2} frames {one_s * 1e3:9.3f} ms "
                    f"{made:9.0f} frames/s {made * FRAME_GFLOP / 1e3:7.1f} TFLOP/s",
                    flush=True,
                )
                yield {
                    "way": run.name,
                    "rows": rows,
                    "frames": frames,
                    "ms": one_s * 1e3,
                    "fps": made,
                }


def print_profile(codec: DAC, way: Way, rows: int, frames: int) -> None:
    """Where the device's time goes."""
    changed, stream = laid_out(codec, way), Stream(rows + 1)
    call = call_of(changed, stream, rows, frames, is_graph=False)
    seconds(call)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
    print(f"Kernels of 3 pieces of {rows} rows x {frames} frames, {way}:")
    by_time = sorted(profiled.key_averages(), key=lambda e: -e.self_device_time_total)
    whole_us = sum(event.self_device_time_total for event in by_time)
    for event in by_time[:24]:
        share = event.self_device_time_total / whole_us
        print(
            f"  {share:6.1%} {event.self_device_time_total / 3e3:8.3f} ms {event.count // 3:4} x "
            f"{event.key[:110]}"
        )


def print_stage(plain: DAC) -> None:
    """The stage as a worker has it: how soon it is ready, what it takes, how fast it decodes."""
    codec = copy.deepcopy(plain)
    began_s = time.perf_counter()
    way = take_fastest_(codec, ways(DEVICE))
    torch.cuda.synchronize()
    print(f"Stage: {way}, chosen in {time.perf_counter() - began_s:.1f} s.")
    torch.cuda.empty_cache()
    before, began_s = torch.cuda.memory_reserved(), time.perf_counter()
    decoder = SlotDecoder(codec, 128)
    while decoder.prepare():
        pass
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    taken = (torch.cuda.memory_reserved() - before) / 2**20
    print(f"  made ready in {time.perf_counter() - began_s:.1f} s, {taken:.0f} MiB with 129 slots")
    for streams, frames in ((1, 200), (16, 200), (64, 100), (128, 100)):
        with saying(f"stage, {streams} streams"):
            _speak(plain, CodecStage(decoder), streams, frames)


def _speak(plain: DAC, stage: CodecStage, streams: int, frames: int) -> None:
    """Decode so many streams, a frame of each at a time, and compare the last with the whole."""
    codes = some_codes(plain, streams, frames)
    on_cpu = codes.cpu()
    heard: list[Tensor] = []
    first_s, samples, host_s, began_s = 0.0, 0, 0.0, time.perf_counter()

    def collect(wait: bool) -> None:
        nonlocal first_s, samples
        for told in stage.heard(wait):
            if told.error is not None:
                raise told.error
            if told.samples is not None:
                first_s = first_s or time.perf_counter() - began_s
                samples += len(told.samples)
                if told.key == streams - 1:
                    heard.append(told.samples)

    for step in range(frames):
        step_s = time.perf_counter()
        for row in range(streams):
            stage.push(row, on_cpu[row, :, step])
            if step == frames - 1:
                stage.end(row)
        collect(wait=False)
        host_s += time.perf_counter() - step_s
    while not stage.is_idle:
        collect(wait=True)
    whole_s = time.perf_counter() - began_s
    with kernels(tries=False, tf32=False):
        wanted = plain.decode(codes[-1:])[0].cpu()
    assert samples == streams * frames * plain.config.frame_samples
    print(
        f"  {streams:4} streams: {streams * frames / whole_s:7.0f} frames/s, first sound after "
        f"{first_s * 1e3:.2f} ms, {host_s / frames * 1e3:.2f} ms of the host a step, "
        f"{snr_db(wanted, torch.cat(heard)):.1f} dB"
    )


@torch.inference_mode()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=80.0, help="how long it may take")
    parser.add_argument("--only", default="", help="ways whose names contain this")
    asked = parser.parse_args()
    until_s = time.perf_counter() + asked.seconds
    print(torch.__version__, torch.cuda.get_device_name())
    codec = random_codec()
    with saying("SNR"):
        print_snr(codec)
    with saying("stage"):
        print_stage(codec)
    results: list[dict[str, object]] = []
    for run in (run for run in runs() if asked.only in run.name):
        with saying(run.name):
            results += measure(codec, run, until_s)
        if run.everything:
            for rows, frames in ((64, 8), (1, 4)):
                with saying("profile"):
                    print_profile(codec, run.way, rows, frames)
    print(f"Peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB.")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
