"""What the GPU is doing: NVML where it answers, an estimate from the worker's memory where not.

NVML comes with `nvidia-ml-py`, NVIDIA's own and maintained package of the module `pynvml`;
`nvidia-ml-py3`, which older guides name, is a deprecated copy of the same module.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from backend.core import MIB
from backend.monitoring.sample import GpuUtilSource
from backend.nvml import GpuReading, NvmlUnavailable


def estimate_utilization_pct(current_memory_mb: float, peak_memory_mb: float) -> float:
    """The fall-back: `(current_memory / peak_memory) * 100`; 0 while nothing is known."""
    if peak_memory_mb <= 0:
        return 0.0
    return min(100.0, current_memory_mb / peak_memory_mb * 100)


class WorkerMemory:
    """What the worker tells of its memory, in MiB: device memory on a GPU."""

    def __init__(self) -> None:
        self.current_mb = 0.0
        self.peak_mb = 0.0

    def told(self, current_mb: float | None = None, peak_mb: float | None = None) -> None:
        """Remember what it told; the peak only ever grows."""
        if current_mb is not None:
            self.current_mb = current_mb
        self.peak_mb = max(self.peak_mb, self.current_mb, peak_mb or 0.0)


@dataclass(frozen=True, slots=True)
class GpuState:
    """The card at one moment; None is what nobody tells."""

    memory_mb: float | None = None
    util_pct: float | None = None
    util_source: GpuUtilSource = "none"
    temperature_c: float | None = None


class Meterable(Protocol):
    """A card as `GpuMeter` reads it; all calls raise `NvmlUnavailable`."""

    def first(self) -> GpuReading:
        """The card now, however long that takes."""

    def read(self) -> GpuReading:
        """The same."""

    def close(self) -> None:
        """It is read no more."""


class BusiestCard:
    """Of several cards that a server computes on, the one that is busiest at the moment. A request
    may be spoken by any of them."""

    def __init__(self, cards: Sequence[Meterable]) -> None:
        self._cards = cards

    def first(self) -> GpuReading:
        """The busiest, however long that takes."""
        return self._busiest(lambda card: card.first())

    def read(self) -> GpuReading:
        """The busiest of those that answer; `NvmlUnavailable` where none does."""
        return self._busiest(lambda card: card.read())

    def close(self) -> None:
        """They are read no more."""
        for card in self._cards:
            card.close()

    def _busiest(self, read: Callable[[Meterable], GpuReading]) -> GpuReading:
        found, problem = [], NvmlUnavailable("no card is read")
        for card in self._cards:
            try:
                found.append(read(card))
            except NvmlUnavailable as error:
                problem = error
        if not found:
            raise problem
        return max(found, key=lambda card: (card.utilization_pct or 0.0, card.used_bytes))


def busiest(cards: Iterable[Meterable | None]) -> Meterable | None:
    """What reads the cards there are: one as it is, None where there is none."""
    there = [card for card in cards if card is not None]
    return BusiestCard(there) if len(there) > 1 else next(iter(there), None)


class GpuMeter:
    """Reads the card that the plan chose; without one it says nothing. Its calls block.

    Where `device` is none of NVIDIA's, `card` is read once, to say in the log whether NVML answers.
    """

    def __init__(
        self, device: str, card: Meterable, worker: WorkerMemory, is_gpu_expected: bool
    ) -> None:
        self._device, self._card, self._worker = device, card, worker
        self._is_used = device.partition(":")[0] == "cuda"
        self._is_expected = is_gpu_expected or self._is_used
        self._has_warned = False

    def open(self) -> None:
        """Read it once, and log whether that worked."""
        try:
            card = self._card.first()
        except NvmlUnavailable as error:
            self._log_failure(error)
            self._has_warned = True
            if not self._is_used:
                self._card.close()
            return
        if not self._is_used:
            self._card.close()
            logger.debug("NVML answers, but {} computes: no GPU is watched.", self._device)
            return
        busy = "unknown" if card.utilization_pct is None else f"{card.utilization_pct:.0f}%"
        logger.info("✅ NVML initialized successfully - GPU monitoring enabled (current: {})", busy)

    def read(self) -> GpuState:
        """The card now."""
        if not self._is_used:
            return GpuState()
        try:
            return self._state(self._card.read())
        except NvmlUnavailable as error:
            if not self._has_warned:
                logger.warning("NVML stopped answering, utilization is estimated: {}", error)
                self._has_warned = True
        worker = self._worker
        busy_pct = estimate_utilization_pct(worker.current_mb, worker.peak_mb)
        return GpuState(worker.current_mb or None, busy_pct, "estimate")

    def close(self) -> None:
        """Disconnect."""
        self._card.close()

    def _state(self, card: GpuReading) -> GpuState:
        self._has_warned = False
        used_mb = card.used_bytes / MIB
        if card.utilization_pct is not None:
            return GpuState(used_mb, card.utilization_pct, "nvml", card.temperature_c)
        # A part of a card (MIG) has memory of its own, but no utilization.
        worker = self._worker
        busy_pct = estimate_utilization_pct(worker.current_mb, worker.peak_mb)
        return GpuState(used_mb, busy_pct, "estimate", card.temperature_c)

    def _log_failure(self, error: NvmlUnavailable) -> None:
        """A warning only where a GPU should be there: most machines have none to ask about."""
        level = "WARNING" if self._is_expected else "DEBUG"
        if error.is_package_missing:
            logger.log(level, "⚠️ pynvml not installed - Install with: pip install nvidia-ml-py")
        else:
            text = "⚠️ NVML initialization failed - GPU utilization will show 0%: {}"
            logger.log(level, text, error)
