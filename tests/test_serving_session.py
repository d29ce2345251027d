"""A request's sentences: order, pauses, back-pressure, second tries, voices, and leaving."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from backend.audio.joins import Edges
from backend.core import (
    OPEN_SENTENCES,
    EngineInfo,
    PcmChunk,
    ReferenceCodes,
    SamplingParams,
    Sentence,
    SpeechRequest,
    TextLimit,
    VoicePrompt,
)
from backend.errors import Aborted, EngineDown, EngineFailed, TextTooLong, TimedOut
from backend.monitoring.sample import Observed
from backend.serving.admission import Admission
from backend.serving.backlog import Backlog
from backend.serving.sentence import ATTEMPTS, JOINED_BYTES, WORKERS, RunningSentence
from backend.serving.session import SILENCE_S, SpeechSession
from backend.worker.messages import Done, Speak
from tests.desk import Stand, settle
from tests.monitored import plan, stats
from tests.test_hardware_memory import Machine

RATE_HZ = 8000
TURNS = 100
"""Of the loop, which are more than all that is begun here takes."""
TONE = (0.5 * np.sin(np.arange(800))).astype("<f4").tobytes()
LARGE = TONE * (JOINED_BYTES // len(TONE) + 1)
"""A piece that leaves alone."""
SILENCE = np.zeros(800, "<f4").tobytes()
CODES = ReferenceCodes(b"\1\0", 1, "codec", 0.1)


class Voice:
    """A worker: three tones a sentence, less as its words say."""

    def __init__(self, piece: bytes = TONE) -> None:
        self.piece = piece
        self.asked: list[Speak] = []
        self.ended: list[str] = []
        self.at_work = self.most_at_work = 0
        self.gate: asyncio.Event | None = None
        """Sentences wait for it after their first piece."""
        self.is_up = asyncio.Event()
        self.is_up.set()
        self.info = info()
        self.death = asyncio.Event()
        """Ends what waits for the gate."""
        self.suspects = asyncio.Lock()

    async def ready(self) -> EngineInfo:
        await self.is_up.wait()
        return self.info

    async def speak(self, speak: Speak, take: Callable[[bytes], None]) -> Done:
        assert self.is_up.is_set()
        tries = sum(before.text == speak.text for before in self.asked)
        self.asked.append(speak)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.sleep(0)
            if "broken" in speak.text:
                raise EngineFailed("out of memory")
            is_mute = "mute" in speak.text and not tries
            for piece in range(3):
                take(SILENCE if is_mute else self.piece)
                if self.gate is not None and piece == 0:
                    await self.gate.wait()
                if self.death.is_set() or "deadly" in speak.text:
                    raise EngineDown("killed")
                await asyncio.sleep(0)
            runs = "forever" in speak.text or ("runaway" in speak.text and not tries)
            reason = "frame_limit" if runs else "end"
            cost = stats(finish_reasons=(reason,), segments=1, frames=10, generated_tokens=11)
            return Done(speak.request_id, cost, CODES if speak.return_codes else None)
        finally:
            self.at_work -= 1
            self.ended.append(speak.text)


def info(**values: Any) -> EngineInfo:
    told: dict[str, Any] = {
        "engine": "fake",
        "checkpoint": "tones",
        "device": "cpu",
        "precision": "fp32",
        "sample_rate_hz": RATE_HZ,
        "frame_samples": 80,
        "num_codebooks": 1,
        "parameters": 1,
        "weight_bytes": 4,
        "context_tokens": 100,
        "max_segment_characters": 80,
        "max_reference_s": 30.0,
        "languages": ("en",),
        "torch_version": "none",
        "pid": 1,
        "memory_mb": 1.0,
        "load_s": 0.0,
        "has_default_voice": True,
    }
    return EngineInfo(**told | values)


async def written(texts: Sequence[str], pause_s: float = 0.0) -> AsyncIterator[Sentence]:
    for text in texts:
        yield Sentence(text, pause_s)


@asynccontextmanager
async def session(
    voice: Voice,
    sentences: AsyncIterator[Sentence],
    *,
    is_streamed: bool = True,
    open_sentences: int = OPEN_SENTENCES,
    timeout_s: float = 30.0,
    seed: int = 7,
    voices: dict[str, tuple[VoicePrompt, ...]] | None = None,
    rows: int = 8,
    backlog: Backlog | None = None,
    **told: Any,
) -> AsyncIterator[SpeechSession]:
    admission = Admission(queue_limit=4, rows_per_client=rows)
    stand = Stand(Machine().manager, rows, voice)
    admission.join(stand, rows=rows, most_rows=rows, characters_per_s=10.0)
    request = SpeechRequest(
        "r", "text", sampling=SamplingParams(seed=seed), is_streamed=is_streamed
    )
    with admission.enter("me", 100) as admitted:
        async with SpeechSession(
            request,
            sentences,
            voices or {},
            backlog=backlog or Backlog(1 << 30),
            admitted=admitted,
            open_sentences=open_sentences,
            info=info(**told),
            plan=plan(),
            text_limit=TextLimit(100, "", 4, 4),
            warnings=("said before",),
            deadline_s=asyncio.get_running_loop().time() + timeout_s,
            peaks=Observed(),
        ) as it:
            yield it
    assert admission.speaking == admission.waiting == 0


async def heard(it: SpeechSession) -> list[PcmChunk]:
    return [chunk async for chunk in it]


def sound(chunks: Sequence[PcmChunk]) -> bytes:
    return b"".join(chunk.samples for chunk in chunks)


def mended(spoken: bytes) -> bytes:
    """A sentence that was `spoken`, as it is heard."""
    edges = Edges(RATE_HZ, 0)
    return edges.push(spoken) + edges.finish()


def run(work: Callable[[], Any]) -> None:
    async def all_of_it() -> None:
        await work()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "tasks were left behind"

    asyncio.run(all_of_it())


@pytest.mark.parametrize("is_streamed", [True, False])
def test_sentences_come_in_order_with_pauses_between(is_streamed: bool) -> None:
    async def work() -> None:
        texts = [f"sentence {number}" for number in range(7)]
        async with session(Voice(), written(texts, 0.05), is_streamed=is_streamed) as it:
            chunks = await heard(it)
            assert [chunk.segment for chunk in chunks] == sorted(c.segment for c in chunks)
            assert it.audio_s == pytest.approx(7 * 0.3 + 6 * 0.05)
            assert [sentence.text for sentence in it.sentences] == texts
            starts = [sentence.start_s for sentence in it.sentences]
            assert starts == pytest.approx([number * 0.35 for number in range(7)])
            assert all(s.end_s - s.start_s == pytest.approx(0.3) for s in it.sentences)
            assert it.stats.segments == 7
            assert it.stats.generated_tokens == 77
            assert it.warnings == it.stats.warnings == ("said before",)

    run(work)


def test_the_first_sentence_is_alone_until_it_is_heard_then_a_few_are_at_work() -> None:
    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written([f"s{n}" for n in range(9)])) as it:
            await settle(TURNS)
            assert voice.at_work == 1
            await anext(it)
            await settle(TURNS)
            assert voice.at_work == OPEN_SENTENCES
            voice.gate.set()
            await heard(it)
        assert voice.most_at_work == OPEN_SENTENCES

    run(work)


def test_one_at_a_time_where_memory_is_dear() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["a", "b", "c"]), open_sentences=1) as it:
            await heard(it)
        assert voice.most_at_work == 1

    run(work)


def test_a_slow_listener_stops_new_sentences() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written([f"s{n}" for n in range(50)])) as it:
            await anext(it)
            await settle(TURNS)
            assert len(voice.asked) == OPEN_SENTENCES

    run(work)


@pytest.mark.parametrize("fault", ["runaway", "mute"])
def test_a_sentence_that_went_wrong_is_spoken_again_with_another_seed(fault: str) -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["fine", fault]), is_streamed=False) as it:
            await heard(it)
            assert it.stats.retries == 1
            assert it.stats.segments == 2
            assert it.audio_s == pytest.approx(0.6)
            (warning,) = it.stats.warnings[1:]
            assert warning.startswith("sentence 2 ")
            assert "another seed" in warning
        first, second = (speak for speak in voice.asked if speak.text == fault)
        assert first.sampling.seed != second.sampling.seed

    run(work)


def test_a_stream_tries_again_what_was_not_sent() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["runaway one", "fine", "runaway two"])) as it:
            await anext(it)  # the first is on its way to the client
            await settle(TURNS)
            await heard(it)
            assert it.stats.retries == 1
            assert "sentence 1 did not come to an end" in it.warnings[1]
            assert "sentence 3" in it.warnings[2]
        assert [speak.text for speak in voice.asked].count("runaway one") == 1
        assert [speak.text for speak in voice.asked].count("runaway two") == 2

    run(work)


def test_what_always_goes_wrong_is_given_up_and_told() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["forever"]), is_streamed=False) as it:
            await heard(it)
            assert it.stats.retries == ATTEMPTS - 1
            assert it.stats.finish_reasons == ("frame_limit",)
        assert len({speak.sampling.seed for speak in voice.asked}) == len(voice.asked) == ATTEMPTS

    run(work)


def test_a_seed_gives_each_sentence_its_own_and_the_same_again() -> None:
    async def seeds(seed: int) -> list[int | None]:
        voice = Voice()
        async with session(voice, written(["a", "a"]), seed=seed) as it:
            await heard(it)
        return [speak.sampling.seed for speak in voice.asked]

    async def work() -> None:
        once, again, other = [await seeds(seed) for seed in (7, 7, 8)]
        assert once == again
        assert once[0] != once[1]
        assert len({*once, *other}) == 4

    run(work)


def test_chance_chooses_one_voice_for_a_whole_text() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["one", "two", "three"]), has_default_voice=False) as it:
            await heard(it)
        first, second, third = voice.asked
        assert first.references == () and first.return_codes
        assert second.references == third.references == (VoicePrompt(CODES, "one"),)
        assert not second.return_codes

    run(work)


def test_each_line_has_its_own_voice() -> None:
    async def scene() -> AsyncIterator[Sentence]:
        yield Sentence("hello", voice="anna")
        yield Sentence("hi", voice="")

    async def work() -> None:
        voice, anna = Voice(), (VoicePrompt(CODES, "who I am"),)
        async with session(voice, scene(), voices={"anna": anna}) as it:
            await heard(it)
            assert [sentence.voice for sentence in it.sentences] == ["anna", ""]
        assert [speak.references for speak in voice.asked] == [anna, ()]

    run(work)


def test_what_fails_in_the_middle_is_raised_and_ends_the_others() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["fine", "broken", "fine too", "more"])) as it:
            with pytest.raises(EngineFailed):
                await heard(it)
            assert [sentence.text for sentence in it.sentences] == ["fine"]
        assert voice.at_work == 0

    run(work)


@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_leaving_gives_up_every_sentence(chunks: int) -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written([f"s{n}" for n in range(9)])) as it:
            for _ in range(chunks):
                await anext(it)
        assert voice.at_work == 0
        assert not it.is_spoken

    run(work)


def test_who_is_cancelled_again_while_it_leaves_gives_up_every_sentence_too() -> None:
    """Serve cancels the request of a client that left, which may have seen it itself."""

    async def work() -> None:
        voice, backlog = Voice(), Backlog(1 << 20)
        voice.gate = asyncio.Event()

        async def listen() -> None:
            sentences = written([f"s{n}" for n in range(9)])
            async with session(voice, sentences, backlog=backlog) as it:
                await anext(it)
                await anext(it)

        listening = asyncio.create_task(listen())
        while voice.at_work < 2:
            await asyncio.sleep(0)
        for _ in range(2):
            listening.cancel()
            await asyncio.sleep(0)
        await settle()
        assert listening.cancelled()
        assert voice.at_work == backlog.waiting_bytes == 0

    run(work)


def test_what_is_given_up_is_free_without_the_collector() -> None:
    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written(["one", "two", "three"])) as it:
            await anext(it)
            assert it.is_at_work

    gc.collect()
    gc.disable()
    try:
        run(work)
        assert not [each for each in gc.get_objects() if type(each) is RunningSentence]
    finally:
        gc.enable()


def test_the_deadline_counts_while_speaking() -> None:
    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written(["one", "two"]), timeout_s=0.05) as it:
            with pytest.raises(TimedOut):
                await heard(it)
        assert voice.at_work == 0

    run(work)


def test_the_deadline_counts_while_waiting_for_text() -> None:
    async def never() -> AsyncIterator[Sentence]:
        await asyncio.Event().wait()
        yield Sentence("")

    async def work() -> None:
        with pytest.raises(TimedOut):
            async with session(Voice(), never(), timeout_s=0.05):
                pass

    run(work)


def test_text_that_is_nothing_is_a_moment_of_silence() -> None:
    async def nothing() -> AsyncIterator[Sentence]:
        for sentence in list[Sentence]():
            yield sentence

    async def work() -> None:
        async with session(Voice(), nothing()) as it:
            assert not np.frombuffer(sound(await heard(it)), "<f4").any()
            assert it.audio_s == pytest.approx(SILENCE_S)
            assert "nothing to say" in it.stats.warnings[-1]
            assert (it.stats.frames, it.sentences) == (0, ())

    run(work)


def test_what_ends_the_text_early_is_raised_after_what_was_spoken() -> None:
    async def too_long() -> AsyncIterator[Sentence]:
        yield Sentence("one")
        raise TextTooLong("send less")

    async def work() -> None:
        async with session(Voice(), too_long()) as it:
            with pytest.raises(TextTooLong):
                await heard(it)
            assert it.audio_s == pytest.approx(0.3)

    run(work)


def test_live_text_is_spoken_before_the_rest_is_written() -> None:
    async def work() -> None:
        goes_on = asyncio.Event()

        async def live() -> AsyncIterator[Sentence]:
            yield Sentence("one", 0.1)
            await goes_on.wait()
            yield Sentence("two")

        async with session(Voice(), live()) as it:
            ends = 0
            while not ends:
                ends += not (await anext(it)).samples
            assert it.sentences[0].text == it.speaking.text == "one"
            goes_on.set()
            await heard(it)
            assert it.audio_s == pytest.approx(0.7)

    run(work)


def test_memory_stays_flat_however_long_the_text() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written([f"s{n}" for n in range(300)]), rows=2) as it:
            async for _ in it:
                assert len(it._begun) <= OPEN_SENTENCES
        assert voice.most_at_work <= 2

    run(work)


# -- a worker that dies ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [True, False])
def test_what_was_not_sent_outlives_a_worker(is_streamed: bool) -> None:
    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written(["one", "two"], 0.0), is_streamed=is_streamed) as it:
            await settle(TURNS)
            first = [speak.text for speak in voice.asked]
            assert voice.at_work == len(first) == (1 if is_streamed else 2)
            voice.is_up.clear()
            voice.death.set()
            voice.gate.set()
            await settle(TURNS)
            assert voice.at_work == 0, "it waits for the next worker"
            voice.death.clear()
            voice.is_up.set()
            chunks = await heard(it)
            assert it.audio_s == pytest.approx(0.6), "what the first worker made is not heard"
            assert sound(chunks) == 2 * mended(3 * TONE)
        assert [speak.text for speak in voice.asked] == [*first, "one", "two"]
        assert len({speak.sampling.seed for speak in voice.asked if speak.text == "one"}) == 1

    run(work)


def test_a_sentence_that_was_begun_to_be_sent_dies_with_its_worker() -> None:
    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written(["one"])) as it:
            await anext(it)
            voice.death.set()
            voice.gate.set()
            with pytest.raises(EngineDown, match="killed"):
                await heard(it)
        assert len(voice.asked) == 1

    run(work)


def test_a_sentence_that_kills_its_workers_is_given_up() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["deadly"]), is_streamed=False) as it:
            with pytest.raises(EngineDown, match="killed"):
                await heard(it)
        assert len(voice.asked) == WORKERS

    run(work)


def test_after_a_death_sentences_are_tried_one_by_one() -> None:
    """Each may be the one that kills workers: it is not to take the others along again."""

    async def work() -> None:
        voice = Voice()
        voice.gate = asyncio.Event()
        async with session(voice, written(["one", "two", "three"], 0.0), is_streamed=False) as it:
            await settle(TURNS)
            assert voice.at_work == 3
            voice.is_up.clear()
            voice.death.set()
            voice.gate.set()
            await settle(TURNS)
            voice.death.clear()
            voice.most_at_work = 0
            voice.is_up.set()
            assert sound(await heard(it)) == 3 * mended(3 * TONE)
        assert voice.most_at_work == 1

    run(work)


def test_another_checkpoint_does_not_go_on_with_a_request() -> None:
    async def work() -> None:
        voice = Voice()
        voice.info = info(codec_id="another")
        async with session(voice, written(["one"])) as it:
            with pytest.raises(EngineDown, match="Another checkpoint"):
                await heard(it)
        assert not voice.asked

    run(work)


def test_the_deadline_counts_while_there_is_no_worker() -> None:
    async def work() -> None:
        voice = Voice()
        voice.is_up.clear()
        async with session(voice, written(["one"]), timeout_s=0.05) as it:
            with pytest.raises(TimedOut):
                await heard(it)

    run(work)


def test_what_waits_to_be_fetched_leaves_together() -> None:
    async def work() -> None:
        voice = Voice()
        async with session(voice, written(["behind"])) as it:
            while not voice.ended:
                await asyncio.sleep(0)
            body, end, over = await heard(it)
            assert sound([body, end]) == mended(3 * TONE)
            assert len(body.samples) > 2 * len(TONE) and not over.samples

    run(work)


def test_what_leaves_together_is_bounded() -> None:
    async def work() -> None:
        piece = TONE * (JOINED_BYTES // len(TONE))
        voice = Voice(piece)
        async with session(voice, written(["far behind"])) as it:
            while not voice.ended:
                await asyncio.sleep(0)
            first, second, end, over = await heard(it)
            assert sound([first, second, end]) == mended(3 * piece)
            assert len(first.samples) == pytest.approx(2 * len(piece), rel=0.01)
            assert not over.samples

    run(work)


class Clocked(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until it is put forward."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s


class Told(Voice):
    """A worker that makes what it is told, and ends with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def speak(self, speak: Speak, take: Callable[[bytes], None]) -> Done:
        while piece := await self.pieces.get():
            take(piece)
        return Done(speak.request_id, stats())


