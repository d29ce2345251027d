"""What a checkpoint says of itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import BadCheckpoint


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says of itself: `shoal.json` in a folder of our own layout.

    An official folder has none; the defaults are what `openaudio-s1-mini` was trained for.
    """

    name: str
    max_segment_characters: int = 400
    max_reference_s: float = 60.0
    languages: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""
    has_default_voice: bool = False
    """Without a reference it always speaks in the same voice, instead of one by chance."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read `shoal.json`; BadCheckpoint names a key that is not known."""
        unknown = sorted(raw.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown or "name" not in raw:
            raise BadCheckpoint(f"shoal.json must have a name and no unknown keys {unknown}")
        return cls(**{**raw, "languages": tuple(raw.get("languages", ()))})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return dataclasses.asdict(self)
