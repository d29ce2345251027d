"""A tiny engine to try things on, and the plain, slow computation it must agree with."""

import functools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt, Reference
from backend.engine.sequence import Sequence
from backend.model.checkpoint import Checkpoint, load_checkpoint
from tests.spoken import drain, frames_of
from tests.tiny import tiny_checkpoint

torch.set_num_threads(1)  # over matrices this small a second thread only waits

GREEDY = SamplingParams(temperature=0.0, top_p=1.0, repetition_penalty=1.0)


@functools.cache
def tiny(end_scale: float = 0.0) -> Checkpoint:
    """A random checkpoint; with `end_scale` 0 its greedy sequences never end by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        return load_checkpoint(tiny_checkpoint(Path(folder), end_scale=end_scale))


def prompt(text: str, reference_frames: int = 0) -> Prompt:
    """A prompt of the tiny checkpoint, with a reference of random codes if frames are asked for."""
    checkpoint = tiny()
    books = checkpoint.config.num_codebooks
    references = []
    if reference_frames:
        generator = torch.Generator().manual_seed(reference_frames)
        codes = torch.randint(0, 64, (books, reference_frames), generator=generator)
        references.append(Reference("A voice.", codes))
    return Prompt.build(checkpoint.tokenizer, books, text, references)


def sequence(
    text: str, sampling: SamplingParams = GREEDY, frames: int = 12, reference_frames: int = 0
) -> Sequence:
    """A sequence that is stopped after so many frames."""
    return Sequence(prompt(text, reference_frames), sampling, frames, tiny().config.max_seq_len)


def run(engine: Engine, *sequences: Sequence) -> dict[Sequence, Tensor]:
    """Speak `sequences` together to the end: the frames [T, N] of each."""
    return frames_of(drain(engine, *sequences))


@torch.inference_mode()
def slow_greedy(asked: Prompt, count: int, penalty: float = 1.0) -> Tensor:
    """What the engine must answer, everything computed anew for each code: frames [count, N]."""
    model, config = tiny().model, tiny().config
    tokens, codes = asked.tokens, asked.codes
    made: list[Tensor] = []

    def best(logits: Tensor, book: int) -> int:
        for code in {int(frame[book]) for frame in made[-16:]}:
            logits[code] = logits[code] * penalty if logits[code] < 0 else logits[code] / penalty
        return int(logits.argmax())

    for _ in range(count):
        hidden = model.slow(tokens[None], codes[None])[:, -1]
        frame = torch.zeros(config.num_codebooks, dtype=torch.int64)
        frame[0] = best(model.slow_logits(hidden)[0], 0)
        assert frame[0] != model.end_column
        for book in range(1, config.num_codebooks):
            logits = model.fast(hidden, frame[None])[0, book]
            frame[book] = best(logits[: config.residual_codebook_size], book)
        made.append(frame)
        tokens = torch.cat((tokens, frame[:1] + model.semantic_begin_id))
        codes = torch.cat((codes, frame[None]))
    return torch.stack(made)
