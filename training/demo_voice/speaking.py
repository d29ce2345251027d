"""Speech of a checkpoint, by a real worker process, read, cut and joined as the server does it."""

import asyncio
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import soundfile

from backend.audio.joins import Levels
from backend.core import SamplingParams, Sentence, VoicePrompt
from backend.hardware.deployment import Deployment
from backend.serving.launch import worker_command
from backend.settings import Settings
from backend.text.normalize import normalize
from backend.text.sentences import split_text
from backend.worker.messages import Done, EncodeVoice, Speak
from backend.worker.supervisor import supervised
from training.demo_voice.measure import Samples

AT_ONCE = 4
MAX_CHARACTERS = 200
"""Of a sentence, as the server cuts."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One sentence as the worker spoke it."""

    pcm: Samples
    rate_hz: int
    done: Done

    @property
    def ended(self) -> bool:
        """By itself."""
        return self.done.stats.finish_reasons == ("end",)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be spoken, and in whose voice: a recording and what is said in it."""

    speak: Speak
    recording: bytes = b""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text as it is heard, and the sentences it was made of."""

    text: str
    pcm: Samples
    rate_hz: int
    sentences: list[Spoken] = field(repr=False)

    @property
    def ended(self) -> bool:
        """Every sentence of it by itself."""
        return all(sentence.ended for sentence in self.sentences)


def wav_bytes(pcm: Samples, rate_hz: int) -> bytes:
    """A recording to send as a reference."""
    file = io.BytesIO()
    soundfile.write(file, pcm, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def speak_all(
    model_dir: Path | None,
    requests: list[Reading],
    at_once: int = AT_ONCE,
    threads: int | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> list[Spoken]:
    """Every request through one worker process, a few at a time; `told` how many are done."""
    settings = Settings(model_dir=model_dir, log_level="WARNING", num_threads=threads)
    client = supervised(worker_command(settings, Deployment.look(settings).plan))
    client.start()
    gate = asyncio.Semaphore(at_once)
    finished = 0

    async def one(reading: Reading) -> Spoken:
        nonlocal finished
        async with gate:
            speak, pieces = reading.speak, list[bytes]()
            if reading.recording:
                codes = await client.encode(EncodeVoice(speak.request_id, reading.recording))
                voice = VoicePrompt(codes, reading.said)
                speak = msgspec.structs.replace(speak, references=(voice,))
            done = await client.speak(speak, pieces.append)
            pcm = np.frombuffer(b"".join(pieces), "<f4")
            finished += 1
            told(finished)
            return Spoken(pcm, info.sample_rate_hz, done)

    try:
        info = await client.ready()
        return await asyncio.gather(*(one(request) for request in requests))
    finally:
        await client.close()


@dataclass(frozen=True, slots=True)
class Wish:
    """A text, with the seed and the voice it is to be spoken with."""

    text: str
    seed: int
    recording: bytes = b""
    said: str = ""


def speak_texts(
    model_dir: Path | None, wishes: Sequence[Wish], told: Callable[[str], None] = lambda line: None
) -> list[Utterance]:
    """Each text read, cut, spoken with the default sampling, and joined as the server does it."""
    scripts = [split_text(normalize(wish.text, "en"), MAX_CHARACTERS) for wish in wishes]
    requests = [
        Reading(
            Speak(f"{i}/{j}", sentence.text, SamplingParams(seed=wish.seed + 1000 * j)),
            wish.recording,
            wish.said,
        )
        for i, (wish, script) in enumerate(zip(wishes, scripts, strict=True))
        for j, sentence in enumerate(script)
    ]
    every = max(1, len(requests) // 10)

    def tell(done: int) -> None:
        if done % every == 0:
            told(f"{done} of {len(requests)} sentences spoken")

    spoken = iter(asyncio.run(speak_all(model_dir, requests, told=tell)))
    parts = [[next(spoken) for _ in script] for script in scripts]
    return [
        Utterance(wish.text, join(script, made), made[0].rate_hz, made)
        for wish, script, made in zip(wishes, scripts, parts, strict=True)
    ]


def join(script: Sequence[Sentence], spoken: Sequence[Spoken]) -> Samples:
    """One after another, with the server's pauses, fades and levels."""
    pauses = [round(sentence.pause_s * spoken[0].rate_hz) for sentence in script]
    parts = as_heard(spoken, pauses)
    silences = [np.zeros(pause, np.float32) for pause in pauses]
    pieces = [piece for pair in zip(parts, silences, strict=True) for piece in pair]
    return np.concatenate(pieces[:-1])


def as_heard(spoken: Sequence[Spoken], pauses: Sequence[int]) -> list[Samples]:
    """Each sentence as the server sends it after those before, without the pause that follows."""
    levels, found = Levels(spoken[0].rate_hz), list[Samples]()
    for pause, each in zip(pauses, spoken, strict=True):
        made = each.pcm.tobytes()
        edges = levels.edges("", pause, levels.gain("", made, is_whole=True))
        pcm = np.frombuffer(edges.push(made) + edges.finish(), "<f4")
        levels.learn("", edges)
        found.append(pcm[: len(pcm) - edges.tail_samples])
    return found


def alone_on_one_core(model_dir: Path | None, texts: list[str]) -> float:
    """Seconds of computing for a second of speech: one thread, one sentence at a time."""
    took_s = list[float]()
    began_s = 0.0

    def tell(done: int) -> None:
        nonlocal began_s
        now_s = time.perf_counter()
        took_s.append(now_s - began_s)
        began_s = now_s

    requests = [
        Reading(Speak(str(i), text, SamplingParams(seed=i))) for i, text in enumerate(texts)
    ]
    spoken = asyncio.run(speak_all(model_dir, requests, at_once=1, threads=1, told=tell))
    # The first waits for the worker to start and to compile.
    return sum(took_s[1:]) / sum(s.done.stats.audio_s for s in spoken[1:])
