"""How the C library is asked to keep little of what was freed."""

import ctypes
import sys

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def use_one_arena() -> None:
    """Let threads that begin from now on take memory where all do, in glibc.

    It gives each an arena of its own, of whose end `give_back` returns nothing: a MB each, of as
    many threads as ever worked at once. A process whose threads mostly wait for each other in
    Python wins nothing by that.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return memory that was freed to the system, where the C library keeps it for reuse: glibc
    does, in its arenas; musl and other systems have no such call."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
