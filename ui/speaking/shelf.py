"""The takes on disk: each browser sees its own, the oldest make room for new ones."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from ui.setup import MIB, Setup
from ui.speaking.take import Take

MOST_TAKES = 200
"""Of one browser."""
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


class Shelf:
    """Every take that is kept. Used by one event loop."""

    def __init__(self, setup: Setup) -> None:
        self._folder = setup.folder / "takes"
        self._limit_bytes = setup.takes_limit_mb * MIB
        self._takes: dict[str, Take] = {}
        self._find()

    def get(self, take_id: str) -> Take | None:
        """The take of that id."""
        return self._takes.get(take_id) if _ID.fullmatch(take_id) else None

    def of(self, owner: str) -> list[Take]:
        """The takes of one browser, the newest first."""
        mine = [take for take in self._takes.values() if take.record.owner == owner]
        return sorted(mine, key=lambda take: take.record.created_at, reverse=True)

    def create(
        self,
        owner: str,
        fields: dict[str, Any],
        recording: bytes | None = None,
        is_live: bool = False,
    ) -> Take:
        """A new take; raises OSError where the disk does not take it."""
        self._make_room(owner)
        take = Take.create(self._folder, owner, fields, recording, is_live)
        self._takes[take.id] = take
        return take

    def remove(self, take: Take) -> None:
        """Forget it, and what lies on disk of it."""
        self._takes.pop(take.id, None)
        shutil.rmtree(take.folder, ignore_errors=True)

    def _find(self) -> None:
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if not _ID.fullmatch(folder.name):
                continue
            try:
                self._takes[folder.name] = Take.load(folder)
            except (OSError, msgspec.DecodeError) as error:
                logger.warning("A take in {} cannot be read and is left out: {}", folder, error)

    def _make_room(self, owner: str) -> None:
        mine = [take for take in self.of(owner) if take.is_over]
        for take in mine[MOST_TAKES - 1 :]:
            self.remove(take)
        sizes = {take.id: _size_bytes(take.folder) for take in self._takes.values()}
        total = sum(sizes.values())
        for take in sorted(self._takes.values(), key=lambda take: take.record.created_at):
            if total <= self._limit_bytes:
                break
            if take.is_over:
                total -= sizes[take.id]
                self.remove(take)


def _size_bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # it is just being removed
        total = sum(file.stat().st_size for file in folder.iterdir())
    return total
