"""The published package, measured as `probe` measures ours, in the environment made for it:

start.py backend.bench.upstream --converted DIR --config JSON
"""

import argparse
import importlib
import sys
from pathlib import Path

from backend.bench.messages import Channel, Trouble
from backend.errors import ShoalError
from backend.fish_worker.main import prepare
from backend.logs import log_to_stderr
from backend.worker.messages import WorkerConfig


def main(arguments: list[str]) -> int:
    """Answer until stdin ends; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--converted", type=Path, required=True)
    parser.add_argument("--config", required=True)
    given = parser.parse_args(arguments)
    config = WorkerConfig.from_json(given.config)
    log_to_stderr(config.log_level)
    channel = Channel()
    prepare(config)
    speaking = importlib.import_module("backend.bench.upstream_speaking")
    try:
        speaking.run(config, given.converted, channel)
    except ShoalError as error:
        channel.tell(Trouble(str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
