"""What happened to every request: sampled, counted, logged. One `Monitoring` a server."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from loguru import logger

from backend.errors import Aborted
from backend.monitoring.aggregates import Aggregates
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.gpu import GpuMeter, Meterable, WorkerMemory
from backend.monitoring.log_writer import LogWriter
from backend.monitoring.metrics import CONTENT_TYPE, Metrics
from backend.monitoring.monitor import Monitor, Reader
from backend.monitoring.reader import MachineReader
from backend.monitoring.retention import Retention
from backend.monitoring.rows import RealtimeRow, timestamp
from backend.monitoring.sample import Observed, Sample, WorkerNow
from backend.monitoring.synthesis import Ending, Synthesis, SynthesisStart, synthesis_row
from backend.monitoring.tracing import RequestSpan, arrive
from backend.nvml import Card, WatchedCard
from backend.spans import Spans, checked, open_spans

_START_S = 1.0
"""A disk that does not answer holds the start up for so long."""


class Monitoring:
    """Everything that is remembered of requests; used from the event loop.

    `directory` None logs no CSV; `retention` is what is kept of it. `memory_pct` says how much is
    taken of the memory that this process may have, where that is not the machine's (a container's
    share); it is called in a thread. `card` is the GPU that the plan chose, where somebody reads it
    already. `is_gpu_expected` makes a silent NVML a warning also where the plan
    computes on the CPU. `statuses` is what each error's code is answered with. `reader` and
    `spans` stand in for the machine's and the environment's.
    """

    def __init__(
        self,
        *,
        tier: str,
        device: str,
        device_uuid: str,
        directory: Path | None,
        rotate_bytes: int,
        hardware_specs: dict[str, Any],
        retention: Retention | None = None,
        card: Meterable | None = None,
        is_gpu_expected: bool = False,
        memory_pct: Callable[[], float] | None = None,
        statuses: Mapping[str, int] = MappingProxyType({}),
        reader: Reader | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._worker_memory = WorkerMemory()
        card = card or _watched(device, device_uuid)
        gpu = GpuMeter(device, card, self._worker_memory, is_gpu_expected)
        self._monitor = Monitor(reader or MachineReader(gpu, memory_pct), self._log_sample)
        log = CsvLog(directory, tier, rotate_bytes) if directory else None
        self._directory = directory
        self._csv = LogWriter(log, retention or Retention()) if log else None
        self._hardware_specs, self._statuses = hardware_specs, statuses
        self._spans = spans
        self._metrics, self._aggregates = Metrics(), Aggregates()
        self._running: set[Synthesis] = set()
        self._queue_depth = 0
        self._worker: dict[str, Any] = {"ready": False, "restarts": 0, "memory_mb": 0.0}
        self._workers: Sequence[WorkerNow] = ()
        self._thermal = {"level": 0, "steps_back": 0}
        self._ladder = {"level": 0, "steps_down": 0}
        self._began_s = time.monotonic()

    async def __aenter__(self) -> Self:
        await self._monitor.open()
        self._spans = self._spans or open_spans()
        if self._csv is not None:
            self._csv.start(self._hardware_specs)
            await self.written(_START_S)  # what machine it is can be read from the beginning
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for synthesis in list(self._running):
            synthesis.fail(Aborted.code, "the server stopped")
        await self._monitor.close()
        if self._csv is not None:
            await self._csv.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    @property
    def directory(self) -> Path | None:
        """Where the CSV files are; None where nothing is logged."""
        return self._directory

    def arrive(self, trace_parent: str) -> RequestSpan | None:
        """The span of a request that is there now, where somebody asks for spans; of its client
        that is the header `traceparent`."""
        return arrive(self._spans, checked(trace_parent)) if self._spans else None

    def begin(self, start: SynthesisStart, observed: Observed | None = None) -> Synthesis:
        """`start` was admitted; every sample from now on is its own too, until it ends.

        `observed` is where they are kept, if somebody else looks at them.
        """
        observed = observed or Observed()
        synthesis = Synthesis(start, observed, self._ended, self._statuses)
        observed.beside = len(self._running)
        self._running.add(synthesis)
        if start.span is not None:
            start.span.admit(time.time(), start.queue_s)
        for other in self._running:
            if other.observed.beside < observed.beside:
                other.observed.beside = observed.beside
        self._monitor.watch(observed)
        self._metrics.in_flight.set(len(self._running))
        return synthesis

    async def written(self, timeout_s: float) -> bool:
        """Wait until the rows so far are in their files; whether they are within `timeout_s`."""
        return self._csv is None or await asyncio.to_thread(self._csv.flush, timeout_s)

    def refuse(
        self, start: SynthesisStart, code: str, message: str, *, is_answered: bool = True
    ) -> None:
        """`start` was refused before any compute; it gets a row too, without a status where the
        client had left."""
        status = self._statuses.get(code) if is_answered else None
        ending = Ending("refused", 0.0, status, code, message)
        self._report(start, ending, Observed())

    def set_queue_depth(self, waiting: int) -> None:
        """How many requests wait for admission."""
        self._queue_depth = waiting
        self._metrics.queue_depth.set(waiting)

    def set_thermal(self, level: int, steps_back: int) -> None:
        """Steps that threads are below the plan for heat, and how many were taken so far."""
        self._thermal = {"level": level, "steps_back": steps_back}
        self._metrics.set_thermal(level, steps_back)

    def set_ladder(self, level: int, steps_down: int) -> None:
        """Steps below the plan because memory ran short, and how many were taken so far."""
        self._ladder = {"level": level, "steps_down": steps_down}
        self._metrics.set_ladder(level, steps_down)

    def set_worker(self, *, is_ready: bool, restarts: int, memory_mb: float) -> None:
        """How the worker is, or all of them together, whenever that changes. `memory_mb` is MiB,
        device memory on a GPU."""
        self._worker = {"ready": is_ready, "restarts": restarts, "memory_mb": round(memory_mb, 1)}
        self._worker_memory.told(current_mb=memory_mb)
        self._metrics.set_worker(is_ready=is_ready, restarts=restarts, memory_mb=memory_mb)

    def set_workers(self, workers: Sequence[WorkerNow]) -> None:
        """How each worker is, and thereby all of them together."""
        self.set_worker(
            is_ready=any(worker.ready for worker in workers),
            restarts=sum(worker.restarts for worker in workers),
            memory_mb=sum(worker.memory_mb for worker in workers),
        )
        self._workers = workers
        self._metrics.set_workers(workers)

    def aggregates(self) -> dict[str, Any]:
        """The answer of `GET /metrics` as JSON."""
        return {
            "uptime_s": round(time.monotonic() - self._began_s, 3),
            "in_flight": len(self._running),
            "queue_depth": self._queue_depth,
            "sampling": self._monitor.is_sampling,
            "worker": self._worker,
            "workers": [asdict(worker) for worker in self._workers],
            "thermal": self._thermal,
            "memory_ladder": self._ladder,
            "since_start": self._aggregates.since_start(),
            "recent": self._aggregates.recent(),
            "log": {
                "directory": str(self.directory) if self.directory else None,
                "problem": self._csv.problem if self._csv else "",
            },
        }

    def prometheus(self) -> tuple[bytes, str]:
        """Every metric as Prometheus reads it, and the content type of that."""
        return self._metrics.text(), CONTENT_TYPE

    def _ended(self, synthesis: Synthesis, ending: Ending) -> None:
        self._running.remove(synthesis)
        self._metrics.in_flight.set(len(self._running))
        self._monitor.release(synthesis.observed)
        if ending.stats is not None:
            self._worker_memory.told(peak_mb=ending.stats.peak_memory_mb)
        if synthesis.observed.gpu_util_source != "none":
            peak_pct = synthesis.peak_gpu_util_pct
            logger.info("Peak GPU utilization during synthesis: {:.1f}%", peak_pct)
        self._report(synthesis.start, ending, synthesis.observed)

    def _report(self, start: SynthesisStart, ending: Ending, observed: Observed) -> None:
        at_s = time.time()
        row = synthesis_row(start, ending, observed, at_s)
        self._metrics.add(row)
        self._aggregates.add(row)
        if start.span is not None:
            start.span.end(row, at_s)
        if self._csv is not None:
            self._csv.append(row)

    def _log_sample(self, sample: Sample, running: int) -> None:
        if self._csv is None:
            return
        row = RealtimeRow(
            timestamp=timestamp(sample.at_s),
            cpu_pct=sample.cpu_pct,
            memory_pct=sample.memory_pct,
            gpu_memory_mb=sample.gpu_memory_mb,
            gpu_util_pct=sample.gpu_util_pct,
            temperature_c=sample.temperature_c,
            running=running,
        )
        self._csv.append(row)


def _watched(device: str, device_uuid: str) -> WatchedCard[None]:
    _, _, number = device.partition(":")
    return WatchedCard(Card(device_uuid, int(number or 0)), lambda: None)
