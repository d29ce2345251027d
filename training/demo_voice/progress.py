"""How far a stage has come: its learning rate, its log, and what it leaves behind."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


class Progress:
    """Counts steps against a plan of steps and of seconds, whichever ends first."""

    def __init__(self, steps: int, seconds: float, warmup_steps: int, done: int = 0) -> None:
        self.step = done
        self._steps, self._seconds, self._warmup = steps, seconds, warmup_steps
        self._resumed_at, self._began_s = done, 0.0
        self.fraction = 0.0
        """0 at the first step, 1 at the end."""

    def reached(self) -> float:
        """The fraction now. The clock starts with the second step: compiling is not training."""
        elapsed_s = time.monotonic() - self._began_s if self._began_s else 0.0
        return max((self.step + 1) / self._steps, elapsed_s / self._seconds)

    def next(self, agreed: Callable[[float], float] = lambda reached: reached) -> bool:
        """Count a step; False when the plan is done. `agreed` says how far that is for all."""
        if self.step == self._resumed_at + 1:
            self._began_s = time.monotonic()
        self.fraction = agreed(self.reached())
        self.step += 1
        return self.fraction < 1

    def lr(self, peak: float, floor: float = 0.02) -> float:
        """Linear warm-up (after a resumption too), then a cosine to `floor` of the peak."""
        warm = min(1.0, (self.step - self._resumed_at) / max(1, self._warmup))
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.fraction))
        return peak * warm * (floor + (1 - floor) * cosine)


class Log:
    """One JSON line an entry, on the screen and in `path`."""

    def __init__(self, path: Path) -> None:
        self._path, self._began_s = path, time.monotonic()

    def __call__(self, **values: object) -> None:
        entry = {"s": round(time.monotonic() - self._began_s, 1)} | {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in values.items()
        }
        line = json.dumps(entry)
        print(f"{self._path.stem}: {line}", flush=True)
        with self._path.open("a") as file:
            file.write(line + "\n")


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write them whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, partial)
    partial.replace(path)
