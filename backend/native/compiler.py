"""Makes the kernels' shared library on the user's machine, for its own CPU, and keeps it."""

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

WIDE = "codec_wide"
"""The source of what only encodes, a library of its own: most workers never do."""
SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
_TIMEOUT_S = 120.0
_KEPT = 4
"""Libraries that a folder holds: of this version and a few before it."""
_SUFFIX = ".dll" if sys.platform == "win32" else ".so"
_making = threading.Lock()


class CannotCompile(Exception):
    """There is no compiler, it failed, or nothing can be written; the message says which."""


def compile_library(
    folder: Path,
    compiler: Sequence[str] | None = None,
    *,
    is_wide: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Path:
    """The library in `folder`, made there if there is none for this source and this CPU.

    That of `codec_wide.c` if it `is_wide`, else of all other sources. `compiler` is a command that
    takes what gcc takes; None looks for one. `before` is called if it has to be made. One thread at
    a time: another one that wants the same waits for it. Raises `CannotCompile`.
    """
    with _making:
        try:
            return _library(folder, compiler, is_wide, before)
        except OSError as error:  # a full disk, or one that is only read
            raise CannotCompile(f"they cannot be kept in {folder}: {error}") from error


def _library(
    folder: Path, compiler: Sequence[str] | None, is_wide: bool, before: Callable[[], None]
) -> Path:
    command = [*(compiler or find_compiler()), *_flags()]
    # What a compiler defines tells which it is, and what it would make for this CPU.
    defined = _run([*command, "-dM", "-E", "-x", "c", "-"], folder)
    digest = hashlib.sha256(defined)
    for source in SOURCES:
        digest.update(source.read_bytes())
    kind = "wide" if is_wide else "native"
    library = folder / f"{kind}-{digest.hexdigest()[:24]}{_SUFFIX}"
    if _can_be_loaded(library):
        return library
    before()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        made = Path(name) / library.name
        every = [source for source in SOURCES if source.suffix == ".c"]
        sources = [source for source in every if (source.stem == WIDE) == is_wide]
        objects = [str(made.with_name(f"{source.stem}.o")) for source in sources]
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # each waits for a process
            jobs = (
                [*command, "-c", str(s), "-o", o] for s, o in zip(sources, objects, strict=True)
            )
            list(threads.map(_run, jobs, repeat(folder)))
        _run([*command, "-shared", "-o", str(made), *objects, "-lm"], folder)
        with made.open("rb+") as file:  # power may fail: half a library would end each worker
            os.fsync(file.fileno())
        made.replace(library)
    _prune(folder, kind)
    return library


def _can_be_loaded(library: Path) -> bool:
    """It is there, and whole."""
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


def find_compiler() -> list[str]:
    """The command of a C compiler: CC, the system's, or that of the package `ziglang`."""
    if wanted := os.environ.get("CC"):
        return wanted.split()
    # On a Mac without developer tools `cc` is a program that asks to install them.
    is_there = sys.platform != "darwin" or _succeeds(["xcode-select", "-p"])
    for name in ("cc", "gcc", "clang") if is_there else ():
        if (path := shutil.which(name)) is not None:
            return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise CannotCompile('there is no C compiler: install gcc or clang, or "shoal-tts[cpu]"')


def _flags() -> list[str]:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
    position = [] if sys.platform == "win32" else ["-fPIC"]
    return [
        *("-std=c11", "-O3", "-march=native" if is_x86 else "-mcpu=native"),
        *("-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden", *position),
    ]


def _run(command: Sequence[str], folder: Path) -> bytes:
    caches = {name: str(folder / "zig") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=os.environ | caches,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(f"the C compiler {command[0]} cannot be run: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        said = next((line for line in lines if "error" in line), lines[0] if lines else "")
        raise CannotCompile(f"the C compiler {command[0]} failed: {said[:300]}")
    return done.stdout


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _prune(folder: Path, kind: str) -> None:
    libraries = sorted(folder.glob(f"{kind}-*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
    for old in libraries[:-_KEPT]:
        try:
            old.unlink()
        except OSError:  # another worker has it loaded, which Windows does not let go of
            return
