"""Whether an error means that there is no memory left, and what is told of it."""

import torch

from backend.errors import EngineFailed, OutOfMemory


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it began with that: a graph that is given up in its midst raises once more.

    On the CPU torch raises a plain RuntimeError for it, known by its text only.
    """
    while error is not None:
        is_torchs = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
        if is_torchs or isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        error = error.__context__
    return False


def told_of(error: Exception) -> EngineFailed:
    """What is told of an error that is not meant for a user."""
    if is_out_of_memory(error):
        return OutOfMemory("There is not enough memory to speak this; try again later.")
    return EngineFailed(f"The engine failed: {type(error).__name__}: {error}")
