"""What of the request log is kept: its files go by age, and the oldest where they grow too many."""

import contextlib
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from backend.monitoring.files import named

_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much is kept; 0 keeps whatever there is."""

    keep_days: float = 0.0
    limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    tier: str
    is_rows: bool
    size_bytes: int
    modified_s: float


def sweep(
    directory: Path, retention: Retention, written: Collection[Path], now_s: float
) -> list[Path]:
    """Delete what `retention` does not keep of the log in `directory`; the files that are gone.

    Only regular files that are named as ours are, and none of `written`, which are being written.
    What the machine of a tier was is kept as long as rows of that tier are. A file that cannot be
    deleted stays. `now_s` is seconds since 1970. Blocks.
    """
    files = _files(directory)
    deleted: list[Path] = []
    total_bytes = sum(file.size_bytes for file in files)
    rows = sorted((file for file in files if file.is_rows), key=lambda file: file.modified_s)
    for file in rows:
        is_over = 0 < retention.limit_bytes < total_bytes
        if (is_over or _is_old(file, retention, now_s)) and _delete(file.path, written):
            total_bytes -= file.size_bytes
            deleted.append(file.path)
    tiers = {file.tier for file in rows if file.path not in deleted}
    for file in files:
        is_needed = file.is_rows or file.tier in tiers
        if not is_needed and _is_old(file, retention, now_s) and _delete(file.path, written):
            deleted.append(file.path)
    if deleted:
        logger.info("The request log is too old or too large: {} files deleted.", len(deleted))
    return deleted


def _files(directory: Path) -> list[_File]:
    found = []
    with contextlib.suppress(OSError):  # it comes with the first row, and writing says what fails
        for path in directory.iterdir():
            if (name := named(path.name)) is None:
                continue
            with contextlib.suppress(OSError):  # deleted meanwhile
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    kind, tier, _ = name
                    is_rows = kind != "hardware"
                    found.append(_File(path, tier, is_rows, status.st_size, status.st_mtime))
    return found


def _is_old(file: _File, retention: Retention, now_s: float) -> bool:
    return 0 < retention.keep_days * _DAY_S < now_s - file.modified_s


def _delete(path: Path, written: Collection[Path]) -> bool:
    if path in written:
        return False
    try:
        path.unlink()
    except OSError:  # another process has it open on Windows, or the folder is not ours to change
        return False
    return True
