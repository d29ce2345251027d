"""What is free now: read beside the loop, together with what the worker had at that moment."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import backend.nvml
from backend import thermometer
from backend.core import MIB, EngineInfo
from backend.hardware import usage as usage_module
from backend.hardware.machine import Memory
from backend.hardware.memory import MemoryNow
from backend.hardware.usage import MachineUsage
from backend.nvml import STALE_S, Card, NvmlUnavailable, WatchedCard
from backend.thermometer import Heat
from backend.watch import IDLE_S, Look
from tests.monitored import GIB, UUID, FakePynvml, plan
from tests.sensors import hwmon
from tests.test_hardware_plans_of_machines import HARDWARE

WAIT_S = 30.0
TOTAL = 16 * GIB


class Worker:
    """What is known of the worker, as the lane tells it."""

    def __init__(self) -> None:
        self.info: EngineInfo | None = None
        self.held_bytes = 0

    def __call__(self) -> tuple[EngineInfo | None, int]:
        return self.info, self.held_bytes

    def loads(self, memory_mb: float) -> None:
        self.info = EngineInfo(
            *("scripted", "c", "cuda:0", "bf16", 8000, 80, 1, 1, 4, 100, 80, 30.0, ("en",)),
            *("none", 1),
            memory_mb=memory_mb,
            load_s=0.0,
        )


class Driver(FakePynvml):
    """NVML on one card, which can be made to hang."""

    def __init__(self) -> None:
        super().__init__({"used": 4 * GIB})
        self.threads: set[int] = set()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.hangs = threading.Event()

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        self.threads.add(threading.get_ident())
        if not self.goes_on.is_set():
            self.hangs.set()
            self.goes_on.wait(WAIT_S)
        return super().nvmlDeviceGetMemoryInfo(handle)

    def uses(self, used: int) -> None:
        self.cards = ({"used": used},)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    library = Driver()
    monkeypatch.setattr(backend.nvml, "pynvml", library)
    monkeypatch.setattr(backend.nvml, "INTERVAL_S", 0.0)
    yield library
    library.goes_on.set()


def with_card(worker: Worker, free_bytes: int = 9 * GIB) -> MachineUsage:
    found = HARDWARE["rtx_3060_8gb"]
    (gpu,) = found.gpus
    gpu = replace(gpu, uuid=UUID, free_bytes=free_bytes)
    return MachineUsage(plan(), replace(found, gpus=(gpu,)), worker)


def read_once(live: MachineUsage) -> None:
    """Take a reading of the card in this thread, as the watch does in its own."""
    assert live.card is not None
    live.card._watch._latest = Look(live.card._look(), live.card._watch._clock())


def test_until_a_driver_answers_it_is_what_was_detected(driver: Driver) -> None:
    worker = Worker()
    live = with_card(worker)
    assert live.memory() == MemoryNow(9 * GIB, 0, 0)
    worker.loads(1024)
    assert live.memory() == MemoryNow(8 * GIB, GIB, GIB)  # it has taken its part since
    assert live.load()["gpu_memory_free_mb"] is None
    assert driver.calls == []


def test_a_reading_holds_what_the_worker_had_then(driver: Driver) -> None:
    """An old reading beside what the worker has now would count its growth as free memory."""
    worker = Worker()
    live = with_card(worker)
    worker.loads(1024)
    worker.held_bytes = GIB
    read_once(live)
    assert live.memory() == MemoryNow(12 * GIB, GIB, GIB)
    driver.uses(7 * GIB)
    worker.held_bytes = 4 * GIB
    assert live.memory() == MemoryNow(12 * GIB, GIB, GIB)
    read_once(live)
    assert live.memory() == MemoryNow(9 * GIB, 4 * GIB, GIB)


def test_a_worker_that_came_or_went_since_has_its_own_memory_only(driver: Driver) -> None:
    worker = Worker()
    live = with_card(worker)
    read_once(live)  # 12 GiB are free, and no worker is there
    worker.loads(3 * 1024)
    assert live.memory() == MemoryNow(9 * GIB, 3 * GIB, 3 * GIB)
    driver.uses(9 * GIB)
    worker.held_bytes = 5 * GIB
    read_once(live)
    worker.info, worker.held_bytes = None, 0  # it died
    assert live.memory() == MemoryNow(12 * GIB, 0, 0)
    worker.loads(100 * 1024)  # more than there is
    assert live.memory().free_bytes == 0


def test_a_driver_that_hangs_keeps_one_thread_and_nobody_waiting(driver: Driver) -> None:
    worker = Worker()
    now_s = [100.0]
    card = WatchedCard(Card(UUID), worker, clock=lambda: now_s[0])
    live = with_card(worker)
    live.card = card
    assert card.first().free_bytes == 12 * GIB
    driver.goes_on.clear()
    card.read()
    assert driver.hangs.wait(WAIT_S)
    threads = threading.active_count()
    for _ in range(100):
        assert live.load()["gpu_memory_free_mb"] == 12 * 1024
        assert live.memory().free_bytes == 12 * GIB
    now_s[0] += STALE_S + 1
    for _ in range(100):
        assert live.load()["gpu_memory_free_mb"] is None
        assert live.memory().free_bytes == 12 * GIB  # the last that is known
        with pytest.raises(NvmlUnavailable, match="does not answer"):
            card.read()
    assert threading.active_count() == threads
    assert len(driver.threads) == 1
    assert threading.get_ident() not in driver.threads
    live.close()


def test_a_driver_that_hangs_from_the_start(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.nvml, "_FIRST_S", 0.01)
    driver.goes_on.clear()
    live = with_card(Worker())
    assert live.card is not None
    with pytest.raises(NvmlUnavailable, match="does not answer"):
        live.card.first()
    assert live.memory().free_bytes == 9 * GIB
    live.close()


def test_a_driver_that_fails_leaves_the_last_reading(driver: Driver) -> None:
    live, now_s = with_card(Worker()), [100.0]
    live.card = WatchedCard(Card(UUID), live._worker, clock=lambda: now_s[0])
    read_once(live)
    driver.fails = {"nvmlDeviceGetMemoryInfo"}
    read_once(live)
    assert live.load()["gpu_memory_free_mb"] is None
    assert live.memory().free_bytes == 12 * GIB
    driver.fails = set()
    asked = len(driver.calls)
    read_once(live)
    assert live.load()["gpu_memory_free_mb"] is None
    assert len(driver.calls) == asked  # not ten times a second
    now_s[0] += IDLE_S
    read_once(live)
    assert live.load()["gpu_memory_free_mb"] == 12 * 1024


def test_main_memory_is_read_beside_the_loop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    def read() -> Memory:
        threads.add(threading.get_ident())
        return Memory(TOTAL, TOTAL, 5 * GIB, "machine")

    monkeypatch.setattr(usage_module, "read_memory", read)
    monkeypatch.setattr(usage_module, "resident_bytes", lambda pid: 700 * MIB if pid else 0)
    worker = Worker()
    found = HARDWARE["rtx_3060_8gb"]
    live = MachineUsage(plan("generic_cpu", "cpu"), found, worker, lambda: 1)
    assert live.memory().free_bytes == found.memory.available_bytes
    worker.loads(500)
    live.start()
    assert live._memory.first(WAIT_S) is not None
    assert live.memory() == MemoryNow(5 * GIB, 700 * MIB, 500 * MIB)
    assert live.load()["memory_available_mb"] == 5 * 1024
    assert threading.get_ident() not in threads
    live.close()


def test_what_a_worker_had_while_it_loaded_is_not_missed_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For up to two seconds after that, requests were refused that fitted."""
    monkeypatch.setattr(
        usage_module, "read_memory", lambda: Memory(TOTAL, TOTAL, 5 * GIB, "machine")
    )
    monkeypatch.setattr(usage_module, "resident_bytes", lambda pid: 400 * MIB if pid else 0)
    worker, found = Worker(), HARDWARE["rtx_3060_8gb"]
    live = MachineUsage(plan("generic_cpu", "cpu"), found, worker, lambda: 1)
    live.start()
    assert live._memory.first(WAIT_S) is not None
    live.close()
    worker.loads(500)
    assert live.memory() == MemoryNow(5 * GIB - 100 * MIB, 500 * MIB, 500 * MIB)