def test_a_stream_that_is_ahead_is_sent_large_pieces_but_never_too_late() -> None:
    loop = Clocked()

    async def work() -> None:
        voice = Told()

        async def sent() -> PcmChunk | None:
            """What leaves without anything else to happen."""
            following = asyncio.ensure_future(anext(it))
            await settle(TURNS)
            if following.done():
                return following.result()
            waiting.append(following)
            return None

        waiting: list[asyncio.Future[PcmChunk]] = []
        async with session(voice, written(["one"])) as it:
            for _ in range(3):  # nothing is in hand: each leaves at once
                voice.pieces.put_nowait(TONE)
                assert await sent() is not None
            voice.pieces.put_nowait(SECOND)  # four seconds
            assert await sent() is not None
            voice.pieces.put_nowait(TONE)
            assert await sent() is None, "a small piece, and much to play"
            voice.pieces.put_nowait(LARGE)
            assert len((await waiting.pop()).samples) == len(TONE) + len(LARGE), "both as one"
            voice.pieces.put_nowait(TONE)
            assert await sent() is None
            loop.now_s = it.audio_s - 0.6
            await settle(TURNS)
            assert not waiting[0].done(), "there is enough to play"
            loop.now_s += 0.2
            await settle(TURNS)
            assert waiting.pop().done(), "there is not"
            voice.pieces.put_nowait(LARGE)
            assert await sent() is not None
            voice.pieces.put_nowait(TONE)
            assert await sent() is None
            voice.pieces.put_nowait(b"")
            await settle(TURNS)
            assert waiting.pop().done(), "it is whole"
            await heard(it)
            made = 6 * TONE + SECOND + 2 * LARGE
            assert it.audio_s == pytest.approx(len(made) / 4 / RATE_HZ)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work())


