"""From a request to its session, in its turn: text, voices, queue."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from backend.core import (
    MIB,
    OPEN_SENTENCES,
    EngineInfo,
    ReferenceCodes,
    Sentence,
    SpeechRequest,
    TextLimit,
    VoicePrompt,
)
from backend.errors import BadField, BlankText
from backend.hardware.memory import Demand
from backend.hardware.pressure import LEAST_CHUNK_LENGTH
from backend.learning.case import Foreseen
from backend.model.reading import wide_share
from backend.serving.backlog import Backlog
from backend.serving.cpu_lane import CpuLane
from backend.serving.fair_thread import FairThread
from backend.serving.fleet import Fleet
from backend.serving.given import Given, given
from backend.serving.lane import Lane
from backend.serving.outlook import OnQueued, Outlook, Queued, Reading, warnings_of
from backend.serving.recordings import decoded, encoder
from backend.serving.references import References
from backend.serving.script import (
    Script,
    Spelling,
    check_text,
    in_paragraphs,
    lines,
    live,
    written,
)
from backend.serving.session import Peaks, SpeechSession, in_time
from backend.serving.slots import AdmittedRequest
from backend.settings import Settings
from backend.worker.messages import MAX_DECODED_S, DecodeCodes

_DRAWN_SEEDS = 2**32
"""Seeds to draw from: enough, and each is told exactly in every client's numbers."""

T = TypeVar("T")


