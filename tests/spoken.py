"""What an engine says, asked step by step. Nothing here sets the number of threads."""

import torch
from torch import Tensor

from backend.engine.engine import Engine, Progress
from backend.engine.sequence import Sequence


def drain(engine: Engine, *sequences: Sequence) -> list[Progress]:
    """Speak `sequences`, and whatever the engine has begun, to the end."""
    for each in sequences:
        engine.add(each)
    progress: list[Progress] = []
    while not engine.is_idle:
        progress += engine.step()
    return progress


def frames_of(progress: list[Progress]) -> dict[Sequence, Tensor]:
    """The frames [T, N] that each sequence made."""
    frames: dict[Sequence, list[Tensor]] = {}
    for each in progress:
        if each.frame is not None:
            frames.setdefault(each.sequence, []).append(each.frame)
    return {each: torch.stack(made) for each, made in frames.items()}
