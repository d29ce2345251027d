"""One request, answered by the package: an utterance, a recording's codes, or codes' sound."""

import math
import secrets
import time
from collections.abc import Callable

import torch

from backend.audio.read import read_reference
from backend.core import MAX_SEED, FinishReason, ReferenceCodes, SpeechStats
from backend.engine.prompt import (
    Prompt,
    Reference,
    check_fits,
    checked_codes,
    frame_limit,
    wire_codes,
)
from backend.errors import BlankText, PromptTooLong
from backend.fish_worker.loaded_package import Loaded
from backend.fish_worker.package import NAME, RESERVED_POSITIONS
from backend.fish_worker.voice import Generated
from backend.monitoring.fish_log import FishLog
from backend.worker.messages import (
    MAX_DECODED_S,
    DecodeCodes,
    Decoded,
    Done,
    FromWorker,
    Pcm,
    Speak,
)
from backend.worker.process_memory import peak_mb

_LEAST_TOKENS = 2
"""A frame and the end: the package fails when it is asked for fewer."""

Say = Callable[[FromWorker], None]


class Speech:
    """Speaks one `Speak`; what is checked here is checked before anything is computed."""

    def __init__(self, speak: Speak, loaded: Loaded, arrived_s: float) -> None:
        self._speak, self._loaded, self._arrived_s = speak, loaded, arrived_s
        if not speak.text.strip():
            raise BlankText("There is nothing to speak.")
        info = loaded.info
        self._references = [
            Reference.of(voice, loaded.shape.codec, info.codec_id, info.context_tokens)
            for voice in speak.references
        ]
        self._prompt_tokens = len(self._checked_prompt())

    def run(self, say: Say, between_tokens: Callable[[], None], log: FishLog) -> None:
        """Speak, handing the audio to `say`, and then what it cost.

        `between_tokens` is called for every token: what it raises ends this.
        """
        speak, info, voice = self._speak, self._loaded.info, self._loaded.voice
        seed = speak.sampling.seed
        torch.manual_seed(secrets.randbelow(MAX_SEED) if seed is None else seed)
        log.take()  # what a request that was given up has left
        limit = frame_limit(speak.text, info.frame_rate_hz)
        room = info.context_tokens - self._prompt_tokens
        spoken = voice.generate(
            speak.text,
            self._references,
            speak.sampling,
            max(_LEAST_TOKENS, min(limit, room) + 1),
            between_tokens,
        )
        between_tokens()  # decoding cannot be stopped: better not to begin
        samples = voice.decode(spoken.codes)
        first_audio_s = time.perf_counter() - self._arrived_s
        say(Pcm(speak.request_id, samples.astype("<f4").tobytes()))
        cut_off: FinishReason = "frame_limit" if limit <= room else "context_full"
        finish = "end" if spoken.ended else cut_off
        stats = self._stats(spoken, finish, len(samples), first_audio_s, log)
        codes = None
        if speak.return_codes:
            codes = wire_codes(spoken.codes, self._loaded.shape.codec, info.codec_id)
        say(Done(speak.request_id, stats, codes))

    def _stats(
        self,
        spoken: Generated,
        finish: FinishReason,
        samples: int,
        first_audio_s: float,
        log: FishLog,
    ) -> SpeechStats:
        loaded, told, frames = self._loaded, log.take(), spoken.codes.shape[-1]
        read_bytes = frames * loaded.weight_bytes_per_frame
        return SpeechStats(
            prompt_tokens=self._prompt_tokens,
            frames=frames,
            generated_tokens=frames + (finish == "end"),
            audio_s=samples / loaded.info.sample_rate_hz,
            prefill_s=spoken.prefill_s,
            decode_s=spoken.decode_s,
            first_audio_s=first_audio_s,
            total_s=time.perf_counter() - self._arrived_s,
            fish_bandwidth_gb_s=told.bandwidth_gb_s or 0.0,
            weight_read_gb_s=read_bytes / spoken.decode_s / 1e9 if spoken.decode_s else 0.0,
            peak_memory_mb=peak_mb(loaded.place.device),
            segments=1,
            finish_reasons=(finish,),
            fish_tokens_per_s=told.tokens_per_s,
            fish_gpu_memory_gb=told.gpu_memory_gb,
            fish_generation_time_s=told.generation_time_s,
            vq_features_shape=told.vq_features_shape,
        )

    def _checked_prompt(self) -> Prompt:
        info, text = self._loaded.info, self._speak.text
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


def encode(audio: bytes, loaded: Loaded) -> ReferenceCodes:
    """A recording as codes; `BadReference` says what is wrong with it."""
    info = loaded.info
    recording = read_reference(audio, info.sample_rate_hz, info.max_reference_s)
    codes = loaded.voice.encode(recording.samples)
    return wire_codes(codes, loaded.shape.codec, info.codec_id, recording.warnings)


def decode(asked: DecodeCodes, loaded: Loaded, say: Say) -> None:
    """Hand the sound of codes to `say`, in one piece; `BadReference` says what is wrong with them.

    The package decodes them whole and cannot be stopped, which is why they are few.
    """
    info = loaded.info
    most = math.ceil(MAX_DECODED_S * info.frame_rate_hz)
    codes = checked_codes(asked.codes, loaded.shape.codec, info.codec_id, most)
    samples = loaded.voice.decode(codes.to(loaded.place.device))
    say(Pcm(asked.request_id, samples.astype("<f4").tobytes()))
    say(Decoded(asked.request_id))
