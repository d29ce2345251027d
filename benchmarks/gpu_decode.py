"""Frames a second of the engine alone, in this process: prompts read, codec left out."""

import gc
import time
from dataclasses import dataclass

import torch

from backend.core import SamplingParams
from backend.engine.engine import Engine, Progress
from backend.engine.prompt import Prompt, Reference
from backend.engine.sequence import Sequence
from backend.engine.ways import settle
from backend.model.checkpoint import Checkpoint

TEXT = "Hello there."
WARM_STEPS = 20
"""After the last row has made its first frame, before the clock starts."""
CACHE_SHARE = 0.6
"""Of the memory that is free beside the weights, for keys and values."""
WAYS = ("auto", "eager", "graph")
"""Names that `--ways` knows: how the engine makes its frames."""


@dataclass(frozen=True, slots=True)
class Steady:
    """What rows that neither join nor leave made."""

    frames_s: float
    """Of all rows together."""
    positions: float
    """Contexts of all rows together, on average over the time measured."""
    step_ms: float


class Spoken:
    """The engine as these rows use it. The only place that knows its interface."""

    def __init__(self, checkpoint: Checkpoint, max_batch: int, way: str) -> None:
        if way not in WAYS:
            raise ValueError(f"this engine has no way {way!r}, only {', '.join(WAYS)}")
        self._checkpoint = checkpoint
        self.device = checkpoint.model.embeddings.weight.device
        cache_bytes = None
        if self.device.type == "cuda":
            give_back()
            free_bytes, _ = torch.cuda.mem_get_info(self.device)
            cache_bytes = int(CACHE_SHARE * free_bytes)
        self._engine = Engine(checkpoint.model, max_batch, cache_bytes)
        if self.device.type == "cuda" and way != "eager":
            print(settle(self._engine, may_use_triton=way == "auto").detail, flush=True)
        self._running: list[Sequence] = []

    def add(self, prompt_tokens: int, frame_limit: int, seed: int) -> None:
        """Queue a row whose prompt is so long, with the sampling that users have."""
        sampling = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=seed)
        context_tokens = self._checkpoint.config.max_seq_len
        prompt = prompt_of(self._checkpoint, prompt_tokens, seed)
        sequence = Sequence(prompt, sampling, frame_limit, context_tokens)
        self._engine.add(sequence)
        self._running.append(sequence)

    def step(self) -> list[Progress]:
        """One step of the engine; raises what a row failed with, or that one has ended."""
        progress = self._engine.step()
        for each in progress:
            if each.error is not None:
                raise each.error
            if each.finish is not None:
                raise RuntimeError(f"a row ended ({each.finish}) while it was measured")
        return progress

    def fill(self) -> None:
        """Step until every row has made a frame, and then until all is warm."""
        heard: set[Sequence] = set()
        while len(heard) < len(self._running):
            heard |= {each.sequence for each in self.step() if each.frame is not None}
        for _ in range(WARM_STEPS):
            self.step()

    def steady(self, steps: int) -> Steady:
        """Make so many steps of rows that are all there."""
        wait(self.device)
        before, began_s = self._positions(), time.perf_counter()
        made = sum(each.frame is not None for _ in range(steps) for each in self.step())
        wait(self.device)
        took_s = time.perf_counter() - began_s
        return Steady(made / took_s, (before + self._positions()) / 2, 1000 * took_s / steps)

    def leave(self) -> None:
        """Take every row out."""
        for sequence in self._running:
            self._engine.abort(sequence)
        self._running.clear()

    def _positions(self) -> int:
        return sum(sequence.prompt_tokens + sequence.frames for sequence in self._running)


def copy_gb_s(device: torch.device, mib: int = 256) -> float:
    """What the memory delivers, bytes read and written, in 1e9 a second; best of seven."""
    source = torch.ones(mib * 1024 * 1024 // 8, dtype=torch.float64, device=device)
    target = torch.empty_like(source)
    best_s = float("inf")
    for _ in range(7):
        wait(device)
        began_s = time.perf_counter()
        target.copy_(source)
        wait(device)
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * source.nbytes / best_s / 1e9


def wait(device: torch.device) -> None:
    """Wait for what `device` was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def give_back() -> None:
    """Return to the GPU what engines and tensors before this held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def decode(
    checkpoint: Checkpoint, contexts: list[int], steps: int, repeats: int, way: str
) -> list[Steady]:
    """Rows whose contexts are `contexts` halfway through `steps`; once for each repeat."""
    engine, found = Spoken(checkpoint, len(contexts), way), list[Steady]()
    for repeat in range(repeats):
        for row, context in enumerate(contexts):
            # One row joins in a step: those before it have made a frame in each since.
            said = len(contexts) - 1 - row + WARM_STEPS + steps // 2
            limit = 4 * len(contexts) + WARM_STEPS + steps + 32
            engine.add(max(1, context - said), limit, seed=1000 * repeat + row)
        try:
            engine.fill()
            found.append(engine.steady(steps))
        finally:
            engine.leave()
    return found


def median(found: list[Steady]) -> Steady:
    """The repeat in the middle by its speed."""
    return sorted(found, key=lambda each: each.frames_s)[(len(found) - 1) // 2]


def prompt_of(checkpoint: Checkpoint, tokens: int, seed: int) -> Prompt:
    """A reference of random codes, and text: so many tokens, or the fewest that those take."""
    shortest = _prompt(checkpoint, 1, seed)
    return _prompt(checkpoint, max(1, tokens - len(shortest) + 1), seed)


def _prompt(checkpoint: Checkpoint, frames: int, seed: int) -> Prompt:
    codec, generator = checkpoint.codec_config, torch.Generator().manual_seed(seed)
    size = min(codec.semantic_codebook_size, codec.residual_codebook_size)
    codes = torch.randint(size, (codec.num_codebooks, frames), generator=generator)
    reference = Reference("", codes)
    return Prompt.build(checkpoint.tokenizer, codec.num_codebooks, TEXT, [reference])