class Intake:
    """Checks what a request says, finds its voices, and waits with it until it is its turn."""

    def __init__(
        self, settings: Settings, fleet: Fleet, cpu_lane: CpuLane, references: References
    ) -> None:
        self._settings, self._fleet, self._cpu_lane = settings, fleet, cpu_lane
        self._references = references
        self._backlog = Backlog(settings.max_unread_mb * MIB)
        self._texts = FairThread("texts")
        """Reads the texts of all requests: the longest takes a second."""

    @property
    def is_here(self) -> bool:
        """A worker on the CPU may be started here, beside those on a GPU."""
        return self._fleet.is_here

    def close(self) -> None:
        """Read no more texts."""
        self._texts.close()

    async def encode_voice(
        self,
        audio: bytes,
        client: str,
        request_id: str,
        timeout_s: float | None,
        arrived_s: float | None,
    ) -> ReferenceCodes:
        """A recording as codes, in its turn, or at once where it is remembered."""
        self._references.check_recording(audio)
        deadline_s = self._deadline_s(timeout_s, arrived_s)
        async with self._kept(self._fleet, deadline_s) as (info, _):
            with self._fleet.admission.enter(client, 1) as admitted:
                encode = encoder(admitted, request_id, info)
                return await _in_time(self._references.codes(audio, info, encode), deadline_s)

    async def decode_voice(
        self, voice: str, client: str, request_id: str, timeout_s: float | None
    ) -> tuple[bytes, int]:
        """The beginning of a saved voice, in its turn: float32 samples, and their rate in Hz."""
        deadline_s = self._deadline_s(timeout_s)
        async with self._kept(self._fleet, deadline_s) as (info, _):
            prompt = (await self._references.saved((voice,), info.codec_id))[voice]
            codes = prompt.codes.beginning(int(MAX_DECODED_S * info.frame_rate_hz))
            with self._fleet.admission.enter(client, 1) as admitted:
                decoding = decoded(admitted, DecodeCodes(request_id, codes), info)
                return await _in_time(decoding, deadline_s), info.sample_rate_hz

    async def preview(self, request: SpeechRequest) -> tuple[Outlook, Demand]:
        """What would be spoken of `request`, and the memory that all of its text demands.

        Nothing is spoken of a text that would be rejected. Raises `EngineDown`, and what is said
        of a text that no machine speaks.
        """
        check_text(request.text, self._settings.max_text_characters)
        await _in_time(self._fleet.awake(), self._deadline_s(request.timeout_s))
        lane = self._fleet.lead
        info = lane.worker.loaded()
        spelling = await self._spelling(request, lane, info)
        text = await self._text(request, lane, info, spelling)
        script: tuple[Sentence, ...] = ()
        if not text.is_rejected:
            script = await self._script(request, text, spelling).whole()

        def wait_s() -> float:
            return lane.admission.wait_s(request.client)

        return _outlook(script, text, lane, info, wait_s), text.demand

    async def reading(self, request: SpeechRequest) -> Reading:
        """How all of the text of `request` is read here, in turns with other clients; nothing is
        spoken. Raises `EngineDown`, and what is said of a text that no machine speaks."""
        check_text(request.text, self._settings.max_text_characters)
        await _in_time(self._fleet.awake(), self._deadline_s(request.timeout_s))
        lane = self._fleet.lead
        info = lane.worker.loaded()
        spelling = await self._spelling(request, lane, info)
        script = Script(
            written(lines(request), spelling), len(request.text), self._texts, request.client
        )
        sentences = await script.whole()
        language = await self._texts.run(request.client, lambda: spelling.main(request.text))
        return Reading(in_paragraphs(sentences), language, tuple(each.text for each in sentences))

    @asynccontextmanager
    async def admit(
        self,
        request: SpeechRequest,
        texts: AsyncIterator[str] | None,
        peaks: Peaks,
        on_queued: OnQueued | None = None,
    ) -> AsyncIterator[SpeechSession]:
        """The session of `request`, in its turn.

        `on_queued` is told as soon as a text that is there waits for its turn. `peaks` is what the
        session tells of the GPU.
        """
        deadline_s = self._deadline_s(request.timeout_s, request.arrived_s)
        if texts is None:
            check_text(request.text, self._settings.max_text_characters)
        self._references.check(request)
        async with (
            self._fleet_for(request, deadline_s) as fleet,
            self._kept(fleet, deadline_s) as (info, started_s),
        ):
            lane = fleet.lead
            request, seed = _with_seed(request)
            spelling, text = await self._spelling(request, lane, info), None
            if texts is None:
                text = await _in_time(self._text(request, lane, info, spelling), deadline_s)
                text.check(lane.plan.tier)
                script = self._script(request, text, spelling)
                try:
                    await _in_time(script.begin(), deadline_s)
                except BlankText:
                    if not request.is_silence_taken:
                        raise
                limit, sentences, characters = text.limit, script.sentences(), text.characters
            else:
                limit, sentences = self._live(request, texts, spelling)
                characters = 0
            voices = await self._saved(request, info)
            weight = fleet.foresight.weight(text.case, info) if text else 1.0
            with fleet.admission.enter(
                request.client, characters, is_live=texts is not None, weight=weight
            ) as admitted:
                warnings = warnings_of(request, info, limit, lane.footing)
                if text is not None and on_queued is not None:
                    whole = await _in_time(script.whole(), deadline_s)
                    outlook = _outlook(whole, text, lane, info, lambda: admitted.wait_s)
                    plan = lane.running_plan
                    on_queued(Queued(outlook, seed, info, plan, warnings, deadline_s))
                if request.references:
                    recorded = self._recorded(request, admitted, info)
                    voices[""] = await _in_time(recorded, deadline_s)
                    warnings += tuple(told for voice in voices[""] for told in voice.codes.warnings)
                foreseen = _foreseen(text, voices, lane, info) if text else None
                async with SpeechSession(
                    request,
                    sentences,
                    voices,
                    backlog=self._backlog,
                    admitted=admitted,
                    open_sentences=_open_sentences(request),
                    info=info,
                    plan=lane.running_plan,
                    text_limit=limit,
                    warnings=warnings,
                    deadline_s=deadline_s,
                    peaks=peaks,
                    worker_start_s=started_s,
                    foreseen=foreseen,
                ) as session:
                    try:
                        yield session
                    finally:
                        if foreseen is not None and session.is_spoken:
                            fleet.foresight.spoke(foreseen, session.stats, peaks.beside)

    @asynccontextmanager
    async def _fleet_for(self, request: SpeechRequest, deadline_s: float) -> AsyncIterator[Fleet]:
        if not (request.force_cpu and any(lane.plan.device_uuid for lane in self._fleet.lanes)):
            yield self._fleet
            return
        if not self._fleet.is_here:
            raise BadField(
                "force_cpu: this server speaks through replicas of a cluster, some with a GPU, and "
                "starts no worker beside them; leave it out, or have replicas on CPUs alone."
            )
        async with AsyncExitStack() as stack:
            yield await _in_time(stack.enter_async_context(self._cpu_lane.use()), deadline_s)

    @asynccontextmanager
    async def _kept(
        self, fleet: Fleet, deadline_s: float
    ) -> AsyncIterator[tuple[EngineInfo, float]]:
        """What a worker has loaded, which it keeps meanwhile, and the seconds that this waited for
        its start, where it had ended because nobody asked."""
        with fleet.quiet.inside():
            started_s = await _in_time(fleet.awake(), deadline_s)
            yield fleet.lead.worker.loaded(), started_s

    # -- voices -----------------------------------------------------------------------------------

    async def _saved(
        self, request: SpeechRequest, info: EngineInfo
    ) -> dict[str, tuple[VoicePrompt, ...]]:
        """The saved voices that the request names, by name."""
        saved = await self._references.saved(_voice_names(request), info.codec_id)
        return {name: (prompt,) for name, prompt in saved.items()}

    async def _recorded(
        self, request: SpeechRequest, admitted: AdmittedRequest, info: EngineInfo
    ) -> tuple[VoicePrompt, ...]:
        encoding = encoder(admitted, request.request_id, info, request.trace_parent)
        return tuple(
            [
                await self._references.recorded(reference, info, encoding)
                for reference in request.references
            ]
        )

    def _deadline_s(self, timeout_s: float | None, arrived_s: float | None = None) -> float:
        """When a request is given up that arrived then, or now, in the event loop's time."""
        allowed_s = min(timeout_s or float("inf"), self._settings.request_timeout_s)
        now_s = asyncio.get_running_loop().time()
        return (now_s if arrived_s is None else arrived_s) + allowed_s

    # -- text -------------------------------------------------------------------------------------

    async def _text(
        self, request: SpeechRequest, lane: Lane, info: EngineInfo, spelling: Spelling
    ) -> Given:
        """What of the text is spoken, in turns with other clients: it may be long."""
        demand = Demand(
            len(request.text),
            _chunk_length(request, lane, info),
            _open_sentences(request),
            info.max_reference_s if request.references or request.voice else 0.0,
            wide_share=wide_share(request.text),
        )
        long_text = request.long_text or self._settings.long_text
        return await self._texts.read(
            request.client,
            len(request.text),
            lambda: given(request, demand, lane, spelling, long_text),
        )

    async def _spelling(self, request: SpeechRequest, lane: Lane, info: EngineInfo) -> Spelling:
        voice_languages: dict[str, str] = {}
        if request.language == "auto" and request.normalize:
            voice_languages = await self._references.languages(_voice_names(request))
        return Spelling(
            request.language,
            request.normalize,
            _chunk_length(request, lane, info),
            request.pauses,
            voice_languages,
        )

    def _script(self, request: SpeechRequest, text: Given, spelling: Spelling) -> Script:
        steps = written(text.lines, spelling, text.read_in)
        return Script(steps, text.characters, self._texts, request.client)

    def _live(
        self, request: SpeechRequest, texts: AsyncIterator[str], spelling: Spelling
    ) -> tuple[TextLimit, AsyncIterator[Sentence]]:
        most = self._settings.max_text_characters
        limit = TextLimit(most, "text that is sent while it is written", 0, 0)
        sentences = live(texts, request.voice, spelling, most, self._texts, request.client)
        return limit, sentences


