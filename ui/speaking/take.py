"""A take: one piece of speech, from the wish to the finished sound, on disk all the while."""

import asyncio
import contextlib
import copy
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from ui.speaking.record import RECORD, RECORDING, Record, Sentence, State, title_of
from ui.wire import Event

BYTES_PER_SAMPLE = 2
STEADY = 1.1
"""Seconds of speech made a second, from which what is being made may be heard at once."""
LEAD_S = 0.5
"""Of speech that is made before that can be told."""
_TOLERANCE_S = 0.01
"""The server rounds where a sentence ends."""
_LOST = "Some of its sound is lost: the machine stopped while it was being written."


class Take:
    """A take in its folder. One event loop changes it; any thread may look at it.

    The sound is 16-bit mono PCM in a file that grows while it is made, so that nothing is lost
    whatever ends. It never shrinks, for others read it: what is spoken anew is another file, and
    the record, which is replaced in one step, says which counts.
    """

    def __init__(
        self, folder: Path, record: Record, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.record, self._clock = folder, record, clock
        self.audio_bytes = 0
        self.version = 1
        """Grows with every change."""
        self._versions: list[int] = []
        """Of each sentence, the version in which it changed last."""
        self._changed = asyncio.Event()
        self._began_s: float | None = None
        """When the first sentence got its turn."""
        self._asked_s = self._clock()
        self._took_s: float | None = None

    @classmethod
    def create(
        cls,
        shelf: Path,
        owner: str,
        fields: dict[str, Any],
        recording: bytes | None = None,
        is_live: bool = False,
    ) -> "Take":
        """A new one in a folder of its own below `shelf`; raises OSError."""
        record = Record(
            id=secrets.token_urlsafe(16),
            owner=owner,
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            title=title_of(fields),
            fields=fields,
            has_recording=recording is not None,
            is_live=is_live,
        )
        folder = shelf / record.id
        folder.mkdir(parents=True)
        if recording is not None:
            (folder / RECORDING).write_bytes(recording)
        take = cls(folder, record)
        take.pcm.touch()
        take.save()
        return take

    @classmethod
    def load(cls, folder: Path) -> "Take":
        """The one in `folder`; raises OSError, `msgspec.DecodeError` where it is none of ours."""
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        if record.id != folder.name:
            raise msgspec.ValidationError("it is another take's")
        take = cls(folder, record)
        size = take.pcm.stat().st_size
        take.audio_bytes = size - size % BYTES_PER_SAMPLE
        take._versions = [1] * len(record.sentences)
        take._forget_what_is_lost()
        take._sweep()
        if record.state in ("waiting", "speaking"):  # the page's process was killed
            take.end("stopped", "The page was closed while this was being spoken.")
        return take

    # -- what it is -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """It names the take, and nobody guesses it."""
        return self.record.id

    @property
    def is_over(self) -> bool:
        """Nothing more comes of it by itself."""
        return self.record.state in ("done", "stopped", "failed")

    @property
    def audio_s(self) -> float:
        """Seconds of sound that there are."""
        return self.seconds(self.audio_bytes)

    @property
    def pcm(self) -> Path:
        """The file of its sound."""
        return self.folder / self.record.sound_file

    @property
    def recording(self) -> bytes | None:
        """The recording whose voice it is spoken in."""
        if not self.record.has_recording:
            return None
        return (self.folder / RECORDING).read_bytes()

    @property
    def playable_bytes(self) -> int:
        """How far it can be heard without a gap inside a sentence.

        A machine that speaks faster than real time is listened to as it speaks; of a slower one,
        each sentence is heard once it is whole.
        """
        if self.is_over or self._is_steady():
            return self.audio_bytes
        whole = [each.end_s for each in self.record.sentences if each.state == "done"]
        end_s = max((each for each in whole if each is not None), default=0.0)
        return min(self.audio_bytes, self.offset(end_s))

    def seconds(self, size: int) -> float:
        """How long so many bytes of its sound last."""
        rate_hz = self.record.rate_hz
        return size / (BYTES_PER_SAMPLE * rate_hz) if rate_hz else 0.0

    def offset(self, at_s: float) -> int:
        """The byte of its sound at `at_s`."""
        return BYTES_PER_SAMPLE * round(at_s * self.record.rate_hz)

    def view(self, since: int = 0) -> dict[str, Any]:
        """What a page shows of it: everything, or of the sentences what changed after `since`."""
        record = self.record
        took_s = self._elapsed_s()
        return {
            "version": self.version,
            "id": record.id,
            "title": record.title,
            "created_at": record.created_at,
            "state": record.state,
            "detail": record.detail,
            "retry_after_s": record.retry_after_s,
            "is_live": record.is_live,
            "rate_hz": record.rate_hz,
            "audio_s": round(self.audio_s, 3),
            "elapsed_s": round(took_s, 2),
            "remaining_s": self._remaining_s(),
            "wait_s": record.plan.get("wait_s"),
            "warnings": record.warnings,
            "figures": record.figures,
            "total": len(record.sentences),
            "sentences": {
                str(index): msgspec.to_builtins(sentence)
                for index, sentence in enumerate(record.sentences)
                if self._versions[index] > since
            },
        }

    async def changed(self, since: int) -> None:
        """Wait until it is another than it was at version `since`."""
        while self.version <= since:
            await self._changed.wait()

    # -- what becomes of it -----------------------------------------------------------------------

    def take_in(self, event: Event) -> None:
        """Let `event` happen to it; raises OSError where its sound cannot be kept."""
        fields, record = event.fields, self.record
        match event.kind:
            case "plan":
                self._plan(fields)
            case "queue":
                record.plan["wait_s"] = fields.get("wait_s")
            case "sentence.start":
                self._begin(fields["index"], fields.get("text", ""), fields.get("voice", ""))
            case "audio":
                self._hear(event.audio)
            case "sentence.end":
                self._finish(fields)
            case "warning":
                record.warnings.append(str(fields.get("detail", "")))
            case "done":
                record.figures = fields
                told = [str(each) for each in fields.get("warnings") or ()]
                record.warnings += [each for each in told if each not in record.warnings]
                self.end("done")
                return
        self._touch()

    def end(self, state: State, detail: str = "", retry_after_s: float | None = None) -> None:
        """It is over: spoken, stopped, or failed for the reason that `detail` gives.

        What it became first stays: a stop that comes with the last word changes nothing. Where the
        disk refuses, it is told all the same, and after a restart counts as stopped.
        """
        if self.is_over:
            return
        record = self.record
        record.state, record.detail, record.retry_after_s = state, detail, retry_after_s
        self._took_s = self._elapsed_s()
        for index, sentence in enumerate(record.sentences):
            if sentence.state == "done":
                continue
            if state == "done" and sentence.start_s is None:
                sentence.state = "done"
            elif sentence.state == "speaking":
                sentence.state = "waiting"
            self._versions[index] = self.version + 1
        try:
            self.save()
        except OSError as error:
            logger.warning("A take cannot be kept in {}: {}", self.folder, error)
        self._touch()

    def begin_again(self) -> None:
        """Forget what was made; it is about to be spoken anew. Raises OSError."""
        record = self.record
        record.state, record.detail, record.retry_after_s = "waiting", "", None
        record.sentences, record.warnings, record.plan, record.figures = [], [], {}, {}
        record.sound += 1
        self._versions = []
        self.audio_bytes = 0
        self._began_s = self._took_s = None
        self._asked_s = self._clock()
        self._touch()
        self.pcm.touch()
        self.save()
        self._sweep()

    def replace(self, index: int, pcm: bytes, fields: dict[str, Any], seed: int | None) -> None:
        """Put `pcm` in the place of the sound of one sentence; what follows it moves.

        Raises OSError; the take is then what it was.
        """
        record = copy.deepcopy(self.record)
        record.sound += 1
        sentences = record.sentences
        sentence = sentences[index]
        assert sentence.start_s is not None and sentence.end_s is not None
        start, end = self.offset(sentence.start_s), self.offset(sentence.end_s)
        with self.pcm.open("rb") as old, (self.folder / record.sound_file).open("wb") as new:
            _copy(old, new, start)
            new.write(pcm)
            old.seek(end)
            _copy(old, new, self.audio_bytes - end)
        shift_s = self.seconds(len(pcm) - (end - start))
        sentence.rtf, sentence.seed = fields.get("rtf"), seed
        sentence.end_s += shift_s
        for other in sentences[index + 1 :]:
            if other.start_s is not None and other.end_s is not None:
                other.start_s, other.end_s = other.start_s + shift_s, other.end_s + shift_s
        self._write(record)
        self.record = record
        self.audio_bytes += len(pcm) - (end - start)
        self._versions[index:] = [self.version + 1] * (len(sentences) - index)
        self._touch()
        self._sweep()

    def save(self) -> None:
        """Write what is known of it, in one step; raises OSError."""
        self._write(self.record)

    def _write(self, record: Record) -> None:
        path = self.folder / RECORD
        unfinished = path.with_name(f"{RECORD}.{os.getpid()}.tmp")
        unfinished.write_bytes(msgspec.json.encode(record))
        unfinished.replace(path)

    def _forget_what_is_lost(self) -> None:
        """Of what the record tells, power may have failed before the sound was on the disk."""
        for sentence in self.record.sentences:
            end_s = sentence.end_s or 0.0
            if end_s > self.audio_s + _TOLERANCE_S:
                sentence.state, sentence.start_s, sentence.end_s = "waiting", None, None
                if self.record.state == "done":
                    self.record.state, self.record.detail = "stopped", _LOST

    def _sweep(self) -> None:
        """Remove the sound that does not count any more, and what was written in part."""
        for file in self.folder.iterdir():
            if file.suffix in (".pcm", ".tmp") and file != self.pcm:
                with contextlib.suppress(OSError):  # on Windows somebody may be listening to it
                    file.unlink()

    # -- one event each ---------------------------------------------------------------------------

    def _plan(self, fields: dict[str, Any]) -> None:
        record = self.record
        record.plan = {name: value for name, value in fields.items() if name != "script"}
        record.rate_hz = int(fields.get("sample_rate") or record.rate_hz)
        record.sentences = [
            Sentence(str(each["text"]), str(each.get("voice", "")))
            for each in fields.get("script", ())
        ]
        self._versions = [self.version + 1] * len(record.sentences)
        self.save()

    def _begin(self, index: int, text: str, voice: str) -> None:
        record = self.record
        if not 0 <= index <= len(record.sentences):
            raise ValueError(f"sentence {index} begins, of {len(record.sentences)}")
        if index == len(record.sentences):  # of live text nobody knows what will follow
            record.sentences.append(Sentence(text, voice))
            self._versions.append(0)
        record.sentences[index].state = "speaking"
        self._versions[index] = self.version + 1
        self._speak()

    def _speak(self) -> None:
        self.record.state = "speaking"
        if self._began_s is None:
            self._began_s = self._clock()

    def _hear(self, audio: bytes) -> None:
        self._speak()
        with self.pcm.open("ab") as file:
            file.write(audio)
        self.audio_bytes += len(audio)

    def _finish(self, fields: dict[str, Any]) -> None:
        index = fields["index"]
        sentence = self.record.sentences[index]
        sentence.state = "done"
        sentence.start_s, sentence.end_s = fields["start_s"], fields["end_s"]
        sentence.rtf = fields.get("rtf")
        self._versions[index] = self.version + 1
        self.save()

    def _touch(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -- time -------------------------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        if self._took_s is not None:
            return self._took_s
        return self._clock() - self._asked_s

    def _is_steady(self) -> bool:
        if self._began_s is None or self.audio_s < LEAD_S:
            return False
        return self.audio_s / max(1e-3, self._clock() - self._began_s) >= STEADY

    def _remaining_s(self) -> float | None:
        """Seconds until it is spoken, by what was spoken so far, else as the server expects."""
        record = self.record
        if self.is_over or record.is_live:
            return None
        total = sum(len(each.text) for each in record.sentences)
        spoken = sum(len(each.text) for each in record.sentences if each.state == "done")
        if self._began_s is not None and spoken:
            spent_s = self._clock() - self._began_s
            return round(spent_s * (total - spoken) / spoken, 1)
        expected_s: float | None = record.plan.get("expected_s")
        if expected_s is None:
            return None
        since_s = self._clock() - self._began_s if self._began_s else 0.0
        return round(max(0.0, expected_s - since_s) + (record.plan.get("wait_s") or 0.0), 1)


def _copy(source: Any, target: Any, size: int) -> None:
    while size > 0 and (data := source.read(min(size, 1 << 20))):
        target.write(data)
        size -= len(data)
