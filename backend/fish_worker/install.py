"""Engines that need a virtual environment of their own: made, looked at, started, taken away.

`fish-speech==0.1.0` pins what fits no current environment, so it gets one to itself under
`data_dir/engines/fish-speech`: `venv`, `installed.json`, which is written last and says what is in
it, and `checkpoints`, conversions of checkpoints that the package cannot read as they are.
"""

import difflib
import hashlib
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from filelock import FileLock, Timeout

from backend.core import EngineName
from backend.errors import BadSetting
from backend.settings import Settings
from backend.worker.messages import WorkerConfig

ADDABLE: tuple[EngineName, ...] = ("fish-speech",)
"""Engines that have an environment of their own."""
_HERE = Path(__file__).parent
_START = _HERE / "start.py"
_BESIDE, _ALONE = _HERE / "requirements.txt", _HERE / "requirements-nodeps.txt"
_TORCH_INDEX = "https://download.pytorch.org/whl/"
_LAST_LINES = 12
_NOT_FOR_PIP = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON"})
"""pip's settings that would install anywhere but into the environment."""
_WORTH_TELLING = ("Collecting ", "Downloading ", "Building ", "Installing ")
"""How those lines of pip's begin that a user waits for."""

EngineState = Literal["missing", "unfinished", "outdated", "ready"]
OnLine = Callable[[str], None]
Run = Callable[[Sequence[str], OnLine], None]
"""Runs a command to its end and hands on each line of its output; `BadSetting` if it fails."""


class _Stamp(msgspec.Struct, frozen=True):
    """`installed.json`: what the environment holds, and what it was made for."""

    digest: str
    package: str
    torch: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Environment:
    """An engine's environment as it is found on disk."""

    name: EngineName
    folder: Path
    state: EngineState
    """missing; unfinished: begun and never completed; outdated: not what this version needs."""
    package: str = ""
    """What was installed, "fish-speech 0.1.0" say."""
    torch_version: str = ""
    size_bytes: int = 0
    """Of its files when it was made."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
        return self.folder / "venv" / inside

    @property
    def converted(self) -> Path:
        """Where conversions of checkpoints are kept."""
        return self.folder / "checkpoints"


def find_engine(name: str, data_dir: Path) -> Environment:
    """How the environment of `name` is; `BadSetting` where it is none that has one."""
    known = _known(name)
    folder = data_dir.absolute() / "engines" / known
    missing = Environment(known, folder, "missing")
    if not (folder / "venv").exists():
        return missing
    stamp = _read_stamp(folder)
    if stamp is None or not missing.python.exists():
        return Environment(known, folder, "unfinished")
    return Environment(
        name=known,
        folder=folder,
        state="ready" if stamp.digest == _digest(_torch_version()) else "outdated",
        package=stamp.package,
        torch_version=stamp.torch,
        size_bytes=stamp.size_bytes,
    )


def list_engines(data_dir: Path) -> tuple[Environment, ...]:
    """Every engine that can be added, as it is."""
    return tuple(find_engine(name, data_dir) for name in ADDABLE)


def remove_engine(name: str, data_dir: Path) -> bool:
    """Delete the environment and what was kept for it; False where there was none."""
    found = find_engine(name, data_dir)
    if not found.folder.exists():
        return False
    with _alone(found.folder):
        _delete(found.folder)
    return True


def add_engine(
    name: str, data_dir: Path, on_progress: OnLine, run: "Run | None" = None
) -> Environment:
    """Make the environment of `name`, unless it is there and what this version needs.

    Takes a minute or two and downloads what pip has not cached. `on_progress` gets a line for each
    thing that is done. Raises `BadSetting` with the last lines of what failed; what was begun is
    made anew next time.
    """
    found = find_engine(name, data_dir)
    if found.state == "ready":
        return found
    try:
        with _alone(found.folder):
            _build(found, on_progress, run or run_command)
    except OSError as error:
        raise BadSetting(f"{found.folder} cannot be written: {error.strerror or error}.") from error
    return find_engine(name, data_dir)


def fish_worker_command(settings: Settings, config: WorkerConfig) -> tuple[str, ...]:
    """The command line of a worker that speaks through the published package.

    Raises `BadSetting` where its environment is not ready, or where something is asked for that
    the package does not do.
    """
    if settings.quantization in ("int8", "int4"):
        raise BadSetting(
            f"QUANTIZATION={settings.quantization} cannot be had with ENGINE=fish-speech, which "
            "speaks with the weights as they are: unset one of the two."
        )
    found = find_engine("fish-speech", settings.data_dir)
    if found.state != "ready":
        raise BadSetting(f"{_why_not(found)}; run: shoal engine add {found.name}")
    return fish_command(found.python, found.converted, config)


def fish_command(
    python: Path,
    converted: Path,
    config: WorkerConfig,
    module: str = "backend.fish_worker.main",
) -> tuple[str, ...]:
    """The same for any interpreter that can import the package, and any module of ours."""
    plain = msgspec.structs.replace(config, quantization="none", calibration_samples=0)
    options = ("--converted", str(converted), "--config", plain.to_json())
    return (*_module(python, module), *options)


def _why_not(found: Environment) -> str:
    said = {
        "missing": f"ENGINE={found.name} has no environment yet",
        "unfinished": f"The environment of ENGINE={found.name} was never completed",
        "outdated": f"The environment of ENGINE={found.name} is of another version of Shoal or "
        f"torch (it has torch {found.torch_version}, the server {_torch_version()})",
    }
    return said[found.state]


def _known(name: str) -> EngineName:
    for known in ADDABLE:
        if name == known:
            return known
    nearest = difflib.get_close_matches(name, ADDABLE, n=1, cutoff=0.0)[0]
    raise BadSetting(f"There is no engine {name} that can be added: did you mean {nearest}?")


# -- making it -------------------------------------------------------------------------------------


def _build(found: Environment, on_progress: OnLine, run: Run) -> None:
    venv, version = found.folder / "venv", _torch_version()
    (found.folder / "installed.json").unlink(missing_ok=True)
    _delete(venv)
    on_progress(f"Making a virtual environment in {venv}")
    run((sys.executable, "-I", "-m", "venv", str(venv)), on_progress)
    # Compiling all of it would take half of the time, for a tenth that is ever imported.
    pip = (str(found.python), "-I", "-m", "pip", "install", "--no-compile", "--progress-bar=off")

    def install(*wanted: str) -> None:
        run((*pip, *wanted), lambda line: _pass_on(line, on_progress))

    _install_torch(version, on_progress, install)
    install("-r", str(_BESIDE), f"torch=={version}")
    install("--no-deps", "-r", str(_ALONE))
    on_progress("Trying to import it")
    lines: list[str] = []
    run(_module(found.python, "backend.fish_worker.package"), lines.append)
    installed = json.loads(lines[-1])
    package, torch = installed["package"], installed["torch"]
    size_bytes = _size_bytes(found.folder)
    _write_stamp(found.folder, _Stamp(_digest(version), package, torch, size_bytes))
    on_progress(f"{package} with torch {torch} is ready")


def _install_torch(version: str, on_progress: OnLine, install: Callable[..., None]) -> None:
    """The server's own build: another may not fit the GPU's driver, or be gigabytes larger."""
    _, _, build = version.partition("+")
    try:
        install(f"torch=={version}")
    except BadSetting:
        if not build:
            raise
        on_progress(f"pip finds no torch {version}: asking PyTorch's own index")
        install(f"torch=={version}", "--extra-index-url", _TORCH_INDEX + build)


def _pass_on(line: str, on_progress: OnLine) -> None:
    if line.startswith(_WORTH_TELLING):
        on_progress(line)


def run_command(command: Sequence[str], on_line: OnLine) -> None:
    """Run `command` to its end; `BadSetting` with its last lines if it fails."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=_clean_environment(),
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if text := line.strip():
                    last.append(text)
                    on_line(text)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = "".join(f"\n  {line}" for line in last)
        what = shlex.join(command)
        raise BadSetting(f"{what}\nfailed with exit code {process.returncode}:{said}")


