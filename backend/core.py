"""The nouns every room shares. Nothing here imports another room, torch, or a web framework."""

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["end", "frame_limit", "context_full"]

LANGUAGES = (
    "auto",
    "en",
    "zh",
    "ja",
    "ko",
    "fr",
    "de",
    "es",
    "pl",
    "ru",
    "it",
    "pt",
    "ar",
    "hi",
    "tr",
)
"""What a request may name as its language."""

SAMPLING_LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.1, 1.0),
    "repetition_penalty": (1.0, 2.0),
}
"""Least and greatest value of each sampling parameter that a request may ask for."""

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn from the logits.

    `temperature` 0 is greedy. `seed` None lets the engine draw one, so that two calls differ.
    """

    temperature: float = 0.7
    top_p: float = 0.7
    repetition_penalty: float = 1.1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ReferenceAudio:
    """A recording of the voice to speak in, as it was uploaded.

    `audio` is the bytes of a wav, flac, ogg or mp3 file; `transcript` what is said in it, "" if
    unknown.
    """

    audio: bytes
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One request to speak `text`, already validated."""

    request_id: str
    text: str
    language: str = "auto"
    sampling: SamplingParams = field(default_factory=SamplingParams)
    reference: ReferenceAudio | None = None


@dataclass(frozen=True, slots=True)
class PcmChunk:
    """A piece of finished speech: mono float32 little-endian samples in [-1, 1]."""

    samples: bytes
    segment: int
    """Index of the text segment this piece belongs to; pieces arrive in order."""


@dataclass(frozen=True, slots=True)
class SpeechStats:
    """What one finished request cost, summed over its segments.

    Times are seconds of wall clock in the worker. Segments that ran side by side each count their
    own `prefill_s` and `decode_s`, so those may sum to more than `total_s`.
    """

    prompt_tokens: int
    frames: int
    generated_tokens: int
    """Frames plus one end token for each segment that ended by itself."""
    audio_s: float
    prefill_s: float
    decode_s: float
    first_audio_s: float
    """From the arrival of the request in the worker to the first PCM handed out."""
    total_s: float
    fish_bandwidth_gb_s: float
    """Parameters in billions x tokens/s: what upstream logs as "Bandwidth achieved"."""
    weight_read_gb_s: float
    """Bytes of weights actually read per second of decoding, in 1e9 bytes."""
    peak_memory_mb: float
    """Peak resident memory of the worker process (device memory on a GPU), in MiB."""
    segments: int
    finish_reasons: tuple[FinishReason, ...]
    warnings: tuple[str, ...] = ()

    @property
    def frames_per_s(self) -> float:
        """Code frames per second of decoding."""
        return self.frames / self.decode_s if self.decode_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the worker loaded, told in its handshake."""

    engine: str
    """Name of the engine, "shoal" for our own."""
    checkpoint: str
    device: str
    precision: str
    sample_rate_hz: int
    frame_samples: int
    """PCM samples one code frame decodes to."""
    num_codebooks: int
    parameters: int
    weight_bytes: int
    context_tokens: int
    max_segment_characters: int
    """Longest text the checkpoint speaks in one piece; longer text is spoken in several."""
    max_reference_s: float
    languages: tuple[str, ...]
    """Languages the checkpoint declares; empty when it declares none and all are assumed."""
    torch_version: str
    pid: int
    memory_mb: float
    """Resident memory once everything is loaded, in MiB."""
    load_s: float

    @property
    def frame_rate_hz(self) -> float:
        """Code frames per second of audio."""
        return self.sample_rate_hz / self.frame_samples
