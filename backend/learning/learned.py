"""What was learned: weights of linear models as plain JSON, and what of it is believed.

Nothing in the file is run. What cannot be read, or was learned of another machine, checkpoint or
version, is as good as not there; and whatever it says, `MOST_TIMES` bounds how far a prediction
goes from the formula.
"""

import math
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from loguru import logger
from msgspec import Meta

from backend.hardware.measurements import Key
from backend.learning.case import TARGETS, Case, Target
from backend.regular_file import open_regular

FILE_NAME = "learned.json"
MAX_FILE_BYTES = 64 * 1024
MAX_FEATURES = 64
MOST_TIMES = 4.0
"""A prediction is at most so many times the formula, and at least the same part of it."""
LEAST_ROWS = 32
"""Requests that a prediction is learned from before it is believed."""

_Name = Annotated[str, Meta(max_length=200)]
_Weight = Annotated[float, Meta(ge=-20, le=20)]
_Error = Annotated[float, Meta(ge=0, le=1000)]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One linear model: the logarithm of what it predicts, against a base, is a sum of weights."""

    rows: Annotated[int, Meta(ge=0, le=1_000_000)]
    """Requests that it is learned from."""
    weights: Annotated[dict[_Name, _Weight], Meta(max_length=MAX_FEATURES)]
    above: Annotated[float, Meta(ge=0, le=3)]
    """Logarithm of how far the truth lay above what was predicted, of all but 1 in 100."""
    error: _Error
    """Median of how far predictions were off, against the truth, each before it was learned."""
    formula_error: _Error
    """The same of the formula, for the same requests."""

    def times(self, case: Case) -> float:
        """What the base is multiplied by."""
        told = sum(self.weights.get(name, 0.0) * v for name, v in case.features().items())
        return math.exp(min(max(told, -10.0), 10.0))

    @property
    def is_better(self) -> bool:
        """It has seen enough, and was less far off than the formula."""
        return self.rows >= LEAST_ROWS and self.error < self.formula_error


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that was learned of one checkpoint on one machine."""

    key: Key
    since: _Name
    """Rows that are older than this (UTC, ISO 8601) were of another."""
    at: _Name = ""
    """The timestamp of the last row that it has seen."""
    format: Literal[1] = 1
    models: Annotated[dict[Target, Model], Meta(max_length=len(TARGETS))] = {}


def read_learned(file: Path, key: Key) -> Learned | None:
    """What `file` holds for `key`; None where that is nothing, or nothing that can be read."""
    try:
        with open_regular(file) as stored:
            text = stored.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
        learned = msgspec.json.decode(text, type=Learned)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("What was learned is not used, {}: {}", file, error)
        return None
    return learned if learned.key == key else None


def write_learned(file: Path, learned: Learned) -> None:
    """Put `learned` in the place of what was there, in one step; raises OSError."""
    text = msgspec.json.format(msgspec.json.encode(learned), indent=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=FILE_NAME, dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(text)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
