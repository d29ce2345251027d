"""How the C library is asked to give back what it keeps."""

import ctypes
import sys


def give_back() -> None:
    """Return memory that was freed to the system, where the C library keeps it for reuse: glibc
    does, in its arenas; musl and other systems have no such call."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
