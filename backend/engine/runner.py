"""Does what the scheduler decided: reads prompts into slots, makes a frame for every row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.engine.frame import EagerWay, State, Way
from backend.engine.kept_voices import KeptVoices
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence as Spoken
from backend.model.dual_ar import DualAR
from backend.model.out_of_memory import is_out_of_memory


@dataclass(frozen=True, slots=True)
class Flight:
    """Frames that were asked of the device, and may not be made yet."""

    codes: Tensor
    """[B, N] on the CPU, once `landed` has happened."""
    landed: torch.cuda.Event | None

    def wait(self) -> Tensor:
        """The frames, as `Way.frame` says."""
        if self.landed is not None:
            self.landed.synchronize()
        return self.codes


class Runner:
    """Owns the state on the device, and the way in which it is gone on from.

    Nothing here waits for the device. After an exception in `open` or `read` the slot is still to
    be closed; one in `launch` leaves the rows as they were, so that it may be tried again.
    """

    def __init__(self, model: DualAR, max_batch: int) -> None:
        self._model, self._max_batch = model, max_batch
        self.reset()
        self.voices = KeptVoices(0)
        self._device = model.embeddings.weight.device
        self.weight_bytes_per_step = model.weight_bytes_per_frame()
        """Bytes of weights that one step reads, whatever the number of rows."""
        self.on_fallback: Callable[[RuntimeError], None] = lambda _: None
        """Hears of a way that failed, after the plain one has made its frame."""

    def reset(self) -> None:
        """Begin anew, in the plain way; no slot may be open."""
        self.state = State.of(self._model, self._max_batch)
        self._plain = EagerWay(self.state)
        self.way: Way = self._plain

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self.state.cache.allocated_bytes

    @torch.inference_mode()
    def prepare(self) -> bool:
        """Make something ready that rows will want; False when all is."""
        return self.way.prepare()

    @torch.inference_mode()
    def open(self, slot: int, sequence: Spoken) -> int:
        """Begin a row in `slot`; how many tokens of its prompt need not be read any more."""
        self.state.cache.open(slot, sequence.prompt_tokens, sequence.most_positions)
        self.state.slots.open(slot, sequence.sampling)
        kept = self.voices.find(sequence.prompt)
        if kept is None:
            return 0
        self.state.cache.restore(slot, kept, sequence.prompt.voice_tokens)
        return sequence.prompt.voice_tokens

    @torch.inference_mode()
    def read(self, slot: int, prompt: Prompt, begin: int, end: int) -> None:
        """Read the tokens `begin` to `end` of `prompt`; the last one of all waits for `launch`."""
        last, cache = len(prompt) - 1, self.state.cache
        tokens = prompt.tokens[begin:end].to(self._device, non_blocking=True)
        codes = prompt.codes[begin:end].to(self._device, non_blocking=True)
        pieces = min(end, last) - begin
        if pieces:
            cache.extend([slot], pieces)
            self.way.read(slot, tokens[:pieces], codes[:pieces])
        if begin < prompt.voice_tokens <= end:
            self.voices.keep(prompt, lambda: cache.snapshot(slot, prompt.voice_tokens))
        if end > last:
            self.state.slots.begin(slot, tokens[-1], codes[-1], last)

    @torch.inference_mode()
    def launch(self, slots: Sequence[int]) -> Flight:
        """Let the device make the next frame of the rows of `slots`."""
        self.state.cache.extend(slots)
        try:
            codes = self._frame(slots)
        except BaseException:
            self.state.cache.shorten(slots)
            raise
        if codes.device.type != "cuda":
            return Flight(codes.to("cpu", copy=True), None)  # the way makes the next one there
        landing = torch.empty(codes.shape, dtype=codes.dtype, pin_memory=True)
        landing.copy_(codes, non_blocking=True)
        landed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        landed.record()
        return Flight(landing, landed)

    def _frame(self, slots: Sequence[int]) -> Tensor:
        """A frame of each row, in the plain way from the first one on that the other fails at."""
        try:
            return self.way.frame(slots)
        except RuntimeError as error:
            if self.way is self._plain or is_out_of_memory(error):
                raise
            # Nothing was recorded yet, and the same positions are written again. If this fails too,
            # for want of memory say, the way is not to blame.
            codes = self._plain.frame(slots)
            self.way = self._plain
            self.on_fallback(error)
            return codes

    def close(self, slot: int) -> None:
        """Free `slot`. What the device was asked to do with it before is done first."""
        self.state.cache.close(slot)
