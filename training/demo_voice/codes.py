"""What a checkpoint says, as codes, by an engine in this process."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt, Reference, frame_limit
from backend.engine.sequence import Sequence as Asked
from backend.model.checkpoint import Checkpoint


def asked(
    checkpoint: Checkpoint, text: str, seed: int, references: Sequence[Reference] = ()
) -> Asked:
    """`text` behind `references`, sampled as the server samples by default."""
    config = checkpoint.config
    prompt = Prompt.build(checkpoint.tokenizer, config.num_codebooks, text, references)
    sampling = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=seed)
    limit = frame_limit(text, checkpoint.codec_config.frame_rate_hz)
    return Asked(prompt, sampling, limit, config.max_seq_len)


def frames_of(engine: Engine, sequences: Sequence[Asked]) -> list[Tensor]:
    """Frames [F, N] of each, when all have ended; whether by itself says its `finish`."""
    made: dict[Asked, list[Tensor]] = {each: [] for each in sequences}
    for each in sequences:
        engine.add(each)
    while not engine.is_idle:
        for progress in engine.step():
            if progress.frame is not None:
                made[progress.sequence].append(progress.frame)
    books = engine.model.config.num_codebooks
    empty = torch.empty(0, books, dtype=torch.int64)
    return [torch.stack(frames).long() if frames else empty for frames in made.values()]
