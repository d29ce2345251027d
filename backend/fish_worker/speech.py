"""One request, spoken by the package: whole utterances, one after another."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from backend.audio.read import read_reference
from backend.core import MAX_SEED, FinishReason, SpeechStats
from backend.engine.prompt import Prompt, Reference, check_fits, frame_limit
from backend.errors import BlankText, PromptTooLong
from backend.fish_worker.load import Loaded
from backend.fish_worker.package import NAME, RESERVED_POSITIONS
from backend.monitoring.fish_log import FishLog
from backend.worker.memory import peak_mb
from backend.worker.messages import FromWorker, Pcm, Speak

PAUSE_S = 0.15
"""Silence between two segments, as our own engine leaves it."""
_LEAST_TOKENS = 2
"""A frame and the end: the package fails when it is asked for fewer."""

Say = Callable[[FromWorker], None]


@dataclass(frozen=True, slots=True)
class _Segment:
    prompt_tokens: int
    frames: int
    finish: FinishReason
    prefill_s: float
    decode_s: float


class Speech:
    """Speaks one `Speak`; what is checked here is checked before anything is computed."""

    def __init__(self, speak: Speak, loaded: Loaded, arrived_s: float) -> None:
        self._speak, self._loaded, self._arrived_s = speak, loaded, arrived_s
        if not any(text.strip() for text in speak.segments):
            raise BlankText("There is nothing to speak.")
        self._references, self._warnings = self._read_references()
        self._prompts = [self._prompt(text) for text in speak.segments]
        self._samples = 0
        self._first_audio_s = 0.0

    def run(self, say: Say, between_tokens: Callable[[], None], log: FishLog) -> SpeechStats:
        """Speak, handing each segment's audio to `say`; what it cost.

        `between_tokens` is called for every token: what it raises ends this.
        """
        seed = self._speak.sampling.seed
        torch.manual_seed(secrets.randbelow(MAX_SEED) if seed is None else seed)
        log.take()  # what somebody said who was given up
        segments = []
        for index in range(len(self._prompts)):
            if index:
                rate_hz = self._loaded.info.sample_rate_hz
                self._say(np.zeros(round(PAUSE_S * rate_hz), np.float32), index - 1, say)
            segments.append(self._speak_segment(index, say, between_tokens))
        return self._stats(segments, log)

    def _speak_segment(self, index: int, say: Say, between_tokens: Callable[[], None]) -> _Segment:
        text, prompt_tokens = self._speak.segments[index], len(self._prompts[index])
        info, voice = self._loaded.info, self._loaded.voice
        limit = frame_limit(text, info.frame_rate_hz)
        room = info.context_tokens - prompt_tokens
        spoken = voice.generate(
            text,
            self._references,
            self._speak.sampling,
            max(_LEAST_TOKENS, min(limit, room) + 1),
            between_tokens,
        )
        between_tokens()  # decoding cannot be stopped: better not to begin
        self._say(voice.decode(spoken.codes), index, say)
        cut_off: FinishReason = "frame_limit" if limit <= room else "context_full"
        return _Segment(
            prompt_tokens=prompt_tokens,
            frames=spoken.codes.shape[-1],
            finish="end" if spoken.ended else cut_off,
            prefill_s=spoken.prefill_s,
            decode_s=spoken.decode_s,
        )

    def _say(self, samples: "np.typing.NDArray[np.float32]", segment: int, say: Say) -> None:
        if not self._samples:
            self._first_audio_s = time.perf_counter() - self._arrived_s
        self._samples += len(samples)
        say(Pcm(self._speak.request_id, samples.astype("<f4").tobytes(), segment))

    def _stats(self, segments: list[_Segment], log: FishLog) -> SpeechStats:
        loaded, told = self._loaded, log.take()
        frames = sum(segment.frames for segment in segments)
        prefill_s = sum(segment.prefill_s for segment in segments)
        decode_s = sum(segment.decode_s for segment in segments)
        tokens = frames + sum(segment.finish == "end" for segment in segments)
        read_bytes = frames * loaded.weight_bytes_per_frame
        return SpeechStats(
            prompt_tokens=sum(segment.prompt_tokens for segment in segments),
            frames=frames,
            generated_tokens=tokens,
            audio_s=self._samples / loaded.info.sample_rate_hz,
            prefill_s=prefill_s,
            decode_s=decode_s,
            first_audio_s=self._first_audio_s,
            total_s=time.perf_counter() - self._arrived_s,
            fish_bandwidth_gb_s=told.bandwidth_gb_s or 0.0,
            weight_read_gb_s=read_bytes / decode_s / 1e9 if decode_s else 0.0,
            peak_memory_mb=peak_mb(loaded.place.device),
            segments=len(segments),
            finish_reasons=tuple(segment.finish for segment in segments),
            warnings=self._warnings + _cut_off(segments),
            fish_tokens_per_s=told.tokens_per_s,
            fish_gpu_memory_gb=told.gpu_memory_gb,
            fish_generation_time_s=told.generation_time_s,
            vq_features_shape=told.vq_features_shape,
        )

    def _prompt(self, text: str) -> Prompt:
        info = self._loaded.info
        prompt = Prompt.build(self._loaded.tokenizer, info.num_codebooks, text, self._references)
        check_fits(prompt, text, info.frame_rate_hz, info.context_tokens)
        most = self._loaded.voice.positions - RESERVED_POSITIONS
        if len(prompt) > most:
            raise PromptTooLong(
                f"The prompt takes {len(prompt)} tokens, {prompt.reference_frames} of them the "
                f"reference recording; {NAME} takes at most {most} with this checkpoint. "
                "Send a shorter text, recording or transcript."
            )
        return prompt

    def _read_references(self) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
        audio, info = self._speak.reference_audio, self._loaded.info
        if audio is None:
            return (), ()
        recording = read_reference(audio, info.sample_rate_hz, info.max_reference_s)
        codes = self._loaded.voice.encode(recording.samples)
        return (Reference(self._speak.reference_text, codes),), recording.warnings


def _cut_off(segments: list[_Segment]) -> tuple[str, ...]:
    said: dict[FinishReason, str] = {
        "frame_limit": "did not come to an end and was stopped at its frame limit",
        "context_full": "was cut off where the context was full",
    }
    return tuple(
        f"segment {number} {said[segment.finish]}"
        for number, segment in enumerate(segments, start=1)
        if segment.finish in said
    )
