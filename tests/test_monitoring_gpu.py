"""What the GPU tells, and what is logged and estimated where it does not."""

from collections.abc import Iterator
from typing import Any

import pytest

import backend.nvml
from backend.monitoring.gpu import (
    BusiestCard,
    GpuMeter,
    GpuState,
    WorkerMemory,
    busiest,
    estimate_utilization_pct,
)
from backend.nvml import Card, NvmlUnavailable
from tests.monitored import GIB, UUID, FakePynvml, logged

OTHER = UUID[:-1] + "2"


@pytest.fixture
def pynvml(monkeypatch: pytest.MonkeyPatch) -> FakePynvml:
    library = FakePynvml()
    monkeypatch.setattr(backend.nvml, "pynvml", library)
    return library


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with logged("DEBUG") as lines:
        yield lines


def meter(device: str = "cuda:0", uuid: str = UUID, **values: Any) -> GpuMeter:
    defaults: dict[str, Any] = {"worker": WorkerMemory(), "is_gpu_expected": False}
    _, _, number = device.partition(":")
    return GpuMeter(device, Card(uuid, int(number or 0)), **defaults | values)


def test_nvml_answers(pynvml: FakePynvml, lines: list[str]) -> None:
    gpu = meter()
    gpu.open()
    assert lines == [
        "INFO ✅ NVML initialized successfully - GPU monitoring enabled (current: 12%)\n"
    ]
    assert gpu.read() == GpuState(1024.0, 12.0, "nvml", 61.0)
    pynvml.cards = ({"busy": 38, "used": 2 * GIB, "temperature": 70},)
    assert gpu.read() == GpuState(2048.0, 38.0, "nvml", 70.0)
    gpu.close()
    assert pynvml.calls[-1] == "nvmlShutdown"


@pytest.mark.parametrize(
    ("device", "uuid", "busy_pct"),
    [("cuda:0", OTHER, 90.0), ("cuda:0", UUID, 5.0), ("cuda:1", "", 90.0), ("cuda", "", 5.0)],
)
def test_the_card_that_the_plan_chose(
    pynvml: FakePynvml, device: str, uuid: str, busy_pct: float
) -> None:
    pynvml.cards = ({"busy": 5}, {"busy": 90, "uuid": OTHER})
    gpu = meter(device, uuid)
    gpu.open()
    pynvml.calls.clear()
    assert gpu.read().util_pct == busy_pct
    assert pynvml.calls.count("nvmlDeviceGetHandleByIndex") == 1  # the other card is not asked
    gpu.close()


@pytest.mark.parametrize("fails", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"])
def test_nvml_does_not_answer(pynvml: FakePynvml, lines: list[str], fails: str) -> None:
    pynvml.fails = {fails}
    memory = WorkerMemory()
    gpu = meter(worker=memory)
    gpu.open()
    assert lines == [
        "WARNING ⚠️ NVML initialization failed - GPU utilization will show 0%: "
        f"{fails}: Driver/library version mismatch\n"
    ]
    assert gpu.read() == GpuState(None, 0.0, "estimate")
    memory.told(current_mb=3900.0, peak_mb=7800.0)
    assert gpu.read() == GpuState(3900.0, 50.0, "estimate")
    gpu.close()
    assert (pynvml.calls[-1] == "nvmlShutdown") == (fails != "nvmlInit")


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(backend.nvml, "pynvml", None)
    meter().open()
    assert lines == ["WARNING ⚠️ pynvml not installed - Install with: pip install nvidia-ml-py\n"]


@pytest.mark.parametrize(
    ("device", "is_gpu_expected", "level"),
    [("cpu", False, "DEBUG"), ("mps", False, "DEBUG"), ("cpu", True, "WARNING")],
)
def test_it_is_no_warning_where_no_gpu_should_be(
    pynvml: FakePynvml, lines: list[str], device: str, is_gpu_expected: bool, level: str
) -> None:
    pynvml.fails = {"nvmlInit"}
    gpu = meter(device, "", is_gpu_expected=is_gpu_expected)
    gpu.open()
    assert [line.split()[0] for line in lines] == [level]
    assert gpu.read() == GpuState()


def test_a_card_that_the_plan_does_not_use_is_not_watched(
    pynvml: FakePynvml, lines: list[str]
) -> None:
    gpu = meter("cpu", "")
    gpu.open()
    assert [line.split()[0] for line in lines] == ["DEBUG"]
    assert pynvml.calls[-1] == "nvmlShutdown"
    assert gpu.read() == GpuState()


def test_a_card_that_nvml_does_not_know(pynvml: FakePynvml, lines: list[str]) -> None:
    gpu = meter(uuid=OTHER)
    gpu.open()
    assert "will show 0%: it does not know GPU-" in lines[0]
    assert gpu.read().util_source == "estimate"


def test_nvml_stops_answering_and_comes_back(pynvml: FakePynvml, lines: list[str]) -> None:
    memory = WorkerMemory()
    memory.told(current_mb=100.0)
    gpu = meter(worker=memory)
    gpu.open()
    for _ in range(2):
        lines.clear()
        pynvml.fails = {"nvmlDeviceGetMemoryInfo"}
        assert [gpu.read() for _ in range(3)] == [GpuState(100.0, 100.0, "estimate")] * 3
        assert len(lines) == 1
        assert lines[0].startswith("WARNING NVML stopped answering")
        pynvml.fails = set()
        assert gpu.read().util_source == "nvml"
    gpu.close()


def test_a_part_of_a_card_has_no_utilization(pynvml: FakePynvml, lines: list[str]) -> None:
    pynvml.fails = {"nvmlDeviceGetUtilizationRates"}
    memory = WorkerMemory()
    memory.told(current_mb=200.0, peak_mb=800.0)
    gpu = meter(worker=memory)
    gpu.open()
    assert "(current: unknown)" in lines[0]
    assert gpu.read() == GpuState(1024.0, 25.0, "estimate", 61.0)
    gpu.close()


@pytest.mark.parametrize(
    ("current_mb", "peak_mb", "pct"), [(0, 0, 0), (5, 0, 0), (4, 8, 50), (8, 8, 100), (9, 8, 100)]
)
def test_the_changelogs_estimate(current_mb: float, peak_mb: float, pct: float) -> None:
    assert estimate_utilization_pct(current_mb, peak_mb) == pct


def test_the_workers_peak_only_grows() -> None:
    memory = WorkerMemory()
    memory.told(current_mb=500.0)
    memory.told(current_mb=100.0)
    assert (memory.current_mb, memory.peak_mb) == (100.0, 500.0)
    memory.told(peak_mb=900.0)
    memory.told(peak_mb=700.0)
    assert (memory.current_mb, memory.peak_mb) == (100.0, 900.0)


def test_of_several_cards_it_is_the_busiest_that_answers(pynvml: FakePynvml) -> None:
    pynvml.cards = ({"busy": 5}, {"busy": 90, "uuid": OTHER})
    cards = busiest([Card(UUID, 0), None, Card(OTHER, 1)])
    assert cards is not None
    gpu = GpuMeter("cuda:0", cards, WorkerMemory(), is_gpu_expected=True)
    gpu.open()
    assert gpu.read().util_pct == 90.0
    pynvml.cards = ({"busy": 12}, {"busy": 7, "uuid": OTHER})
    assert gpu.read().util_pct == 12.0
    gpu.close()
    alone = Card(UUID, 0)
    assert busiest([None, alone]) is alone
    assert busiest([None]) is None
    with pytest.raises(NvmlUnavailable):
        BusiestCard([]).read()
