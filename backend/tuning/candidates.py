"""Which setups are worth measuring, the most promising first. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.classify import usable_performance_cores
from backend.hardware.machine import Hardware
from backend.hardware.measured import GENTLEST_FIRST, Measurement, Setup, choose
from backend.hardware.need import CheckpointShape
from backend.hardware.placement import preferred_devices
from backend.hardware.plan import make_plan
from backend.hardware.tiers import Precision
from backend.settings import Settings


def candidates(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    rows: Sequence[Measurement] = (),
) -> list[Setup]:
    """What is still to be measured after `rows`; what the user set is the same in all.

    First what the table planned, then its other quantizations, then what it would plan on other
    devices; then of the best so far other numbers of threads, the other precision of a CPU, and
    other quantizations. So the list changes with `rows`. Raises what `make_plan` raises.
    """
    planned = Setup.of(make_plan(hardware, settings, shape))
    verdict = choose(rows, planned)
    best = planned if verdict is None else verdict.setup
    steps = (
        iter((planned,)),
        _quantized(planned, settings, rows),
        _on_other_devices(hardware, settings, shape, planned),
        (replace(best, num_threads=each) for each in _threads(hardware, settings, best)),
        (replace(best, precision=each) for each in _precisions(settings, best)),
        _quantized(best, settings, rows),
    )
    tried = {row.setup for row in rows}
    found = dict.fromkeys(setup for step in steps for setup in step)
    return [setup for setup in found if setup not in tried and setup.suits(settings)]


def _quantized(setup: Setup, settings: Settings, rows: Sequence[Measurement]) -> Iterator[Setup]:
    """With each quantization, but those that are known to lose codes."""
    lossy = {row.setup.quantization for row in rows if row.figures and not row.figures.is_faithful}
    for quantization in GENTLEST_FIRST:
        if settings.quantization in ("auto", quantization) and quantization not in lossy:
            yield replace(setup, quantization=quantization)


def _on_other_devices(
    hardware: Hardware, settings: Settings, shape: CheckpointShape, planned: Setup
) -> Iterator[Setup]:
    """As the table plans for one device of each kind."""
    kinds = {planned.device.partition(":")[0]}
    for device in preferred_devices(hardware, settings):
        kind = device.partition(":")[0]
        if kind in kinds:
            continue
        kinds.add(kind)
        on_it = settings.model_copy(update={"device": device})
        try:
            yield Setup.of(make_plan(hardware, on_it, shape))
        except (BadSetting, NotEnoughMemory):
            continue  # no setup of it can be had


def _threads(hardware: Hardware, settings: Settings, best: Setup) -> Sequence[int]:
    """Of a CPU all performance cores, half of them, and one."""
    if best.device != "cpu" or settings.num_threads is not None:
        return ()
    cores = usable_performance_cores(hardware.cpu)
    return cores, -(-cores // 2), 1


def _precisions(settings: Settings, best: Setup) -> Sequence[Precision]:
    """On a GPU the plan's is as fast as its rivals; fp16 cannot be had on a CPU."""
    return ("bf16", "fp32") if best.device == "cpu" and settings.precision == "auto" else ()
