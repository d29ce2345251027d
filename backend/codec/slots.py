"""Pieces of many sequences decoded together, on CUDA in graphs and beside everything else."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from backend.codec.one_by_one import Landed
from backend.codec.pieces import Piece, piece_sizes
from backend.codec.stage import Flight, Key
from backend.model.config import STAGE_FRAMES, STAGE_FRAMES_TOGETHER
from backend.model.dac import DAC
from backend.model.out_of_memory import is_out_of_memory
from backend.model.stream import Stream


class SlotDecoder:
    """Decodes pieces of many sequences at once, each in a slot of its own.

    A call is made ready for each number of rows, a power of two, and each size of pieces. On CUDA
    it is a graph, on a stream of the decoder's own; samples come back by an asynchronous copy.
    """

    def __init__(self, codec: DAC, slots: int, most_frames: int = STAGE_FRAMES) -> None:
        self.sizes, self.frame_samples = piece_sizes(most_frames), codec.config.frame_samples
        self.most_flights = 2  # one computes while the next lies ready: what comes later is batched
        self._codec, self._device = codec, next(codec.decoder.parameters()).device
        self._stream = Stream(slots + 1)
        self._nobody = slots
        """The slot of rows that fill a call up."""
        self._free = list(range(slots))
        self._slots: dict[Key, int] = {}
        self._calls: dict[tuple[int, int], _Call] = {}
        self._most_rows = {
            frames: min(_power_of_two(slots), max(1, STAGE_FRAMES_TOGETHER // frames))
            for frames in self.sizes
        }
        is_cuda = self._device.type == "cuda"
        self._queue = _stream_of(self._device) if is_cuda else None
        self._pool = torch.cuda.graph_pool_handle() if is_cuda else None

    def prepare(self) -> bool:
        """Make a call ready that is not; False when all are.

        Those for one row come first, then the largest: the smaller ones pass through its memory.
        """
        for rows, frames in self._wanted():
            if (rows, frames) not in self._calls:
                self._call(self._made_ready(rows, frames), frames)
                return True
        return False

    def _wanted(self) -> Iterator[tuple[int, int]]:
        """Rows and frames of every call."""
        yield from ((1, frames) for frames in self.sizes)
        for frames in reversed(self.sizes):
            rows = self._most_rows[frames]
            while rows > 1:
                yield rows, frames
                rows //= 2

    def fitting(self, frames: int, keys: Sequence[Key]) -> Sequence[Key]:
        """As many as a call has rows, of those that have a slot or get one."""
        free = len(self._free)
        found: list[Key] = []
        for key in keys:
            if key not in self._slots:
                if not free:
                    continue
                free -= 1
            found.append(key)
        if not found:
            return ()
        rows = min(_power_of_two(len(found)), self._most_rows[frames])
        if 4 * len(found) < 3 * rows:
            rows //= 2  # the others come next: a third of the call's work would be for nobody
        return found[: self._made_ready(rows, frames)]

    @torch.inference_mode()
    def begin(self, keys: Sequence[Key], pieces: Sequence[Piece]) -> Flight:
        """Decode a piece of each."""
        newcomers = [key for key in keys if key not in self._slots]
        for key in newcomers:
            self._slots[key] = self._free.pop()
        rows = _power_of_two(len(keys))
        call = self._call(rows, len(pieces[0].frames))
        places = [self._slots[key] for key in keys] + [self._nobody] * (rows - len(keys))
        new_places = [self._slots[key] for key in newcomers]
        with self._on_queue():
            if newcomers:
                self._stream.clear(self._sent(torch.tensor(new_places)))
            call.rows.copy_(self._sent(torch.tensor(places)))
            call.codes[: len(keys)].copy_(self._codes(pieces))
            heard = call.run()[: len(keys)]
            if self._queue is None:
                return Landed(heard.clone())
            host = torch.empty(heard.shape, pin_memory=True)
            host.copy_(heard, non_blocking=True)
            return _Flying(host, self._queue.record_event())

    def forget(self, key: Key) -> None:
        """Its slot is another's from now on; on the device that comes after what has begun."""
        if (slot := self._slots.pop(key, None)) is not None:
            self._free.append(slot)

    def _made_ready(self, rows: int, frames: int) -> int:
        """Make a call ready for `rows`, or for fewer if there is not the memory; for how many."""
        while rows > 1:
            try:
                self._call(rows, frames)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                rows //= 2
                self._most_rows[frames] = rows
                torch.cuda.empty_cache()
                logger.warning(
                    "Too little memory to decode more than {} pieces of {} frames together.",
                    *(rows, frames),
                )
            else:
                break
        return rows

    @torch.inference_mode()
    def _call(self, rows: int, frames: int) -> "_Call":
        if (rows, frames) not in self._calls:
            books = self._codec.config.num_codebooks
            codes = torch.zeros(rows, books, frames, dtype=torch.long, device=self._device)
            places = torch.full((rows,), self._nobody, device=self._device)
            call = _Call(self._codec, self._stream, codes, places)
            if self._queue is not None:
                call.capture(self._queue, self._pool)
            self._calls[rows, frames] = call
        return self._calls[rows, frames]

    def _codes(self, pieces: Sequence[Piece]) -> Tensor:
        """Codes [pieces, N, frames] on the device."""
        frames = [frame for piece in pieces for frame in piece.frames]
        if self._queue is not None and frames[0].is_cuda:
            self._queue.wait_stream(torch.cuda.current_stream(self._device))
            for frame in frames:
                frame.record_stream(self._queue)
        codes = torch.stack(frames).view(len(pieces), -1, len(frames[0]))
        return self._sent(codes.transpose(1, 2).contiguous())

    def _sent(self, tensor: Tensor) -> Tensor:
        """`tensor` on the device; nobody waits for its way there."""
        if self._queue is None or tensor.is_cuda:
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _on_queue(self) -> AbstractContextManager[object]:
        return nullcontext() if self._queue is None else torch.cuda.stream(self._queue)