# -- a client that does not fetch ------------------------------------------------------------------

SENTENCE_BYTES = 3 * len(TONE)


def test_who_never_reads_is_given_up_where_the_bound_is_reached_and_nobody_else() -> None:
    async def work() -> None:
        backlog = Backlog(SENTENCE_BYTES + len(TONE))
        voice = Voice()
        async with (
            session(voice, written(["never", "read"]), backlog=backlog) as deaf,
            session(Voice(), written(["read at once"]), backlog=backlog) as other,
        ):
            while backlog.waiting_bytes < SENTENCE_BYTES:
                await asyncio.sleep(0)
            assert sound(await heard(other)) == mended(3 * TONE)
            loud = Voice()
            async with session(loud, written(["one too many"]), backlog=backlog) as late:
                while len(loud.ended) == 0:
                    await asyncio.sleep(0)
                with pytest.raises(Aborted, match="not fetched as fast"):
                    await heard(deaf)
                assert sound(await heard(late)) == mended(3 * TONE)
        assert backlog.waiting_bytes == 0

    run(work)


def test_with_much_unread_a_request_begins_its_next_sentence_once_it_has_fetched_the_last() -> None:
    async def work() -> None:
        backlog, voice = Backlog(4 * len(LARGE) - 1), Voice(LARGE)
        async with session(voice, written(["one", "two"]), backlog=backlog) as it:
            await settle(TURNS)
            assert backlog.waiting_bytes == 3 * len(LARGE)
            await anext(it)  # there is a place for the other now
            await settle(TURNS)
            assert [speak.text for speak in voice.asked] == ["one"]
            await heard(it)
            assert it.audio_s == pytest.approx(6 * len(LARGE) / 4 / RATE_HZ)
        assert backlog.waiting_bytes == 0

    run(work)


