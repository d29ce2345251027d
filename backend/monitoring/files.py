"""The files of the request log as others read them: which there are, and their whole lines."""

import contextlib
import os
import re
import stat
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, cast

from backend.core import MIB
from backend.errors import BadSetting, UnknownFile
from backend.monitoring.csv_log import FILE_NAME, NOT_IN_A_NAME
from backend.monitoring.rows import timestamp
from backend.regular_file import open_regular

Kind = Literal["synthesis", "realtime", "hardware"]

MAX_LISTED = 200
"""Files that one list tells of."""
MAX_LAST_BYTES = 16 * MIB
"""Most that may be asked for of a file's end."""
WHOLE_BYTES = 64 * MIB
"""Of a longer file only the end is read."""
_PIECE_BYTES = 256 * 1024
_LINE_BYTES = MIB
"""No line of ours comes near it: where no line end is found within, there is no line."""
_NAME_CHARACTERS = 200
_HARDWARE_NAME = re.compile(r"hardware_specs_(.+)\.json")


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the request log."""

    name: str
    kind: Kind
    """hardware is what machine it was, in JSON; the others are CSV."""
    tier: str
    size_bytes: int
    modified_at: str
    """UTC, ISO 8601."""
    started_at: str | None
    """The same, as its name says; None where that says nothing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The newest files of a folder, newest first, and how many there are in all."""

    files: tuple[LogFile, ...]
    total: int


def list_files(directory: Path | None) -> Listing:
    """The files of the log in `directory`; none where nothing is logged.

    Blocks. Raises `BadSetting` for a folder that cannot be read.
    """
    if directory is None:
        return Listing((), 0)
    found: list[tuple[int, LogFile]] = []
    try:
        for file in directory.iterdir():
            if (name := named(file.name)) is None:
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                status = file.lstat()
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime_ns, _log_file(file.name, name, status)))
    except FileNotFoundError:
        return Listing((), 0)  # it comes with the first row
    except OSError as error:
        raise BadSetting(
            f"{directory} cannot be read: {error.strerror}; set SHOAL_METRICS_DIR to a folder "
            "that can."
        ) from None
    found.sort(key=lambda item: (item[0], item[1].name), reverse=True)
    return Listing(tuple(newest for _, newest in found[:MAX_LISTED]), len(found))


class Excerpt:
    """An open file of the log: its first line and the last ones, as they were when it was opened.

    All its calls block. Close it.
    """

    def __init__(self, file: BinaryIO, kind: Kind, last_bytes: int) -> None:
        self._file = file
        size_bytes = os.fstat(file.fileno()).st_size
        if kind == "hardware":  # in one piece: it is never written but whole
            spans = [(0, size_bytes)]
        else:
            end = _end_of_lines(file, size_bytes)
            header = file.readline(_LINE_BYTES) if end and not file.seek(0) else b""
            begin = len(header) if header.endswith(b"\n") else 0
            at = max(begin, end - last_bytes)
            spans = [(0, begin), (_next_line(file, at, end) if at > begin else begin, end)]
            size_bytes = end
        self.length_bytes = sum(last - first for first, last in spans)
        self.is_cut = self.length_bytes < size_bytes
        """There are lines between the first and those that follow it here."""
        self._pieces = deque(
            (start, min(_PIECE_BYTES, last - start))
            for first, last in spans
            for start in range(first, last, _PIECE_BYTES)
        )

    def read(self) -> bytes:
        """The next piece; b"" after the last, and where the file has become shorter."""
        if not self._pieces:
            return b""
        start, length = self._pieces.popleft()
        self._file.seek(start)
        return self._file.read(length)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def named(name: str) -> tuple[Kind, str, str] | None:
    """Kind, tier and moment in the name of a file of the log; None for any other name."""
    stem, dot, _ = name.rpartition(".")
    if len(name) > _NAME_CHARACTERS or not dot or NOT_IN_A_NAME.search(stem):
        return None
    if match := FILE_NAME.fullmatch(name):
        digits = re.sub(r"\D", "", name[match.end(2) :])
        return cast(Kind, match[1]), match[2], digits[:14]
    if match := _HARDWARE_NAME.fullmatch(name):
        return "hardware", match[1], ""
    return None


def kind_of(name: str) -> Kind:
    """What the file of that name holds; `UnknownFile` where none of the log has such a name."""
    if (found := named(name)) is None:
        raise _unknown(name)
    return found[0]


def open_file(directory: Path | None, name: str, last_bytes: int = WHOLE_BYTES) -> Excerpt:
    """The file of that name: of a CSV its header, and the last lines within `last_bytes`.

    Blocks. Raises `UnknownFile` for whatever is no file of the log directly in `directory`.
    """
    kind = kind_of(name)
    if directory is None:
        raise _unknown(name)
    try:
        file = open_regular(directory / name)
    except OSError:
        raise _unknown(name) from None
    try:
        return Excerpt(file, kind, last_bytes)
    except OSError:
        file.close()
        raise


def _log_file(name: str, says: tuple[Kind, str, str], status: os.stat_result) -> LogFile:
    kind, tier, moment = says
    started_at = None
    with contextlib.suppress(ValueError):  # digits that are no date
        started_at = f"{datetime.strptime(moment, '%Y%m%d%H%M%S'):%Y-%m-%dT%H:%M:%S}.000Z"
    return LogFile(name, kind, tier, status.st_size, timestamp(status.st_mtime), started_at)


def _end_of_lines(file: BinaryIO, size_bytes: int) -> int:
    """Where the last whole line ends: what follows is still being written, or was never."""
    start = max(0, size_bytes - _LINE_BYTES)
    file.seek(start)
    end = file.read(size_bytes - start).rfind(b"\n") + 1
    return start + end if end else 0


def _next_line(file: BinaryIO, at: int, end: int) -> int:
    """Where the first line begins that has nothing before `at`; `end` where there is none."""
    file.seek(at - 1)
    line = file.readline(_LINE_BYTES)
    return at - 1 + len(line) if line.endswith(b"\n") else end


def _unknown(name: str) -> UnknownFile:
    return UnknownFile(
        f"There is no file {name[:_NAME_CHARACTERS]!r} in the request log; GET /metrics/files "
        "lists the files."
    )
