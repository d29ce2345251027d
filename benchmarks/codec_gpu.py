"""`python -m benchmarks.codec_gpu`: the codec's decoder at full size, random weights, on a GPU.

Prints frames a second for numbers of rows, piece lengths and ways to compute, how far below the
sound the rounding of each type lies, and where the time of one way goes. It needs torch alone, and
Triton where its kernels are measured. What fails says so, and the rest goes on.
"""

import argparse
import contextlib
import copy
import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from backend.codec.way import DTYPES, PLAIN, Way
from backend.model.codec_kernels import Tiles, conv
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


TILES: tuple[Tiles, ...] = (
    (128, 128, 64, 8, 3),
    (128, 128, 64, 4, 3),
    (128, 128, 32, 8, 4),
    (128, 64, 64, 4, 3),
    (64, 128, 64, 4, 4),
    (256, 64, 32, 8, 4),
    (128, 32, 32, 4, 5),
    (128, 256, 32, 8, 3),
    (64, 64, 64, 4, 4),
)
COLUMNS = {768: 32, 384: 256, 192: 1024, 96: 2048}
"""Of a frame, by channels."""


def conv_of(
    channels: int, taps: int, tiles: Tiles | None, rows: int = 64, frames: int = 8
) -> Callable[[], Tensor]:
    """A residual unit's convolution, Triton's with `tiles` or, with None, cuDNN's alone."""
    length, dilation = COLUMNS[channels] * frames, 3
    x = torch.randn(rows, (taps - 1) * dilation + length, channels, device=DEVICE).half()
    weight = torch.randn(channels, taps, channels, device=DEVICE).half() / (taps * channels) ** 0.5
    bias, alpha = (torch.ones(channels, device=DEVICE).half() for _ in range(2))
    if tiles is None:
        return lambda: F.conv2d(
            x.transpose(1, 2)[:, :, None],
            weight.transpose(1, 2)[:, :, None],
            bias,
            dilation=(1, dilation),
        )
    if taps == 1:
        return lambda: conv(x, weight, bias, residual=x, tiles=tiles)
    return lambda: conv(x, weight, bias, dilation=dilation, alpha=alpha, tiles=tiles)


def tune(until_s: float) -> None:
    """Print how long each convolution takes with each way to cut it."""
    shapes = [(channels, taps) for channels in COLUMNS for taps in (7, 1)]
    compiling = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.codec_gpu", "--compile", str(channels), str(taps)]
        )
        for channels, taps in shapes
    ]
    for each in compiling:
        each.wait()
    print("64 rows x 8 frames, columns x channels out x channels in, warps, stages:")
    for channels, taps in shapes:
        work = 2 * taps * channels**2 * COLUMNS[channels] * 64 * 8
        for tiles in (None, *TILES):
            if time.perf_counter() > until_s:
                print("no time left")
                return
            with saying(f"{channels} {taps} {tiles}"):
                one_s = seconds(conv_of(channels, taps, tiles))
                name = "cuDNN, without snake or sum" if tiles is None else str(tiles)
                print(
                    f"  {channels:4} channels {taps} taps {name:28} {one_s * 1e3:8.3f} ms "
                    f"{work / one_s / 1e12:6.0f} TFLOP/s",
                    flush=True,
                )


@torch.inference_mode()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=80.0, help="how long it may take")
    parser.add_argument("--only", default="", help="ways whose names contain this")
    parser.add_argument(
        "--tune", action="store_true", help="blocks of Triton's convolutions instead"
    )
    parser.add_argument("--compile", nargs=2, type=int, metavar=("CHANNELS", "TAPS"))
    asked = parser.parse_args()
    if asked.compile:
        channels, taps = asked.compile
        for tiles in TILES:
            with contextlib.suppress(Exception):
                conv_of(channels, taps, tiles, rows=1, frames=2)()
        return
    until_s = time.perf_counter() + asked.seconds
    print(torch.__version__, torch.cuda.get_device_name())
    if asked.tune:
        tune(until_s)
        return
    codec = random_codec()
    with saying("SNR"):
        print_snr(codec)
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
