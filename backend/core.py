"""The nouns every room shares. Nothing here imports another room, torch, or a web framework."""

from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

MIB = 1024 * 1024
FinishReason = Literal["end", "frame_limit", "context_full"]

LANGUAGES = (
    *("auto", "en", "zh", "ja", "ko", "fr", "de", "es", "pl", "ru", "it", "pt", "ar", "hi", "tr"),
)
"""What a request may name as its language."""

SAMPLING_LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.1, 1.0),
    "repetition_penalty": (1.0, 2.0),
}
"""Least and greatest value of each sampling parameter that a request may ask for."""

MAX_SEED = 2**63 - 1

LongText = Literal["truncate", "split", "reject"]
"""What to do with text past the limit: cut it off, speak it all in pieces, or refuse it."""

AudioFormat = Literal["wav", "mp3", "opus", "flac", "aac", "pcm"]
"""Containers that speech is sent in; opus is in Ogg, aac in ADTS, pcm is 16 bit little-endian."""

RECORDING_FORMATS = "wav, flac, ogg, mp3, m4a, mp4, aac or webm"
"""What recordings of a voice are sent in, as errors and descriptions name it."""

OPEN_SENTENCES = 3
"""Sentences of one request at work together: their rows share each step's cost, while only a few
sentences' audio waits for its turn, however long the text."""

FLUSH = "\f"
"""A piece of live text that asks to speak all text so far, finished or not."""

