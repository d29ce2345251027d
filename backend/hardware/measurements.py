"""The file that keeps what was measured, for each machine, checkpoint and version.

What cannot be read is as good as not there: a line in the log, and the tier table decides.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from loguru import logger
from msgspec import Meta

from backend.core import MIB
from backend.errors import BadCheckpoint, StorageFull
from backend.hardware.machine import GIB, Hardware
from backend.hardware.measured import Measurement
from backend.model.config import checkpoint_fingerprint
from backend.regular_file import open_regular
from backend.version import shoal_version

FILE_NAME = "measured.json"
MAX_FILE_BYTES = MIB
MAX_ENTRIES, MAX_ROWS = 16, 64
"""Machines and checkpoints, and setups of each, that are kept; the oldest go."""

_Name = Annotated[str, Meta(max_length=200)]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a measurement holds for: another machine, checkpoint or version may be another."""

    machine: _Name
    checkpoint: _Name
    version: _Name

    @classmethod
    def of(cls, hardware: Hardware, folder: Path) -> "Key":
        """Of the checkpoint in `folder` on this machine; `BadCheckpoint` if its weights are not
        there."""
        version = f"shoal {shoal_version()}, torch {hardware.torch_version or 'unknown'}"
        return cls(machine_fingerprint(hardware), checkpoint_fingerprint(folder), version)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Key
    checkpoint: _Name
    """Its name, for people."""
    at: _Name
    """Date and time, UTC."""
    rows: Annotated[tuple[Measurement, ...], Meta(max_length=MAX_ROWS)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    entries: Annotated[tuple[_Entry, ...], Meta(max_length=MAX_ENTRIES)] = ()


@dataclass(frozen=True, slots=True)
class Measurements:
    """What `shoal tune` measured, in one file of the data folder."""

    data_dir: Path

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.data_dir / FILE_NAME

    def find(self, hardware: Hardware, folder: Path) -> tuple[Measurement, ...]:
        """What was measured of the checkpoint in `folder` on this machine; often nothing."""
        entries = self._read().entries
        if not entries:
            return ()
        try:
            key = Key.of(hardware, folder)
        except BadCheckpoint:  # a plan may be made of a folder that has no weights yet
            return ()
        return next((entry.rows for entry in entries if entry.key == key), ())

    def keep(
        self, hardware: Hardware, folder: Path, name: str, rows: Sequence[Measurement]
    ) -> None:
        """Add `rows` to what is kept; each takes the place of an older one of its setup.

        Those that were skipped are not kept. Raises `StorageFull` where the file cannot be written.
        """
        key, entries = Key.of(hardware, folder), self._read().entries
        old = next((entry.rows for entry in entries if entry.key == key), ())
        new = [row for row in rows if row.outcome != "skipped"]
        setups = {row.setup for row in new}
        together = [*(row for row in old if row.setup not in setups), *new][-MAX_ROWS:]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = _Entry(key, name[:200], now, tuple(together))
        others = [each for each in entries if each.key != key]
        self._write(_File(1, (*others, entry)[-MAX_ENTRIES:]))

    def _read(self) -> _File:
        try:
            with open_regular(self.file) as stored:
                text = stored.read(MAX_FILE_BYTES + 1)
            if len(text) > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            return msgspec.json.decode(text, type=_File)
        except FileNotFoundError:
            return _File()
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("What was measured is not used, {}: {}", self.file, error)
            return _File()

    def _write(self, content: _File) -> None:
        text = msgspec.json.format(msgspec.json.encode(content), indent=1)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            # In the same folder: it takes the old one's place in one step.
            handle, name = tempfile.mkstemp(prefix=FILE_NAME, dir=self.data_dir)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(text)
                Path(name).replace(self.file)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageFull(
                f"{self.file} cannot be written: {error.strerror}; SHOAL_DATA_DIR names another "
                "folder."
            ) from None


def machine_fingerprint(hardware: Hardware) -> str:
    """A name for all of the machine that speed depends on; what is free just now does not count."""
    told = {
        "system": hardware.system,
        "machine": hardware.machine,
        "board": hardware.board,
        "is_wsl": hardware.is_wsl,
        "cpu": asdict(hardware.cpu) | {"features": sorted(hardware.cpu.features)},
        "memory_gib": round(hardware.memory.limit_bytes / GIB),
        "gpus": [(gpu.name, gpu.uuid, gpu.driver) for gpu in hardware.gpus],
        "has_mps": hardware.has_mps,
    }
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=12).hexdigest()
