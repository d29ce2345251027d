"""One sentence on its way: waits for its turn, is spoken, and again if that went wrong."""

import asyncio
import hashlib
import math
from collections import deque
from contextlib import nullcontext, suppress
from dataclasses import replace

import msgspec

from backend.audio.measure import is_silent
from backend.core import MAX_SEED, EngineInfo, ReferenceCodes, Sentence, SpeechStats
from backend.errors import EngineDown, ShoalError, SteppedDown
from backend.hardware.memory import Demand
from backend.serving.backlog import Backlog
from backend.serving.demand import voice_of
from backend.serving.lives import Lives
from backend.serving.slots import AdmittedRequest
from backend.worker.messages import Done, Speak

ATTEMPTS = 3
"""How often a sentence is spoken at most: what failed three seeds will fail the fourth."""

WORKERS = 3
"""How many workers may die under a sentence: it may be what kills them."""

JOINED_BYTES = 128 * 1024
"""Of pieces that are handed on as one, about: three quarters of a second at 44.1 kHz."""


class RunningSentence:
    """Speaks `speak.text` in a task of its own from the moment it is made.

    `seed` is the request's; each sentence and each attempt draws its own from it. What is wrong
    with it, `piece` raises. It is spoken again where the outcome was bad or the worker died, as
    long as nothing of it was sent. Where it `is_held`, nothing is before it is known to be good.
    """

    def __init__(
        self,
        sentence: Sentence,
        speak: Speak,
        seed: int,
        index: int,
        *,
        info: EngineInfo,
        admitted: AdmittedRequest,
        demand: Demand,
        backlog: Backlog,
        is_held: bool,
    ) -> None:
        self.sentence, self.index = sentence, index
        self.codes: ReferenceCodes | None = None
        """What was spoken, where that was asked for; once it is finished."""
        self.retries = 0
        self.worker = ""
        """The name of the one that spoke it."""
        self.memory_step = ""
        """The last step that was taken under it because memory ran short."""
        self.warnings: tuple[str, ...] = ()
        self._speak, self._seed = speak, seed
        self._info, self._admitted, self._demand = info, admitted, demand
        self._backlog, self._is_held = backlog, is_held
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes, self._enough_bytes = 0, math.inf
        """Of the pieces; with how many its reader is woken."""
        self._is_mute = True
        self._lives = Lives(WORKERS)
        self._given_up: ShoalError | None = None
        self._stats: SpeechStats | None = None
        self._is_sent = False
        self._changed = asyncio.Event()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when its turn has come; raises where that will never be."""
        self.task = asyncio.create_task(self._run(), name=f"sentence {index}")
        """Speaks it."""
        self.task.add_done_callback(self._tell)

    @property
    def is_begun(self) -> bool:
        """It has got its row."""
        begun = self.begun
        return begun.done() and not begun.cancelled() and begun.exception() is None

    @property
    def stats(self) -> SpeechStats:
        """What it cost, once it is finished; of the attempt that counts."""
        assert self._stats is not None, "the sentence is not finished"
        return self._stats

    async def finished(self) -> None:
        """Wait until it is spoken; raises what went wrong."""
        await asyncio.shield(self.task)

    @property
    def is_whole(self) -> bool:
        """Nothing more will be made of it."""
        return self.task.done()

    @property
    def waiting(self) -> bytes:
        """What of it waits to be fetched."""
        return b"".join(self._pieces)

    async def made(self, until_s: float, enough_bytes: float = math.inf) -> None:
        """Wait until it is whole or, where it is not held, so much of it waits to be fetched; from
        `until_s` on, of the loop's time, anything is enough. What is wrong, `piece` raises."""
        if self._waiting_bytes >= enough_bytes and not self._is_held:
            return  # as nearly always where the server is behind
        if self._is_held or until_s > asyncio.get_running_loop().time():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if self._is_held else until_s):
                    await self._until(math.inf if self._is_held else enough_bytes)
        await self._until(1)

    async def _until(self, enough_bytes: float) -> None:
        """Wait until so much of it waits to be fetched, or it is whole."""
        self._enough_bytes = enough_bytes
        while self._waiting_bytes < enough_bytes and not self.task.done():
            self._changed.clear()
            await self._changed.wait()

    async def piece(self, until_s: float) -> bytes:
        """What comes next of it, float32 samples, and b"" once it is over.

        Held, it comes once the sentence is known to be good; else as it is made, but in large
        pieces until `until_s`, of the loop's time: each costs more than the bytes in it.
        """
        if self._is_held:
            await self.finished()
        await self.made(until_s, JOINED_BYTES)
        if self._pieces:
            self._is_sent = True
            piece = self._fetched()
            self._backlog.fetched(self, len(piece))
            return piece
        if self._given_up is not None:
            raise self._given_up
        await self.finished()
        return b""

    def _fetched(self) -> bytes:
        joined, size = [], 0
        while self._pieces and size < JOINED_BYTES:
            joined.append(self._pieces.popleft())
            size += len(joined[-1])
        self._waiting_bytes -= size
        return b"".join(joined)

    def give_up(self, error: ShoalError) -> None:
        """Drop its audio; `piece` raises `error`."""
        self._given_up = error
        self._clear()
        self.task.cancel()
        self._changed.set()

    def close(self) -> None:
        """Give it up, wherever it is: `task` is over soon."""
        self.task.cancel()
        self._drop()

    async def _run(self) -> None:
        try:
            await self._speak_in_turn()
        except asyncio.CancelledError:
            if self._given_up is None:
                raise
            raise self._given_up from None

    async def _speak_in_turn(self) -> None:
        self._slot = await self._admitted.slot(self._demand, voice=voice_of(self._speak))
        try:
            if not self.begun.done():
                self.begun.set_result(None)
            while (problem := await self._try()) is not None:
                number = self.index + 1
                if self._is_sent or self.retries + 1 == ATTEMPTS:
                    self.warnings = (f"sentence {number} {problem}",)
                    break
                self.retries += 1
                self.warnings = (f"sentence {number} {problem}; spoken again with another seed",)
            self._slot.done(len(self.sentence.text), self.stats.audio_s)
        finally:
            self._slot.release()

    async def _try(self) -> str | None:
        """Speak it; what is wrong with the outcome."""
        seed = _seed(self._seed, self.index, self.retries)
        sampling = replace(self._speak.sampling, seed=seed)
        done = await self._survive(msgspec.structs.replace(self._speak, sampling=sampling))
        self._stats, self.codes = done.stats, done.codes
        if "frame_limit" in self.stats.finish_reasons:
            return "did not come to an end and was stopped at its frame limit"
        if self._is_mute:
            return "came out silent"
        if "context_full" in self.stats.finish_reasons:
            # Another seed would meet the same wall: told, but not tried again.
            self.warnings = (f"sentence {self.index + 1} was cut off where the context was full",)
        return None

    async def _survive(self, speak: Speak) -> Done:
        """Speak it, by another worker or the next where one dies before anything was sent.

        Another speaks what a first death interrupted side by side, as it speaks the rest: one death
        is rarely a sentence's doing.
        """
        while True:
            self._drop()
            was, self._slot = self._slot, await self._admitted.placed(self._slot)
            speaker, has_moved = self._slot.station.speaker, self._slot is not was
            async with speaker.suspects if self._lives.deaths > has_moved else nullcontext():
                info = await speaker.ready()
                if (info.checkpoint, info.codec_id) != (self._info.checkpoint, self._info.codec_id):
                    raise EngineDown("Another checkpoint was loaded meanwhile; send it again.")
                self.worker = self._slot.station.name
                try:
                    return await speaker.speak(speak, self._take)
                except SteppedDown as error:  # the ladder ends
                    self.memory_step = error.step
                    if self._is_sent:
                        raise
                except EngineDown as error:
                    if self._is_sent:
                        raise
                    self._lives.lose(error)

    def _take(self, samples: bytes) -> None:
        if self.task.cancelling():
            return
        self._is_mute = self._is_mute and is_silent(samples)
        self._pieces.append(samples)
        self._waiting_bytes += len(samples)
        if self._waiting_bytes >= self._enough_bytes:
            self._changed.set()
        if not self._is_held:
            self._backlog.add(self, len(samples))

    def _drop(self) -> None:
        """Forget what was made of it."""
        self._clear()
        self._is_mute = True
        self._backlog.drop(self)

    def _clear(self) -> None:
        self._pieces.clear()
        self._waiting_bytes = 0

    def _tell(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self.begun.done():
            if error is not None:
                self.begun.set_exception(error)
                self.begun.exception()  # the reader of its audio is told, too
            else:
                self.begun.cancel()
        self._changed.set()


def _seed(seed: int, index: int, attempt: int) -> int:
    """A seed for each sentence, so that two alike do not sound alike to the last sample."""
    name = f"{seed}/{index}/{attempt}" if attempt else f"{seed}/{index}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED
