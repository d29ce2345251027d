"""Makes the worker's memory predictable. No torch: it must be called before that is imported."""

import ctypes
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from backend.core import MIB

ONEDNN_PRIMITIVES = "512"
"""Compiled kernels that oneDNN keeps. The codec's five piece sizes need some 320 of them at the
size of openaudio-s1-mini, each number of rows some ten. In bfloat16 each new prompt length adds
five of half a megabyte: the default, 1024, lets those grow by 400 MB more before it forgets any."""
OWN_MAPPING_BYTES = 4 * MIB
"""Tensors of this size get memory of their own, which the system has back when they go. By default
glibc raises the figure to 32 MB at the first large tensor that is freed and then keeps the heap's
holes: at full size 250 MB more after one sentence."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
EXPANDABLE = "expandable_segments:True"
"""Memory of a GPU lies in ranges that grow, in which what is freed joins its neighbours. Else rows
of keys and values, which are of all lengths, leave holes that fit nobody: 128 of
openaudio-s1-mini's made an H100 give 3.3 GB more."""
_CUDA_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The second is the name that older versions of torch know."""
_M_MMAP_THRESHOLD = -3


def keep_memory_predictable(
    environment: MutableMapping[str, str] = os.environ, huge_pages: Path = HUGE_PAGES
) -> None:
    """Bound what libraries keep for reuse; what `environment` says already stays as it is."""
    environment.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", ONEDNN_PRIMITIVES)
    if sys.platform == "linux" and not any(name in environment for name in _CUDA_ALLOCATOR):
        environment.update(dict.fromkeys(_CUDA_ALLOCATOR, EXPANDABLE))
    if "MALLOC_MMAP_THRESHOLD_" in environment or not _has_huge_pages(huge_pages):
        return
    libc = _libc()
    if libc is not None:
        # Fresh memory is cleared page by page, which in small pages makes the codec half as fast.
        environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        libc.mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


def _has_huge_pages(path: Path) -> bool:
    try:
        return "[never]" not in path.read_text("ascii")
    except OSError:
        return False


def _libc() -> Any:
    """glibc; None on other systems, and where there is another C library."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
