"""Which CPUs the worker is pinned to, and pinning it."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backend.errors import BadSetting
from backend.hardware.affinity import CPUAffinityManager, format_cpus, parse_cpus
from backend.hardware.classify import TIERS
from backend.hardware.machine import Cpu
from tests.computers import I5, M1, cpu_of

ROOT = Path(__file__).parent.parent
MANAGER = CPUAffinityManager()
RYZEN = cpu_of("AMD Ryzen 5 5600X", 6, vendor="amd")
RYZEN_ON_LINUX = cpu_of("AMD Ryzen 5 5600X", 6, vendor="amd", siblings_apart=True)


@pytest.mark.parametrize(
    ("cpu", "tier", "threads", "cpus", "reason"),
    [
        (I5, "intel_i5", 2, (0, 2), "each performance core"),
        (cpu_of("i5-13600K", 14, efficiency=8), "intel_i5", 6, (0, 2, 4, 6, 8, 10), "performance"),
        (cpu_of("i7-11700"), "intel_high_end", 8, tuple(range(0, 16, 2)), "one logical CPU"),
        (cpu_of("i5-8400", 6, smt=False), "intel_i5", 6, (), "a core of its own"),
        (RYZEN, "amd_ryzen5", 6, (0, 2, 4, 6, 8, 10), "one logical CPU of each core"),
        (RYZEN_ON_LINUX, "amd_ryzen5", 6, (0, 1, 2, 3, 4, 5), "one logical CPU of each core"),
        (cpu_of("Ryzen", 6, topology=False), "amd_ryzen5", 6, (0, 2, 4, 6, 8, 10), "even"),
        (cpu_of("i5", 10, efficiency=8, topology=False), "intel_i5", 2, (0, 2), "even"),
        (cpu_of("Ryzen", 6, smt=False, topology=False), "amd_ryzen5", 6, (), "of its own"),
        (cpu_of("ARM", 4, topology=False), "generic_cpu", 4, (), "is not told"),
        (cpu_of("ARM", 4), "generic_cpu", 4, (0, 2, 4, 6), "one logical CPU of each core"),
        (cpu_of("big.LITTLE", 8, efficiency=4, smt=False), "generic_cpu", 4, (0, 1, 2, 3), "perf"),
        (cpu_of("EPYC", 2, smt=False), "generic_cpu", 2, (), "a core of its own"),
        (cpu_of("Cortex-A76", 4, smt=False), "raspberry_pi", 4, (), "nothing to gain"),
        (I5, "gpu_high", 2, (), "nothing to gain"),
        (M1, "m1_air", 4, (), "does not let a process choose"),
        (cpu_of("M1", 8, efficiency=4, smt=False), "m1_air", 4, (0, 1, 2, 3), "performance core"),
    ],
)
def test_the_rules(cpu: Cpu, tier: str, threads: int, cpus: tuple[int, ...], reason: str) -> None:
    choice = MANAGER.choose(cpu, TIERS[tier], threads)
    assert choice.value == cpus
    assert reason in choice.reason


def test_never_outside_of_what_is_allowed() -> None:
    cpu = cpu_of("i7", 8, allowed=(1, 2, 3, 6, 7))
    assert MANAGER.choose(cpu, TIERS["intel_high_end"], 3).value == (1, 2, 6)
    guessed = cpu_of("Ryzen", 6, topology=False, allowed=(0, 1, 2, 3))
    assert MANAGER.choose(guessed, TIERS["amd_ryzen5"], 2).value == (0, 2)


@pytest.mark.parametrize("threads", [3, 7, 12])
def test_never_fewer_than_threads(threads: int) -> None:
    for cpu, tier in ((I5, "intel_i5"), (RYZEN, "amd_ryzen5")):
        choice = MANAGER.choose(cpu, TIERS[tier], threads)
        assert not choice.value or len(choice.value) >= threads
    choice = MANAGER.choose(I5, TIERS["intel_i5"], threads)
    assert choice.value == () and f"{threads} threads want more" in choice.reason


def test_a_shared_container_is_not_pinned() -> None:
    choice = MANAGER.choose(cpu_of("i7", quota=4.0), TIERS["intel_high_end"], 4)
    assert choice.value == () and choice.source == "machine" and "quota" in choice.reason


def test_the_user_wins() -> None:
    tier = TIERS["intel_i5"]
    asked = MANAGER.choose(I5, tier, 2, "4-6,8")
    assert (asked.value, asked.source) == ((4, 5, 6, 8), "user")
    off = MANAGER.choose(I5, tier, 2, "off")
    assert (off.value, off.source) == ((), "user")


@pytest.mark.parametrize(
    ("cpu", "setting", "message"),
    [
        (I5, "0-12", "names 12: this process may run on 0-11 only"),
        (cpu_of("i7", allowed=(0, 1, 2, 3, 8)), "2-4", "names 4: this process may run on 0-3,8"),
        (I5, "1", "1 CPUs for 2 threads.*NUM_THREADS=1"),
        (I5, "3-1", "runs backwards"),
        (M1, "0-3", "does not let a process choose"),
    ],
)
def test_what_cannot_be_had_is_refused(cpu: Cpu, setting: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        MANAGER.choose(cpu, TIERS["intel_i5"], 2, setting)


def test_macos_logs_what_it_would_do() -> None:
    assert "(4 of 8)" in MANAGER.intent(M1, TIERS["m1_air"])
    assert MANAGER.intent(I5, TIERS["intel_i5"]) == ""
    assert MANAGER.intent(M1, TIERS["gpu_high"]) == ""


@pytest.mark.parametrize("text", ["0", "0-3,6", "1,3,5", "0-1,4-7,9"])
def test_lists_of_cpus(text: str) -> None:
    assert format_cpus(parse_cpus(text)) == text
    assert parse_cpus("6,0-3,2") == (0, 1, 2, 3, 6)


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system cannot pin")
def test_pinning_holds_for_threads_that_come_later() -> None:
    code = """
import threading, psutil
from backend.hardware.affinity import CPUAffinityManager
first = psutil.Process().cpu_affinity()[0]
assert CPUAffinityManager().apply((first,)) == ""
assert psutil.Process().cpu_affinity() == [first]
seen = []
def look():
    seen.append(psutil.Process(threading.get_native_id()).cpu_affinity())
thread = threading.Thread(target=look)
thread.start()
thread.join()
assert seen == [[first]], seen
import sys
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system cannot pin")
def test_a_failure_is_a_warning() -> None:
    before = psutil.Process().cpu_affinity()
    warning = MANAGER.apply((100_000,))
    assert "Not pinned to CPUs 100000" in warning
    assert psutil.Process().cpu_affinity() == before


def test_where_nobody_can_pin_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    assert "does not let a process choose" in MANAGER.apply((0,))
    assert MANAGER.apply(()) == ""
