"""Findings as a table for people, and as the one line of JSON for programs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.markup import escape
from rich.table import Table

from backend.bench.figures import Findings
from backend.bench.life import RECORDING_S
from backend.bench.run import DEMO, PIECES, WORKER
from backend.bench.subject import UPSTREAM, WEIGHTS, Size

KEYS = (
    *("upstream_frames_s", "int8_frames_s", "int4_frames_s", "bf16_frames_s"),
    *("codec_ms_per_frame", "text_to_pcm_rtf", "peak_mb", "read_gb_s"),
)
"""Of the line of JSON, the keys that are always there, null where there is no figure."""
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    work: str
    ours: str
    upstream: str
    count: int
    """Of how many measurements ours is the median."""
    load: float
    """The load average while ours was measured."""


class Report:
    """What `findings` of a run of some `size` say."""

    def __init__(self, findings: Findings, size: Size) -> None:
        self._found, self._size = findings, size

    def table(self) -> Table:
        """For people."""
        about, found = self._found.about, self._found
        caption = "Medians, of how many, and the machine's load average meanwhile."
        if found.best:
            caption += f" Streams, contexts, codec and worker: {found.best}."
        if not about.get("alternates", True):
            caption += " Memory did not suffice to measure all in turn: one after another."
        table = Table(
            title=f"{about['checkpoint']} on {about['machine']}, {about['threads']} threads",
            caption=caption,
            caption_justify="left",
        )
        table.add_column("work", overflow="fold")
        table.add_column("Shoal", overflow="fold")
        table.add_column("fish-speech 0.1.0", overflow="fold")
        table.add_column("of", justify="right")
        table.add_column("load", justify="right")
        for row in self._rows():
            table.add_row(row.work, row.ours, row.upstream, str(row.count), f"{row.load:.1f}")
        for name, trouble in found.troubles.items():
            said = (_NOTHING, trouble) if name == UPSTREAM else (trouble, _NOTHING)
            table.add_row(name, *map(escape, said))
        return table

    def line(self) -> str:
        """For programs: `KEYS`, and then everything that was measured."""
        found = self._found
        figures = (
            *(UPSTREAM, "int8", "int4", "bf16"),
            *(f"codec_{PIECES[0]}_ms", f"{WORKER}_rtf", f"{WORKER}_peak_mb", "read_gb_s"),
        )
        told: dict[str, Any] = {
            **{key: found.median(name) for key, name in zip(KEYS, figures, strict=True)},
            "best": found.best,
            "floor_frames_s": {name: self._floor(name) for name in found.loaded},
            **found.about,
            "figures": {
                name: {"median": each.median, "load": each.load, "values": each.values}
                for name, each in found.figures.items()
                if each.values
            },
            "loaded": {name: msgspec.to_builtins(each) for name, each in found.loaded.items()},
            "troubles": found.troubles,
        }
        return json.dumps(_rounded(told), ensure_ascii=False)

    # -- rows --------------------------------------------------------------------------------------

    def _rows(self) -> Iterator[Row]:
        for name in WEIGHTS:
            if (frames_s := self._found.median(name)) is not None:
                yield self._frames_row(name, frames_s)
        yield from self._parts_rows()
        yield from self._worker_rows()
        yield from self._demo_rows()
        if (read := self._found.median("read_gb_s")) is not None and self._found.best:
            loaded = self._found.loaded[self._found.best]
            floor = self._floor(self._found.best)
            work = f"the floor of {self._found.best}"
            weights = loaded.weight_bytes_per_frame / 1e6
            ours = f"{floor:.3g} frames/s: {weights:.0f} MB of weights a frame at {read:.1f} GB/s"
            yield self._row("read_gb_s", work, ours)

    def _row(self, figure: str, work: str, ours: str, upstream: str = _NOTHING) -> Row:
        measured = self._found.figures[figure]
        return Row(work, ours, upstream, len(measured.values), measured.load)

    def _frames_row(self, name: str, frames_s: float) -> Row:
        loaded = self._found.loaded[name]
        read = frames_s * loaded.weight_bytes_per_frame / 1e9
        ours = f"{self._speed(name, frames_s)}, {loaded.way}; {read:.1f} GB/s"
        if (delivers := self._found.median("read_gb_s")) is not None:
            ours += f", {read / delivers:.0%} of what memory delivers"
        upstream, theirs = _NOTHING, self._found.median(UPSTREAM)
        if theirs is not None and name == self._found.loaded[UPSTREAM].precision:
            upstream = self._speed(UPSTREAM, theirs)
        return self._row(name, f"{name}, 1 stream", ours, upstream)

    def _speed(self, name: str, frames_s: float) -> str:
        """On a busy machine the processors' time says more than the clock's."""
        cpu_ms = self._found.median(f"{name}_cpu_ms")
        return f"{frames_s:.3g} frames/s ({_ms(1000 / frames_s)} a frame, CPU {_ms(cpu_ms)})"

    def _parts_rows(self) -> Iterator[Row]:
        median = self._found.median
        short, long = self._size.contexts
        for name, work, said in (
            ("streams", f"{self._size.streams} streams at once", "frames/s in all"),
            ("long_context", f"1 stream at context {long:,}", "frames/s"),
        ):
            if (frames_s := median(name)) is not None:
                ours = f"{frames_s:.3g} {said}, {median(f'{name}_ratio'):.2f} × one at {short:,}"
                ours += f" ({median(f'{name}_cpu_ratio'):.2f} × by CPU time)"
                yield self._row(name, work, ours)
        for frames in PIECES:
            name, theirs = f"codec_{frames}", f"upstream_codec_{frames}"
            if median(f"{name}_ms") is not None:
                work = f"codec, pieces of {frames} frames"
                upstream = _NOTHING if median(f"{theirs}_ms") is None else self._codec(theirs)
                yield self._row(f"{name}_ms", work, self._codec(name), upstream)

    def _codec(self, name: str) -> str:
        took, cpu = self._found.median(f"{name}_ms"), self._found.median(f"{name}_cpu_ms")
        return f"{_ms(took)} a frame, CPU {_ms(cpu)}"

    def _worker_rows(self) -> Iterator[Row]:
        median = self._found.median
        if (seconds := median(f"{WORKER}_encode_s")) is not None:
            work = f"codec, a recording of {RECORDING_S:g} s encoded"
            yield self._row(f"{WORKER}_encode_s", work, f"{seconds:.3g} s")
        if (rtf := median(f"{WORKER}_rtf")) is None:
            return
        yield self._row(f"{WORKER}_rtf", "text to PCM", f"RTF {rtf:.3g}", self._upstream_rtf())
        first_ms = 1000 * (median(f"{WORKER}_first_audio_s") or 0.0)
        work = "first audio of a warm worker"
        yield self._row(f"{WORKER}_first_audio_s", work, _ms(first_ms))
        cold_s = median(f"{WORKER}_cold_s")
        work = "a worker's start to its first audio"
        yield self._row(f"{WORKER}_cold_s", work, f"{cold_s:.3g} s")
        peak, speaking = median(f"{WORKER}_peak_mb"), median(f"{WORKER}_speaking_mb")
        ours = f"{peak:.0f} MB ({speaking:.0f} while it speaks)"
        theirs = median("upstream_mb")
        upstream = _NOTHING if theirs is None else f"{theirs:.0f} MB"
        yield self._row(f"{WORKER}_peak_mb", "peak memory", ours, upstream)

    def _upstream_rtf(self) -> str:
        """The package speaks first and decodes then: both add up."""
        frames_s = self._found.median(UPSTREAM)
        codec_ms = self._found.median(f"upstream_codec_{PIECES[0]}_ms")
        rate_hz = self._found.about["frame_rate_hz"]
        if frames_s is None or codec_ms is None:
            return _NOTHING
        return f"RTF {rate_hz * (1 / frames_s + codec_ms / 1000):.3g}, its prompt left out"

    def _demo_rows(self) -> Iterator[Row]:
        median = self._found.median
        if (rtf := median(f"{DEMO}_rtf")) is None:
            return
        first_ms, cold_s = 1000 * (median(f"{DEMO}_first_audio_s") or 0.0), median(f"{DEMO}_cold_s")
        ours = f"RTF {rtf:.3g}, first audio {_ms(first_ms)}, cold start to audio {cold_s:.3g} s"
        yield self._row(f"{DEMO}_rtf", "the shipped voice, text to PCM", ours)

    def _floor(self, name: str) -> float | None:
        """Frames a second at which reading the weights alone takes all that memory delivers."""
        read, loaded = self._found.median("read_gb_s"), self._found.loaded[name]
        return None if read is None else 1e9 * read / loaded.weight_bytes_per_frame


def _ms(milliseconds: float | None) -> str:
    """Three digits, and no fewer than there are before the point."""
    if milliseconds is None:
        return _NOTHING
    number = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
    return f"{number} ms"


def _rounded(value: Any) -> Any:
    """Four digits of each number with a fraction."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
    return value
