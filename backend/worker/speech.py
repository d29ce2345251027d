"""One sentence being spoken: text to a sequence, its frames to PCM, statistics."""

import secrets
import time
from dataclasses import replace

import torch
from torch import Tensor

from backend.codec.stage import Heard
from backend.core import MAX_SEED, ReferenceCodes, SpeechStats
from backend.engine.engine import Progress
from backend.engine.prompt import Prompt, Reference, check_fits, frame_limit, wire_codes
from backend.engine.sequence import Sequence
from backend.errors import BlankText
from backend.worker.loaded import Loaded
from backend.worker.messages import Done, Pcm, Speak
from backend.worker.process_memory import peak_mb


class SpeechJob:
    """Speaks one `Speak`, as the loop feeds it with what its sequence made."""

    def __init__(self, speak: Speak, loaded: Loaded, arrived_s: float) -> None:
        self._speak, self._loaded, self._arrived_s = speak, loaded, arrived_s
        self._first_audio_s = 0.0
        self._samples = 0
        self._frames: list[Tensor] = []
        """Kept where they are asked for."""
        if not speak.text.strip():
            raise BlankText("There is nothing to speak.")
        asked, info = speak.sampling, loaded.info
        seed = secrets.randbelow(MAX_SEED) if asked.seed is None else asked.seed
        self.sequence = Sequence(
            self._prompt(),
            replace(asked, seed=seed),
            frame_limit(speak.text, info.frame_rate_hz),
            info.context_tokens,
        )

    @property
    def request_id(self) -> str:
        """The request that it answers."""
        return self._speak.request_id

    def take(self, progress: Progress) -> None:
        """Take in what the sequence made."""
        if progress.error is not None:
            raise progress.error
        if progress.frame is not None:
            if self._speak.return_codes:
                self._frames.append(progress.frame)
            self._loaded.stage.push(self.sequence, progress.frame)
        if progress.finish is not None:
            self._loaded.stage.end(self.sequence)

    def tell(self, heard: Heard) -> Pcm | Done:
        """The message that follows from what was heard of the sequence."""
        if heard.error is not None:
            raise heard.error
        if heard.samples is not None:
            return self._pcm(heard.samples)
        return Done(self.request_id, self._stats(), self._codes())

    def _prompt(self) -> Prompt:
        checkpoint, info, text = self._loaded.checkpoint, self._loaded.info, self._speak.text
        codec = checkpoint.codec_config
        references = [
            Reference.of(voice, codec, info.codec_id, info.context_tokens)
            for voice in self._speak.references
        ]
        prompt = Prompt.build(checkpoint.tokenizer, info.num_codebooks, text, references)
        check_fits(prompt, text, info.frame_rate_hz, info.context_tokens)
        return prompt

    def _pcm(self, samples: Tensor) -> Pcm:
        if not self._samples:
            self._first_audio_s = time.perf_counter() - self._arrived_s
        self._samples += len(samples)
        return Pcm(self.request_id, samples.numpy().astype("<f4", copy=False).tobytes())

    def _codes(self) -> ReferenceCodes | None:
        if not self._frames:
            return None
        codec = self._loaded.checkpoint.codec_config
        return wire_codes(torch.stack(self._frames, dim=1), codec, self._loaded.info.codec_id)

    def _stats(self) -> SpeechStats:
        done, loaded = self.sequence, self._loaded
        assert done.finish is not None
        busy_s = done.prefill_s + done.decode_s
        parameters, tokens = loaded.checkpoint.config.parameters, done.generated_tokens
        return SpeechStats(
            prompt_tokens=done.prompt_tokens,
            frames=done.frames,
            generated_tokens=tokens,
            audio_s=self._samples / loaded.info.sample_rate_hz,
            prefill_s=done.prefill_s,
            decode_s=done.decode_s,
            first_audio_s=self._first_audio_s,
            total_s=time.perf_counter() - self._arrived_s,
            fish_bandwidth_gb_s=parameters * tokens / busy_s / 1e9 if busy_s else 0.0,
            # Each step's weights are read once for all its rows and shared among them: sentences
            # side by side thus sum to what the machine read.
            weight_read_gb_s=done.weight_bytes / done.decode_s / 1e9 if done.decode_s else 0.0,
            peak_memory_mb=peak_mb(loaded.place.device),
            segments=1,
            finish_reasons=(done.finish,),
        )
