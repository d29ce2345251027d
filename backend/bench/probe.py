"""A process that computes what the bench asks: `python -m backend.bench.probe --config JSON`.

It holds what a worker with that `WorkerConfig` holds, in the same way, and makes frames without
sound and sound without frames. It answers as `messages` tells.
"""

import argparse
import importlib
import sys

from backend.bench.messages import Channel, Trouble
from backend.errors import ShoalError
from backend.logs import log_to_stderr
from backend.worker.main import prepare
from backend.worker.messages import WorkerConfig


def main(arguments: list[str]) -> int:
    """Answer until stdin ends; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    config = WorkerConfig.from_json(parser.parse_args(arguments).config)
    log_to_stderr(config.log_level)
    channel = Channel()
    prepare(config)
    computing = importlib.import_module("backend.bench.computing")
    try:
        loaded = computing.Computing(config)
    except ShoalError as error:
        channel.tell(Trouble(str(error)))
        return 1
    channel.tell(loaded.hello)
    while (question := channel.asked()) is not None:
        channel.tell(loaded.answer(question))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
