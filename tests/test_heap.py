"""Where threads take memory from: as glibc tells it, in a process of its own."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc"
)
TAKEN = """
import ctypes, threading
from backend.heap import use_one_arena

if {is_one}:
    use_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(3)

def take():
    together.wait()
    assert libc.malloc(1024)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(3)]
for each in threads:
    each.start()
for each in threads:
    each.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize("is_one", [True, False])
def test_threads_share_one_arena(is_one: bool) -> None:
    command = [sys.executable, "-c", TAKEN.format(is_one=is_one)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert (told.count("<heap nr=") == 1) is is_one