def test_the_heat_of_a_gpu_is_its_own(driver: Driver) -> None:
    live = with_card(Worker())
    assert live.heat() is None  # nobody has answered yet
    read_once(live)
    assert live.heat() == Heat("Tesla V100-SXM2-16GB", 61.0, 93.0)
    driver.fails = {"nvmlDeviceGetMemoryInfo"}
    read_once(live)
    assert live.heat() is None


@pytest.mark.parametrize(
    ("machine", "point_c"), [("amd_ryzen5_3600", 100.0), ("raspberry_pi_4_4gb", 80.0)]
)
def test_the_heat_of_a_cpu_is_read_beside_the_loop_and_not_when_it_hangs(
    machine: str, point_c: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thermometer, "SYS", tmp_path)
    hwmon(tmp_path, 0, "cpu_thermal", "71500", critical="100000")
    live = MachineUsage(plan("generic_cpu", "cpu"), HARDWARE[machine], Worker())
    assert live.heat() is None
    live.start()
    look = live._heat.first(WAIT_S)
    assert look is not None and look.value == Heat("cpu_thermal", 71.5, point_c)
    assert live.heat() == look.value
    live.close()
    live._heat._thread.join(WAIT_S)
    later_s = live._heat._clock() + usage_module.HEAT_STALE_S + 1
    live._heat._clock = lambda: later_s
    assert live.heat() is None


def test_where_nothing_tells_of_heat_nothing_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thermometer, "SYS", tmp_path)
    live = MachineUsage(plan("generic_cpu", "cpu"), HARDWARE["amd_ryzen5_3600"], Worker())
    live.start()
    assert not live._heat._thread.is_alive()
    assert live.heat() is None
    live.close()
