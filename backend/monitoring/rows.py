"""The columns of the CSV files: one dataclass a file, its fields in the order of the columns."""

import csv
import io
import json
import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

CELL_CHARACTERS = 300
"""Longest text of one cell; a row stays small enough to be written in one piece."""
_FORMULA_STARTS = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True)
class RealtimeRow:
    """One moment, every 100 ms while anything is being synthesised; empty is what nobody tells."""

    timestamp: str
    """UTC, ISO 8601 with milliseconds."""
    cpu_pct: float | None
    """Of all cores together, since the sample before."""
    memory_pct: float
    gpu_memory_mb: float | None
    """MiB in use on the card the plan chose, by everybody."""
    gpu_util_pct: float | None
    temperature_c: float | None
    """Of what computes: the GPU, else the CPU."""
    running: int
    """Requests that were being synthesised."""


@dataclass(frozen=True, slots=True)
class SynthesisRow:
    """One request and what became of it. Times are seconds of wall clock, memory is MiB.

    The text itself is never logged, only its length.
    """

    timestamp: str
    """When the request was over; UTC, ISO 8601 with milliseconds."""
    request_id: str
    tier: str
    outcome: str
    """success, failed, refused or aborted."""
    success: bool
    status: int | None
    """HTTP status of the answer, or of the error where it came when a stream of status 200 had
    begun; empty where it was aborted, by a client that left or the server's end."""
    error_code: str
    """`code` of the domain error."""
    error_message: str
    text_length: int
    """Characters that were sent."""
    spoken_length: int
    """Characters left after the text limit."""
    text_limit: int | None
    prompt_tokens: int | None
    reference_s: float | None
    """Length of the reference recording."""
    segments: int
    queue_s: float
    """Waited for admission, before everything that follows."""
    first_audio_s: float | None
    total_duration_s: float
    """The latency: from admission to the last sample, or to the end without one."""
    rtf: float | None
    """total_duration_s / audio_duration_s."""
    tokens_per_second: float | None
    """generated_tokens / total_duration_s."""
    peak_gpu_util_pct: float
    audio_duration_s: float
    generated_tokens: int
    compute_rtf: float | None
    """(prefill_s + decode_s) / audio_duration_s: what the engine alone took."""
    prefill_s: float | None
    decode_s: float | None
    peak_vram_mb: float
    """The card's memory in use at its highest while this request ran; 0 without a GPU."""
    mean_gpu_util_pct: float
    gpu_util_source: str
    """nvml; estimate, from memory where NVML does not tell; none."""
    worker_peak_memory_mb: float | None
    """The most the worker has ever taken, as it says itself."""
    peak_cpu_pct: float | None
    mean_cpu_pct: float | None
    peak_memory_pct: float | None
    peak_temperature_c: float | None
    samples: int
    """Samples that the peaks and means are of."""
    fish_tokens_per_sec: float | None
    """This and the next four as fish-speech logs them."""
    fish_bandwidth_gb_s: float | None
    fish_gpu_memory_gb: float | None
    fish_generation_time_s: float | None
    vq_features_shape: str
    weight_read_gb_s: float | None
    """Bytes of weights really read per second of decoding, in 1e9 bytes."""
    finish_reasons: str
    """How each sentence ended, joined by ";"."""
    retries: int
    """Sentences spoken again because they ran away or were silent."""
    warnings: str
    engine: str
    strategy: str
    device: str
    precision: str
    quantization: str
    compile: bool
    num_threads: int
    chunk_length: int
    language: str
    memory_step: str
    """The last step that was taken because memory ran short, before it or under it."""
    workers: str
    """Those that spoke it, by number or, in a cluster, by their replicas' names, joined by ";"."""
    beside: int
    """Requests that were spoken beside it, at most."""
    read_language: str
    """Whose rules the text was read by; this and what follows are empty of text that was still
    being written."""
    script: str
    """Of most of its letters: latin, cyrillic, cjk …"""
    wide_share: float | None
    """Of its characters: Han, kana, Hangul and digits."""
    digit_share: float | None
    formula_s: float | None
    """What was expected without anything learned: seconds alone, frames of speech, the worker's
    peak."""
    formula_frames: float | None
    formula_memory_mb: float | None

    @property
    def is_truncated(self) -> bool:
        """Something was cut off at the text limit."""
        return 0 < self.spoken_length < self.text_length


Row = RealtimeRow | SynthesisRow


_COLUMNS: dict[type[Row], tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in (RealtimeRow, SynthesisRow)
}


def columns(kind: type[Row]) -> tuple[str, ...]:
    """Names of the columns, in order."""
    return _COLUMNS[kind]


def header(kind: type[Row]) -> bytes:
    """The first line of a file of such rows."""
    return _line(columns(kind))


def line(row: Row) -> bytes:
    """`row` as one line of CSV (RFC 4180), its line end included."""
    return _line([_cell(getattr(row, name)) for name in columns(type(row))])


def timestamp(at_s: float) -> str:
    """Seconds since 1970 as UTC, ISO 8601 with milliseconds."""
    moment = datetime.fromtimestamp(at_s, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _line(cells: tuple[str, ...] | list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return str(round(value, 4)) if math.isfinite(value) else ""
    return _plain(value) if isinstance(value, str) else str(value)


def _plain(text: str) -> str:
    """`text` on one line, of bounded length, and nothing that a spreadsheet would compute."""
    shown = "".join(c if c.isprintable() else " " for c in text[:CELL_CHARACTERS])
    return "'" + shown if shown.lstrip().startswith(_FORMULA_STARTS) else shown
