"""The threads that run the kernels, and the memory that each of them works in."""

import ctypes
import threading
from ctypes import c_int32
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.native.structs import MOST_ROWS, QUERIES, TILE, Pool, Scratch, declare

MOST_THREADS = 32
"""As many as `announce` has bits for."""


class NativePool:
    """Does one job at a time on as many threads as torch would use.

    The calling thread leads. The others wait in the library for a moment after a job, and then
    asleep. A job never waits for one that does not come.
    """

    def __init__(self, path: Path) -> None:
        """`path` is a library that `compile_library` made; OSError where it cannot be loaded."""
        self._library = declare(ctypes.CDLL(str(path)))
        self._lock = threading.Lock()
        self._events: list[threading.Event] = []
        self._states = (c_int32 * MOST_THREADS)()
        self._scratches = (Scratch * MOST_THREADS)()
        self._pool = Pool(scratches=self._scratches, states=self._states)
        self._inputs = self._positions = 0
        self._memory: list[list[Tensor]] = []

    def reserve(self, inputs: int, positions: int = 0) -> None:
        """Let every thread have room for rows of so many inputs, and to attend to `positions`."""
        with self._lock:
            if inputs > self._inputs or positions > self._positions:
                self._inputs = max(self._inputs, inputs)
                self._positions = max(self._positions, positions)
                self._memory.clear()

    def run(self, kind: int, rows: int, **fields: Any) -> None:
        """Do the job that `fields` of `structs.Pool` describe."""
        with self._lock:
            pool = self._pool
            pool.threads, pool.kind, pool.rows = (
                min(torch.get_num_threads(), MOST_THREADS),
                kind,
                rows,
            )
            for name, value in fields.items():
                setattr(pool, name, value)
            while len(self._memory) < pool.threads:
                self._equip(len(self._memory))
            parked = self._library.announce(pool)
            for helper in range(1, pool.threads):
                if parked >> helper & 1:
                    self._events[helper - 1].set()
            self._library.lead(pool)

    def pack(self, weight: Tensor, kind: int, bits: int) -> Tensor:
        """`weight` [outputs, inputs] of `kind`, rounded to so many bits: uint8 [tiles, bytes].

        As `quantize_matrix` rounds. The calling thread does it, beside whatever job is done.
        """
        (outputs, inputs), tiles = weight.shape, -(-weight.shape[0] // TILE)
        weight = weight.detach().contiguous()
        packed = torch.empty(tiles, TILE * (inputs * bits // 8 + 4), dtype=torch.uint8)
        self._library.pack_tiles(weight.data_ptr(), kind, outputs, inputs, bits, packed.data_ptr())
        return packed

    def _equip(self, thread: int) -> None:
        """Give a thread its memory, and begin it unless it is the one that leads."""
        rows, inputs = MOST_ROWS, self._inputs
        memory = [
            torch.empty(rows * inputs),
            torch.empty(2 * rows * inputs, dtype=torch.int8),
            torch.empty(rows),
            torch.empty(2 * rows, dtype=torch.int32),
            torch.empty(QUERIES * (self._positions + 1)),
        ]
        self._memory.append(memory)
        self._scratches[thread] = Scratch(*(tensor.data_ptr() for tensor in memory))
        if thread > len(self._events):
            event = threading.Event()
            self._events.append(event)
            threading.Thread(
                target=self._serve, args=(thread, event), name=f"native-{thread}", daemon=True
            ).start()

    def _serve(self, thread: int, event: threading.Event) -> None:
        seen = 0
        while True:
            event.wait()
            event.clear()
            seen = self._library.serve(self._pool, thread, seen)
