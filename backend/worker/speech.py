"""One request being spoken: segments to sequences, frames to PCM in order, statistics."""

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from backend.audio.read import read_reference
from backend.codec.stream import FrameDecoder
from backend.core import MAX_SEED, FinishReason, SpeechStats
from backend.engine.engine import Progress
from backend.engine.prompt import Prompt, Reference, check_fits, frame_limit
from backend.engine.sequence import Sampling, Sequence
from backend.errors import BlankText
from backend.worker.load import Loaded
from backend.worker.memory import peak_mb
from backend.worker.messages import Pcm, Speak
from backend.worker.pipe import Send

PAUSE_S = 0.15
"""Silence between two segments, where a reader would breathe."""


@dataclass(slots=True)
class _Segment:
    index: int
    sequence: Sequence
    decoder: FrameDecoder
    pcm: list[bytes] = field(default_factory=list)
    """What waits until the segments before are over."""
    is_over: bool = False
    """Its last frame has been taken; the engine may have made it some frames ago."""


class SpeechJob:
    """Speaks one `Speak`, as the loop feeds it with what its sequences made."""

    def __init__(self, speak: Speak, loaded: Loaded, send: Send, arrived_s: float) -> None:
        self._speak, self._loaded, self._send = speak, loaded, send
        self._arrived_s = arrived_s
        self._first_audio_s = self._decode_s = 0.0
        self._samples = 0
        if not any(text.strip() for text in speak.segments):
            raise BlankText("There is nothing to speak.")
        seed = speak.sampling.seed
        self._seed = secrets.randbelow(MAX_SEED) if seed is None else seed
        self._references, self._warnings = self._read_references()
        for text in speak.segments:  # all of them first: better no speech than half of it
            self._prompt(text)
        self._open: deque[_Segment] = deque()
        self._opened = 0
        self._finished: list[Sequence] = []

    @property
    def request_id(self) -> str:
        """Who asked."""
        return self._speak.request_id

    @property
    def is_over(self) -> bool:
        """Everything is spoken and handed out."""
        return len(self._finished) == len(self._speak.segments)

    @property
    def open_sequences(self) -> list[Sequence]:
        """What the engine may be working at for this request."""
        return [segment.sequence for segment in self._open if segment.sequence.finish is None]

    def next_sequences(self) -> Iterator[Sequence]:
        """The sequences that should be started now."""
        # The first segment has the machine for itself until something of it is heard.
        most = self._speak.open_segments if self._samples else 1
        while len(self._open) < most and self._opened < len(self._speak.segments):
            segment = self._begin(self._opened)
            self._opened += 1
            self._open.append(segment)
            yield segment.sequence

    def take(self, progress: Progress) -> None:
        """Learn what a sequence of this request made; what can be heard of it is sent."""
        if progress.error is not None:
            raise progress.error
        segment = next(s for s in self._open if s.sequence is progress.sequence)
        if progress.frame is not None:
            self._keep(segment, segment.decoder.push(progress.frame))
        if progress.finish is not None:
            self._keep(segment, segment.decoder.flush())
            segment.is_over = True
        self._hand_out()

    def count_decode(self, decode_s: float) -> None:
        """A step of `decode_s` had rows of this request."""
        self._decode_s += decode_s

    def stats(self) -> SpeechStats:
        """What the request cost."""
        done = self._finished
        tokens = sum(s.generated_tokens for s in done)
        prefill_s, decode_s = sum(s.prefill_s for s in done), sum(s.decode_s for s in done)
        busy_s = prefill_s + self._decode_s
        model = self._loaded.checkpoint.config
        return SpeechStats(
            prompt_tokens=sum(s.prompt_tokens for s in done),
            frames=sum(s.frames for s in done),
            generated_tokens=tokens,
            audio_s=self._samples / self._loaded.info.sample_rate_hz,
            prefill_s=prefill_s,
            decode_s=decode_s,
            first_audio_s=self._first_audio_s,
            total_s=time.perf_counter() - self._arrived_s,
            fish_bandwidth_gb_s=model.parameters * tokens / busy_s / 1e9 if busy_s else 0.0,
            # Each step's weights are read once for all its rows and shared among them; the time is
            # that of the steps this request had a row in. Requests side by side thus sum to what
            # the machine read.
            weight_read_gb_s=(
                sum(s.weight_bytes for s in done) / self._decode_s / 1e9 if self._decode_s else 0.0
            ),
            peak_memory_mb=peak_mb(self._loaded.place.device),
            segments=len(done),
            finish_reasons=tuple(s.finish for s in done if s.finish is not None),
            warnings=self._warnings + tuple(self._cut_off()),
        )

    def _begin(self, index: int) -> _Segment:
        text, asked = self._speak.segments[index], self._speak.sampling
        sampling = Sampling(
            asked.temperature,
            asked.top_p,
            asked.repetition_penalty,
            _segment_seed(self._seed, index),
        )
        limit = frame_limit(text, self._loaded.info.frame_rate_hz)
        context = self._loaded.info.context_tokens
        sequence = Sequence(self._prompt(text), sampling, limit, context)
        return _Segment(index, sequence, FrameDecoder(self._loaded.checkpoint.codec))

    def _prompt(self, text: str) -> Prompt:
        checkpoint, info = self._loaded.checkpoint, self._loaded.info
        prompt = Prompt.build(checkpoint.tokenizer, info.num_codebooks, text, self._references)
        check_fits(prompt, text, info.frame_rate_hz, info.context_tokens)
        return prompt

    def _read_references(self) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
        audio, info = self._speak.reference_audio, self._loaded.info
        if audio is None:
            return (), ()
        recording = read_reference(audio, info.sample_rate_hz, info.max_reference_s)
        codes = self._loaded.references.encode(recording.samples)
        return (Reference(self._speak.reference_text, codes),), recording.warnings

    def _keep(self, segment: _Segment, samples: Tensor | None) -> None:
        if samples is not None:
            segment.pcm.append(samples.numpy().astype("<f4").tobytes())

    def _hand_out(self) -> None:
        while self._open:
            segment = self._open[0]
            for samples in segment.pcm:
                self._say(samples, segment.index)
            segment.pcm.clear()
            if not segment.is_over:
                return
            self._open.popleft()
            self._finished.append(segment.sequence)
            if not self.is_over:
                pause = round(PAUSE_S * self._loaded.info.sample_rate_hz)
                self._say(np.zeros(pause, "<f4").tobytes(), segment.index)

    def _say(self, samples: bytes, segment: int) -> None:
        if not self._samples:
            self._first_audio_s = time.perf_counter() - self._arrived_s
        self._samples += len(samples) // 4
        self._send(Pcm(self.request_id, samples, segment))

    def _cut_off(self) -> Iterator[str]:
        said: dict[FinishReason, str] = {
            "frame_limit": "did not come to an end and was stopped at its frame limit",
            "context_full": "was cut off where the context was full",
        }
        for index, sequence in enumerate(self._finished, start=1):
            if sequence.finish in said:
                yield f"segment {index} {said[sequence.finish]}"


def _segment_seed(seed: int, index: int) -> int:
    """A seed for each segment, so that two alike do not sound alike to the last sample."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED
