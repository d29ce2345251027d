"""`shoal serve` whose wall clock is off by as many seconds as a file says, its argument."""

import datetime
import sys
import time
from pathlib import Path

from backend.cli import app


def main() -> None:
    (file,) = sys.argv[1:]
    real_ns, told = time.time_ns, Path(file)

    def time_ns() -> int:
        return real_ns() + round(1e9 * float(told.read_text("ascii")))

    class Leaping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Leaping":
            return cls.fromtimestamp(time_ns() / 1e9, tz)

    time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
    for module in list(sys.modules.values()):
        if module.__name__.startswith("backend.") and hasattr(module, "datetime"):
            module.datetime = Leaping  # type: ignore[attr-defined]
    app(["serve"])


if __name__ == "__main__":
    main()
