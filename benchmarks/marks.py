"""Times written into samples, so that a client knows when its worker sent them.

A mark takes the first five samples of a frame and survives 16-bit formats at the checkpoint's own
rate. Its times are of `time.monotonic`, which all processes of a machine share.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARK_BYTES = 10
"""Of 16-bit samples."""
_SIGN = 21_931
_TICKS = 1 << 30
"""Microseconds until times begin again: two numbers of 15 bits each."""


@dataclass(frozen=True, slots=True)
class Mark:
    """When a frame was sent and its text received, seconds of `time.monotonic`."""

    sent_s: float
    received_s: float


def write_mark(frames: NDArray[np.float32], mark: Mark) -> None:
    """Write `mark` at the beginning of each of `frames` [frames, samples]."""
    numbers = (_SIGN, *_numbers(mark.sent_s), *_numbers(mark.received_s))
    frames[:, : len(numbers)] = np.array(numbers) / 32_767.0


def read_mark(samples: bytes | memoryview, now_s: float) -> Mark | None:
    """The mark at the beginning of 16-bit `samples` that came at `now_s`; None without one."""
    if len(samples) < MARK_BYTES:
        return None
    sign, *numbers = struct.unpack_from("<5h", samples)
    if sign != _SIGN:
        return None
    return Mark(_moment_s(numbers[:2], now_s), _moment_s(numbers[2:], now_s))


def _numbers(moment_s: float) -> tuple[int, int]:
    ticks = round(moment_s * 1e6) % _TICKS
    return ticks >> 15, ticks & 0x7FFF


def _moment_s(numbers: Sequence[int], now_s: float) -> float:
    age = (round(now_s * 1e6) - (numbers[0] << 15 | numbers[1])) % _TICKS
    return now_s - age / 1e6
