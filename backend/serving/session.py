"""One request being spoken, as its client sees it: sentences in order, audio, figures."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeVar

import numpy as np

from backend.audio.joins import Edges, Levels
from backend.core import (
    EngineInfo,
    PcmChunk,
    Plan,
    Sentence,
    SpeechRequest,
    SpeechStats,
    SpokenSentence,
    TextLimit,
    VoicePrompt,
)
from backend.errors import TimedOut
from backend.hardware.ladder import SAYS
from backend.learning.case import Foreseen
from backend.serving.backlog import Backlog
from backend.serving.costs import sum_of
from backend.serving.demand import demand_of
from backend.serving.sentence import RunningSentence
from backend.serving.slots import AdmittedRequest
from backend.serving.tasks import end
from backend.text.markers import is_marked
from backend.worker.messages import Speak

T = TypeVar("T")

_IN_HAND_S = 0.5
"""Of audio that is left to play, with which a stream sends what there is. With more, large pieces
and whole sentences are waited for."""
SILENCE_S = 0.2
"""Sent where there is nothing to say: long enough for every player."""
_UNSAID = (
    "the text holds no letter and no digit, so there was nothing to say: it is 0.2 s of silence"
)
_NOTHING: Final = "nothing"
"""Stands among the sentences where a part of the text that is flushed has nothing to say."""
_Next = RunningSentence | Literal["nothing"] | None
"""What is heard next; None is the end."""


class Peaks(Protocol):
    """The most that a request took of the GPU so far; 0 without one."""

    @property
    def peak_gpu_util_pct(self) -> float:
        """Utilization, 0 to 100."""

    @property
    def peak_vram_mb(self) -> float:
        """Memory in use, by all programs, in MiB."""

    @property
    def beside(self) -> int:
        """Requests that were spoken beside it, at most."""


class SpeechSession:
    """Iterate over the audio, then read `stats`. Enter it first: that waits for the first turn.

    Each sentence ends with an empty piece; `sentences` then says where it is. A text of no sentence
    is `SILENCE_S` of silence, with a warning, and so is a part of it that is flushed.

    A few sentences are at work at once. A client that reads slowly stops new ones from being begun;
    `backlog` bounds what waits to be heard of all requests.

    Sentences are joined as `audio.joins` says. In a stream the next one is sent once it is whole,
    so that its level is known, but always before what was sent has been played.
    """

    def __init__(
        self,
        request: SpeechRequest,
        sentences: AsyncIterator[Sentence],
        voices: Mapping[str, tuple[VoicePrompt, ...]],
        *,
        backlog: Backlog,
        admitted: AdmittedRequest,
        open_sentences: int,
        info: EngineInfo,
        plan: Plan,
        text_limit: TextLimit,
        warnings: tuple[str, ...],
        deadline_s: float,
        peaks: Peaks,
        worker_start_s: float = 0.0,
        foreseen: Foreseen | None = None,
    ) -> None:
        self._request, self._sentences, self._voices = request, sentences, dict(voices)
        self._backlog, self._admitted = backlog, admitted
        self.info, self.plan = info, plan
        self.text_limit = text_limit
        self._warnings = list(warnings)
        self._loop = asyncio.get_running_loop()
        self.deadline_s = deadline_s
        """When it is given up, in the event loop's time."""
        assert request.sampling.seed is not None, "no seed was drawn"
        self._seed = request.sampling.seed
        # Of what is heard as it is made, the first sentence has the machine for itself until
        # something of it is heard.
        self._more_places = open_sentences - 1 if request.is_streamed else 0
        self._places = asyncio.Semaphore(open_sentences - self._more_places)
        self._open: asyncio.Queue[_Next] = asyncio.Queue()
        self._begun: list[RunningSentence] = []
        self._following: _Next = None
        self._speaking: Sentence | None = None
        self._first_of_voice: dict[str, RunningSentence] = {}
        self._feeder: asyncio.Task[None] | None = None
        self._audio = self._chunks()
        self._levels = Levels(info.sample_rate_hz)
        self._began_s = 0.0
        self._played_s = 0.0
        """When all audio so far is played, in the event loop's time, where it is played at once."""
        self._samples = 0
        self._costs: list[SpeechStats] = []
        self._spoken: list[SpokenSentence] = []
        self._stats: SpeechStats | None = None
        self.first_audio_s = 0.0
        """Seconds from admission to the first audio; 0 before it."""
        self.total_s = 0.0
        """Seconds from admission to what was heard last."""
        self.peaks = peaks
        """What it took of the GPU at most, so far."""
        self.worker_start_s = worker_start_s
        """Seconds that it waited for a worker that had ended because nobody asked."""
        self.foreseen = foreseen
        """What was known of it before; None of text that is still being written."""

    async def __aenter__(self) -> Self:
        self._feeder = asyncio.create_task(self._feed(), name="sentences")
        try:
            first = await self._in_time(self._open.get())
            self._following = first
            if isinstance(first, RunningSentence):
                await self._in_time(asyncio.shield(first.begun))
            self._began_s = self._loop.time()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    @property
    def is_spoken(self) -> bool:
        """The audio was read to its end."""
        return self._stats is not None

    @property
    def stats(self) -> SpeechStats:
        """What the request cost, warnings included, once its audio is read to the end."""
        if self._stats is None:
            raise RuntimeError("the speech is not finished")
        return self._stats

    @property
    def sentences(self) -> tuple[SpokenSentence, ...]:
        """What was spoken so far, and where it is in the audio."""
        return tuple(self._spoken)

    @property
    def text(self) -> str:
        """What was spoken so far, in the words in which it was read."""
        return " ".join(sentence.text for sentence in self._spoken)

    @property
    def costs(self) -> tuple[SpeechStats, ...]:
        """What each of `sentences` cost."""
        return tuple(self._costs)

    @property
    def begun(self) -> int:
        """Sentences that have got their row, the first of the text always among them."""
        return len(self._spoken) + sum(running.is_begun for running in self._begun)

    @property
    def is_at_work(self) -> bool:
        """Something that was written is not heard to its end yet."""
        return bool(self._begun)

    @property
    def speaking(self) -> Sentence:
        """The sentence whose audio came last."""
        assert self._speaking is not None, "nothing was heard yet"
        return self._speaking

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the client should know, as far as it is known by now."""
        return tuple(self._warnings)

    @property
    def queue_s(self) -> float:
        """Seconds it waited before it was its turn."""
        return self._admitted.queue_s

    @property
    def audio_s(self) -> float:
        """Seconds of audio so far."""
        return self._samples / self.info.sample_rate_hz

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PcmChunk:
        try:
            chunk = await self._in_time(anext(self._audio))
        except StopAsyncIteration:
            self.total_s = self._loop.time() - self._began_s
            self._stats = replace(
                sum_of(self._costs, self.total_s),
                audio_s=self.audio_s,
                total_s=self.total_s,
                warnings=tuple(self._warnings),
            )
            raise
        self.total_s = self._loop.time() - self._began_s
        if chunk.samples and not self._samples:
            self.first_audio_s = self.total_s
            for _ in range(self._more_places):
                self._places.release()
        samples = len(chunk.samples) // 4
        self._samples += samples
        played_s = samples / self.info.sample_rate_hz / self._request.speed
        self._played_s = max(self._played_s, self._loop.time()) + played_s
        return chunk

    async def _chunks(self) -> AsyncGenerator[PcmChunk, None]:
        is_silent = self._following is None
        while (running := self._following) is not None:
            if running == _NOTHING:
                yield self._unsaid()
                self._following = await self._open.get()
                continue
            start_s, self._speaking = self.audio_s, running.sentence
            pause = round(running.sentence.pause_s * self.info.sample_rate_hz)
            edges = self._levels.edges(running.sentence.voice, pause, await self._gain(running))
            while piece := await running.piece(until_s=self._played_s - _IN_HAND_S):
                if samples := edges.push(piece):
                    yield PcmChunk(samples, running.index)
            if samples := edges.finish():
                yield PcmChunk(samples, running.index)
            self._record(running, start_s, edges)
            yield PcmChunk(b"", running.index)  # it is over, however long the next takes to come
            self._following = await self._open.get()
            tail_s = edges.tail_samples / self.info.sample_rate_hz
            silence = self._silence(self._pause_s(running.sentence) - tail_s)
            if self._following is not None and silence:
                yield PcmChunk(silence, running.index)
        assert self._feeder is not None
        await self._feeder  # raises what ended the text early, if anything did
        if is_silent:
            yield self._unsaid()

    def _unsaid(self) -> PcmChunk:
        """Silence in the place of text that has nothing to say, with one warning for all of it."""
        if _UNSAID not in self._warnings:
            self._warnings.append(_UNSAID)
        return PcmChunk(self._silence(SILENCE_S), len(self._spoken) - 1)

    def _silence(self, duration_s: float) -> bytes:
        samples = max(0, round(duration_s * self.info.sample_rate_hz))
        return np.zeros(samples, "<f4").tobytes()

    def _pause_s(self, sentence: Sentence) -> float:
        """Silence after `sentence`. Of text that is still being written, the time in which nothing
        was left to play was the pause, or a part of it."""
        if self._request.text:
            return sentence.pause_s
        waited_s = max(0.0, self._loop.time() - self._played_s)
        return max(0.0, sentence.pause_s - waited_s * self._request.speed)

    async def _gain(self, running: RunningSentence) -> float:
        """What to multiply the sentence by, so that it is as loud as its voice was before."""
        voice = running.sentence.voice
        if is_marked(running.sentence.text) or not self._levels.knows(voice):
            return 1.0
        await running.made(until_s=self._played_s - _IN_HAND_S)
        return self._levels.gain(voice, running.waiting, is_whole=running.is_whole)

    def _record(self, running: RunningSentence, start_s: float, edges: Edges) -> None:
        sentence = running.sentence
        if not is_marked(sentence.text):
            self._levels.learn(sentence.voice, edges)
        spoken = SpokenSentence(sentence.text, start_s, self.audio_s, sentence.voice)
        self._spoken.append(spoken)
        step, by = running.memory_step, (running.worker,)
        cost = replace(running.stats, retries=running.retries, memory_step=step, workers=by)
        self._costs.append(cost)
        self._warnings += running.warnings
        if step:
            self._warnings.append(
                f"memory ran short: sentence {running.index + 1} was begun again with {SAYS[step]}"
            )
        self._begun.remove(running)
        self._places.release()

    async def _feed(self) -> None:
        """Begin one sentence after another, as there are places."""
        index = 0
        try:
            async for sentence in self._sentences:
                if not sentence.text:
                    self._open.put_nowait(_NOTHING)
                    continue
                await self._places.acquire()
                await self._backlog.room(list(self._begun))
                await self._follow_voice(sentence)
                running = self._begin(sentence, index)
                self._begun.append(running)
                self._open.put_nowait(running)
                index += 1
        finally:
            self._open.put_nowait(None)

    def _begin(self, sentence: Sentence, index: int) -> RunningSentence:
        text, prompts = sentence.text, self._voices.get(sentence.voice, ())
        if not self._request.text:  # live: only now is it known how much there is
            self._admitted.add(len(text))
        is_chance = not prompts and not self.info.has_default_voice
        speak = Speak(
            request_id=self._request.request_id,
            text=text,
            sampling=self._request.sampling,
            references=prompts,
            return_codes=is_chance,
            trace_parent=self._request.trace_parent,
        )
        running = RunningSentence(
            *(sentence, speak, self._seed, index),
            info=self.info,
            admitted=self._admitted,
            demand=demand_of(speak, self.info),
            backlog=self._backlog,
            is_held=not self._request.is_streamed,
        )
        if is_chance:
            self._first_of_voice[sentence.voice] = running
        return running

    async def _follow_voice(self, sentence: Sentence) -> None:
        """Where chance chose the voice of a first sentence, the others are said in it too."""
        first = self._first_of_voice.pop(sentence.voice, None)
        if first is None:
            return
        await first.finished()
        if first.codes is not None:
            self._voices[sentence.voice] = (VoicePrompt(first.codes, first.sentence.text),)

    async def _in_time(self, work: Awaitable[T]) -> T:
        advice = "send less text, or a longer X-Timeout-S"
        return await in_time(
            work, self.deadline_s, f"The request was not spoken in time; {advice}."
        )

    async def _close(self) -> None:
        # All is given up before anything is waited for: Serve cancels a request whose client left,
        # which may have seen that itself, and what is cancelled twice does not wait.
        for running in self._begun:
            running.close()
        await end(self._feeder, *(running.task for running in self._begun))
        await self._audio.aclose()


async def in_time(work: Awaitable[T], deadline_s: float, message: str) -> T:
    """What `work` returns; `TimedOut` with `message` past `deadline_s`, in the loop's time."""
    try:
        async with asyncio.timeout_at(deadline_s):
            return await work
    except TimeoutError:
        raise TimedOut(message) from None