Quantization = Literal["none", "int8", "int4"]
EngineName = Literal["shoal", "fish-speech"]


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One thing the plan decided, and why."""

    value: T
    reason: str
    source: Literal["tier", "machine", "checkpoint", "measured", "user"] = "tier"
    """Where the value comes from. "user" is a setting, and always wins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How this machine speaks: every choice with its reason. Made by `hardware.plan`."""

    tier: str
    """Name of the row in the tier table, "m1_air" say."""
    tier_reason: str
    device: Choice[str]
    """cpu, cuda:N (N as NVML counts, the order of the PCI bus) or mps."""
    device_uuid: str
    """The GPU's name for CUDA_VISIBLE_DEVICES; "" without one."""
    precision: Choice[str]
    """fp32, bf16 or fp16."""
    quantization: Choice[Quantization]
    compile: Choice[bool]
    """Whether compiled code is tried: on a GPU Triton's kernels, on a CPU kernels in C."""
    num_threads: Choice[int]
    cpu_affinity: Choice[tuple[int, ...]]
    """Logical CPUs the worker is pinned to; empty is not pinned."""
    max_text_length: Choice[int]
    """Characters of one request's text on this machine."""
    max_text_length_ceiling: int
    """How far free memory may raise `max_text_length`; equal to it where heat or a user decides."""
    chunk_length: Choice[int]
    """Characters of one segment that is spoken in one piece."""
    max_batch: Choice[int]
    """Segments that are spoken side by side."""
    cache_limit_mb: Choice[int]
    """Memory that keys and values may take."""
    safety_margin_mb: int
    """Memory that admission leaves to everybody else."""
    fast_mb: int
    """VRAM for the fast ways of a frame; 0 without a GPU, or where there is no room for them."""
    estimate_base_mb: float
    """The changelog's formula: base + tokens / 100 x per_100_tokens + overhead."""
    estimate_per_100_tokens_mb: float
    estimate_cache_overhead_mb: float
    calibration_samples: int
    """Samples of text that choose clipping scales and check a quantized checkpoint."""
    expected_rtf: float
    expected_memory_gb: float
    thermal_throttle_cpu_pct: float | None
    """CPU load above which this tier is expected to throttle; None is never."""
    notes: tuple[str, ...]
    """Response notes: what to know about this configuration, one sentence each."""
    log_lines: tuple[tuple[str, str], ...]
    """(level, text) to be logged once at start, the fix for a misconfiguration among them."""
    way: str = ""
    """In which frames are computed, as the worker told it; "" before it has."""
    memory_step: str = ""
    """Name of the step that was taken because memory ran short; "" is none (`hardware.ladder`)."""

    @property
    def strategy(self) -> str:
        """One line that names what was chosen: `X-Optimization-Strategy`."""
        parts = [self.tier, self.device.value.partition(":")[0], self.precision.value]
        if self.quantization.value != "none":
            parts.append(self.quantization.value)
        way = self.way or ("compile" if self.compile.value else "")
        return " ".join((*parts, way) if way else parts)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn from the logits.

    `temperature` 0 is greedy. `seed` None lets the engine draw one, so that two calls differ.
    """

    temperature: float = 0.7
    top_p: float = 0.7
    repetition_penalty: float = 1.1
    seed: int | None = None

    @property
    def is_greedy(self) -> bool:
        """The best token is taken, no noise."""
        return self.temperature == 0.0


@dataclass(slots=True)
class ReferenceAudio:
    """A recording of the voice to speak in, as it was uploaded."""

    audio: bytes
    """A file of one of `RECORDING_FORMATS`; b"" once encoded, as its request lives on."""
    transcript: str = ""
    """What is said in it, "" if unknown."""


@dataclass(frozen=True, slots=True)
class ReferenceCodes:
    """A recording as the codec of one checkpoint encodes it."""

    codes: bytes
    """uint16 little-endian [num_codebooks, frames], row by row."""
    num_codebooks: int
    codec_id: str
    """`EngineInfo.codec_id` of the codec that made them, the only one that understands them."""
    audio_s: float
    """Seconds of the recording that they stand for."""
    warnings: tuple[str, ...] = ()
    """What was done to the recording or makes it a poor voice: what its sender should know."""

    @property
    def frames(self) -> int:
        """Code frames."""
        return len(self.codes) // (2 * self.num_codebooks)

    def beginning(self, frames: int) -> "ReferenceCodes":
        """The first `frames` of them; all where there are no more."""
        row, kept = 2 * self.frames, 2 * frames
        if kept >= row:
            return self
        rows = range(0, row * self.num_codebooks, row)
        codes = b"".join(self.codes[start : start + kept] for start in rows)
        return replace(self, codes=codes, audio_s=self.audio_s * frames / self.frames)


@dataclass(frozen=True, slots=True)
class VoicePrompt:
    """A voice as the model hears it: codes, and what is said in them ("" if unknown)."""

    codes: ReferenceCodes
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """What one voice says: a turn of a dialogue, or a whole text."""

    text: str
    voice: str = ""
    """Name or id of a saved voice; "" is the request's reference, else the default voice."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A piece of text that is spoken in one go."""

    text: str
    pause_s: float = 0.0
    """Silence after it, unless it is the last."""
    voice: str = ""
    """As in `Line`."""


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """Where a sentence is in the finished speech, before any change of tempo."""

    text: str
    start_s: float
    end_s: float
    voice: str = ""


@dataclass(frozen=True, slots=True)
class AudioOutput:
    """How speech is sent."""

    format: AudioFormat = "wav"
    sample_rate_hz: int | None = None
    """None is the checkpoint's rate, or the nearest that the format can carry."""
    speed: float = 1.0
    """Tempo; 2 is twice as fast at the same pitch."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One request to speak `text`, already validated."""

    request_id: str
    text: str
    """All of it; of a dialogue its lines, joined by blank lines."""
    dialogue: tuple[Line, ...] = ()
    """Its lines and their voices; empty: `voice` says `text`."""
    language: str = "auto"
    sampling: SamplingParams = field(default_factory=SamplingParams)
    references: tuple[ReferenceAudio, ...] = ()
    """Recordings of one voice."""
    voice: str = ""
    """Name or id of a saved voice; "" is that of `references`, else the default voice."""
    long_text: LongText | None = None
    """None is what the settings say."""
    normalize: bool = True
    """Speak numbers, dates, abbreviations and the like as words."""
    is_silence_taken: bool = False
    """Text with nothing to say in it, an emoji alone say, is a moment of silence; else an error."""
    pauses: float = 1.0
    """How long the silence between sentences is, against the usual; 0 leaves none."""
    speed: float = 1.0
    """Tempo at which it is played; of text that is still being written the pauses depend on it."""
    is_streamed: bool = False
    """Audio is wanted as soon as it exists; else each sentence once it is known to be good."""
    optimize_for_memory: bool = False
    """Speak in the smallest pieces, one after another."""
    force_cpu: bool = False
    """Speak on a CPU worker where the plan has a GPU."""
    timeout_s: float | None = None
    """Seconds from `arrived_s` to its deadline; None is what the settings say."""
    arrived_s: float | None = None
    """When its headers had arrived, before its body, in the event loop's time; None is now."""
    client: str = ""
    """The client, for fairness between clients: the name of a key or an address."""
    trace_parent: str = ""
    """The client's W3C `traceparent`, to which the request's span belongs."""


