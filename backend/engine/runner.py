"""Computes what the scheduler decided: reads a prompt into a row, makes one frame for every row."""

import torch
from torch import Tensor

from backend.engine.prompt import Prompt
from backend.engine.rows import Rows
from backend.engine.sampler import draw, penalties, uniforms
from backend.engine.sequence import Sampling
from backend.model.dual_ar import DualAR, FastFrame
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
        self._fast = FastFrame(model)
        self.weight_bytes_per_step = (
            model.config.weights_read_per_frame(model.config.codebook_size + 1)
            * weight.element_size()
        )
        """Bytes of weights that one step reads, whatever the number of rows."""

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self._cache.allocated_bytes

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, sampling: Sampling) -> Tensor:
        """Read `prompt` into a new last row; its first frame [1, N], on the CPU."""
        row = self._rows.add(sampling, len(prompt))
        self._cache.add_row(len(prompt))
        tokens, codes = prompt.tokens.to(self._device), prompt.codes.to(self._device)
        hidden = self._model.prefill(tokens, codes, self._cache, row)
        return self._make_frames(slice(row, row + 1), hidden)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The next frame of every row [B, N], on the CPU.

        A semantic code equal to `DualAR.end_column` is the end of speech, and no frame.
        """
        rows = slice(0, len(self._rows))
        lengths = self._cache.lengths
        self._cache.advance()
        try:
            hidden = self._model.decode(
                self._rows.codes[rows], self._rows.positions[rows], self._cache
            )
            return self._make_frames(rows, hidden)
        except BaseException:
            self._cache.lengths = lengths
            raise

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free `row`; the last row takes its place."""
        self._rows.remove(row)
        if row < len(self._cache.lengths):  # a prefill may have failed before
            self._cache.remove_row(row)

    def _make_frames(self, rows: slice, hidden: Tensor) -> Tensor:
        """Slow hidden states [B, dim] of `rows` to their frames [B, N]."""
        config, state = self._model.config, self._rows
        sampling = state.sampling(rows)
        books, residual = config.num_codebooks, config.residual_codebook_size
        noise = uniforms(state.keys[rows], state.frames[rows], books)
        factors = None
        if sampling.any_penalty:
            factors = penalties(sampling, state.history(rows), config.codebook_size + 1)

        def pick(logits: Tensor, book: int) -> Tensor:
            penalty = None if factors is None else factors[:, book, : logits.shape[-1]]
            return draw(logits, sampling, noise[:, book], penalty)

        semantic = pick(self._model.slow_logits(hidden), 0)
        # A row that ends here goes on to make a frame that nobody looks at: asking would be a sync.
        spoken = semantic.clamp(max=config.codebook_size - 1)
        drawn = [semantic]
        for book in range(1, books):
            logits = (
                self._fast.start(hidden, spoken)
                if book == 1
                else self._fast.step(book - 1, drawn[-1])
            )
            drawn.append(pick(logits[:, :residual], book))
        frames = torch.stack(drawn, dim=1)
        fetched = frames.cpu()
        state.record(rows, torch.cat((spoken[:, None], frames[:, 1:]), dim=1))
        return fetched
