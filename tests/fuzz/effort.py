"""How long the fuzzers look: some twenty seconds in all, or five minutes where `FUZZ=long`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from loguru import logger

IS_LONG = os.environ.get("FUZZ") == "long"
_TIMES_AS_MANY = 25
_CPU_S = 1.0
_CPU_S_PER_BYTE = 3e-6


def effort(examples: int) -> settings:
    """Of one fuzzer: the same `examples` every time, or many more that chance draws."""
    return settings(
        max_examples=examples * (_TIMES_AS_MANY if IS_LONG else 1),
        derandomize=not IS_LONG,
        deadline=None,  # `in_proportion` counts this process's time, whoever else uses the machine
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def in_proportion(size_bytes: int) -> Iterator[None]:
    """What is done with that many bytes takes no more processor time than they are worth."""
    began_s = time.process_time()
    yield
    took_s = time.process_time() - began_s
    assert took_s < _CPU_S + size_bytes * _CPU_S_PER_BYTE, f"{took_s:.2f} s for {size_bytes} bytes"


@contextmanager
def no_fault_logged() -> Iterator[None]:
    """Nothing is logged meanwhile that is the server's fault."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="ERROR")
    try:
        yield
        assert not lines, lines[0]
    finally:
        logger.remove(sink)
