"""The voice that another server's client names: a saved one, or the default by some name."""

import asyncio

from backend.api.openai.body import BUILT_IN_VOICES, DEFAULT_VOICE
from backend.errors import UnknownVoice
from backend.smart_backend import SmartBackend

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
    is not here. Raises `UnknownVoice`.
    """
    if not name:
        return ""
    try:
        return (await asyncio.to_thread(backend.voices.get, name)).id
    except UnknownVoice:
        if name.casefold() in (DEFAULT_VOICE, *BUILT_IN_VOICES):
            return ""
        if name.lower() not in _PLACEHOLDERS:
            raise
    warnings.append(
        f"voice {name} is one of the Fish Audio service, which is not here: this is the default "
        "voice"
    )
    return ""
