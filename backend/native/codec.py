"""The decoder's kernels: what `codec.c` says in ctypes, and the threads that run them."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import torch

PRODUCT, ROUND, NORM, MIX, ATTEND = range(5)
AS_IT_IS, GELU, GATE = range(3)
_MOST_HELPERS = 31


class Past(Structure):
    """Rows that reach back into the piece before."""

    _fields_ = [("rows", c_void_p), ("at", c_int64), ("bytes", c_int64)]


class Operation(Structure):
    """One of a decoder's operations."""

    _fields_ = [
        *((name, c_int32) for name in ("kind", "rows", "inputs", "outputs", "taps", "dilation")),
        *((name, c_int32) for name in ("bend", "heads", "window")),
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
        *((name, c_int64) for name in ("begin", "next", "done")),
    ]


class Program:
    """Operations whose addresses are known."""

    def __init__(self, kernels: "CodecKernels", operations: list[Operation]) -> None:
        self._kernels = kernels
        self._operations = (Operation * len(operations))(*operations)
        self._pieces = kernels.library.codec_plan(self._operations, len(operations))

    def run(self, state: int, begin: int) -> None:
        """For a signal whose state lies at `state` and of which `begin` rows were before."""
        job = _Job(self._operations, self._pieces, state, begin, 0, 0)
        library, threads = self._kernels.library, torch.get_num_threads()
        for _ in range(min(threads - 1, _MOST_HELPERS)):
            # One that comes late finds nothing left to do, and nobody has waited for it.
            self._kernels.helpers.submit(_help, library, job, self._operations)
        library.codec_run(byref(job))


class CodecKernels:
    """The library at `path`, which `compile_library` made; OSError where it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        for name in ("codec_help", "codec_run"):
            function = getattr(self.library, name)
            function.argtypes, function.restype = (POINTER(_Job),), None
        self.library.codec_plan.argtypes = (POINTER(Operation), c_int32)
        self.library.codec_plan.restype = c_int64
        self.helpers = ThreadPoolExecutor(_MOST_HELPERS, thread_name_prefix="codec")
        self.block = int(self.library.codec_block())
        """Outputs of a product that lie together."""
        self.rounded_bytes = int(self.library.codec_rounded_bytes())
        """Of a number that is multiplied."""
        self.rows_together = int(self.library.codec_rows_together())
        """Rows in a piece of work that is no product."""


def _help(library: ctypes.CDLL, job: _Job, _kept: object) -> None:
    library.codec_help(byref(job))
