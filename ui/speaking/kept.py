"""What one browser keeps of the Streamlit page: whose takes, the draft, and the settings."""

import secrets
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from ui.speaking.speaker import LiveText
from ui.speaking.wish import LONG_TEXT, RATES_HZ
from ui.words import LANGUAGES

_TEXT = 20_000
"""Characters of a draft that the browser keeps."""
_OWNER = 16
"""Characters of the shortest secret that is believed."""


@dataclass(slots=True)
class Kept:
    """The settings by the field of `POST /tts` that they fill, and the rest."""

    owner: str
    text: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    # What follows is of this session alone. It is not in Streamlit's session state, because each
    # touch of that may end the drawing, or a click's work, in the middle.
    committed: str = ""
    """The text when its field was left last."""
    typed: str | None = None
    """The text as it was told last while it was written."""
    drafted: str = ""
    """The newer of both."""
    shown: str | None = None
    """The take to look at."""
    working: str = ""
    """The take that was asked for last."""
    is_heard: bool = False
    """The take that is shown was asked for in this session."""
    live: LiveText | None = None
    """Lines that are spoken as they are entered."""

    @classmethod
    def of_session(cls) -> "Kept | None":
        """What was found when the session began."""
        found = st.session_state.get("kept")
        return found if isinstance(found, cls) else None

    @classmethod
    def begin(cls, found: dict[str, Any]) -> "Kept":
        """Begin a session with what the browser told; what cannot be is as it is by itself."""
        told = found.get("settings")
        known = told if isinstance(told, dict) else {}
        owner = found.get("owner")
        is_secret = isinstance(owner, str) and len(owner) >= _OWNER
        kept = cls(
            owner=str(owner) if is_secret else secrets.token_urlsafe(24),
            text=str(found.get("text") or "")[:_TEXT],
            settings={name: sane(name, known.get(name)) for name in PLAIN},
        )
        st.session_state["kept"] = kept
        return kept

    def to_keep(self) -> dict[str, Any]:
        """What the browser shall keep."""
        return {"owner": self.owner, "text": self.text[:_TEXT], "settings": self.settings}


PLAIN: dict[str, Any] = {
    "language": "auto",
    "voice": "",
    "temperature": 0.7,
    "top_p": 0.7,
    "repetition_penalty": 1.1,
    "seed": None,
    "speed": 1.0,
    "pauses": 1.0,
    "long_text": "truncate",
    "sample_rate": 0,
    "response_format": "wav",
    "normalize": True,
    "optimize_for_memory": False,
    "force_cpu": False,
}
"""Every setting and its value before anybody changes it."""
LIMITS: dict[str, tuple[float, float, float]] = {
    "temperature": (0.0, 2.0, 0.05),
    "top_p": (0.1, 1.0, 0.05),
    "repetition_penalty": (1.0, 2.0, 0.05),
    "speed": (0.5, 2.0, 0.05),
    "pauses": (0.0, 4.0, 0.1),
}
"""Of each slider: least, most, step."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "language": tuple(LANGUAGES),
    "long_text": tuple(LONG_TEXT.values()),
    "sample_rate": (0, *RATES_HZ),
    "response_format": ("wav", "mp3", "opus", "flac", "aac"),
}
MAX_SEED = 2**53 - 1
"""The most that a browser counts to; the server takes more."""


def sane(name: str, value: Any) -> Any:
    """`value` where the setting can have it, else what it is by itself."""
    plain = PLAIN[name]
    if name in LIMITS:
        least, most, _ = LIMITS[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and least <= value <= most else plain
    if name in CHOICES:
        return value if value in CHOICES[name] else plain
    if name == "seed":
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return value if is_whole and 0 <= value <= MAX_SEED else plain
    return value if isinstance(value, type(plain)) else plain
