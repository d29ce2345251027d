"""What the tests of monitoring share: a plan, figures of a request, a scripted machine and NVML."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loguru import logger

from backend.api.status import STATUS
from backend.core import Choice, Plan, Quantization, SpeechStats
from backend.monitoring.monitoring import Monitoring
from backend.monitoring.sample import Sample
from backend.monitoring.synthesis import SynthesisStart

GIB = 1024**3
UUID = "GPU-00000000-0000-0000-0000-000000000001"


def choice(value: Any) -> Choice[Any]:
    return Choice(value, "for the test")


def plan(tier: str = "gpu_high", device: str = "cuda:0") -> Plan:
    quantization: Choice[Quantization] = choice("none")
    return Plan(
        tier=tier,
        tier_reason="for the test",
        device=choice(device),
        device_uuid=UUID if device.startswith("cuda") else "",
        precision=choice("bf16"),
        quantization=quantization,
        compile=choice(False),
        num_threads=choice(4),
        cpu_affinity=choice(()),
        max_text_length=choice(2000),
        max_text_length_ceiling=2000,
        chunk_length=choice(200),
        max_batch=choice(16),
        cache_limit_mb=choice(1024),
        safety_margin_mb=1024,
        fast_mb=0,
        estimate_base_mb=2000.0,
        estimate_per_100_tokens_mb=50.0,
        estimate_cache_overhead_mb=100.0,
        calibration_samples=0,
        expected_rtf=0.8,
        expected_memory_gb=6.0,
        thermal_throttle_cpu_pct=None,
        notes=(),
        log_lines=(),
    )


def start(request_id: str = "r", **values: Any) -> SynthesisStart:
    defaults: dict[str, Any] = {
        "plan": plan(),
        "text_length": 1200,
        "spoken_length": 1200,
        "text_limit": 2000,
        "engine": "shoal/demo",
    }
    return SynthesisStart(request_id=request_id, **defaults | values)


def stats(**values: Any) -> SpeechStats:
    defaults: dict[str, Any] = {
        "prompt_tokens": 232,
        "frames": 1153,
        "generated_tokens": 1155,
        "audio_s": 23.0,
        "prefill_s": 2.0,
        "decode_s": 263.0,
        "first_audio_s": 4.0,
        "total_s": 290.0,
        "fish_bandwidth_gb_s": 3.89,
        "weight_read_gb_s": 4.2,
        "peak_memory_mb": 7800.0,
        "segments": 2,
        "finish_reasons": ("end", "frame_limit"),
    }
    return SpeechStats(**defaults | values)


class ScriptedReader:
    """A machine whose every look is one more per cent of GPU; it notes who looked."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.reads = 0
        self.error: OSError | None = None
        self.permits: threading.Semaphore | None = None
        """Where there are permits, each look waits for one."""
        self._delay_s = delay_s

    def open(self) -> None:
        self._note("open")

    def start(self) -> None:
        self._note("start")

    def read(self) -> Sample:
        self._note("read")
        if self.permits is not None:
            assert self.permits.acquire(timeout=30)
        self.reads += 1
        time.sleep(self._delay_s)
        if self.error is not None:
            raise self.error
        return Sample(
            at_s=time.time(),
            cpu_pct=50.0,
            memory_pct=40.0,
            gpu_memory_mb=1000.0 + self.reads,
            gpu_util_pct=float(self.reads),
            gpu_util_source="nvml",
            temperature_c=60.0,
        )

    def close(self) -> None:
        self._note("close")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.get_ident())


@asynccontextmanager
async def monitored(directory: Path | None, **values: Any) -> AsyncIterator[Monitoring]:
    """A server's monitoring of a scripted machine; `reader=None` is the real one."""
    defaults: dict[str, Any] = {
        "tier": "gpu_high",
        "device": "cuda:0",
        "device_uuid": UUID,
        "rotate_bytes": 1 << 20,
        "hardware_specs": {"gpu": "NVIDIA H200"},
        "statuses": {kind.code: int(status) for kind, status in STATUS.items()},
        "reader": ScriptedReader(),
    }
    async with Monitoring(directory=directory, **defaults | values) as it:
        yield it


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test; afterwards no task of its is left."""

    async def and_look() -> None:
        await work
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(and_look())


@contextmanager
def logged(level: str = "INFO") -> Iterator[list[str]]:
    """What is logged meanwhile, each line with its level in front."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level=level, format="{level} {message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


class NvmlFault(Exception):
    """What the faked library raises."""


class FakePynvml:
    """The module `pynvml` as one card answers it; `fails` names the calls that do not work."""

    NVMLError = NvmlFault
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, NVML_TEMPERATURE_THRESHOLD_GPU_MAX = 1, 3

    def __init__(self, *cards: dict[str, Any]) -> None:
        self.cards = cards or ({},)
        self.fails: set[str] = set()
        self.calls: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("nvmlInit")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._call("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.1"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._call("nvmlDeviceGetCount")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        self._call("nvmlDeviceGetHandleByIndex")
        return {"uuid": UUID, "busy": 12, "used": GIB, "temperature": 61} | self.cards[index]

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return str(handle["uuid"])

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return "Tesla V100-SXM2-16GB"

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        self._call("nvmlDeviceGetMemoryInfo")
        used = handle["used"]
        return SimpleNamespace(total=16 * GIB, free=16 * GIB - used, used=used)

    def nvmlDeviceGetCudaComputeCapability(self, handle: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        return 7, 0

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        self._call("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=handle["busy"], memory=0)

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> int:  # noqa: N802
        return int(handle["temperature"])

    def nvmlDeviceGetTemperatureThreshold(self, handle: dict[str, Any], kind: int) -> int:  # noqa: N802
        return {1: 95, 3: 93}[kind]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise NvmlFault(f"{name}: Driver/library version mismatch")
