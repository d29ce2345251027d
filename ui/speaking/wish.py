"""What a user may wish for when something is to be spoken, and the request that it makes."""

from collections.abc import Mapping, Sequence
from typing import Any

MODES = ("Text", "Dialogue", "As I type")
RECORDING = "recording:"
"""The choice of a recording among the voices; no saved voice can be called so."""
WHY_TRANSCRIPT = (
    "With the exact words of the recording the model knows which sound belongs to which letters, "
    "and keeps to the voice much better."
)
LONG_TEXT = {
    "Speak all of it, in pieces": "split",
    "Cut it off at the limit": "truncate",
    "Refuse it": "reject",
}
RATES_HZ = (16_000, 22_050, 24_000, 44_100, 48_000)
EMPTY = (
    '<div class="empty"><p>What you have spoken appears here: its sentences while they are made, '
    "then its sound, files of it, and how to make it again.</p></div>"
)
ESTIMATED = ("language", "normalize", "long_text", "optimize_for_memory")
"""Fields that the estimate of a text depends on."""
_PLAIN: dict[str, Any] = {
    **{"language": "auto", "voice": "", "speed": 1, "pauses": 1, "sample_rate": 0, "seed": None},
    **{"response_format": "wav", "normalize": True},
    **{"optimize_for_memory": False, "force_cpu": False},
}


class Unfinished(Exception):
    """Something is missing before it can be spoken; the message asks for it."""


def voice_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """What the choice of a voice offers."""
    return [("Default voice", ""), ("From a recording …", RECORDING), *((n, n) for n in names)]


def fields_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `POST /tts` that settings say; what is as the server has it is left out, so
    that an older server does not meet what it does not know."""
    return {
        name: value for name, value in asked.items() if name not in _PLAIN or value != _PLAIN[name]
    }


def order(
    asked: Mapping[str, Any],
    said: str | Sequence[Mapping[str, str]],
    recording: bytes | None,
    transcript: str,
) -> tuple[dict[str, Any], bytes | None]:
    """What is to be spoken, and the recording of its voice; `said` is a text or lines of a
    dialogue. Raises `Unfinished`."""
    fields = fields_of(asked)
    if isinstance(said, str):
        fields["text"] = said
        is_blank = not said.strip()
    else:
        lines = [{"text": each["text"], "voice": each["voice"]} for each in said]
        fields["dialogue"] = [line for line in lines if line["text"].strip()]
        is_blank = not fields["dialogue"]
    if is_blank:
        raise Unfinished("Write something to be spoken.")
    if fields.get("voice") != RECORDING:
        return fields, None
    if not recording:
        raise Unfinished("Record or upload the voice first.")
    del fields["voice"]
    return fields | {"prompt_text": transcript}, recording
