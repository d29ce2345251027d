"""Runs `fish-speech==0.1.0` in an environment of its own and brings back arrays.

Our process never imports the package: its pins fit no current environment. `SHOAL_ORACLE_PYTHON`
names a ready interpreter; otherwise the environment is the one that `shoal engine add fish-speech`
makes, in `.venv-oracle`.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from backend.fish_worker.install import add_engine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Arrays = dict[str, NDArray[Any]]
Job = dict[str, Any]


def oracle_python() -> Path:
    """The interpreter that can import fish_speech, its environment made if there is none yet."""
    if given := os.environ.get("SHOAL_ORACLE_PYTHON"):
        return Path(given)
    # Tests run beside each other: whoever comes second waits until the first has made it.
    with FileLock(Path(tempfile.gettempdir()) / "shoal-oracle.lock"):
        return add_engine("fish-speech", ROOT / ".venv-oracle", print).python


def ask(jobs: Sequence[Job], arrays: Mapping[str, NDArray[Any]], scratch: Path) -> Arrays:
    """Answers to `jobs` (see `oracle_script.py`); arrays are named '<job name>/<key>' both ways."""
    scratch.mkdir(parents=True, exist_ok=True)
    questions, given, answers = (scratch / f for f in ("jobs.json", "given.npz", "answers.npz"))
    questions.write_text(json.dumps(jobs), "utf-8")
    np.savez(given, **dict(arrays))  # type: ignore[arg-type]
    command = [oracle_python(), HERE / "oracle_script.py", questions, given, answers]
    _call([str(part) for part in command])
    with np.load(answers) as file:
        return {key: file[key] for key in file.files}


def _call(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(ROOT)  # the script's, for `backend`
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr[-4000:]}")
