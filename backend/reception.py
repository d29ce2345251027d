"""From a request to its session, in its turn: text, voices, queue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

from loguru import logger

from backend.admission import Ticket
from backend.casting import Casting, Encode
from backend.core import (
    OPEN_SENTENCES,
    EngineInfo,
    ReferenceCodes,
    Sentence,
    SpeechRequest,
    TextLimit,
    VoicePrompt,
)
from backend.cpu_lane import CpuLane
from backend.errors import TextTooLong
from backend.hardware.memory import Demand
from backend.hardware.need import wide_share
from backend.hardware.pressure import LEAST_CHUNK_LENGTH
from backend.lane import Lane
from backend.script import Spelling, check_text, lines, live, shorten, written
from backend.session import SpeechSession, in_time
from backend.settings import Settings
from backend.worker.messages import MAX_DECODED_S, DecodeCodes, EncodeVoice

T = TypeVar("T")


class Reception:
    """Checks what a request says, finds its voices, and waits with it until it is its turn."""

    def __init__(self, settings: Settings, lane: Lane, cpu_lane: CpuLane, casting: Casting) -> None:
        self._settings, self._lane, self._cpu_lane = settings, lane, cpu_lane
        self._casting = casting

    async def encode_voice(self, audio: bytes, client: str, request_id: str) -> ReferenceCodes:
        """A recording as codes, in its turn, or at once where it is remembered."""
        self._casting.check_recording(audio)
        info, deadline_s = self._lane.worker.loaded(), self._deadline_s()
        with self._lane.admission.enter(client, 1) as ticket:
            encode = self._encode(self._lane, ticket, request_id, info)
            return await _in_time(self._casting.codes(audio, info, encode), deadline_s)

    async def decode_voice(
        self, voice: str, client: str, request_id: str, timeout_s: float | None
    ) -> tuple[bytes, int]:
        """The beginning of a saved voice, in its turn: float32 samples, and their rate in Hz."""
        info, deadline_s = self._lane.worker.loaded(), self._deadline_s(timeout_s)
        prompt = (await self._casting.saved((voice,), info.codec_id))[voice]
        codes = prompt.codes.beginning(int(MAX_DECODED_S * info.frame_rate_hz))
        with self._lane.admission.enter(client, 1) as ticket:
            decoding = self._decode(ticket, DecodeCodes(request_id, codes), info)
            return await _in_time(decoding, deadline_s), info.sample_rate_hz

    async def admit(
        self, request: SpeechRequest, texts: AsyncIterator[str] | None, stack: AsyncExitStack
    ) -> SpeechSession:
        """The session of `request`, in its turn; what it holds is given back by `stack`."""
        deadline_s = self._deadline_s(request.timeout_s)
        if texts is None:
            check_text(request.text, self._settings.max_text_characters)
        self._casting.check(request)
        lane = self._lane
        if request.force_cpu and lane.plan.device_uuid:
            lane = await _in_time(stack.enter_async_context(self._cpu_lane.use()), deadline_s)
        info = lane.worker.loaded()
        limit, sentences, characters = self._script(request, texts, lane, info)
        names = {line.voice for line in lines(request)}
        if request.references:
            names.discard("")
        saved = await self._casting.saved(names, info.codec_id)
        ticket = stack.enter_context(lane.admission.enter(request.client, characters))
        voices: dict[str, tuple[VoicePrompt, ...]] = {
            name: (prompt,) for name, prompt in saved.items()
        }
        if request.references:
            voices[""] = await _in_time(self._recorded(request, lane, ticket, info), deadline_s)
        return await stack.enter_async_context(
            SpeechSession(
                request,
                sentences,
                voices,
                speaker=lane.worker.speak,
                ticket=ticket,
                open_sentences=1 if request.optimize_for_memory else OPEN_SENTENCES,
                info=info,
                plan=lane.running_plan,
                text_limit=limit,
                warnings=_warnings(request, info, limit, voices.get("", ())),
                deadline_s=deadline_s,
            )
        )

    async def _recorded(
        self, request: SpeechRequest, lane: Lane, ticket: Ticket, info: EngineInfo
    ) -> tuple[VoicePrompt, ...]:
        encoding = self._encode(lane, ticket, request.request_id, info)
        return tuple(
            [
                await self._casting.recorded(reference, info, encoding)
                for reference in request.references
            ]
        )

    def _encode(self, lane: Lane, ticket: Ticket, request_id: str, info: EngineInfo) -> Encode:
        # How long the recording is, the worker will know; it uses no more of it than this.
        demand = Demand(1, 1, open_segments=1, encoded_s=info.max_reference_s)

        async def encode(audio: bytes) -> ReferenceCodes:
            with await ticket.slot(demand):
                return await lane.worker.encode(EncodeVoice(request_id, audio))

        return encode

    async def _decode(self, ticket: Ticket, decode: DecodeCodes, info: EngineInfo) -> bytes:
        decoded_s = decode.codes.frames / info.frame_rate_hz
        with await ticket.slot(Demand(1, 1, open_segments=1, decoded_s=decoded_s)):
            return await self._lane.worker.decode(decode)

    def _deadline_s(self, timeout_s: float | None = None) -> float:
        """When a request is given up that arrives now, in the event loop's time."""
        allowed_s = min(timeout_s or float("inf"), self._settings.request_timeout_s)
        return asyncio.get_running_loop().time() + allowed_s

    def _script(
        self,
        request: SpeechRequest,
        texts: AsyncIterator[str] | None,
        lane: Lane,
        info: EngineInfo,
    ) -> tuple[TextLimit, AsyncIterator[Sentence], int]:
        """What of the text is spoken, its sentences, and how many characters those are at most."""
        chunk_length = min(lane.config.chunk_length, info.max_segment_characters)
        if request.optimize_for_memory:
            chunk_length = min(chunk_length, LEAST_CHUNK_LENGTH)
        spelling = Spelling(request.language, request.normalize, chunk_length)
        most, length = self._settings.max_text_characters, len(request.text)
        if texts is not None:
            limit = TextLimit(most, "text that is sent while it is written", 0, 0)
            return limit, live(texts, request.voice, spelling, most), 0
        demand = Demand(
            length,
            chunk_length,
            1 if request.optimize_for_memory else OPEN_SENTENCES,
            info.max_reference_s if request.references or request.voice else 0.0,
            wide_share=wide_share(request.text),
        )
        allowed, reason = lane.memory.text_limit(lane.config, demand)
        script = lines(request)
        long_text = request.long_text or self._settings.long_text
        if length > allowed and long_text == "reject":
            raise TextTooLong(
                f"text has {length} characters; this machine speaks at most {allowed} at once, "
                f"{reason}. Send less, or long_text=split."
            )
        spoken_length = length
        if length > allowed and long_text == "truncate":
            script = shorten(script, allowed)
            spoken_length = sum(len(line.text) for line in script)
            logger.warning(
                "Text truncated from {} to {} characters: the limit of {} is {}, {}.",
                *(length, spoken_length, lane.plan.tier, allowed, reason),
            )
        limit = TextLimit(allowed, reason, length, spoken_length)
        return limit, written(script, spelling), spoken_length


def _warnings(
    request: SpeechRequest, info: EngineInfo, limit: TextLimit, recorded: tuple[VoicePrompt, ...]
) -> tuple[str, ...]:
    warnings = [warning for prompt in recorded for warning in prompt.codes.warnings]
    if limit.is_truncated:
        warnings.append(
            f"text was cut at {limit.spoken_length} of {limit.original_length} characters; the "
            f"limit is {limit.limit}, {limit.reason}; long_text=split speaks all of it"
        )
    language = request.language
    if language != "auto" and info.languages and language not in info.languages:
        declared = ", ".join(info.languages)
        warnings.append(f"this checkpoint declares {declared}; {language} may not sound right")
    return tuple(warnings)


async def _in_time(work: Awaitable[T], deadline_s: float) -> T:
    return await in_time(work, deadline_s, "The request waited past its deadline; try again later.")
