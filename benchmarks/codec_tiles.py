"""`python -m benchmarks.codec_tiles`: how Triton's convolutions of the codec are best cut on a GPU.

Those of residual units at full size in float16, for 64 rows of 8 frames, each with every set of
tiles, beside cuDNN's. What does not compile or fit is left out.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.model.codec_kernels import Tiles, conv
from benchmarks.codec_gpu import DEVICE, saying, seconds

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
            [sys.executable, "-m", "benchmarks.codec_tiles", "--compile", str(channels), str(taps)]
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
    parser.add_argument("--seconds", type=float, default=75.0, help="how long it may take")
    parser.add_argument("--compile", nargs=2, type=int, metavar=("CHANNELS", "TAPS"))
    asked = parser.parse_args()
    if asked.compile:  # one of the processes that fill Triton's cache, each on a core
        channels, taps = asked.compile
        for tiles in TILES:
            with contextlib.suppress(Exception):
                conv_of(channels, taps, tiles, rows=1, frames=2)()
        return
    tune(time.perf_counter() + asked.seconds)


if __name__ == "__main__":
    main()
