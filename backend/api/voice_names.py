"""The voice that another server's client names: a saved one, or the default by some name."""

from backend.api.openai.body import BUILT_IN_VOICES, DEFAULT_VOICE
from backend.smart_backend import SmartBackend
from backend.voices.threads import in_store

_PLACEHOLDERS = frozenset(
    {
        "933563129e564b19a115bedd57b7406a",  # from 1.3 on
        "8ef4a238714b45718ce04243307c57a7",  # before
    }
)
"""Voices of the Fish Audio service that livekit-plugins-fishaudio asks for where its user chose
none: nobody would miss them."""


async def saved_voice(backend: SmartBackend, name: str, warnings: list[str]) -> str:
    """`name` as `SpeechRequest.voice`: the id of a saved voice, or "" for the default voice.

    A saved voice goes before the other names. Adds to `warnings` where a voice was asked for that
    is not here. Raises `UnknownVoice`, `StorageDown`.
    """
    if not name:
        return ""
    is_default = name.casefold() in (DEFAULT_VOICE, *BUILT_IN_VOICES)
    if not (is_default or name.lower() in _PLACEHOLDERS):
        return (await in_store(backend.voices.get, name)).id
    saved = await in_store(backend.voices.known, name)
    if saved is not None:
        return saved.id
    if is_default:
        return ""
    warnings.append(
        f"voice {name} is one of the Fish Audio service, which is not here: this is the default "
        "voice"
    )
    return ""