def _outlook(
    script: tuple[Sentence, ...],
    text: Given,
    lane: Lane,
    info: EngineInfo,
    wait_s: Callable[[], float],
) -> Outlook:
    characters = sum(len(sentence.text) for sentence in script)
    formula = lane.admission.forecast(characters)
    forecast = lane.foresight.forecast(text.case, formula, info)
    return Outlook(script, text.limit, forecast, wait_s)


def _foreseen(
    text: Given, voices: Mapping[str, tuple[VoicePrompt, ...]], lane: Lane, info: EngineInfo
) -> Foreseen:
    """What is known of `text` in `voices` before it is spoken."""
    prompts = [prompt for spoken_in in voices.values() for prompt in spoken_in]
    reference_s = sum(prompt.codes.frames for prompt in prompts) / info.frame_rate_hz
    case = replace(text.case, reference_s=reference_s)
    demand = replace(text.demand, characters=case.characters, reference_s=reference_s)
    forecast = lane.admission.forecast(case.characters)
    return lane.foresight.foresee(case, demand, forecast, lane.memory, info)


def _open_sentences(request: SpeechRequest) -> int:
    """Sentences of it that are at work together."""
    return 1 if request.optimize_for_memory else OPEN_SENTENCES


def _voice_names(request: SpeechRequest) -> set[str]:
    """The saved voices that it speaks in, as it names them; "" is the default voice."""
    names = {line.voice for line in lines(request)}
    return names - {""} if request.references else names


def _chunk_length(request: SpeechRequest, lane: Lane, info: EngineInfo) -> int:
    """Characters that are spoken in one piece, at most."""
    chunk_length = min(lane.config.chunk_length, info.max_segment_characters)
    if request.optimize_for_memory:
        chunk_length = min(chunk_length, LEAST_CHUNK_LENGTH)
    return chunk_length


def _with_seed(request: SpeechRequest) -> tuple[SpeechRequest, int]:
    """`request` with its seed, drawn where it has none."""
    seed = request.sampling.seed
    if seed is None:
        seed = secrets.randbelow(_DRAWN_SEEDS)
    return replace(request, sampling=replace(request.sampling, seed=seed)), seed


async def _in_time(work: Awaitable[T], deadline_s: float) -> T:
    return await in_time(work, deadline_s, "The request waited past its deadline; try again later.")
