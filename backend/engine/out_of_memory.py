"""Whether an error means that there is no memory left."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """On the CPU torch raises a plain RuntimeError for it, known by its text only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
