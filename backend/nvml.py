"""NVIDIA's management library through `nvidia-ml-py`: what a GPU is, and what it is doing now.

The only place that imports `pynvml`: detection reads cards here once, memory and monitoring again
and again. Every call is quick (well under 10 ms) but blocking.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

try:
    import pynvml
except ImportError:  # an installation without it still speaks, and says what is missing
    pynvml = None


class NvmlUnavailable(Exception):
    """The driver, or the package that asks it, does not answer. Never fatal: say so and go on."""

    def __init__(self, message: str, is_package_missing: bool = False) -> None:
        super().__init__(message)
        self.is_package_missing = is_package_missing


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One card at one moment; None is what it does not tell."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    used_bytes: int
    capability: tuple[int, int] | None
    driver: str
    utilization_pct: float | None
    temperature_c: float | None


class Nvml:
    """An open connection to the driver; `open` raises `NvmlUnavailable` with the reason."""

    def __init__(self, library: Any, driver: str) -> None:
        self._library, self._driver = library, driver

    @classmethod
    def open(cls) -> Self:
        """Connect to the driver."""
        if pynvml is None:
            raise NvmlUnavailable("pynvml not installed", is_package_missing=True)
        try:
            pynvml.nvmlInit()
            return cls(pynvml, _text(pynvml.nvmlSystemGetDriverVersion()))
        except pynvml.NVMLError as error:
            raise NvmlUnavailable(str(error)) from error

    def close(self) -> None:
        """Disconnect; a driver that is gone already is no matter."""
        with suppress(self._library.NVMLError):
            self._library.nvmlShutdown()

    def read(self) -> list[GpuReading]:
        """Every card that answers now; `NvmlUnavailable` if the driver, or all of them, do not."""
        cards: list[GpuReading] = []
        silent: list[str] = []
        try:
            count = self._library.nvmlDeviceGetCount()
        except self._library.NVMLError as error:
            raise NvmlUnavailable(str(error)) from error
        for index in range(count):
            try:
                cards.append(self._read(index))
            except self._library.NVMLError as error:  # lost, or not this container's: others work
                silent.append(str(error))
        if silent and not cards:
            raise NvmlUnavailable(silent[0])
        return cards

    def read_card(self, index: int) -> GpuReading:
        """One card now: what monitoring asks ten times a second on a host with many."""
        try:
            return self._read(index)
        except self._library.NVMLError as error:
            raise NvmlUnavailable(str(error)) from error

    def _read(self, index: int) -> GpuReading:
        library = self._library
        handle = library.nvmlDeviceGetHandleByIndex(index)
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        capability = self._optional(library.nvmlDeviceGetCudaComputeCapability, handle)
        busy = self._optional(library.nvmlDeviceGetUtilizationRates, handle)
        sensor = library.NVML_TEMPERATURE_GPU
        degrees = self._optional(library.nvmlDeviceGetTemperature, handle, sensor)
        return GpuReading(
            index=index,
            uuid=_text(library.nvmlDeviceGetUUID(handle)),
            name=_text(library.nvmlDeviceGetName(handle)),
            total_bytes=int(memory.total),
            free_bytes=int(memory.free),
            used_bytes=int(memory.used),
            capability=None if capability is None else (int(capability[0]), int(capability[1])),
            driver=self._driver,
            utilization_pct=None if busy is None else float(busy.gpu),
            temperature_c=None if degrees is None else float(degrees),
        )

    def _optional(self, call: Any, *arguments: Any) -> Any:
        """What `call` answers, None where this card cannot tell."""
        try:
            return call(*arguments)
        except self._library.NVMLError:
            return None


def _text(value: str | bytes) -> str:
    """Older releases of the package answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value
