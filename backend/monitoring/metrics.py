"""What Prometheus is told, in a registry of its own: two apps in one process do not meet."""

from collections.abc import Callable, Iterator, Sequence

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from backend.core import MIB
from backend.monitoring.rows import SynthesisRow
from backend.monitoring.sample import WorkerNow
from backend.monitoring.synthesis import OUTCOMES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_FIRST_AUDIO_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
_RTF = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60)


class Metrics:
    """Every metric; names follow Prometheus: base units, `_total` on counters."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests by how they ended.", "outcome")
        for outcome in OUTCOMES:  # a counter that starts at 0 has a rate from its first request on
            self._requests.labels(outcome)
        self._refusals = self._counter("refusals", "Requests refused, by reason.", "reason")
        self._tokens = self._counter("generated_tokens", "Frames and end tokens generated.")
        self._audio = self._counter("audio_seconds", "Seconds of speech delivered.")
        self._truncated = self._counter("truncated_texts", "Texts cut at the machine's limit.")
        self._restarts = self._counter("worker_restarts", "Times the worker was started again.")
        self._steps_back = self._counter(
            "thermal_steps_back", "Times that fewer threads were used because of heat."
        )
        self._thermal_level = self._gauge(
            "thermal_level", "Steps that threads are below the plan because of heat."
        )
        self._memory_steps = self._counter(
            "memory_steps_down", "Times that less was gone on with because memory ran short."
        )
        self._memory_level = self._gauge(
            "memory_level", "Steps below the plan because memory ran short."
        )
        self._duration = self._histogram(
            "request_duration_seconds", "From admission to the last sample.", _SECONDS
        )
        self._first_audio = self._histogram(
            "first_audio_seconds", "From admission to the first audio.", _FIRST_AUDIO_SECONDS
        )
        self._queued = self._histogram(
            "queue_seconds", "From arrival to admission.", _FIRST_AUDIO_SECONDS
        )
        self._rtf = self._histogram(
            "rtf_ratio", "Seconds from admission to the last sample per second of audio.", _RTF
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests being synthesised.")
        self.queue_depth = self._gauge("queue_depth", "Requests that wait for admission.")
        self._worker_up = self._gauge("worker_up", "1 when the worker can speak, else 0.")
        self._worker_memory = self._gauge(
            "worker_memory_bytes", "What the worker takes, on the GPU where it has one."
        )
        self._each = _EachWorker()
        self._registry.register(self._each)
        server = psutil.Process()
        self._gauge(
            "server_resident_memory_bytes", "Resident memory of the HTTP process."
        ).set_function(lambda: float(server.memory_info().rss))
        self._restarts_told = self._steps_back_told = self._memory_steps_told = 0

    def add(self, row: SynthesisRow) -> None:
        """Count one request that is over."""
        self._requests.labels(row.outcome).inc()
        if row.outcome == "refused":
            self._refusals.labels(row.error_code).inc()
            return
        self._queued.observe(row.queue_s)
        self._tokens.inc(row.generated_tokens)
        self._audio.inc(row.audio_duration_s)
        self._truncated.inc(row.is_truncated)
        if row.first_audio_s is not None:
            self._first_audio.observe(row.first_audio_s)
        if row.success:
            self._duration.observe(row.total_duration_s)
            if row.rtf is not None:
                self._rtf.observe(row.rtf)

    def set_worker(self, *, is_ready: bool, restarts: int, memory_mb: float) -> None:
        """How the worker is; `restarts` counts since the server's start."""
        self._worker_up.set(is_ready)
        self._worker_memory.set(memory_mb * MIB)
        self._restarts.inc(max(0, restarts - self._restarts_told))
        self._restarts_told = restarts  # less than before where a replica has left

    def set_workers(self, workers: Sequence[WorkerNow]) -> None:
        """How each worker is."""
        self._each.workers = workers

    def set_thermal(self, level: int, steps_back: int) -> None:
        """Steps below the plan now, and how many were taken since the server's start."""
        self._thermal_level.set(level)
        self._steps_back.inc(max(0, steps_back - self._steps_back_told))
        self._steps_back_told = steps_back

    def set_ladder(self, level: int, steps_down: int) -> None:
        """Steps below the plan now, and how many were taken since the server's start."""
        self._memory_level.set(level)
        self._memory_steps.inc(max(0, steps_down - self._memory_steps_told))
        self._memory_steps_told = steps_down

    def text(self) -> bytes:
        """Everything, in the format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"shoal_{name}", says, labels, registry=self._registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"shoal_{name}", says, labels, registry=self._registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"shoal_{name}", says, buckets=buckets, registry=self._registry)


class _EachWorker(Collector):
    """How each of the workers is that there are now: of one that has left, nothing is told."""

    def __init__(self) -> None:
        self.workers: Sequence[WorkerNow] = ()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the labels are known once there are workers."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Those of a cluster also by their replica and its machine."""
        is_cluster = any(now.replica for now in self.workers)
        names = ["worker", "device", *(("replica", "node") if is_cluster else ())]
        each: tuple[tuple[str, str, Callable[[WorkerNow], float]], ...] = (
            ("up", "1 when it can speak, else 0.", lambda now: now.ready),
            ("memory_bytes", "What it takes.", lambda now: now.memory_mb * MIB),
            ("cache_bytes", "Keys and values that it holds.", lambda now: now.cache_mb * MIB),
            ("leased_bytes", "Promised to sentences.", lambda now: now.leased_mb * MIB),
            ("speaking", "Sentences and recordings that it has at work.", lambda now: now.speaking),
            ("rows", "Sentences that it speaks together, at most.", lambda now: now.rows),
            ("thermal_level", "Steps below its plan for heat.", lambda now: now.thermal_level),
            ("memory_level", "Steps below its plan for memory.", lambda now: now.memory_level),
            ("restarts", "Times it was started again.", lambda now: now.restarts),
        )
        for name, says, figure in each:
            kind = CounterMetricFamily if name == "restarts" else GaugeMetricFamily
            family = kind(f"shoal_each_worker_{name}", says, labels=names)
            for now in self.workers:
                where = (now.replica, now.node) if is_cluster else ()
                family.add_metric([str(now.worker), now.device, *where], figure(now))
            yield family
