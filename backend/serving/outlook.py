"""What is known of a request before it is spoken: its sentences, how long it takes and waits."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from backend.core import EngineInfo, Plan, Sentence, SpeechRequest, TextLimit
from backend.hardware.ladder import Footing
from backend.serving.speed import Forecast


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be spoken, and how long that would take."""

    script: tuple[Sentence, ...]
    text_limit: TextLimit
    forecast: Forecast
    wait: Callable[[], float]
    """Seconds until its first turn, as it looks at the moment of the call."""

    def figures(self, speed: float = 1.0) -> dict[str, Any]:
        """What the event `plan` and `POST /estimate-memory` tell alike; `speed` is the tempo."""
        return {
            "sentences": len(self.script),
            "expected_s": round(self.forecast.expected_s, 3),
            "expected_audio_s": round(self.forecast.audio_s / speed, 3),
            "wait_s": round(self.wait(), 3),
            "speed": self.forecast.speed,
            "text_limit": text_limit_json(self.text_limit),
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text is read: the answer of `POST /normalize`."""

    text: str
    """In words, its paragraphs apart by a blank line."""
    language: str
    """Whose rules it is read by."""
    sentences: tuple[str, ...]
    """The pieces that are spoken one by one."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A request that was let into the queue."""

    outlook: Outlook
    seed: int
    """The one that is used: the client's, or one that was drawn."""
    info: EngineInfo
    plan: Plan
    warnings: tuple[str, ...]
    """What is known to be told already."""
    deadline_s: float
    """When it is given up, in the event loop's time."""


OnQueued = Callable[[Queued], None]
"""Called once a request is in the queue, before anything of it is computed."""


def text_limit_json(limit: TextLimit) -> dict[str, Any]:
    """What became of a text, as it is told."""
    return asdict(limit) | {"is_truncated": limit.is_truncated}


def warnings_of(
    request: SpeechRequest, info: EngineInfo, limit: TextLimit, footing: Footing
) -> tuple[str, ...]:
    """What is to be told of the text, and of what it is spoken with."""
    warnings = []
    if limit.is_truncated:
        warnings.append(
            f"text was cut at {limit.spoken_length} of {limit.original_length} characters; the "
            f"limit is {limit.limit}, {limit.reason}; long_text=split speaks all of it"
        )
    language = request.language
    if language != "auto" and info.languages and language not in info.languages:
        declared = ", ".join(info.languages)
        warnings.append(f"this checkpoint declares {declared}; {language} may not sound right")
    if footing.step:
        warnings.append(f"memory is short: it is spoken with {footing.says}")
    return tuple(warnings)
