"""One sentence on its way: waits for its turn, is spoken, and again if that went wrong."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import msgspec

from backend.audio.measure import is_silent
from backend.core import MAX_SEED, ReferenceCodes, Sentence, SpeechStats
from backend.hardware.memory import Demand
from backend.serving.slots import AdmittedRequest
from backend.worker.messages import Done, Pcm, Speak

ATTEMPTS = 3
"""How often a sentence is spoken at most: what failed three seeds will fail the fourth."""

Speaker = Callable[[Speak], AsyncGenerator[Pcm | Done, None]]


class RunningSentence:
    """Speaks `speak.text` in a task of its own from the moment it is made.

    `seed` is the request's; each sentence and each attempt draws its own from it. What is wrong
    with it, `pieces` raises.
    """

    def __init__(
        self,
        sentence: Sentence,
        speak: Speak,
        seed: int,
        index: int,
        *,
        speaker: Speaker,
        admitted: AdmittedRequest,
        demand: Demand,
    ) -> None:
        self.sentence, self.index = sentence, index
        self.codes: ReferenceCodes | None = None
        """What was spoken, where that was asked for; once it is finished."""
        self.retries = 0
        self.warnings: tuple[str, ...] = ()
        self._speak, self._seed = speak, seed
        self._speaker, self._admitted, self._demand = speaker, admitted, demand
        self._pieces: deque[bytes] = deque()
        self._stats: SpeechStats | None = None
        self._is_sent = False
        self._changed = asyncio.Event()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when its turn has come; raises where that will never be."""
        self._task = asyncio.create_task(self._run(), name=f"sentence {index}")
        self._task.add_done_callback(self._tell)

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
        await asyncio.shield(self._task)

    async def pieces(self, is_held: bool) -> AsyncGenerator[bytes, None]:
        """Float32 samples as they are made or, `is_held`, once the sentence is known to be good."""
        if is_held:
            await self.finished()
        while True:
            self._changed.clear()
            while self._pieces:
                self._is_sent = True
                yield self._pieces.popleft()
            if self._task.done():
                break
            await self._changed.wait()
        await self.finished()

    async def close(self) -> None:
        """Give it up, wherever it is."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        with await self._admitted.slot(self._demand) as slot:
            if not self.begun.done():
                self.begun.set_result(None)
            while (problem := await self._try()) is not None:
                number = self.index + 1
                if self._is_sent or self.retries + 1 == ATTEMPTS:
                    self.warnings = (f"sentence {number} {problem}",)
                    break
                self.retries += 1
                self.warnings = (f"sentence {number} {problem}; spoken again with another seed",)
            slot.done(len(self.sentence.text), self.stats.audio_s)

    async def _try(self) -> str | None:
        """Speak it; what is wrong with the outcome."""
        self._pieces.clear()
        seed = _seed(self._seed, self.index, self.retries)
        sampling = replace(self._speak.sampling, seed=seed)
        speak = msgspec.structs.replace(self._speak, sampling=sampling)
        is_mute = True
        async with aclosing(self._speaker(speak)) as messages:
            async for message in messages:
                if isinstance(message, Done):
                    self._stats, self.codes = message.stats, message.codes
                else:
                    is_mute = is_mute and is_silent(message.samples)
                    self._pieces.append(message.samples)
                    self._changed.set()
        if "frame_limit" in self.stats.finish_reasons:
            return "did not come to an end and was stopped at its frame limit"
        if is_mute:
            return "came out silent"
        if "context_full" in self.stats.finish_reasons:
            # Another seed would meet the same wall: told, but not tried again.
            self.warnings = (f"sentence {self.index + 1} was cut off where the context was full",)
        return None

    def _tell(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self.begun.done():
            if error is not None:
                self.begun.set_exception(error)
                self.begun.exception()  # whoever waits for its audio is told, too
            else:
                self.begun.cancel()
        self._changed.set()


def _seed(seed: int, index: int, attempt: int) -> int:
    """A seed for each sentence, so that two alike do not sound alike to the last sample."""
    name = f"{seed}/{index}/{attempt}" if attempt else f"{seed}/{index}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED
