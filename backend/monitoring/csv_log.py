"""The files of the request log: whole rows or nothing, and speech goes on whatever the disk does.

Each row is one `write` to a file opened for appending, so it is with the system as soon as the call
returns: `kill -9` loses at most the row being written (and what still waits in `log_writer.py`'s
queue). No file is ever opened twice. A new process
and every rotation begin a new one, so that a torn last line stays the last of its file.
"""

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from loguru import logger

from backend.monitoring.rows import RealtimeRow, Row, SynthesisRow, header, line

RETRY_S = 10.0
"""After a failure nothing is written for so long: a dead disk is not asked ten times a second."""
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
"""What no name of a file here holds, but for its suffix."""
FILE_NAME = re.compile(r"(synthesis|realtime)_(.+?)_\d{8}\D?\d{6}(?:_\d+)?\.csv")
"""What a file of rows is called: kind, tier and when it was begun."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)


class _RowFile:
    """The rows of one kind: a file named by tier and time, and after `rotate_bytes` the next."""

    def __init__(self, stem: Path, kind: type[Row], rotate_bytes: int) -> None:
        self._stem, self._kind, self._rotate_bytes = stem, kind, rotate_bytes
        self._file: int | None = None
        self._size_bytes = 0
        self.path: Path | None = None
        """The file being written."""
        self.files_begun = 0

    def append(self, row: Row) -> None:
        """Write `row`; raises OSError, and then nothing of it is in the file."""
        data = line(row)
        if self._file is not None and self._is_over(self._file, len(data)):
            self.close()
        if self._file is None:
            self._file, self._size_bytes = self._create(), 0
        if self._size_bytes == 0:
            data = header(self._kind) + data
        try:
            self._write(self._file, data)
        except OSError:
            self._take_back(self._file)
            raise

    def close(self) -> None:
        """Close the file; the next row opens another."""
        if self._file is not None:
            os.close(self._file)
            self._file = self.path = None

    def _is_over(self, file: int, row_bytes: int) -> bool:
        """The file is full, or somebody has deleted it, and rows would vanish unseen."""
        is_full = self._size_bytes > 0 and self._size_bytes + row_bytes > self._rotate_bytes
        return is_full or os.fstat(file).st_nlink == 0

    def _write(self, file: int, data: bytes) -> None:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size_bytes += len(data)

    def _take_back(self, file: int) -> None:
        """Remove what was written of a row; where that fails, the next row begins a new file."""
        try:
            os.ftruncate(file, self._size_bytes)
        except OSError:
            self.close()

    def _create(self) -> int:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        stem = f"{self._stem.name}_{datetime.now(UTC):%Y%m%d_%H%M%S}"
        for number in count(1):
            name = f"{stem}.csv" if number == 1 else f"{stem}_{number}.csv"
            try:
                file = os.open(self._stem.parent / name, _FLAGS, 0o644)
            except FileExistsError:
                continue
            self.path = self._stem.parent / name
            self.files_begun += 1
            return file
        raise AssertionError("count() does not end")


class CsvLog:
    """`synthesis_*.csv`, `realtime_*.csv` and `hardware_specs_*.json` of one tier in one folder.

    Files and the folder appear with the first row. Thread-safe. What cannot be written is one
    warning, and one line more when it can be again.
    """

    def __init__(
        self,
        directory: Path,
        tier: str,
        rotate_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self._tier = NOT_IN_A_NAME.sub("-", tier)
        self._files: dict[type[Row], _RowFile] = {
            kind: _RowFile(directory / f"{name}_{self._tier}", kind, rotate_bytes)
            for kind, name in ((SynthesisRow, "synthesis"), (RealtimeRow, "realtime"))
        }
        self._specs = directory / f"hardware_specs_{self._tier}.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._problem = ""
        self._retry_at_s = 0.0
        self._rows_lost = 0

    @property
    def problem(self) -> str:
        """Why nothing can be written just now; "" if it can."""
        return self._problem

    @property
    def files_begun(self) -> int:
        """Files of rows begun so far."""
        return sum(file.files_begun for file in self._files.values())

    @property
    def written(self) -> frozenset[Path]:
        """The files that are being written, and what says which machine this is."""
        open_files = {file.path for file in self._files.values() if file.path is not None}
        return frozenset({*open_files, self._specs})

    def append(self, row: Row) -> None:
        """Write `row` to the file of its kind."""
        with self._lock:
            if self._problem and self._clock() < self._retry_at_s:
                self._rows_lost += 1
                return
            try:
                self._files[type(row)].append(row)
            except OSError as error:
                self._rows_lost += 1
                self._failed(error)
            else:
                self._succeeded()

    def write_hardware_specs(self, specs: dict[str, Any]) -> None:
        """Write what machine this is, in the place of what the file said before."""
        unfinished = self._specs.with_suffix(f".{os.getpid()}.tmp")
        text = json.dumps(specs, indent=2, ensure_ascii=False, default=str) + "\n"
        with self._lock:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                unfinished.write_text(text, encoding="utf-8")
                unfinished.replace(self._specs)
            except OSError as error:
                self._failed(error)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for file in self._files.values():
                file.close()

    def _failed(self, error: OSError) -> None:
        if not self._problem:
            logger.warning(
                "The request log cannot be written to {}: {}. Speech goes on without it; "
                "make room or set SHOAL_METRICS_DIR.",
                self.directory,
                error.strerror or error,
            )
        self._problem = str(error.strerror or error)
        self._retry_at_s = self._clock() + RETRY_S

    def _succeeded(self) -> None:
        if self._problem:
            logger.info("The request log is written again; {} rows are lost.", self._rows_lost)
            self._problem, self._rows_lost = "", 0
