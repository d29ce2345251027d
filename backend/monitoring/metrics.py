"""What Prometheus is told, in a registry of its own: two apps in one process do not meet."""

from collections import Counter as Counts
from collections.abc import Sequence

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        each = ("worker", "device")
        self._each_up = self._gauge("each_worker_up", "1 when it can speak, else 0.", *each)
        self._each_memory = self._gauge("each_worker_memory_bytes", "What it takes.", *each)
        self._each_speaking = self._gauge(
            "each_worker_speaking", "Sentences and recordings that it has at work.", *each
        )
        self._each_restarts = self._counter(
            "each_worker_restarts", "Times it was started again.", *each
        )
        self._each_restarts_told: Counts[int] = Counts()
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
        self._restarts_told = max(restarts, self._restarts_told)

    def set_workers(self, workers: Sequence[WorkerNow]) -> None:
        """How each worker is."""
        for now in workers:
            labels = (str(now.worker), now.device)
            self._each_up.labels(*labels).set(now.ready)
            self._each_memory.labels(*labels).set(now.memory_mb * MIB)
            self._each_speaking.labels(*labels).set(now.speaking)
            more = max(0, now.restarts - self._each_restarts_told[now.worker])
            self._each_restarts.labels(*labels).inc(more)
            self._each_restarts_told[now.worker] += more

    def set_thermal(self, level: int, steps_back: int) -> None:
        """Steps below the plan now, and how many were taken since the server's start."""
        self._thermal_level.set(level)
        self._steps_back.inc(max(0, steps_back - self._steps_back_told))
        self._steps_back_told = max(steps_back, self._steps_back_told)

    def set_ladder(self, level: int, steps_down: int) -> None:
        """Steps below the plan now, and how many were taken since the server's start."""
        self._memory_level.set(level)
        self._memory_steps.inc(max(0, steps_down - self._memory_steps_told))
        self._memory_steps_told = max(steps_down, self._memory_steps_told)

    def text(self) -> bytes:
        """Everything, in the format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"shoal_{name}", says, labels, registry=self._registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"shoal_{name}", says, labels, registry=self._registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"shoal_{name}", says, buckets=buckets, registry=self._registry)
