"""Which way makes the frames: the fastest of those that are there and that agree."""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from loguru import logger

from backend.engine.agreement import compare
from backend.engine.engine import Engine
from backend.engine.frame import State, Way
from backend.engine.native import NativeWay
from backend.model.out_of_memory import is_out_of_memory
from backend.native.pool import NativePool

_TRITON_CAPABILITY = (7, 0)
"""Volta: Triton refuses older cards."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of the ways that were tried."""

    name: str
    detail: str
    """In words for a user."""


def settle(
    engine: Engine,
    *,
    may_use_triton: bool = False,
    pool: NativePool | None = None,
    agreed_before: Callable[[str], bool] = lambda _: False,
) -> Settled:
    """Let `engine`, which is idle, make its frames in the fastest way that is right.

    `pool` is what the matrices of a model on a CPU are packed for, if they are; `agreed_before`
    says of a way's name whether it did, with the same kernels and weights. What cannot be had, or
    does not agree with the plain way, is one warning, and the next one is tried.
    """
    device = engine.model.embeddings.weight.device
    for name, make in _ways(device, may_use_triton, pool):
        began_s = time.perf_counter()
        try:
            way = make(engine.runner.state)
            if agreed_before(way.name):
                engine.runner.way = way
                return Settled(way.name, f"Frames are made {name}, which agreed before.")
            with _one_thread_on_a_cpu(device):
                agreement = compare(way, engine.runner.state)
        except Exception as error:  # noqa: BLE001 - a way's trial: it is told, and another is taken
            engine.runner.reset()
            if is_out_of_memory(error):
                torch.cuda.empty_cache()
            logger.warning("Frames are not made {}: {}", name, reason_of(error))
            continue
        if not agreement.is_close:
            engine.runner.reset()
            logger.warning("Frames are not made {}: the results differ: {}", name, agreement)
            continue
        engine.runner.way = way
        seconds = time.perf_counter() - began_s
        return Settled(way.name, f"Frames are made {name}, after {seconds:.0f} s; {agreement}.")
    return Settled("eager", "Frames are made by one torch operation after another.")


@contextmanager
def _one_thread_on_a_cpu(device: torch.device) -> Iterator[None]:
    """Over rows so few torch's threads mostly wait for each other."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def reason_of(error: BaseException) -> str:
    """What `error` is, and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"


def _ways(
    device: torch.device, may_use_triton: bool, pool: NativePool | None
) -> Iterator[tuple[str, Callable[[State], Way]]]:
    if device.type != "cuda":
        if pool is not None:
            yield "by kernels in C", partial(NativeWay, pool=pool)
        return
    capability = torch.cuda.get_device_capability(device)
    if may_use_triton and capability >= _TRITON_CAPABILITY and find_spec("triton") is not None:
        # Imported here alone: it takes 80 MB, which a worker on a CPU has no use for.
        yield (
            "by Triton kernels in CUDA graphs",
            importlib.import_module("backend.engine.fused").FusedWay,
        )
    yield (
        "by torch operations in CUDA graphs",
        importlib.import_module("backend.engine.graph").GraphWay,
    )