@dataclass(frozen=True, slots=True)
class TextLimit:
    """What became of a request's text on this machine."""

    limit: int
    """Characters allowed for this request."""
    reason: str
    """Why that many: the tier's figure, a user's, or memory that is free or not."""
    original_length: int
    spoken_length: int

    @property
    def is_truncated(self) -> bool:
        """Something was cut off."""
        return self.spoken_length < self.original_length


@dataclass(frozen=True, slots=True)
class PcmChunk:
    """A piece of finished speech: mono float32 little-endian samples in [-1, 1]."""

    samples: bytes
    segment: int
    """Index of the sentence this piece belongs to; pieces arrive in order."""


@dataclass(frozen=True, slots=True)
class SpeechStats:
    """What one finished request cost, summed over its segments.

    Times are seconds of wall clock in the worker; `prefill_s` and `decode_s` of segments that ran
    side by side may sum to more than `total_s`.
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
    fish_tokens_per_s: float | None = None
    """What the fish-speech package logged of itself; None from our own engine."""
    fish_gpu_memory_gb: float | None = None
    fish_generation_time_s: float | None = None
    vq_features_shape: tuple[int, ...] | None = None
    retries: int = 0
    """Sentences that were spoken again with another seed, because they ran away or were silent."""
    memory_step: str = ""
    """The last step that was taken under it because memory ran short; "" where none was."""
    workers: tuple[str, ...] = ()
    """Names of those that spoke it."""

    @property
    def frames_per_s(self) -> float:
        """Code frames per second of decoding."""
        return self.frames / self.decode_s if self.decode_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class QualityCost:
    """What quantization changed, measured on the calibration samples against full precision."""

    kl_divergence: float
    """Mean over frames of KL(full || quantized) of the semantic logits, in nats."""
    greedy_agreement: float
    """Share of teacher-forced semantic tokens whose greedy choice stayed the same, 0 to 1."""
    samples: int


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
    """Memory once everything is loaded and tried once, in MiB: device memory on a GPU."""
    load_s: float
    quantization: Quantization = "none"
    unquantized_weight_bytes: int = 0
    """What the weights would take without quantization."""
    quality_cost: QualityCost | None = None
    """Measured at load where weights are quantized."""
    num_threads: int = 1
    cpus: tuple[int, ...] = ()
    """Logical CPUs the worker is pinned to; empty is not pinned."""
    cache_limit_bytes: int = 0
    """What keys and values may take."""
    cuda_available: bool = False
    """Whether this worker's torch sees a GPU."""
    codec_id: str = ""
    """Fingerprint of the codec's weights: codes of one are noise to another."""
    trial_rtf: float = 0.0
    """Of the few frames that were tried once it was loaded, slower than speech; 0 if none were."""
    has_default_voice: bool = False
    """Without a reference it always speaks in the same voice, instead of one by chance."""
    codec_precision: str = "fp32"
    """What codes are decoded in."""
    way: str = "eager"
    """In which frames are computed: eager, graph, fused or native."""
    way_detail: str = ""
    """Why, in words for a user; "" where there was nothing to choose."""

    @property
    def frame_rate_hz(self) -> float:
        """Code frames per second of audio."""
        return self.sample_rate_hz / self.frame_samples
