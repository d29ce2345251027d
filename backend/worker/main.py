"""The worker process: `python -m backend.worker.main --config '<WorkerConfig as JSON>'`.

Torch is imported only after this process was pinned to its CPUs: the threads that it starts inherit
them.
"""

import importlib
import os
import threading
from contextlib import suppress
from pathlib import Path

from loguru import logger

from backend.hardware.affinity import CPUAffinityManager
from backend.native.compiler import CannotCompile, compile_library
from backend.worker.allocator import keep_memory_predictable
from backend.worker.messages import Starting, WorkerConfig
from backend.worker.pipe import Send, Worker, leave, run_worker


def prepare(config: WorkerConfig) -> None:
    """Make this process ready for torch, which it has not imported yet."""
    # Threads that wait for work sleep. By default they spin, and where anybody else wants a core,
    # our server included, each step waits for a thread that spins on it: ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_memory_predictable()
    if warning := CPUAffinityManager().apply(config.cpus):
        logger.warning(warning)


def begin_compiling(config: WorkerConfig, send: Send) -> None:
    """Make the kernels in C while torch is imported, in a thread that `load` waits for."""
    if not (config.try_compile and config.compile_dir):
        return
    if config.device != "cpu" and not config.codec_on_cpu:
        return

    def tell() -> None:
        logger.info("Kernels are compiled for this CPU, once.")
        send(Starting("compiling kernels for this CPU, once"))

    def make() -> None:
        with suppress(CannotCompile):  # whoever wants them asks again, and is told
            compile_library(Path(config.compile_dir), before=tell)

    threading.Thread(target=make, name="compile", daemon=True).start()


def start(config: WorkerConfig, send: Send) -> Worker:
    """Pin this process, then load what speaks."""
    prepare(config)
    begin_compiling(config, send)
    worker: Worker = importlib.import_module("backend.worker.loop").start(config, send)
    return worker


if __name__ == "__main__":
    leave(run_worker(start))