def _module(python: Path, name: str) -> tuple[str, ...]:
    # -I: neither PYTHONPATH nor the folder we are in may bring the server's packages in.
    return (str(python), "-I", str(_START), name)


def _clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in _NOT_FOR_PIP
    }
    return {**kept, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _torch_version() -> str:
    """Of the server's own environment, its build included: "2.13.0+cpu"."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise BadSetting("torch is not installed beside Shoal; install Shoal again.") from None


def _digest(torch_version: str) -> str:
    """Of everything that is installed: another one means that it has to be made anew."""
    parts = (_BESIDE.read_bytes(), _ALONE.read_bytes(), torch_version.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


# -- files -----------------------------------------------------------------------------------------


def _read_stamp(folder: Path) -> _Stamp | None:
    try:
        return msgspec.json.decode((folder / "installed.json").read_bytes(), type=_Stamp)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_stamp(folder: Path, stamp: _Stamp) -> None:
    scratch = folder / "installed.json.unfinished"
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(stamp)))
    scratch.replace(folder / "installed.json")


def _delete(folder: Path) -> None:
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise BadSetting(
            f"{folder} cannot be deleted, is a worker running from it? ({error.strerror or error})"
        ) from error


def _size_bytes(folder: Path) -> int:
    files = (Path(root) / file for root, _, names in os.walk(folder) for file in names)
    return sum(file.lstat().st_size for file in files)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps two processes from making the same environment at once; `BadSetting` for the second.

    The system gives the lock back when its process ends, however that ends.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(folder.name + ".lock"), timeout=0):
            yield
    except Timeout:
        raise BadSetting(
            f"Another process is at work in {folder}; wait until it is done."
        ) from None
