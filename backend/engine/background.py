"""Compiles a running engine's decode step in the background, and lets it in once it agrees."""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loguru import logger

from backend.engine.agreement import compare
from backend.engine.compiled import CompiledWay, Run, load_pieces
from backend.engine.compiler import (
    COMMAND,
    CompileFailed,
    CompileStopped,
    Job,
    compile_job,
    explain,
)
from backend.engine.engine import Engine
from backend.engine.frame import State

OnDone = Callable[[bool, str], None]
"""(whether compiled code speaks now, why in words for a user)"""

_MOST_ROWS = 16
"""More rows than this use other kernels, those of quantized weights for one."""
_COMPARED_ROWS = 3
_BREATH_S = 0.1
"""Left to the running speech between two steps of the comparison."""
_NEW = "new-"
_KEPT = 4
"""Compilations that a cache folder holds, of several checkpoints or precisions say."""


class BackgroundCompile:
    """Compiles what `engine` runs for each frame on a CPU, while it speaks without.

    A child process compiles, at the lowest priority. What it made is loaded, compared with the
    eager way on a state of its own, and handed to the engine between two steps. `on_done`
    is told once how that ended, and once more should the compiled code fail later; it is called
    from another thread. Nothing here raises: what goes wrong is one warning, and speech goes on.
    """

    def __init__(
        self,
        engine: Engine,
        on_done: OnDone,
        cache_dir: Path | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`cache_dir` keeps what was compiled, for a worker that starts later; None keeps nothing.
        `command` is what compiles."""
        self._engine, self._on_done = engine, on_done
        self._way_before = engine.runner.way
        self._cache_dir, self._command = cache_dir, command
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compile", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Give up, or let go of what was compiled; the engine goes on without."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._engine.runner.way = self._way_before

    def _run(self) -> None:
        try:
            detail = self._compile_and_check()
        except CompileStopped:
            return
        except Exception as error:  # noqa: BLE001 - the thread's boundary: all of it is told
            reason = str(error) if isinstance(error, CompileFailed) else explain(error)
            self._give_up(f"torch.compile is not used: {reason}")
        else:
            logger.info("{}", detail)
            self._on_done(True, detail)

    def _compile_and_check(self) -> str:
        began_s = time.perf_counter()
        model, max_rows = self._engine.model, min(self._engine.max_batch, _MOST_ROWS)
        runs, source = self._runs(Job.of(model, max_rows))
        state = State.of(model, min(max_rows, _COMPARED_ROWS))
        agreement = compare(CompiledWay(state, runs, max_rows), state, self._pause)
        if not agreement.is_close:
            raise CompileFailed(f"its results differ: {agreement}")
        if self._stopping.is_set():
            raise CompileStopped
        runner = self._engine.runner
        runner.on_fallback = self._failed_later
        runner.way = CompiledWay(runner.state, runs, max_rows)
        seconds = time.perf_counter() - began_s
        return f"torch.compile is active after {seconds:.0f} s, {source}; {agreement}."

    def _runs(self, job: Job) -> tuple[Mapping[str, Run], str]:
        """The compiled pieces, and where they are from."""
        if self._cache_dir is None:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
                seconds = self._compile(job, Path(name))
                return load_pieces(Path(name)), f"compiled in {seconds:.0f} s"
        kept = self._cache_dir / job.key()
        if kept.is_dir():
            with contextlib.suppress(RuntimeError):  # it was cut short, say: made anew
                return load_pieces(kept), "compiled before"
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache_dir, prefix=_NEW) as name:
            made = Path(name) / "made"
            made.mkdir()
            seconds = self._compile(job, made)
            shutil.rmtree(kept, ignore_errors=True)
            with contextlib.suppress(OSError):  # another worker was faster, and that is as good
                made.rename(kept)
        _prune(self._cache_dir)
        return load_pieces(kept), f"compiled in {seconds:.0f} s"

    def _compile(self, job: Job, folder: Path) -> float:
        """Compile into `folder`; the seconds it took."""
        began_s = time.perf_counter()
        compile_job(job, folder, self._stopping, self._command)
        return time.perf_counter() - began_s

    def _pause(self) -> None:
        """Between two steps of the comparison: the running speech comes first."""
        if self._stopping.wait(0.0 if self._engine.is_idle else _BREATH_S):
            raise CompileStopped

    def _failed_later(self, error: RuntimeError) -> None:
        self._give_up(f"torch.compile is not used any more: {explain(error)}")

    def _give_up(self, detail: str) -> None:
        logger.warning("{}", detail)
        self._on_done(False, detail)


def _prune(folder: Path) -> None:
    """Remove all but the newest compilations."""
    whole = [entry for entry in folder.iterdir() if not entry.name.startswith(_NEW)]
    whole.sort(key=lambda entry: entry.stat().st_mtime)
    for old in whole[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
