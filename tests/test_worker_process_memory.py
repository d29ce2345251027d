"""What the worker says of its memory, and what it does to keep it predictable."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.core import MIB, SamplingParams
from backend.worker import allocator, loop, process_memory
from backend.worker.allocator import keep_memory_predictable
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import Done, FromWorker, Shutdown, Speak
from backend.worker.process_memory import peak_mb, reset_peak, used_bytes
from tests.test_worker_loop import loaded

CPU = torch.device("cpu")
BIG = 200 * MIB // 4
"""float32 elements of 200 MiB."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")


@linux
def test_the_peak_is_that_since_it_was_reset() -> None:
    torch.ones(2 * BIG)
    reset_peak(CPU)
    idle_mb = used_bytes(CPU) / MIB
    assert peak_mb(CPU) < idle_mb + 50
    torch.ones(BIG)
    assert idle_mb + 150 < peak_mb(CPU) < idle_mb + 300


@linux
def test_where_the_system_forbids_it_the_peak_is_the_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_memory, "_CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    torch.ones(BIG)
    before = peak_mb(CPU)
    reset_peak(CPU)
    assert peak_mb(CPU) >= before


def test_what_is_used_is_resident_memory() -> None:
    before = used_bytes(CPU)
    held = torch.ones(BIG)
    assert 190 < (used_bytes(CPU) - before) / MIB < 250
    assert held.numel() == BIG


def test_the_peak_begins_anew_when_an_idle_worker_begins_to_speak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two requests side by side, then a third alone."""
    resets: list[torch.device] = []
    monkeypatch.setattr(loop, "reset_peak", resets.append)
    done: list[str] = []

    def send(*messages: FromWorker) -> None:
        for message in messages:
            if isinstance(message, Done):
                done.append(message.request_id)
                if len(done) == 2:
                    worker.deliver(Speak("third", "Three.", SamplingParams(seed=3)))
                elif len(done) == 3:
                    worker.deliver(Shutdown())

    worker = WorkerLoop(loaded(), Inbox(), send)
    worker.deliver(Speak("first", "One.", SamplingParams(seed=1)))
    worker.deliver(Speak("second", "Two.", SamplingParams(seed=2)))
    worker.run()
    assert len(done) == 3
    assert resets == [CPU, CPU]


@pytest.fixture
def huge_pages(tmp_path: Path) -> Path:
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n", "ascii")
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What glibc is told, instead of telling this process's."""
    calls: list[tuple[int, int]] = []

    class Libc:
        @staticmethod
        def mallopt(option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(allocator, "_libc", Libc)
    return calls


def test_libraries_are_told_what_to_keep(huge_pages: Path, told: list[tuple[int, int]]) -> None:
    environment: dict[str, str] = {}
    keep_memory_predictable(environment, huge_pages)
    assert environment == {
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "THP_MEM_ALLOC_ENABLE": "1",
    }
    assert told == [(-3, 4 * MIB)]


@pytest.mark.parametrize("content", ["always madvise [never]\n", None])
def test_without_huge_pages_the_heap_stays_as_it_is(
    huge_pages: Path, told: list[tuple[int, int]], content: str | None
) -> None:
    huge_pages.unlink()
    if content is not None:
        huge_pages.write_text(content, "ascii")
    environment: dict[str, str] = {}
    keep_memory_predictable(environment, huge_pages)
    assert "THP_MEM_ALLOC_ENABLE" not in environment
    assert told == []


def test_what_a_user_has_set_stays(huge_pages: Path, told: list[tuple[int, int]]) -> None:
    environment = {
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    given = dict(environment)
    keep_memory_predictable(environment, huge_pages)
    assert environment == given
    assert told == []


HOLES = """
import ctypes, os, pathlib, sys
from backend.worker.allocator import keep_memory_predictable

pages = pathlib.Path(sys.argv[1])
if sys.argv[2] == "kept":
    keep_memory_predictable(os.environ, pages)
assert "torch" not in sys.modules
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def block(mib):
    address = libc.malloc(mib << 20)
    ctypes.memset(address, 1, mib << 20)
    return address

def resident():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024

libc.free(block(24))  # from now on glibc's own rule puts 24 MB into the heap
before, large, small = resident(), block(20), block(1)
libc.free(large)  # not the heap's end: `small` lies behind it
print(resident() - before)
"""


@linux
@pytest.mark.parametrize(("how", "most_mib"), [("kept", 5), ("default", 30)])
def test_a_large_tensor_leaves_no_hole(huge_pages: Path, how: str, most_mib: int) -> None:
    if allocator._libc() is None:
        pytest.skip("another C library than glibc")
    command = [sys.executable, "-c", HOLES, str(huge_pages), how]
    left = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert left <= most_mib
    if how == "default":
        assert left >= 15, "glibc keeps no holes any more: the allocator room may go"
