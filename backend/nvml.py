"""NVIDIA's management library through `nvidia-ml-py`: what a GPU is, and what it is doing now.

The only place that imports `pynvml`: detection reads all cards here once, a `WatchedCard` the one
that computes again and again. Every call of the library is quick (well under 10 ms) but blocking,
and with a driver that hangs it never returns.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from backend.watch import IDLE_S, Watch

try:
    import pynvml
except ImportError:  # an installation without it still speaks, and says what is missing
    pynvml = None

N = TypeVar("N")

INTERVAL_S = 0.1
"""Between two readings of a card that somebody looks at."""
STALE_S = 5.0
"""An older reading says that the driver hangs."""
_FIRST_S = 2.0
"""Longest that the first reading is waited for."""


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
    throttles_at_c: float | None = None
    """Where it begins to lower its clock because it is hot."""


class Nvml:
    """An open connection to the driver; `open` raises `NvmlUnavailable` with the reason."""

    def __init__(self, library: Any, driver: str) -> None:
        self._library, self._driver = library, driver
        self._throttles_at_c: dict[int, float | None] = {}
        """Of each card that was read: it does not change."""

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
            throttles_at_c=self._throttling_point_c(index, handle),
        )

    def _throttling_point_c(self, index: int, handle: Any) -> float | None:
        """The lower of where its driver and where its hardware slow it down."""
        if index not in self._throttles_at_c:
            library = self._library
            kinds = (
                library.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
                library.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
            )
            ask = library.nvmlDeviceGetTemperatureThreshold
            told = (self._optional(ask, handle, kind) for kind in kinds)
            points = [float(degrees) for degrees in told if degrees]
            self._throttles_at_c[index] = min(points, default=None)
        return self._throttles_at_c[index]

    def _optional(self, call: Any, *arguments: Any) -> Any:
        """What `call` answers, None where this card cannot tell."""
        try:
            return call(*arguments)
        except self._library.NVMLError:
            return None


class Card:
    """One card, by its UUID or else by its number; connects when it is read, and again after a
    failure. Its calls block, and come from one thread."""

    def __init__(self, uuid: str, index: int = 0) -> None:
        self._uuid, self._index = uuid, index
        self._nvml: Nvml | None = None

    def read(self) -> GpuReading:
        """The card now; raises `NvmlUnavailable`."""
        try:
            if self._nvml is not None:
                card = self._nvml.read_card(self._index)
                if self._is_it(card):
                    return card
            self.close()  # the driver forgot us, or numbers its cards anew
            self._nvml = Nvml.open()
            return self._found(self._nvml.read())
        except NvmlUnavailable:
            self.close()
            raise

    def first(self) -> GpuReading:
        """The same."""
        return self.read()

    def close(self) -> None:
        """Disconnect."""
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None

    def _found(self, cards: list[GpuReading]) -> GpuReading:
        for card in cards:
            if self._is_it(card):
                self._index = card.index
                return card
        raise NvmlUnavailable(f"it does not know {self._uuid or f'cuda:{self._index}'}")

    def _is_it(self, card: GpuReading) -> bool:
        return card.uuid == self._uuid if self._uuid else card.index == self._index


class WatchedCard(Generic[N]):
    """The same read by a thread of its own, so that a driver that hangs holds nobody up.

    `note` is called just before each reading, in that thread: what it returns is kept beside it.
    """

    def __init__(
        self, card: Card, note: Callable[[], N], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._card, self._note, self._clock = card, note, clock
        self._failed: tuple[float, NvmlUnavailable] | None = None
        self._last: tuple[N, GpuReading] | None = None
        self._watch: Watch[NvmlUnavailable | None] = Watch(
            "gpu", self._look, INTERVAL_S, ended=card.close, clock=clock
        )

    def start(self) -> None:
        """Begin to read."""
        self._watch.start()

    def close(self) -> None:
        """Read no more, and disconnect."""
        self._watch.close()

    def last(self) -> tuple[N, GpuReading] | None:
        """The last reading that succeeded, however old, and what was noted before it."""
        self._watch.latest()
        return self._last

    def first(self) -> GpuReading:
        """Begin to read if need be; blocks for the first reading, two seconds at most."""
        self._watch.start()
        self._watch.first(_FIRST_S)
        return self.read()

    def read(self) -> GpuReading:
        """The last reading, at once; raises `NvmlUnavailable` where it failed or is too old."""
        look = self._watch.latest()
        if look is None or self._watch.age_s(look) > STALE_S:
            raise NvmlUnavailable("the driver does not answer")
        if look.value is not None:
            raise NvmlUnavailable(str(look.value), look.value.is_package_missing)
        assert self._last is not None
        return self._last[1]

    def _look(self) -> NvmlUnavailable | None:
        if self._failed is not None:
            at_s, error = self._failed
            if self._clock() - at_s < IDLE_S:  # connecting takes 10 ms, and a fault rarely passes
                return error
        note = self._note()
        try:
            self._last = note, self._card.read()
        except NvmlUnavailable as error:
            self._failed = self._clock(), error
            return error
        self._failed = None
        return None


def _text(value: str | bytes) -> str:
    """Older releases of the package answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value
