"""Has takes spoken: holds the connections to the server, and lets go of them when told to stop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from loguru import logger

from ui.client import Shoal
from ui.live import Live
from ui.speaking.files import sentence_wav
from ui.speaking.shelf import Shelf
from ui.speaking.take import Take
from ui.wire import Event, Refused, ServerAway

Work = Callable[[], Coroutine[Any, Any, None]]
STOPPED = "Stopped. What was spoken so far is kept."
_LEAST_REFERENCE_S = 1.5
"""Of a sentence that another is said after: the server wants a second of sound without silence."""
_STRANGE = "The server told what this page does not know. Are both of one version?"
_LIVE_FIELDS = (
    *("voice", "language", "normalize", "speed", "pauses", "sample_rate"),
    *("temperature", "top_p", "repetition_penalty", "seed"),
)
"""What the live route takes of a take's fields."""
_FLUSH = ""


class LiveText:
    """Text that is being written: whole words of it go out, and what went out stays said."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._said = ""
        self._is_finished = False

    def write(self, text: str) -> None:
        """The text is `text` now. A change of what was said is not said again; what follows is."""
        end = max(text.rfind(" "), text.rfind("\n")) + 1
        if not text.startswith(self._said):
            self._said = text[:end]
        self._send(text, end)

    def say(self, line: str) -> None:
        """One more line, to be spoken at once."""
        self.write(f"{self._said}{line}\n")
        self._pieces.put_nowait(_FLUSH)

    def finish(self, text: str | None = None) -> None:
        """The text is `text`, or what it was; nothing follows."""
        text = self._said if text is None else text
        self.write(text)
        self._send(text, len(text))
        if not self._is_finished:
            self._is_finished = True
            self._pieces.put_nowait(None)

    async def pieces(self) -> AsyncGenerator[str, None]:
        """What is to be sent, as it is written; "" where what was sent is to be spoken now."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    def _send(self, text: str, end: int) -> None:
        if end > len(self._said) and not self._is_finished:
            self._pieces.put_nowait(text[len(self._said) : end])
            self._said = text[:end]


