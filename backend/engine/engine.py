"""The step loop: choose, run, record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from backend.core import FinishReason
from backend.engine.compiled import CompiledFrame
from backend.engine.out_of_memory import is_out_of_memory
from backend.engine.runner import Runner
from backend.engine.scheduler import Scheduler
from backend.engine.sequence import Sequence
from backend.errors import EngineFailed, ShoalError
from backend.logs import log_fault
from backend.model.dual_ar import DualAR


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step did for one sequence. `finish` or `error` is the last that is heard of it."""

    sequence: Sequence
    frame: Tensor | None = None
    """The codes [N] it made, on the CPU."""
    finish: FinishReason | None = None
    error: ShoalError | None = None


@dataclass(slots=True)
class Step:
    """What one step did."""

    progress: list[Progress] = field(default_factory=list)
    decode_s: float = 0.0
    """How long the rows were decoded."""


class Engine:
    """Speaks any number of sequences at once, `max_batch` of them in step."""

    def __init__(self, model: DualAR, max_batch: int, cache_bytes: int | None = None) -> None:
        self.model, self.max_batch = model, max_batch
        self._end = model.end_column
        self._runner = Runner(model, max_batch)
        self._scheduler = Scheduler(max_batch)
        self.set_cache_bytes(cache_bytes)

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self._runner.cache_bytes

    def set_cache_bytes(self, cache_bytes: int | None) -> None:
        """Bytes that keys and values may take from now on; None is no bound.

        Rows that are being spoken stay; with less room, no other joins before enough have left.
        """
        element_bytes = self.model.embeddings.weight.element_size()
        position_bytes = self.model.config.kv_bytes_per_frame(element_bytes)
        positions = None if cache_bytes is None else cache_bytes // position_bytes
        self._scheduler.max_positions = positions

    def use_compiled(
        self, compiled: CompiledFrame | None, on_failure: Callable[[RuntimeError], None]
    ) -> None:
        """Let steps run `compiled` from the next one on, as `Runner.use_compiled` says."""
        self._runner.use_compiled(compiled, on_failure)

    @property
    def running(self) -> int:
        """Sequences that have a row."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a row."""
        return self._scheduler.waiting

    @property
    def is_idle(self) -> bool:
        """A step would do nothing."""
        return self._scheduler.is_idle

    def add(self, sequence: Sequence) -> None:
        """Queue `sequence`; later steps tell of it."""
        self._scheduler.add(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget `sequence`; no step tells of it any more."""
        self._leave(sequence)

    def step(self) -> Step:
        """Read the prompt of at most one newcomer, then make one frame for every row."""
        step = Step()
        if (newcomer := self._scheduler.join()) is not None:
            self._prefill(newcomer, step)
        if self._scheduler.running:
            self._decode(step)
        return step

    def _prefill(self, sequence: Sequence, step: Step) -> None:
        began_s = time.perf_counter()
        try:
            frame = self._runner.prefill(
                sequence.prompt, sequence.sampling, sequence.most_positions
            )
        except Exception as error:  # noqa: BLE001 - one sequence's boundary: it is told, others go on
            self._fail(sequence, error, step)
            return
        sequence.prefill_s = time.perf_counter() - began_s
        self._record([sequence], frame, step)

    def _decode(self, step: Step) -> None:
        rows = list(self._scheduler.running)
        began_s = time.perf_counter()
        try:
            frames = self._runner.step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # The one that has least to lose goes; the others try again in the next step.
            self._fail(min(rows, key=lambda sequence: sequence.frames), error, step)
            return
        step.decode_s = time.perf_counter() - began_s
        for sequence in rows:
            sequence.decode_s += step.decode_s
            sequence.weight_bytes += self._runner.weight_bytes_per_step / len(rows)
        self._record(rows, frames, step)

    def _record(self, sequences: list[Sequence], frames: Tensor, step: Step) -> None:
        for sequence, frame, code in zip(sequences, frames, frames[:, 0].tolist(), strict=True):
            if code == self._end:
                sequence.finish = "end"
                step.progress.append(Progress(sequence, finish="end"))
            else:
                sequence.frames += 1
                sequence.finish = sequence.limit_reached()
                step.progress.append(Progress(sequence, frame, sequence.finish))
            if sequence.finish is not None:
                self._leave(sequence)

    def _fail(self, sequence: Sequence, error: Exception, step: Step) -> None:
        self._leave(sequence)
        if isinstance(error, ShoalError):
            told: ShoalError = error
        elif is_out_of_memory(error):
            told = EngineFailed("There is not enough memory to speak this; try again later.")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            told = EngineFailed(f"The engine failed: {type(error).__name__}: {error}")
        log_fault("A sequence of {} prompt tokens failed.", sequence.prompt_tokens, error=error)
        step.progress.append(Progress(sequence, error=told))

    def _leave(self, sequence: Sequence) -> None:
        row = self._scheduler.leave(sequence)
        if row is not None:
            self._runner.remove(row)
