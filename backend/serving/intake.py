"""From a request to its session, in its turn: text, voices, queue."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from loguru import logger

from backend.core import (
    OPEN_SENTENCES,
    EngineInfo,
    ReferenceCodes,
    Sentence,
    SpeechRequest,
    TextLimit,
    VoicePrompt,
)
from backend.errors import TextTooLong
from backend.hardware.memory import Demand
from backend.hardware.need import wide_share
from backend.hardware.pressure import LEAST_CHUNK_LENGTH
from backend.serving.admission import Ticket
from backend.serving.lane import CpuLane, Lane
from backend.serving.outlook import OnQueued, Outlook, Queued
from backend.serving.references import Encode, References
from backend.serving.script import Spelling, check_text, lines, live, one_by_one, shorten, written
from backend.serving.session import SpeechSession, in_time
from backend.settings import Settings
from backend.worker.messages import MAX_DECODED_S, DecodeCodes, EncodeVoice

_DRAWN_SEEDS = 2**32
"""Seeds to draw from: enough, and each is told exactly in every client's numbers."""

T = TypeVar("T")


class Intake:
    """Checks what a request says, finds its voices, and waits with it until it is its turn."""

    def __init__(
        self, settings: Settings, lane: Lane, cpu_lane: CpuLane, references: References
    ) -> None:
        self._settings, self._lane, self._cpu_lane = settings, lane, cpu_lane
        self._references = references

    async def encode_voice(self, audio: bytes, client: str, request_id: str) -> ReferenceCodes:
        """A recording as codes, in its turn, or at once where it is remembered."""
        self._references.check_recording(audio)
        info, deadline_s = self._lane.worker.loaded(), self._deadline_s()
        with self._lane.admission.enter(client, 1) as ticket:
            encode = self._encode(self._lane, ticket, request_id, info)
            return await _in_time(self._references.codes(audio, info, encode), deadline_s)

    async def decode_voice(
        self, voice: str, client: str, request_id: str, timeout_s: float | None
    ) -> tuple[bytes, int]:
        """The beginning of a saved voice, in its turn: float32 samples, and their rate in Hz."""
        info, deadline_s = self._lane.worker.loaded(), self._deadline_s(timeout_s)
        prompt = (await self._references.saved((voice,), info.codec_id))[voice]
        codes = prompt.codes.beginning(int(MAX_DECODED_S * info.frame_rate_hz))
        with self._lane.admission.enter(client, 1) as ticket:
            decoding = self._decode(ticket, DecodeCodes(request_id, codes), info)
            return await _in_time(decoding, deadline_s), info.sample_rate_hz

    async def preview(self, request: SpeechRequest) -> tuple[Outlook, Demand]:
        """What would be spoken of `request`, and the memory that all of its text demands.

        Nothing is spoken of a text that would be rejected. Raises `EngineDown`, and what is said
        of a text that no machine speaks.
        """
        lane = self._lane
        text = await asyncio.to_thread(self._preview, request, lane)
        return _outlook(text, lane, lambda: lane.admission.wait_s(request.client)), text.demand

    async def admit(
        self,
        request: SpeechRequest,
        texts: AsyncIterator[str] | None,
        stack: AsyncExitStack,
        on_queued: OnQueued | None = None,
    ) -> SpeechSession:
        """The session of `request`, in its turn; what it holds is given back by `stack`.

        `on_queued` is told as soon as a text that is there waits for its turn.
        """
        deadline_s = self._deadline_s(request.timeout_s)
        if texts is None:
            check_text(request.text, self._settings.max_text_characters)
        self._references.check(request)
        lane = self._lane
        if request.force_cpu and lane.plan.device_uuid:
            lane = await _in_time(stack.enter_async_context(self._cpu_lane.use()), deadline_s)
        info = lane.worker.loaded()
        request, seed = _with_seed(request)
        text: _Text | None = None
        if texts is None:
            text = await _in_time(asyncio.to_thread(self._read, request, lane, info), deadline_s)
            text.check(lane.plan.tier)
            limit, sentences = text.limit, one_by_one(text.sentences)
        else:
            limit, sentences = self._live(request, texts, lane, info)
        names = {line.voice for line in lines(request)}
        if request.references:
            names.discard("")
        saved = await self._references.saved(names, info.codec_id)
        ticket = stack.enter_context(
            lane.admission.enter(request.client, text.characters if text else 0)
        )
        warnings = _warnings(request, info, limit)
        if text is not None and on_queued is not None:
            outlook = _outlook(text, lane, lambda: ticket.wait_s)
            on_queued(Queued(outlook, seed, info, lane.running_plan, warnings, deadline_s))
        voices: dict[str, tuple[VoicePrompt, ...]] = {
            name: (prompt,) for name, prompt in saved.items()
        }
        if request.references:
            voices[""] = await _in_time(self._recorded(request, lane, ticket, info), deadline_s)
            warnings += tuple(told for prompt in voices[""] for told in prompt.codes.warnings)
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
                warnings=warnings,
                deadline_s=deadline_s,
            )
        )

    async def _recorded(
        self, request: SpeechRequest, lane: Lane, ticket: Ticket, info: EngineInfo
    ) -> tuple[VoicePrompt, ...]:
        encoding = self._encode(lane, ticket, request.request_id, info)
        return tuple(
            [
                await self._references.recorded(reference, info, encoding)
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

    # -- text -------------------------------------------------------------------------------------

    def _preview(self, request: SpeechRequest, lane: Lane) -> "_Text":
        check_text(request.text, self._settings.max_text_characters)
        return self._read(request, lane, lane.worker.loaded())

    def _read(self, request: SpeechRequest, lane: Lane, info: EngineInfo) -> "_Text":
        """What of the text is spoken, in sentences. Takes a while where it is long."""
        spelling = _spelling(request, lane, info)
        length = len(request.text)
        demand = Demand(
            length,
            spelling.max_characters,
            1 if request.optimize_for_memory else OPEN_SENTENCES,
            info.max_reference_s if request.references or request.voice else 0.0,
            wide_share=wide_share(request.text),
        )
        allowed, reason = lane.memory.text_limit(lane.config, demand)
        script, spoken_length = lines(request), length
        if length > allowed:
            long_text = request.long_text or self._settings.long_text
            if long_text == "reject":
                return _Text((), TextLimit(allowed, reason, length, 0), demand)
            if long_text == "truncate":
                script = shorten(script, allowed)
                spoken_length = sum(len(line.text) for line in script)
        limit = TextLimit(allowed, reason, length, spoken_length)
        return _Text(written(script, spelling), limit, demand)

    def _live(
        self, request: SpeechRequest, texts: AsyncIterator[str], lane: Lane, info: EngineInfo
    ) -> tuple[TextLimit, AsyncIterator[Sentence]]:
        most = self._settings.max_text_characters
        limit = TextLimit(most, "text that is sent while it is written", 0, 0)
        return limit, live(texts, request.voice, _spelling(request, lane, info), most)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that is there."""

    sentences: tuple[Sentence, ...]
    """What is spoken of it; empty where it is rejected."""
    limit: TextLimit
    demand: Demand
    """Of all that was sent."""

    @property
    def characters(self) -> int:
        """To speak."""
        return sum(len(sentence.text) for sentence in self.sentences)

    def check(self, tier: str) -> None:
        """Raise `TextTooLong` where it is rejected; log where it is cut."""
        limit = self.limit
        if not self.sentences:
            raise TextTooLong(
                f"text has {limit.original_length} characters; this machine speaks at most "
                f"{limit.limit} at once, {limit.reason}. Send less, or long_text=split."
            )
        if limit.is_truncated:
            logger.warning(
                "Text truncated from {} to {} characters: the limit of {} is {}, {}.",
                *(limit.original_length, limit.spoken_length, tier, limit.limit, limit.reason),
            )


def _outlook(text: _Text, lane: Lane, wait: Callable[[], float]) -> Outlook:
    return Outlook(text.sentences, text.limit, lane.admission.forecast(text.characters), wait)


def _spelling(request: SpeechRequest, lane: Lane, info: EngineInfo) -> Spelling:
    chunk_length = min(lane.config.chunk_length, info.max_segment_characters)
    if request.optimize_for_memory:
        chunk_length = min(chunk_length, LEAST_CHUNK_LENGTH)
    return Spelling(request.language, request.normalize, chunk_length, request.pauses)


def _with_seed(request: SpeechRequest) -> tuple[SpeechRequest, int]:
    """`request` with its seed, drawn where it has none."""
    seed = request.sampling.seed
    if seed is None:
        seed = secrets.randbelow(_DRAWN_SEEDS)
    return replace(request, sampling=replace(request.sampling, seed=seed)), seed


def _warnings(request: SpeechRequest, info: EngineInfo, limit: TextLimit) -> tuple[str, ...]:
    """What is to be told of the text."""
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
    return tuple(warnings)


async def _in_time(work: Awaitable[T], deadline_s: float) -> T:
    return await in_time(work, deadline_s, "The request waited past its deadline; try again later.")
