"""The JSON files of a checkpoint, read from disk."""

import json
from pathlib import Path
from typing import Any

from backend.errors import BadCheckpoint


def read_json(path: Path) -> dict[str, Any]:
    """The object that the file at `path` holds; BadCheckpoint says what is wrong with it."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path} must hold a JSON object")
    return value
