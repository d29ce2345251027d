"""The kernels in C, compiled once a test process, and models that are packed for them."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from backend.core import Quantization
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.packed import tried_pool
from backend.native.compiler import compile_library
from backend.native.pool import NativePool
from tests.tiny import tiny_checkpoint

NARROWER = {
    "avx512 without vnni": ["-mno-avx512vnni", "-mno-avxvnni"],
    "avx2": ["-mno-avx512f", "-mno-avxvnni"],
    "no vectors to speak of": ["-mno-avx", "-mno-avx2", "-mno-fma", "-mno-avx512f"],
}
"""What tells a compiler for x86 to make code for older processors than this one."""


@functools.cache
def native_pool() -> NativePool:
    """Threads with kernels for this CPU."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return tried_pool(compile_library(Path(folder)))


def packed(
    quantization: Quantization = "none",
    dtype: torch.dtype = torch.float32,
    pool: NativePool | None = None,
    **overrides: Any,
) -> Checkpoint:
    """A tiny checkpoint whose greedy sequences never end by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        made = tiny_checkpoint(Path(folder), end_scale=0.0, **overrides)
        return load_checkpoint(
            made, dtype=dtype, quantization=quantization, pool=pool or native_pool()
        )
