"""Memory that is really taken away from a real server: by the kernel, a limit, a neighbour."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.inside import Limit, limited
from tests.e2e.serving import Served, serving

if sys.platform == "linux":
    import resource
else:
    pytest.skip("limits like these are Linux's", allow_module_level=True)

TAKEN_BYTES = 64 * 1024 * 1024
"""Of addresses: what was freed keeps its own, and is used again without asking."""
TEXT = {
    "text": 4 * "The old lighthouse keeper climbed the stairs, and lit the lamp for the ships. ",
    "long_text": "split",
}
LOOK_S = 60.0
ROOMY_MB = 1024
HOG = """
import sys
held = bytearray(int(sys.argv[1]) << 20)
held[::4096] = b"x" * len(held[::4096])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of its own: what it learns of its memory is no other test's."""
    with serving(SHOAL_RESTART_DELAY_S="0.05") as server:
        yield server


def grouped(limit_mb: int) -> Any:
    """A cgroup, where one can be made."""

    @contextmanager
    def group() -> Iterator[Limit]:
        with limited(limit_mb) as limit:
            if limit.group is None:
                pytest.skip("no cgroup can be made here")
            yield limit

    return group()


def ladder_of(served: Served) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{served.url}/system-status").json()["memory_ladder"]
    return told


def restarts(served: Served) -> int:
    number: int = httpx.get(f"{served.url}/health").json()["worker"]["restarts"]
    return number


def speak(served: Served) -> httpx.Response:
    return httpx.post(f"{served.url}/tts", data=TEXT, timeout=LOOK_S)


def test_the_kernel_kills_the_worker_under_a_sentence_that_is_then_spoken(served: Served) -> None:
    with grouped(512) as limit:
        assert limit.group is not None
        (limit.group / "cgroup.procs").write_text(str(served.worker().pid))
        limit.become(1)  # what it has counts for the group it was taken in; what it takes, here
        answer = speak(served)
        assert limit.kernel_says()["oom_kills"] == 1
    assert answer.status_code == 200, answer.text
    assert "begun again with a quarter of the rows" in answer.headers["X-Warning"]
    assert restarts(served) == 1
    ladder = ladder_of(served)
    assert (ladder["level"], ladder["steps_down"]) == (1, 1)
    assert "out of memory" in ladder["reason"]


def test_a_kill_that_is_no_want_of_memory_takes_no_step(served: Served) -> None:
    served.worker().kill()
    deadline_s = time.monotonic() + LOOK_S
    while speak(served).status_code != 200:
        assert time.monotonic() < deadline_s
    assert restarts(served) == 1
    assert ladder_of(served)["level"] == 0


def test_a_worker_that_gets_no_more_memory_is_loaded_anew_in_the_end(served: Served) -> None:
    worker = served.worker()
    has = worker.memory_info().vms
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (has - TAKEN_BYTES, has - TAKEN_BYTES))
    answer = speak(served)
    assert answer.status_code == 200, answer.text
    assert "memory ran short" in answer.headers["X-Warning"]
    assert ladder_of(served)["level"] >= 1
    assert not worker.is_running(), "the bound was that process's own"
    assert speak(served).status_code == 200


def test_a_neighbour_takes_the_memory_and_gives_it_back() -> None:
    with grouped(ROOMY_MB) as limit:
        command = limit.command(sys.executable, "-m", "backend.cli", "serve")
        with serving(*command) as served:
            assert speak(served).status_code == 200
            free_mb = httpx.get(f"{served.url}/system-status").json()["resources"][
                "memory_available_mb"
            ]
            size_mb = str(free_mb - 8)
            hog = subprocess.Popen(
                limit.command(sys.executable, "-c", HOG, size_mb),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert hog.stdout is not None
                assert hog.stdout.readline() == "held\n"
                deadline_s = time.monotonic() + LOOK_S
                while (ladder := ladder_of(served))["step"] is None:
                    assert time.monotonic() < deadline_s
                assert ladder["reason"] == "other programs have taken the memory"
                refused = speak(served)
                # Where a few words would still fit, the answer says how many.
                assert refused.status_code in (200, 413, 503), refused.text
                if refused.status_code == 413:
                    assert "that are free; send at most" in refused.json()["detail"]
            finally:
                hog.communicate("")
            deadline_s = time.monotonic() + LOOK_S
            while speak(served).status_code != 200:
                assert time.monotonic() < deadline_s
            assert limit.kernel_says()["oom_kills"] == 0
            assert psutil.pid_exists(served.process.pid)
