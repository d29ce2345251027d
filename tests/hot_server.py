"""`shoal serve` where the files of /sys are those of a folder, its argument, and heat comes faster.

A second of the wall clock is ten of thermal control; everything else is as it always is.
"""

import sys
import time
from pathlib import Path

from backend import thermometer
from backend.cli import app
from backend.hardware import usage
from backend.serving import cooling

FASTER = 10.0


def main() -> None:
    (folder,) = sys.argv[1:]
    thermometer.SYS = Path(folder)
    usage.HEAT_INTERVAL_S = cooling.TICK_S = cooling.IDLE_TICK_S = 1 / FASTER
    defaults = cooling.Cooling.__init__.__kwdefaults__
    assert defaults is not None
    defaults["clock"] = lambda: FASTER * time.monotonic()
    app(["serve"])


if __name__ == "__main__":
    main()
