"""Whose voices a request is spoken in: recordings and saved voices to what the model is shown."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from weakref import WeakValueDictionary

from backend.core import (
    LANGUAGES,
    MIB,
    RECORDING_FORMATS,
    EngineInfo,
    ReferenceAudio,
    ReferenceCodes,
    SpeechRequest,
    VoicePrompt,
)
from backend.errors import BadField, BadReference, UploadTooLarge
from backend.model.config import codec_fingerprint
from backend.settings import Settings
from backend.text.fold import fold
from backend.voices.cache import SUFFIX, ReferenceCache
from backend.voices.shared import shared_place
from backend.voices.shipped import VOICES_FOLDER, ShippedVoices
from backend.voices.store import VoiceStore
from backend.voices.threads import in_store, store_soon
from backend.voices.voice import VOICE_SUFFIX

MAX_REFERENCES = 4
"""Recordings of one request: each takes its share of the checkpoint's context."""

_READING = 2
"""Which way of reading recordings it is: another keeps what it reads beside this one's."""

Encode = Callable[[bytes], Awaitable[ReferenceCodes]]


def _shipped(settings: Settings) -> ShippedVoices:
    """The voices in the checkpoint's folder, where there are any and they are wanted."""
    folder = settings.checkpoint_dir / VOICES_FOLDER
    if not (settings.shipped_voices and folder.is_dir()):
        return ShippedVoices()
    return ShippedVoices.read(folder, codec_fingerprint(settings.checkpoint_dir))


class References:
    """Saved voices, shipped ones among them, and recordings encoded once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        shared = shared_place(settings.shared_dir)
        self.voices = VoiceStore(
            shared("voices", VOICE_SUFFIX) if shared else settings.data_dir / "voices",
            settings.max_voices,
            settings.voices_limit_mb * MIB,
            _shipped(settings),
        )
        disk_bytes = settings.reference_disk_cache_mb * MIB
        self.cache = ReferenceCache(
            settings.data_dir / "references" if disk_bytes else None,
            settings.reference_cache_mb * MIB,
            disk_bytes,
            shared("references", SUFFIX) if shared else None,
        )
        if shared:
            store_soon(self.voices.look)  # so that the first request need not wait for it
        self._encoding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.encoded = 0
        """Recordings that had to be encoded."""

    def check(self, request: SpeechRequest) -> None:
        """Raise what can be said of the request's voices without any work."""
        if len(request.references) > MAX_REFERENCES:
            raise BadReference(f"Send at most {MAX_REFERENCES} recordings of the voice.")
        if request.references and request.voice:
            raise BadField("voice and speaker_file exclude each other; send one of them.")
        for reference in request.references:
            self.check_recording(reference.audio)

    def check_recording(self, audio: bytes) -> None:
        """Raise unless `audio` may be a recording, by its size."""
        most_bytes = self._settings.max_upload_bytes
        if len(audio) > most_bytes:
            raise UploadTooLarge(f"the recording is larger than {most_bytes} bytes; shorten it.")
        if not audio:
            raise BadReference(f"the recording is empty; send a {RECORDING_FORMATS} file.")

    async def saved(self, names: Iterable[str], codec_id: str) -> dict[str, VoicePrompt]:
        """The saved voices of `names`, and under "" the default voice where one is set.

        Raises `UnknownVoice`, or `VoiceConflict` where another checkpoint's codec made it, or
        `StorageDown`.
        """
        prompts = {}
        for name in names:
            if saved := name or self._settings.default_voice:
                prompt = await in_store(self.voices.prompt, saved, codec_id)
                prompts[name] = replace(prompt, transcript=fold(prompt.transcript))
        return prompts

    async def languages(self, names: Iterable[str]) -> dict[str, str]:
        """The languages that the saved voices of `names` carry, as `saved` finds them; a voice that
        carries none, or is not known, is left out."""
        wanted = {name: name or self._settings.default_voice for name in names}
        named = {name: saved for name, saved in wanted.items() if saved}
        return await in_store(self._languages, named) if named else {}

    def _languages(self, named: dict[str, str]) -> dict[str, str]:
        found = {name: self.voices.known(saved) for name, saved in named.items()}
        return {
            name: voice.language
            for name, voice in found.items()
            if voice is not None and voice.language in LANGUAGES
        }

    async def recorded(
        self, reference: ReferenceAudio, info: EngineInfo, encode: Encode
    ) -> VoicePrompt:
        """A recording as codes, from the cache or through `encode`; `reference` lets it go."""
        codes = await self.codes(reference.audio, info, encode)
        reference.audio = b""
        return VoicePrompt(codes, fold(reference.transcript))

    async def codes(self, audio: bytes, info: EngineInfo, encode: Encode) -> ReferenceCodes:
        """The codes of a recording, from the cache or through `encode`."""
        # Another checkpoint with the same codec may listen to less of it, another release hear it
        # otherwise, or say more of it.
        listener = f"{info.codec_id} {info.max_reference_s:g} s {_READING}"
        key = await asyncio.to_thread(self.cache.key, audio, listener)
        # A second request with the same recording waits for the first.
        async with self._encoding.setdefault(key, asyncio.Lock()):
            known = await asyncio.to_thread(self.cache.get, key)
            if known is None and self.cache.is_shared:
                known = await in_store(self.cache.fetch, key)
            if known is not None:
                return known
            codes = await encode(audio)
            self.encoded += 1
            await asyncio.to_thread(self.cache.put, key, codes)
            if self.cache.is_shared:
                store_soon(self.cache.share, key, codes)
        return codes
