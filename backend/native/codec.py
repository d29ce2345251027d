"""The codec's kernels: what `codec.c` says in ctypes, and the threads that run them."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from backend.native.compiler import compile_library

PRODUCT, ROUND, NORM, MIX, ATTEND, FILTER = range(6)
AS_IT_IS, GELU, GATE = range(3)
_HELPERS = max(1, (os.cpu_count() or 2) - 1)
_PACKED_BLOCKS = 8
"""Of outputs, that a thread packs at a time."""
FILTER_TAPS = 7
_POINTS = (0.0, *(sign * p for p in (1, 3 / 2, 2 / 3, 1 / 3, 3) for sign in (1, -1)))
"""At which `codec_filter.h` evaluates, in its order; infinity is the last one."""


class Past(Structure):
    """Rows that reach back into the piece before."""

    _fields_ = [("rows", c_void_p), ("at", c_int64), ("bytes", c_int64)]


class Operation(Structure):
    """One of a codec's operations."""

    _fields_ = [
        *((name, c_int32) for name in ("kind", "rows", "inputs", "outputs", "taps", "dilation")),
        *((name, c_int32) for name in ("step", "input_stride", "rounded_stride")),
        *((name, c_int32) for name in ("bend", "heads", "window", "rate")),
        ("eps", c_float),
        *((name, c_void_p) for name in ("input", "weights", "bias", "scale", "taps_of", "offset")),
        *((name, c_void_p) for name in ("residual", "output", "rounded", "alpha", "inverse")),
        *((name, c_void_p) for name in ("keys", "rope")),
        *((name, Past) for name in ("load", "save")),
        ("first", c_int64),
        *((name, c_int32) for name in ("tile_rows", "tile_blocks", "row_tiles", "tiles")),
    ]


class _Job(Structure):
    _fields_ = [
        ("operations", POINTER(Operation)),
        ("pieces", c_int64),
        ("state", c_void_p),
        *((name, c_int64) for name in ("begin", "next", "done", "threads")),
    ]


class Program:
    """Operations whose addresses are known."""

    def __init__(self, kernels: "CodecKernels", operations: list[Operation]) -> None:
        self._kernels = kernels
        self._operations = (Operation * len(operations))(*operations)
        self._pieces = kernels.plan(self._operations, len(operations))

    def run(self, state: int, begin: int) -> None:
        """For a signal whose state lies at `state` and of which `begin` rows were before."""
        job = _Job(self._operations, self._pieces, state, begin, 0, 0, 0)
        for _ in range(min(torch.get_num_threads() - 1, _HELPERS)):
            # One that comes late finds nothing left to do, and nobody has waited for it.
            self._kernels.helpers.submit(_help, self._kernels.help, job, self._operations)
        self._kernels.run(byref(job))


class CodecKernels:
    """Those of the library at `path`, which `compile_library` made; OSError if it cannot be loaded.

    To decode they round weights and what is multiplied; those of the wide library, to encode, do
    not.
    """

    def __init__(self, path: Path, *, is_wide: bool = False) -> None:
        library, name = ctypes.CDLL(str(path)), "wide" if is_wide else "codec"
        self.plan, self.help, self.run = (
            getattr(library, f"{name}_{function}") for function in ("plan", "help", "run")
        )
        self.plan.argtypes, self.plan.restype = (POINTER(Operation), c_int32), c_int64
        for function in (self.help, self.run):
            function.argtypes, function.restype = (POINTER(_Job),), None
        self._pack = getattr(library, f"{name}_pack")
        self._pack.argtypes = (c_void_p, *(c_int64,) * 3, *(c_int32,) * 3, c_void_p)
        self._pack.restype = None
        self._pack_wide = getattr(library, f"{name}_pack_wide")
        self._pack_wide.argtypes, self._pack_wide.restype = self._pack.argtypes, None
        self._filter_room = getattr(library, f"{name}_filter_room")
        self._filter_room.argtypes, self._filter_room.restype = (c_int32,), c_int64
        self.helpers = ThreadPoolExecutor(_HELPERS, thread_name_prefix=name)
        self.block = int(getattr(library, f"{name}_block")())
        """Outputs of a product that lie together."""
        self.rounded_bytes = int(getattr(library, f"{name}_rounded_bytes")())
        """Of a number that is multiplied."""
        self.rows_together = int(getattr(library, f"{name}_rows_together")())
        """Rows in a piece of work that is no product."""
        self.dtype = torch.float32 if is_wide else torch.bfloat16
        """Of weights."""

    def packed(self, weight: Tensor) -> Tensor:
        """`weight` [outputs, taps, inputs] as a product reads it; inputs are even."""
        return self._packed(weight, self._pack, self.dtype, weight.shape[1], Tensor.float)

    def packed_filter(self, weight: Tensor) -> Tensor:
        """`weight` [outputs, FILTER_TAPS, inputs] as a filter reads it, in float32."""
        points = len(_POINTS) + 1
        return self._packed(weight, self._pack_wide, torch.float32, points, _evaluated)

    def filter_room_bytes(self, inputs: int) -> int:
        """What filters of so many inputs work in, on all threads."""
        return (_HELPERS + 1) * int(self._filter_room(inputs))

    def _packed(
        self,
        weight: Tensor,
        pack: Callable[..., None],
        dtype: torch.dtype,
        taps: int,
        made: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """What is `made` of some outputs of `weight` at a time, so many `taps`, in `dtype`."""
        outputs, _, inputs = weight.shape
        blocks = -(-outputs // self.block)
        packed = torch.empty(blocks, self.block * taps * inputs, dtype=dtype)

        begins = iter(range(0, blocks, _PACKED_BLOCKS))

        def pack_some() -> None:
            for begin in begins:
                first, last = begin * self.block, (begin + _PACKED_BLOCKS) * self.block
                rows = made(weight[first:last])
                to = packed[begin].data_ptr()
                pack(rows.data_ptr(), *rows.stride(), len(rows), taps, inputs, to)

        helping = [self.helpers.submit(pack_some) for _ in range(_HELPERS)]
        pack_some()
        for helper in helping:
            helper.result()
        return packed.flatten()


def wide_kernels(library: Path) -> CodecKernels:
    """Those that encode, compiled beside `library` if they were not; as `compile_library`."""
    beside = library.parent
    with nullcontext(str(beside)) if beside.is_dir() else _scratch() as folder:
        return CodecKernels(compile_library(Path(folder), is_wide=True), is_wide=True)


def _scratch() -> AbstractContextManager[str]:
    return TemporaryDirectory(ignore_cleanup_errors=True)


def _evaluated(weight: Tensor) -> Tensor:
    """Taps [outputs, taps, inputs] as a polynomial at each point: [outputs, points, inputs]."""
    points = torch.tensor(_POINTS, dtype=torch.float64)
    powers = points[:, None] ** torch.arange(FILTER_TAPS)
    # What interpolating divides by.
    others = points[:, None] - points + torch.eye(len(points))
    matrix = torch.cat((powers / others.prod(1)[:, None], torch.eye(FILTER_TAPS)[-1:]))
    return torch.matmul(matrix, weight.double()).float()


def _help(help_with: Callable[..., None], job: _Job, _kept: object) -> None:
    help_with(byref(job))
