"""Computes what the scheduler decided: reads a prompt into a row, makes one frame for every row."""

from collections.abc import Callable

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.compiled import CompiledFrame
from backend.engine.frame import EagerFrame, Frame
from backend.engine.prompt import Prompt
from backend.engine.rows import Rows
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache


class Runner:
    """Owns the cache and the rows' state on the device. Each call waits for the device once.

    After an exception in `prefill` its row is still to be removed; one in `step` leaves the rows as
    they were, so that the same step may be tried again.
    """

    def __init__(self, model: DualAR, max_batch: int) -> None:
        weight = model.embeddings.weight
        self._model, self._device = model, weight.device
        self._cache = KVCache(model.config.slow, weight.dtype, weight.device)
        self._rows = Rows(max_batch, model.config.num_codebooks, weight.device)
        self._eager = EagerFrame(model)
        self._compiled: CompiledFrame | None = None
        self._on_compiled_failure: Callable[[RuntimeError], None] = lambda _: None
        self.weight_bytes_per_step = model.weight_bytes_per_frame()
        """Bytes of weights that one step reads, whatever the number of rows."""

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self._cache.allocated_bytes

    def use_compiled(
        self, compiled: CompiledFrame | None, on_failure: Callable[[RuntimeError], None]
    ) -> None:
        """Let steps run `compiled` from the next one on; any thread may say so.

        Should it fail, that step and all later ones are made by the eager frame, and `on_failure`
        is told.
        """
        self._on_compiled_failure = on_failure
        self._compiled = compiled

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, sampling: SamplingParams, most_positions: int) -> Tensor:
        """Read `prompt` into a new last row; its first frame [1, N], on the CPU.

        The row can come to hold `most_positions`.
        """
        row = self._rows.add(sampling, len(prompt))
        self._cache.add_row(len(prompt), most_positions)
        tokens, codes = prompt.tokens.to(self._device), prompt.codes.to(self._device)
        hidden = self._model.prefill(tokens, codes, self._cache, row)
        return self._make_frames(self._eager, slice(row, row + 1), hidden)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The next frame of every row [B, N], on the CPU.

        A semantic code equal to `DualAR.end_column` is the end of speech, and no frame.
        """
        lengths = self._cache.lengths
        self._cache.advance()
        try:
            compiled = self._compiled  # read once: another thread may put it there
            if compiled is None or len(self._rows) > compiled.max_rows:
                return self._step(self._eager)
            return self._step_compiled(compiled)
        except BaseException:
            self._cache.lengths = lengths
            raise

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free `row`; the last row takes its place."""
        self._rows.remove(row)
        if row < len(self._cache.lengths):  # a prefill may have failed before
            self._cache.remove_row(row)

    def _step_compiled(self, compiled: CompiledFrame) -> Tensor:
        try:
            return self._step(compiled)
        except RuntimeError as error:
            # Nothing was recorded yet, and the same positions of the cache are written again. If
            # this fails too, for want of memory say, the compiled code is not to blame.
            frames = self._step(self._eager)
            self._compiled = None
            self._on_compiled_failure(error)
            return frames

    def _step(self, frame: Frame) -> Tensor:
        rows = slice(0, len(self._rows))
        hidden = frame.hidden(self._rows.codes[rows], self._rows.positions[rows], self._cache)
        return self._make_frames(frame, rows, hidden)

    def _make_frames(self, frame: Frame, rows: slice, hidden: Tensor) -> Tensor:
        """Slow hidden states [B, dim] of `rows` to their frames [B, N]."""
        drawn = frame.draw(hidden, self._rows.draw(rows))
        fetched = torch.stack(drawn.codes, dim=1).cpu()
        self._rows.record(rows, drawn.frames(self._model.config.codebook_size))
        return fetched
