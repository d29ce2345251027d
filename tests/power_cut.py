"""What a folder may hold after a power cut: all that was written up to a moment, and of the last
file a part.

What is written is taken to reach the disk in the order in which it was written, as fsync makes it
or a file system keeps it. The folder is looked at before each call that changes it; between two
looks, each file that changed is cut at several places.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Files = dict[str, bytes]
"""Contents by path below the folder."""

_CHANGES = frozenset(
    {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
)
_looks: list[Callable[[], None]] = []


def _hook(event: str, _: tuple[object, ...]) -> None:
    if _looks and event in _CHANGES:
        look = _looks.pop()  # what it does itself is not looked at
        look()
        _looks.append(look)


sys.addaudithook(_hook)  # there is no way to remove one


def cuts(folder: Path, work: Callable[[], object]) -> list[Files]:
    """What `folder` may hold if power fails while `work` runs, before it and after it included."""
    seen = [_files(folder)]

    def look() -> None:
        if (now := _files(folder)) != seen[-1]:
            seen.append(now)

    _looks.append(look)
    try:
        work()
    finally:
        _looks.clear()
    look()
    torn = [files for pair in itertools.pairwise(seen) for files in _between(*pair)]
    return [*seen, *torn]


def restore(files: Files, folder: Path) -> Path:
    """Let `folder` hold `files` and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _files(folder: Path) -> Files:
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _between(before: Files, after: Files) -> Iterator[Files]:
    for name, data in after.items():
        old = before.get(name)
        if old == data or data in before.values():
            continue  # the same, or moved here in one step
        kept = old if old is not None and data.startswith(old) else b""
        new = len(data) - len(kept)
        for length in sorted({0, 1, new // 3, new // 2, new - 1}):
            yield before | {name: data[: len(kept) + max(0, length)]}
