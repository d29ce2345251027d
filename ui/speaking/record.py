"""What is kept of a take beside its sound."""

from typing import Any, Literal

import msgspec

State = Literal["waiting", "speaking", "done", "stopped", "failed"]
RECORD, RECORDING = "take.json", "recording"
"""Its file, and that of a voice's recording."""


class Sentence(msgspec.Struct):
    """One sentence of a take, as the strip shows it."""

    text: str
    voice: str = ""
    state: Literal["waiting", "speaking", "done"] = "waiting"
    start_s: float | None = None
    end_s: float | None = None
    rtf: float | None = None
    seed: int | None = None
    """Of its own, where it was said again."""


class Record(msgspec.Struct):
    """What is kept of a take beside its sound."""

    id: str
    owner: str
    """Whose browser it belongs to."""
    created_at: str
    """ISO 8601, UTC."""
    title: str
    fields: dict[str, Any]
    """What `POST /tts` was asked for."""
    has_recording: bool = False
    is_live: bool = False
    state: State = "waiting"
    detail: str = ""
    """What went wrong, in words for the user."""
    retry_after_s: float | None = None
    rate_hz: int = 0
    sound: int = 0
    """Which file of sound is its own: what is spoken anew has the next."""
    sentences: list[Sentence] = []
    warnings: list[str] = []
    plan: dict[str, Any] = {}
    figures: dict[str, Any] = {}

    @property
    def sound_file(self) -> str:
        """The name of the file of its sound."""
        return f"speech-{self.sound}.pcm" if self.sound else "speech.pcm"


def title_of(fields: dict[str, Any]) -> str:
    """The first words of what is spoken."""
    lines = fields.get("dialogue") or [{"text": fields.get("text") or ""}]
    words = " ".join(str(lines[0]["text"]).split())
    return words if len(words) <= 60 else words[:57].rstrip() + "…"
