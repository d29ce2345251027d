"""Which setups are worth measuring, the most promising first. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.classify import usable_performance_cores
from backend.hardware.compile_gate import gate_for
from backend.hardware.machine import Hardware
from backend.hardware.measured import GENTLEST_FIRST, Measurement, Setup, choose
from backend.hardware.need import CheckpointShape
from backend.hardware.placement import place, preferred_devices
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
    devices; then of the best so far other numbers of threads, the other precision of a CPU, other
    quantizations, and torch.compile. So the list changes with `rows`. Raises what `make_plan`
    raises.
    """
    planned = _measurable(Setup.of(make_plan(hardware, settings, shape)), settings)
    verdict = choose(rows, planned)
    best = planned if verdict is None else _measurable(verdict.setup, settings)
    steps = (
        iter((planned,)),
        _quantized(planned, settings, rows),
        _on_other_devices(hardware, settings, shape, planned),
        (replace(best, num_threads=each) for each in _threads(hardware, settings, best)),
        (replace(best, precision=each) for each in _precisions(settings, best)),
        _quantized(best, settings, rows),
        _compiled(hardware, settings, shape, best, rows),
    )
    tried = {row.setup for row in rows}
    found = dict.fromkeys(setup for step in steps for setup in step)
    return [setup for setup in found if setup not in tried and setup.suits(settings)]


def _measurable(setup: Setup, settings: Settings) -> Setup:
    """On a CPU without torch.compile, unless it is asked for: the compiler would take the cores
    from what is measured, and is tried last."""
    is_apart = setup.device == "cpu" and not settings.force_torch_compile
    return replace(setup, compile=False) if is_apart else setup


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
            yield _measurable(Setup.of(make_plan(hardware, on_it, shape)), settings)
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


def _compiled(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    best: Setup,
    rows: Sequence[Measurement],
) -> Iterator[Setup]:
    """With torch.compile where the plan would try it, and frames are made in no better way."""
    ways = [row.figures.way for row in rows if row.setup == best and row.figures is not None]
    if best.device != "cpu" or ways != ["eager"]:
        return
    asked = best.pinned(settings, with_compile=False)
    compiled, _ = gate_for(hardware, place(hardware, asked, shape), asked)
    if compiled.value:
        yield replace(best, compile=True)
