"""The worker process: `python -m backend.worker.main --config '<WorkerConfig as JSON>'`.

Torch is imported only after this process was pinned to its CPUs: the threads that it starts inherit
them.
"""

import importlib
import os

from loguru import logger

from backend.hardware.affinity import CPUAffinityManager
from backend.worker.allocator import keep_memory_predictable
from backend.worker.messages import WorkerConfig
from backend.worker.pipe import Send, Worker, leave, run_worker


def prepare(config: WorkerConfig) -> None:
    """Make this process ready for torch, which it has not imported yet."""
    # Threads that wait for work sleep. By default they spin, and where anybody else wants a core,
    # our server included, each step waits for a thread that spins on it: ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_memory_predictable()
    if warning := CPUAffinityManager().apply(config.cpus):
        logger.warning(warning)


def start(config: WorkerConfig, send: Send) -> Worker:
    """Pin this process, then load what speaks."""
    prepare(config)
    worker: Worker = importlib.import_module("backend.worker.loop").start(config, send)
    return worker


if __name__ == "__main__":
    leave(run_worker(start))
