"""The step loop: choose, run, record."""

import time
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.core import MIB, FinishReason
from backend.engine.runner import Flight, Runner
from backend.engine.scheduler import Scheduler
from backend.engine.sequence import Sequence
from backend.errors import EngineFailed, ShoalError
from backend.logs import log_fault
from backend.model.dual_ar import DualAR
from backend.model.out_of_memory import is_out_of_memory, told_of

READ_TOKENS = 256
"""Of a prompt that are read between two frames of the others."""
_VOICES_SHARE = 0.25
"""Of the limit of keys and values that voices' prompts may take while no row wants it."""
_VOICES_BYTES = 256 * MIB
"""The same where there is no limit."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step did for one sequence. `finish` or `error` is the last that is heard of it."""

    sequence: Sequence
    frame: Tensor | None = None
    """The codes [N] it made, on the CPU."""
    finish: FinishReason | None = None
    error: ShoalError | None = None


@dataclass(frozen=True, slots=True)
class _Launched:
    """Frames that the device was asked for."""

    sequences: list[Sequence]
    flight: Flight
    began_s: float


class Engine:
    """Speaks any number of sequences at once, `max_batch` of them in step.

    On a GPU the next frame is asked for before the one in flight is looked at, so that the device
    never waits for the host: a row that turns out to have ended has made one frame too many, which
    nobody looks at.
    """

    def __init__(self, model: DualAR, max_batch: int, cache_bytes: int | None = None) -> None:
        self.model, self.max_batch = model, max_batch
        self._end = model.end_column
        self.runner = Runner(model, max_batch)
        self._geometry = self.runner.state.cache.geometry
        self._scheduler = Scheduler(max_batch, self._geometry, cache_bytes)
        self._in_flight: deque[_Launched] = deque()
        self._recorded_s = 0.0
        self._limit_voices()
        self._most_in_flight = 1 if model.embeddings.weight.device.type == "cuda" else 0

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self.runner.cache_bytes

    def set_cache_bytes(self, cache_bytes: int | None) -> None:
        """Bytes that keys and values may take from now on; None is no bound.

        Rows that are being spoken stay; with less room, no other joins before enough have left.
        """
        self._scheduler.cache_bytes = cache_bytes
        self._limit_voices()

    def forget_voices(self) -> None:
        """Let go of what is kept of voices' prompts."""
        self.runner.voices.clear()

    @property
    def running(self) -> int:
        """Sequences that have a row."""
        return len(self._scheduler.slots)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a row."""
        return self._scheduler.waiting

    @property
    def is_idle(self) -> bool:
        """A step would do nothing."""
        return self._scheduler.is_idle and not self._in_flight

    def prepare(self) -> bool:
        """Make something ready while there is nothing to do; False when all is."""
        return self.runner.prepare()

    def add(self, sequence: Sequence) -> None:
        """Queue `sequence`; later steps tell of it."""
        self._scheduler.add(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget `sequence`; no step tells of it any more."""
        self._leave(sequence)

    def step(self) -> list[Progress]:
        """Read what joins, ask for a frame of every row, tell of what has arrived."""
        told: list[Progress] = []
        self._read(told)
        launched = self._launch(told)
        while len(self._in_flight) > (self._most_in_flight if launched else 0):
            self._record(self._in_flight.popleft(), told)
        return told

    def _read(self, told: list[Progress]) -> None:
        """Read what joins, as much as may be between two frames of the others."""
        left = READ_TOKENS
        while left > 0 and (sequence := self._next_to_read()) is not None:
            left -= self._read_piece(sequence, left, told)

    def _next_to_read(self) -> Sequence | None:
        reading = (s for s in self._scheduler.running if s.read_tokens < s.prompt_tokens)
        if (sequence := next(reading, None)) is not None:
            return sequence
        if (sequence := self._scheduler.join()) is not None:
            self._limit_voices()
        return sequence

    def _limit_voices(self) -> None:
        """Voices' prompts have what rows can never come to need."""
        limit = self._scheduler.cache_bytes
        if limit is None:
            self.runner.voices.limit(_VOICES_BYTES)
            return
        held = self._geometry.held_bytes(s.most_positions for s in self._scheduler.slots)
        self.runner.voices.limit(min(int(limit * _VOICES_SHARE), limit - held))

    def _read_piece(self, sequence: Sequence, most: int, told: list[Progress]) -> int:
        """Read up to `most` tokens of a prompt; how many it were."""
        began_s, slot = time.perf_counter(), self._scheduler.slots[sequence]
        try:
            if not sequence.read_tokens:
                sequence.read_tokens = self.runner.open(slot, sequence)
            begin = sequence.read_tokens
            end = min(begin + most, sequence.prompt_tokens)
            self.runner.read(slot, sequence.prompt, begin, end)
        except Exception as error:  # noqa: BLE001 - one sequence's boundary: it is told, others go on
            self._fail(sequence, error, told)
            return 0
        sequence.read_tokens = end
        sequence.prefill_s += time.perf_counter() - began_s
        return end - begin

    def _launch(self, told: list[Progress]) -> bool:
        """Ask for a frame of every row that may make one; whether there was any."""
        rows = [sequence for sequence in self._scheduler.running if sequence.may_go_on]
        if not rows:
            return False
        began_s = time.perf_counter()
        try:
            flight = self.runner.launch([self._scheduler.slots[sequence] for sequence in rows])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # The one that has least to lose goes; the others try again in the next step.
            self._fail(min(rows, key=lambda sequence: sequence.frames), error, told)
            return True
        for sequence in rows:
            sequence.launched += 1
        self._in_flight.append(_Launched(rows, flight, began_s))
        return True

    def _record(self, launched: _Launched, told: list[Progress]) -> None:
        frames = launched.flight.wait()
        now_s, rows = time.perf_counter(), launched.sequences
        # A frame's time is from the one before it, or from its start where there was a pause.
        took_s = now_s - max(launched.began_s, self._recorded_s)
        self._recorded_s = now_s
        codes, least = frames[:, 0].tolist(), frames.amin(1).tolist()
        for sequence, frame, code, lowest in zip(rows, frames, codes, least, strict=True):
            if sequence not in self._scheduler.slots:
                continue  # it ended, or was given up, while this was made
            sequence.decode_s += took_s
            sequence.weight_bytes += self.runner.weight_bytes_per_step / len(rows)
            if lowest < 0:
                error = EngineFailed("What the model computed is no number; try another seed.")
                self._fail(sequence, error, told)
            elif code == self._end:
                sequence.finish = "end"
                told.append(Progress(sequence, finish="end"))
            else:
                sequence.frames += 1
                sequence.finish = sequence.limit_reached()
                told.append(Progress(sequence, frame, sequence.finish))
            if sequence.finish is not None:
                self._leave(sequence)

    def _fail(self, sequence: Sequence, error: Exception, told: list[Progress]) -> None:
        self._leave(sequence)
        if is_out_of_memory(error) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        reason = error if isinstance(error, ShoalError) else told_of(error)
        log_fault("A sequence of {} prompt tokens failed.", sequence.prompt_tokens, error=error)
        told.append(Progress(sequence, error=reason))

    def _leave(self, sequence: Sequence) -> None:
        slot = self._scheduler.leave(sequence)
        if slot is not None:
            self.runner.close(slot)
