"""Verdicts of what was tried on this machine before, with the same library and the same weights."""

import contextlib
import json
import os
from pathlib import Path

_KEPT = 16
"""Verdicts, of several checkpoints or precisions say; the oldest goes."""
_MOST_BYTES = 100_000


class Trials:
    """Verdicts by the name of what was tried, in one file of a folder.

    A trial is repeatable: the kernels are those of one CPU, and their numbers do not depend on how
    busy it is. A file that cannot be read or written only costs the trials of the next start.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "trials.json"

    def find(self, name: str) -> float | None:
        """The verdict on `name`; None where it was not tried."""
        return self._read().get(name)

    def note(self, name: str, verdict: float) -> None:
        """Keep the verdict on `name`."""
        verdicts = self._read()
        verdicts.pop(name, None)
        verdicts[name] = verdict
        last = dict(list(verdicts.items())[-_KEPT:])
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(last, indent=2), "utf-8")
            partial.replace(self._path)

    def _read(self) -> dict[str, float]:
        try:
            with self._path.open("rb") as file:
                said = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return {}
        if not isinstance(said, dict):
            return {}
        return {name: float(v) for name, v in said.items() if isinstance(v, int | float)}