class Speaker:
    """Every take that is being spoken has a task here; a take that is stopped has none."""

    def __init__(self, client: Shoal, shelf: Shelf) -> None:
        self.client, self.shelf = client, shelf
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, owner: str, fields: dict[str, Any], recording: bytes | None = None) -> Take:
        """Have `fields` of `POST /tts` spoken; raises OSError where no take can be kept."""
        take = self.shelf.create(owner, fields, recording)
        self._start(take, lambda: self._speak(take))
        return take

    def begin_live(self, owner: str, fields: dict[str, Any], text: LiveText) -> Take:
        """Have `text` spoken while it is written."""
        take = self.shelf.create(owner, fields, is_live=True)
        self._start(take, lambda: self._speak_live(take, text))
        return take

    def again(self, take: Take) -> None:
        """Have a take spoken anew that failed or was stopped."""
        if take.id not in self._tasks and not take.record.is_live:
            try:
                take.begin_again()
            except OSError as error:
                _cannot_keep(take, error)
            else:
                self._start(take, lambda: self._speak(take))

    async def redo(self, take: Take, index: int) -> None:
        """Have one sentence of a finished take said again, with another seed.

        Raises `ServerAway`, `Refused`, OSError; the take is then what it was.
        """
        sentence = take.record.sentences[index]
        fields = {
            name: value
            for name, value in take.record.fields.items()
            if name not in ("dialogue", "seed")
        }
        # As it was read: it is not to be read as something else now.
        fields |= {"text": sentence.text, "normalize": False, "long_text": "split"}
        fields["sample_rate"] = take.record.rate_hz
        if sentence.voice:
            fields["voice"] = sentence.voice
        recording = None if sentence.voice else take.recording
        if recording is None and not fields.get("voice"):
            recording = _own_voice(take, index, fields)
        pieces: list[bytes] = []
        figures: dict[str, Any] = {}
        seed: int | None = None
        async with aclosing(self.client.speak(fields, recording)) as events:
            async for event in events:
                pieces.append(event.audio)
                if event.kind == "error":
                    raise _refused(event)
                if event.kind in ("plan", "done"):
                    seed = event.fields.get("seed", seed)
                    figures |= event.fields
        if not any(pieces):
            raise ServerAway("The server said nothing in its place.")
        take.replace(index, b"".join(pieces), figures, seed)

    async def stop(self, take: Take) -> None:
        """Give it up, in the server too; what is there of it is kept."""
        task = self._tasks.get(take.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            take.end("stopped", STOPPED)  # it had not begun

    async def wait(self, take: Take) -> None:
        """Until it is over."""
        task = self._tasks.get(take.id)
        if task is not None:
            await asyncio.wait({task})

    def when_over(self, take: Take, callback: Callable[[], object]) -> None:
        """Call `callback` once the take is over."""
        self._tasks[take.id].add_done_callback(lambda _: callback())

    async def close(self) -> None:
        """Give everything up."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, take: Take, work: Work) -> None:
        task = asyncio.create_task(self._finish(take, work), name=f"take {take.id}")
        self._tasks[take.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(take.id, None))

    async def _finish(self, take: Take, work: Work) -> None:
        """Let `work` speak the take, and say what became of it."""
        try:
            await work()
        except ServerAway as error:
            take.end("failed", str(error))
        except Refused as error:
            take.end("failed", error.detail, error.retry_after_s)
        except OSError as error:
            _cannot_keep(take, error)
        except asyncio.CancelledError:
            take.end("stopped", STOPPED)
            raise

    async def _speak(self, take: Take) -> None:
        events = self.client.speak(take.record.fields, take.recording)
        async with aclosing(events):
            await _take_in(take, events)

    async def _speak_live(self, take: Take, text: LiveText) -> None:
        fields = {n: v for n, v in take.record.fields.items() if n in _LIVE_FIELDS}
        async with self.client.speak_live(fields) as live:
            writing = asyncio.create_task(_write(live, text), name=f"text of {take.id}")
            try:
                await _take_in(take, live.events())
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)


def _cannot_keep(take: Take, error: OSError) -> None:
    logger.warning("A take cannot be kept in {}: {}", take.folder, error)
    take.end("failed", f"The speech cannot be kept on disk: {error.strerror or error}.")


async def _write(live: Live, text: LiveText) -> None:
    async for piece in text.pieces():
        if piece == _FLUSH:
            await live.flush()
        else:
            await live.write(piece)
    await live.end()


def _own_voice(take: Take, index: int, fields: dict[str, Any]) -> bytes | None:
    """Where chance chose the voice of a take, another of its sentences to speak after, whose words
    `fields` is told; None where the checkpoint has a voice of its own, or no sentence will do."""
    if take.record.plan.get("has_default_voice", True):
        return None
    lengths = {
        number: each.end_s - each.start_s
        for number, each in enumerate(take.record.sentences)
        if number != index
        and not each.voice
        and each.start_s is not None
        and each.end_s is not None
    }
    number = max(lengths, key=lambda each: lengths[each], default=index)
    if lengths.get(number, 0.0) < _LEAST_REFERENCE_S:
        return None
    fields["prompt_text"] = take.record.sentences[number].text
    return sentence_wav(take, number)


async def _take_in(take: Take, events: AsyncIterator[Event]) -> None:
    async for event in events:
        if event.kind == "error":
            raise _refused(event)
        try:
            take.take_in(event)
        except (LookupError, TypeError, ValueError):
            raise ServerAway(_STRANGE) from None


def _refused(event: Event) -> Refused:
    fields = event.fields
    return Refused(
        fields.get("status", 500), str(fields.get("detail")), fields.get("retry_after_s")
    )
