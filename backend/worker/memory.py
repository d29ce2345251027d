"""How much memory the worker takes, has taken, and may take for keys and values."""

import sys

import psutil
import torch

if sys.platform != "win32":
    import resource

_MIB = 1024 * 1024
_CACHE_SHARE = 0.5
"""Of the memory that is free once the weights are loaded. The rest is for activations, for the
codec, for the moment in which a layer's cache grows, and for others."""


def resident_mb() -> float:
    """Resident memory of this process now, in MiB."""
    return float(psutil.Process().memory_info().rss) / _MIB


def peak_mb(device: torch.device) -> float:
    """The most memory this process has taken, in MiB: the device's on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def cache_budget_bytes(device: torch.device) -> int:
    """Bytes that keys and values may take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _CACHE_SHARE)
    return int(psutil.virtual_memory().available * _CACHE_SHARE)