def test_audio_that_is_sent_whole_is_no_backlog() -> None:
    async def work() -> None:
        backlog = Backlog(1)
        async with session(
            Voice(), written(["one", "two"]), is_streamed=False, backlog=backlog
        ) as it:
            await heard(it)
            assert backlog.waiting_bytes == 0
            assert it.audio_s == pytest.approx(0.6)

    run(work)


def test_leaving_and_trying_again_take_the_audio_off_the_backlog() -> None:
    async def work() -> None:
        backlog, voice = Backlog(1 << 20), Voice(LARGE)
        async with session(voice, written(["runaway"]), backlog=backlog) as it:
            while len(voice.ended) < 2:
                await asyncio.sleep(0)
            assert backlog.waiting_bytes == 3 * len(LARGE), "of the second attempt alone"
            await anext(it)
            assert backlog.waiting_bytes == 2 * len(LARGE)
        assert backlog.waiting_bytes == 0

    run(work)


# -- sentences that meet ---------------------------------------------------------------------------

QUIETER = (0.5 * np.frombuffer(TONE, "<f4")).astype("<f4").tobytes()
SECOND = TONE * (RATE_HZ * 4 // len(TONE))


class Uneven(Voice):
    """Every sentence after the first is half as loud; it waits in its middle."""

    def __init__(self, piece: bytes = TONE) -> None:
        super().__init__(piece)
        self.goes_on = asyncio.Event()

    async def speak(self, speak: Speak, take: Callable[[bytes], None]) -> Done:
        if not self.asked:
            return await super().speak(speak, take)
        self.gate = self.goes_on
        return await super().speak(speak, lambda _: take(QUIETER))


def rms(samples: bytes) -> float:
    return float(np.sqrt(np.mean(np.square(np.frombuffer(samples, "<f4")))))


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_sentence_is_made_as_loud_as_the_one_before(is_streamed: bool) -> None:
    async def work() -> None:
        voice = Uneven(SECOND)
        voice.goes_on.set()
        async with session(voice, written(["one", "two"]), is_streamed=is_streamed) as it:
            chunks = await heard(it)
        first, second = (sound([c for c in chunks if c.segment == n]) for n in (0, 1))
        # Two tenths of a decibel may stay.
        assert 0.96 < rms(second) / rms(first) < 1.0

    run(work)


def test_a_sentence_that_says_how_it_is_to_sound_is_left_alone() -> None:
    async def work() -> None:
        voice = Uneven(SECOND)
        voice.goes_on.set()
        async with session(voice, written(["one", "(whispering) two"])) as it:
            chunks = await heard(it)
        assert sound([c for c in chunks if c.segment == 1]) == mended(3 * QUIETER)

    run(work)


def test_a_stream_sends_a_sentence_once_it_is_whole_while_there_is_something_to_play() -> None:
    async def work() -> None:
        voice = Uneven(SECOND)  # three seconds of it
        async with session(voice, written(["one", "two"])) as it:
            while (await anext(it)).samples:
                pass
            following = asyncio.ensure_future(anext(it))
            await settle(TURNS)
            assert len(voice.asked) == 2 and not following.done()
            voice.goes_on.set()
            await following
            await heard(it)

    run(work)


def test_a_stream_does_not_wait_for_a_whole_sentence_when_nothing_is_left_to_play() -> None:
    async def work() -> None:
        voice = Uneven()  # its first sentence is played soon
        async with session(voice, written(["one", "two"])) as it:
            while (await anext(it)).samples:
                pass
            begun = await anext(it)
            assert begun.samples and begun.segment == 1 and not voice.goes_on.is_set()
            voice.goes_on.set()
            await heard(it)

    run(work)
