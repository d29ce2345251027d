"""Verdicts of what was tried on this machine before, with the same kernels and the same weights."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import backend

_KEPT = 16
"""Verdicts, of several checkpoints or precisions say; the oldest goes."""
_MOST_BYTES = 100_000
_ROOMS = ("codec", "engine", "model")
"""Whose code computes."""


def code_fingerprint() -> str:
    """A name for the code that computes: a change of it is tried anew."""
    digest, folder = hashlib.blake2b(digest_size=8), Path(backend.__file__).parent
    for room in _ROOMS:
        for file in sorted((folder / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Trials:
    """Verdicts by the name of what was tried, in one file of a folder.

    A trial is repeatable: the kernels are those of one CPU or GPU, and their numbers do not depend
    on how busy it is. A file that cannot be read or written only costs the next start its trials.
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
