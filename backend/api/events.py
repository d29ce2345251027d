"""`POST /tts` with `stream=events`: the audio among events that tell all that is known of it.

    plan            once the request is in the queue: what will be spoken, and how
    queue           every two seconds until its first turn
    sentence.start  a sentence has got its row, maybe while an earlier one is still being sent
    audio           a piece of the file, in base64
    sentence.end    after the last audio of a sentence, and the pause that follows it
    warning         each one, when it is known
    done            every figure; or `error`, where something failed after `plan`

A sentence's own audio is told exactly in pcm at tempo 1 and the checkpoint's rate; everything else
that encodes gives the last of a sentence away only with what follows.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from typing import Any

from fastapi import Request, Response

from backend.api.answer import PIECE_BYTES, StreamAnswer, media_of, rate_of, write_chunk
from backend.api.dependencies import unless_hung_up
from backend.api.sse import EVENT_STREAM, event
from backend.api.status import retry_after_s, status_of
from backend.audio.write import AudioWriter, Outlet
from backend.core import AudioOutput, SpeechRequest
from backend.errors import ShoalError
from backend.monitoring.synthesis import real_time_factor, tokens_per_second
from backend.serving.outlook import Queued, text_limit_json
from backend.serving.session import SpeechSession
from backend.smart_backend import SmartBackend

_QUEUE_S = 2.0
"""Between two events of a request that waits; proxies take a longer silence for a dead one."""


async def answer_events(
    request: Request, backend: SmartBackend, speech: SpeechRequest, output: AudioOutput
) -> Response:
    """Speak `speech` in events. What is refused before it is in the queue raises."""
    return await unless_hung_up(request, _open(backend, speech, output))


async def _open(backend: SmartBackend, speech: SpeechRequest, output: AudioOutput) -> Response:
    """Up to the first event."""
    known: asyncio.Future[Queued] = asyncio.get_running_loop().create_future()
    async with AsyncExitStack() as stack:
        # Here, so that it is told what ended it early; the last event wants it left before.
        speaking = await stack.enter_async_context(AsyncExitStack())
        turn = asyncio.create_task(
            speaking.enter_async_context(backend.speak(speech, on_queued=known.set_result)),
            name="turn",
        )
        stack.push_async_callback(_give_up, turn)
        either: tuple[asyncio.Future[Any], ...] = (known, turn)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not known.done():
            await turn  # raises why it was refused
        queued = known.result()
        events = _Events(speech, output, queued)
        pieces = await stack.enter_async_context(aclosing(events.tell(turn, speaking)))
        response = StreamAnswer(
            stack.pop_all(), events.plan(), pieces, queued.deadline_s, EVENT_STREAM, {}, _error
        )
    return response


async def _give_up(turn: asyncio.Task[SpeechSession]) -> None:
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)


class _Events:
    """The events of one request."""

    def __init__(self, speech: SpeechRequest, output: AudioOutput, queued: Queued) -> None:
        self._request_id, self._output, self._queued = speech.request_id, output, queued
        self._script = queued.outlook.script
        self._started = self._warned = 0
        self._outlet = Outlet()

    def plan(self) -> bytes:
        """The first one."""
        queued, output = self._queued, self._output
        return event(
            "plan",
            request_id=self._request_id,
            seed=queued.seed,
            script=[{"text": line.text, "voice": line.voice} for line in self._script],
            **queued.outlook.figures(output.speed),
            format=output.format,
            media_type=media_of(queued.info, output),
            sample_rate=rate_of(queued.info, output),
            engine=f"{queued.info.engine}/{queued.info.checkpoint}",
            has_default_voice=queued.info.has_default_voice,
            tier=queued.plan.tier,
            strategy=queued.plan.strategy,
        )

    async def tell(
        self, turn: asyncio.Task[SpeechSession], speaking: AsyncExitStack
    ) -> AsyncGenerator[bytes, None]:
        """The others: `turn` ends when the speech begins, which `speaking` holds."""
        for told in self._warn(self._queued.warnings):
            yield told
        while not (await asyncio.wait({turn}, timeout=_QUEUE_S))[0]:
            yield event("queue", wait_s=round(self._queued.outlook.wait(), 3))
        session = turn.result()
        async with aclosing(self._speak(session)) as events:
            async for told in events:
                yield told
        await speaking.aclose()  # the machine's figures are known after it
        for told in self._warn(session.warnings):
            yield told
        yield event("done", request_id=self._request_id, **self._figures(session))

    async def _speak(self, session: SpeechSession) -> AsyncGenerator[bytes, None]:
        over: int | None = None
        """A sentence that is over, of which the pause may follow."""
        last = len(self._script) - 1
        with closing(
            AudioWriter(self._outlet, self._output, session.info.sample_rate_hz)
        ) as writer:
            for told in self._start(session):
                yield told
            async for chunk in session:
                if over is not None and over != chunk.segment:  # there is no pause
                    yield self._end(session, over)
                    over = None
                for told in self._start(session):
                    yield told
                index = chunk.segment
                await write_chunk(writer, chunk, session.info)
                for told in self._take(index):
                    yield told
                if over is not None:  # this was the pause
                    yield self._end(session, over)
                over = None if chunk.samples else index  # its last piece is empty
        for told in self._take(last):
            yield told
        yield self._end(session, last)

    def _start(self, session: SpeechSession) -> Iterator[bytes]:
        """What has happened beside the audio."""
        yield from self._warn(session.warnings)
        while self._started < session.begun:
            line = self._script[self._started]
            yield event("sentence.start", index=self._started, text=line.text, voice=line.voice)
            self._started += 1

    def _warn(self, warnings: tuple[str, ...]) -> Iterator[bytes]:
        for detail in warnings[self._warned :]:
            yield event("warning", detail=detail)
        self._warned = len(warnings)

    def _take(self, index: int) -> Iterator[bytes]:
        """What is encoded."""
        encoded = self._outlet.take()
        for start in range(0, len(encoded), PIECE_BYTES):
            audio = base64.b64encode(encoded[start : start + PIECE_BYTES]).decode()
            yield event("audio", index=index, audio=audio)

    def _end(self, session: SpeechSession, index: int) -> bytes:
        spoken, cost = session.sentences[index], session.costs[index]
        speed = self._output.speed
        audio_s = (spoken.end_s - spoken.start_s) / speed
        return event(
            "sentence.end",
            index=index,
            text=spoken.text,
            start_s=round(spoken.start_s / speed, 3),
            end_s=round(spoken.end_s / speed, 3),
            audio_s=round(audio_s, 3),
            total_s=round(cost.total_s, 4),
            first_audio_s=round(cost.first_audio_s, 4),
            rtf=round(real_time_factor(cost.total_s, audio_s) or 0.0, 4),
            generated_tokens=cost.generated_tokens,
            tokens_per_s=round(tokens_per_second(cost.generated_tokens, cost.total_s) or 0.0, 2),
            retries=cost.retries,
        )

    def _figures(self, session: SpeechSession) -> dict[str, Any]:
        """What it cost, as the headers of an answer in one piece say."""
        stats, info, plan = session.stats, session.info, session.plan
        total_s, audio_s = session.total_s, session.audio_s / self._output.speed
        compute_s = stats.prefill_s + stats.decode_s
        return {
            "seed": self._queued.seed,
            "text": session.text,
            "latency_s": round(total_s, 4),
            "first_audio_s": round(session.first_audio_s, 4),
            "queue_s": round(session.queue_s, 4),
            "audio_s": round(audio_s, 3),
            "rtf": round(real_time_factor(total_s, audio_s) or 0.0, 4),
            "compute_rtf": round(real_time_factor(compute_s, audio_s) or 0.0, 4),
            "generated_tokens": stats.generated_tokens,
            "tokens_per_s": round(tokens_per_second(stats.generated_tokens, total_s) or 0.0, 2),
            "peak_vram_mb": round(session.peaks.peak_vram_mb, 1),
            "gpu_util_pct": round(session.peaks.peak_gpu_util_pct, 1),
            "worker_peak_memory_mb": round(stats.peak_memory_mb, 1),
            "segments": stats.segments,
            "retries": stats.retries,
            "finish_reasons": list(stats.finish_reasons),
            "text_limit": text_limit_json(session.text_limit),
            "strategy": plan.strategy,
            "tier": plan.tier,
            "engine": f"{info.engine}/{info.checkpoint}",
            "device": info.device,
            "precision": info.precision,
            "quantization": info.quantization,
            "warnings": list(session.warnings),
        }


def _error(error: ShoalError) -> bytes:
    """The last event where something failed after the first."""
    return event(
        "error",
        status=status_of(error).value,
        code=error.code,
        detail=str(error),
        retry_after_s=retry_after_s(error),
    )
