"""How much memory the worker takes, has taken, and may take for keys and values."""

import contextlib
import sys
from pathlib import Path

import psutil
import torch

from backend.core import MIB
from backend.heap import give_back

if sys.platform != "win32":
    import resource

_CLEAR_REFS = Path("/proc/self/clear_refs")
"""Where 5 is written, Linux forgets the process's peak."""
_CACHE_SHARE = 0.5
"""Of the memory that is free once the weights are loaded. The rest is for activations, for the
codec, for the moment in which a layer's cache grows, and for others."""


def held_of_gpu_bytes(device: torch.device) -> int:
    """What torch holds of a GPU's memory, in use or kept for reuse; 0 on other devices."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


def used_bytes(device: torch.device) -> int:
    """Memory this process takes now: what torch holds of a GPU, else resident memory."""
    return held_of_gpu_bytes(device) or int(psutil.Process().memory_info().rss)


def give_back_unused(device: torch.device) -> None:
    """Return memory that is kept for reuse to the system, as far as the allocator can."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back()


def reset_peak(device: torch.device) -> None:
    """Let `peak_mb` begin anew, when a worker that was idle begins to speak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        # A sandbox may forbid it: then the peak stays that of the process.
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text("5", "ascii")


def peak_mb(device: torch.device) -> float:
    """The most memory taken since `reset_peak`, in MiB: tensors on a GPU, else resident memory.

    Windows and macOS tell the most since the process began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def cache_budget_bytes(device: torch.device) -> int:
    """Bytes that keys and values may take where no plan has said so, as a server's always does."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _CACHE_SHARE)
    return int(psutil.virtual_memory().available * _CACHE_SHARE)
