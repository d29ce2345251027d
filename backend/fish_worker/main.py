"""The fish-speech worker: `start.py backend.fish_worker.main --converted DIR --config JSON`.

Runs in the environment that `backend.fish_worker.install` makes; answers as our own worker does.
"""

import argparse
import functools
import importlib
import os
import sys
from pathlib import Path

from loguru import logger

from backend.hardware.affinity import CPUAffinityManager
from backend.logs import log_to_stderr
from backend.worker.messages import WorkerConfig
from backend.worker.pipe import Send, Worker, leave, run_worker


def prepare(config: WorkerConfig) -> None:
    """Make this process ready for torch, which it has not imported yet."""
    # Before torch and tqdm are imported, for the same reason as in our own worker; and the
    # package's progress bar would fill the server's log.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["TQDM_DISABLE"] = "1"
    _keep_texts_out_of_the_log(config.log_level)
    if warning := CPUAffinityManager().apply(config.cpus):
        logger.warning(warning)


def start(converted: Path, config: WorkerConfig, send: Send) -> Worker:
    """Pin this process, then load what speaks; `converted` is where conversions are kept."""
    prepare(config)
    loop = importlib.import_module("backend.fish_worker.loop")
    worker: Worker = loop.start(config, converted, send)
    return worker


def _keep_texts_out_of_the_log(log_level: str) -> None:
    """The package logs what it is asked to say, as INFO: DEBUG shows it."""
    levels: dict[str | None, str | int | bool] = {"": log_level}
    if log_level == "INFO":
        levels["fish_speech"] = "WARNING"
    log_to_stderr(log_level, filter=levels)


def main(arguments: list[str]) -> int:
    """Serve until stdin ends; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--converted", type=Path, required=True)
    known, rest = parser.parse_known_args(arguments)
    return run_worker(functools.partial(start, known.converted), rest)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