@dataclass(slots=True)
class _Call:
    """The next piece of some slots' signals: inputs and output lie where they lay."""

    codec: DAC
    stream: Stream
    codes: Tensor
    """[rows, N, frames]"""
    rows: Tensor
    """Slots [rows]."""
    graph: torch.cuda.CUDAGraph | None = None
    heard: Tensor | None = None
    """What the graph writes, float32 [rows, samples]."""

    def run(self) -> Tensor:
        """Samples, float32 [rows, samples]; the next run may write over them."""
        if self.graph is None or self.heard is None:
            self.stream.select(self.rows)
            return self.codec.decode(self.codes, self.stream).float()
        self.graph.replay()
        return self.heard

    def capture(self, queue: torch.cuda.Stream, pool: Any) -> None:
        """Record what `run` does, and from now on replay it."""
        queue.wait_stream(torch.cuda.current_stream(queue.device))
        with torch.cuda.stream(queue):
            self.run()  # kernels are chosen and compiled, and the tails made
        graph = torch.cuda.CUDAGraph()
        # Another thread, which encodes a voice, may ask for memory meanwhile.
        with torch.cuda.graph(graph, pool, queue, capture_error_mode="thread_local"):
            self.heard = self.run()
        self.graph = graph


class _Flying:
    """Samples on their way from the device."""

    def __init__(self, host: Tensor, landed: torch.cuda.Event) -> None:
        self._host, self._landed = host, landed

    def is_done(self) -> bool:
        return bool(self._landed.query())  # type: ignore[no-untyped-call] # torch's own

    def samples(self) -> Tensor:
        self._landed.synchronize()
        return self._host


def _stream_of(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's own


def _power_of_two(count: int) -> int:
    """The least that is no less than `count`."""
    return 1 << (count - 1).bit_length()
