"""One run of the bench: processes are started, measured in turn with each other, and ended."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Self

import psutil

from backend.bench.figures import Findings
from backend.bench.life import RECORDING_S, live, recording_of
from backend.bench.messages import TEXT, DecodePieces, MakeFrames, ReadMemory
from backend.bench.partner import Partner, partner
from backend.bench.subject import UPSTREAM, Held, Size, upstream_bytes
from backend.errors import ShoalError
from backend.fish_worker.install import Environment, fish_command
from backend.hardware.detect import read_memory

PIECES = (16, 4)
"""Frames of the pieces that the codec is measured with."""
WORKER, DEMO = "worker", "demo"
"""Names of whole workers: of what is measured, and of the shipped voice beside it."""
BRIEF_TEXT = "Good morning."
"""Of a checkpoint that speaks noise until its frame limit: some five seconds."""
_USED_MEMORY = 0.8
"""Of what is free, that processes which alternate may take together."""

Tell = Callable[[str], None]
"""Shows what is being done."""


class Bench:
    """Measures one checkpoint; a context, at whose end every process is gone.

    What fails is noted, and the rest goes on.
    """

    def __init__(
        self,
        held: Sequence[Held],
        upstream: Environment | None,
        size: Size,
        tell: Tell,
    ) -> None:
        """The first of `held` is what upstream is told by; `upstream` None leaves it out."""
        self._held = {each.name: each for each in held}
        self._shape = held[0].deployment.shape
        self._upstream, self._size, self._tell = upstream, size, tell
        self._stack = AsyncExitStack()
        self._partners: dict[str, Partner] = {}
        self.findings = Findings(_about(held[0]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def engine(self) -> None:
        """Frames of every way of holding the weights and of upstream, in turn."""
        groups = self._groups()
        for group in groups:
            await self._open(group)
            for turn in turns(self._size.repeats, self._size.most_s / len(groups)):
                await self._turn(f"{turn} of {self._size.repeats}")
            if len(groups) > 1:
                await self._close()
        self.findings.best = self._fastest()

    async def parts(self, name: str) -> None:
        """What streams, contexts and the codec cost, with the weights held as `name` says."""
        short, long = self._size.contexts
        seconds, figures = self._size.seconds, self.findings.figures
        if name not in self._partners:
            await self._open([name])
        if (probe := self._partners.get(name)) is None:
            return  # it is told why
        try:
            for turn in turns(self._size.repeats, self._size.most_s):
                self._tell(f"{name}: streams, contexts, codec, {turn} of {self._size.repeats}")
                one = await probe.ask(MakeFrames(seconds, 1, short))
                many = await probe.ask(MakeFrames(seconds, self._size.streams, short))
                late = await probe.ask(MakeFrames(seconds, 1, long))
                figures["streams"].add(many.rate)
                figures["streams_ratio"].add(many.rate / one.rate)
                figures["streams_cpu_ratio"].add(many.cpu_rate / one.cpu_rate)
                figures["long_context"].add(late.rate)
                figures["long_context_ratio"].add(late.rate / one.rate)
                figures["long_context_cpu_ratio"].add(late.cpu_rate / one.cpu_rate)
                await self._decode(probe, "codec")
                await self._read(probe)
        except ShoalError as error:
            self.findings.troubles[f"{name}, parts"] = str(error)

    async def lives(self, held: Held, name: str, text: str, *, encodes: bool) -> None:
        """Whole workers, each alone; their figures are called `name`_cold_s and so on."""
        await self._close()
        figures, seconds = self.findings.figures, held.deployment.shape.info.max_reference_s
        recording = recording_of(min(RECORDING_S, seconds)) if encodes else None
        for turn in turns(self._size.lives, self._size.most_s):
            self._tell(f"{name}: a worker's life, {turn} of {self._size.lives}")
            try:
                life = await live(held.worker_command(), held.environment, text, recording)
            except ShoalError as error:
                self.findings.troubles[f"{name}, a worker"] = str(error)
                return
            for figure, value in (
                ("cold_s", life.cold_s),
                ("first_audio_s", life.first_audio_s),
                ("rtf", life.rtf),
                ("encode_s", life.encode_s),
                ("peak_mb", life.peak_mb),
                ("speaking_mb", life.speaking_mb),
            ):
                if value is not None:
                    figures[f"{name}_{figure}"].add(value)
            self.findings.about[f"{name}_way"] = life.way

    # -- processes ---------------------------------------------------------------------------------

    @property
    def _names(self) -> list[str]:
        return [*([UPSTREAM] if self._upstream else []), *self._held]

    def _groups(self) -> list[list[str]]:
        """Who is loaded at the same time: all, unless that would take more than is free."""
        needed = sum(each.resident_bytes for each in self._held.values())
        if self._upstream:
            needed += upstream_bytes(self._shape)
        fits = needed < _USED_MEMORY * read_memory().available_bytes
        self.findings.about["alternates"] = fits
        return [self._names] if fits else [[name] for name in self._names]

    async def _open(self, names: Sequence[str]) -> None:
        for name in names:
            self._tell(f"loading {name}")
            try:
                opened = await self._stack.enter_async_context(
                    partner(name, self._command(name), self._environment(name))
                )
            except ShoalError as error:
                self.findings.troubles[name] = str(error)
                continue
            self._partners[name] = opened
            self.findings.loaded[name] = opened.hello

    def _command(self, name: str) -> tuple[str, ...]:
        if name != UPSTREAM:
            return self._held[name].probe_command()
        assert self._upstream is not None
        first = next(iter(self._held.values()))
        return fish_command(
            self._upstream.python,
            self._upstream.converted,
            first.upstream_config(),
            "backend.bench.upstream",
        )

    def _environment(self, name: str) -> dict[str, str]:
        return {} if name == UPSTREAM else self._held[name].environment

    async def _close(self) -> None:
        self._partners.clear()
        await self._stack.aclose()

    # -- measuring ---------------------------------------------------------------------------------

    async def _turn(self, said: str) -> None:
        """Every process that is open once."""
        has_read = False
        for name, each in list(self._partners.items()):
            self._tell(f"{name}, {said}")
            try:
                took = await each.ask(MakeFrames(self._size.seconds, 1, self._size.contexts[0]))
                self.findings.figures[name].add(took.rate)
                self.findings.figures[f"{name}_cpu_ms"].add(1000 / took.cpu_rate)
                if name == UPSTREAM:
                    await self._decode(each, "upstream_codec")
                    memory = psutil.Process(each.hello.pid).memory_info().rss
                    self.findings.figures["upstream_mb"].add(memory / 1e6)
                elif not has_read:
                    await self._read(each)
                    has_read = True
            except ShoalError as error:
                self.findings.troubles[name] = str(error)
                del self._partners[name]

    async def _decode(self, each: Partner, name: str) -> None:
        for frames in PIECES:
            took = await each.ask(DecodePieces(self._size.seconds / 2, frames))
            self.findings.figures[f"{name}_{frames}_ms"].add(1000 / took.rate)
            self.findings.figures[f"{name}_{frames}_cpu_ms"].add(1000 / took.cpu_rate)

    async def _read(self, each: Partner) -> None:
        took = await each.ask(ReadMemory(self._size.read_mib))
        self.findings.figures["read_gb_s"].add(took.rate / 1e9)

    def _fastest(self) -> str:
        """The way of holding weights whose frames were made fastest; "" where none were."""
        speeds = {name: self.findings.median(name) or 0.0 for name in self._held}
        name = max(speeds, key=lambda each: speeds[each])
        return name if speeds[name] else ""


def turns(most: int, seconds: float) -> Iterator[int]:
    """1, 2, … `most`; not past the first that begins after so many `seconds`, but for 1."""
    until_s = time.monotonic() + seconds
    for turn in range(1, most + 1):
        if turn > 1 and time.monotonic() > until_s:
            return
        yield turn


def text_of(is_random: bool) -> str:
    """What a worker is measured with."""
    return BRIEF_TEXT if is_random else TEXT


def _about(held: Held) -> dict[str, object]:
    hardware, plan = held.deployment.hardware, held.deployment.plan
    return {
        "checkpoint": held.deployment.shape.name,
        "machine": hardware.cpu.model or platform.machine(),
        "device": plan.device.value,
        "threads": plan.num_threads.value,
        "torch": hardware.torch_version,
        "frame_rate_hz": held.deployment.shape.codec.frame_rate_hz,
    }
