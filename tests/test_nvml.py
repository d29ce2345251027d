"""NVML, faked at the boundary of the `pynvml` module only."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from backend import nvml
from backend.hardware import readings
from backend.hardware.detect import detect
from backend.hardware.readings import read_machine
from backend.nvml import Nvml, NvmlUnavailable

MIB = 2**20


class FakeError(Exception):
    """Stands for pynvml.NVMLError."""


class FakePynvml:
    """What `pynvml` answers: two cards, and errors where `fails` names a call and a card."""

    NVMLError = FakeError
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, NVML_TEMPERATURE_THRESHOLD_GPU_MAX = 1, 3

    def __init__(self, cards: int = 2) -> None:
        self.cards = cards
        self.fails: dict[tuple[str, int], str] = {}
        self.opened = self.closed = self.asked_thresholds = 0
        self.on_init: Callable[[], None] = lambda: None

    def _check(self, call: str, card: int) -> None:
        if (call, card) in self.fails:
            raise FakeError(self.fails[call, card])

    def nvmlInit(self) -> None:  # noqa: N802
        self.on_init()
        self._check("init", 0)
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._check("shutdown", 0)
        self.closed += 1

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.95.05"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("count", 0)
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self._check("handle", index)
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        self._check("memory", handle)
        return SimpleNamespace(total=24576 * MIB, free=20000 * MIB, used=4576 * MIB)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        self._check("capability", handle)
        return 8, 6

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        self._check("utilization", handle)
        return SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._check("temperature", handle)
        return 61

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, kind: int) -> int:  # noqa: N802
        self._check(f"threshold {kind}", handle)
        self.asked_thresholds += 1
        return {1: 95, 3: 93}[kind]

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}a"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return "NVIDIA GeForce RTX 3090"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePynvml:
    library = FakePynvml()
    monkeypatch.setattr(nvml, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return library


def test_reads_every_card(fake: FakePynvml) -> None:
    cards = Nvml.open().read()
    assert [(card.index, card.uuid) for card in cards] == [(0, "GPU-0a"), (1, "GPU-1a")]
    card = cards[0]
    assert (card.name, card.driver, card.capability) == (
        "NVIDIA GeForce RTX 3090",
        "580.95.05",
        (8, 6),
    )
    assert (card.total_bytes, card.free_bytes, card.used_bytes) == (
        24576 * MIB,
        20000 * MIB,
        4576 * MIB,
    )
    assert (card.utilization_pct, card.temperature_c) == (37.0, 61.0)


def test_a_card_throttles_where_its_driver_or_its_hardware_does(fake: FakePynvml) -> None:
    fake.fails["threshold 3", 1] = fake.fails["threshold 1", 1] = "Not Supported"
    connection = Nvml.open()
    assert [card.throttles_at_c for card in connection.read()] == [93.0, None]
    assert connection.read_card(0).throttles_at_c == 93.0
    assert fake.asked_thresholds == 2  # it does not change, and is not asked ten times a second
    fake.fails["threshold 3", 0] = "Not Supported"
    assert Nvml.open().read_card(0).throttles_at_c == 95.0


def test_what_a_card_does_not_tell_is_none(fake: FakePynvml) -> None:
    for call in ("capability", "utilization", "temperature"):
        fake.fails[call, 0] = "Not Supported"
    first, second = Nvml.open().read()
    assert (first.capability, first.utilization_pct, first.temperature_c) == (None, None, None)
    assert second.capability == (8, 6)


@pytest.mark.parametrize("call", ["handle", "memory"])
def test_a_card_that_does_not_answer_is_passed_over(fake: FakePynvml, call: str) -> None:
    fake.fails[call, 0] = "GPU is lost"
    assert [card.index for card in Nvml.open().read()] == [1]


@pytest.mark.parametrize(("call", "cards"), [("count", 2), ("handle", 1)])
def test_a_driver_that_stops_answering_says_so(fake: FakePynvml, call: str, cards: int) -> None:
    fake.cards = cards
    connection = Nvml.open()
    fake.fails[call, 0] = "GPU is lost"
    with pytest.raises(NvmlUnavailable, match="GPU is lost"):
        connection.read()


def test_no_card_is_no_problem(fake: FakePynvml) -> None:
    fake.cards = 0
    assert Nvml.open().read() == []


def test_open_says_why_not(fake: FakePynvml) -> None:
    fake.fails["init", 0] = "Driver Not Loaded"
    with pytest.raises(NvmlUnavailable, match="Driver Not Loaded") as caught:
        Nvml.open()
    assert not caught.value.is_package_missing


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "pynvml", None)
    with pytest.raises(NvmlUnavailable) as caught:
        Nvml.open()
    assert caught.value.is_package_missing
    assert read_machine().nvml_package_missing


def test_close_of_a_driver_that_is_gone(fake: FakePynvml) -> None:
    connection = Nvml.open()
    fake.fails["shutdown", 0] = "Uninitialized"
    connection.close()
    assert (fake.opened, fake.closed) == (1, 0)


def test_machine_is_read_with_its_cards(fake: FakePynvml) -> None:
    machine = read_machine()
    assert len(machine.gpus) == 2
    assert machine.gpu_traces == ()
    assert (fake.opened, fake.closed) == (1, 1), "the connection was left open"
    assert [gpu.uuid for gpu in detect(machine).gpus] == ["GPU-0a", "GPU-1a"]


def test_machine_is_read_with_the_drivers_own_words(fake: FakePynvml) -> None:
    fake.fails["init", 0] = "RM has detected an NVML/RM version mismatch."
    machine = read_machine()
    assert machine.gpus == ()
    assert machine.nvml_problem == "RM has detected an NVML/RM version mismatch."


def test_a_driver_that_hangs_does_not_hold_up_the_start(
    fake: FakePynvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    fake.on_init = lambda: assert_true(released.wait(30))
    monkeypatch.setattr(readings, "_NVML_TIMEOUT_S", 0.05)
    try:
        machine = read_machine()
    finally:
        released.set()
    assert machine.gpus == ()
    assert machine.nvml_problem == "the driver did not answer"


def assert_true(value: bool) -> None:
    assert value


def test_visible_devices_of_this_process(fake: FakePynvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in detect(read_machine()).gpus] == [1]
