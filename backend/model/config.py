"""Shapes of the transformer and the codec, from a checkpoint's files. Pure arithmetic, no torch.

Field names and defaults are those of `fish-speech==0.1.0` (`DualARModelArgs` and
`modded_dac_vq.yaml`), so that the official `config.json` is read as it stands.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backend.errors import BadCheckpoint

MODEL_TYPES = ("dual_ar",)

RESIDUAL_CODEBOOK_SIZE = 1024
"""Residual codebooks hold this many codes, whatever the semantic one holds."""


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """One stack of transformer blocks."""

    dim: int
    n_layer: int
    n_head: int
    n_local_heads: int
    head_dim: int
    intermediate_size: int
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False

    @property
    def layer_parameters(self) -> int:
        """Weights of one block."""
        heads, kv = self.n_head * self.head_dim, self.n_local_heads * self.head_dim
        biases = (heads + 2 * kv) * self.qkv_bias + self.dim * self.o_bias
        norms = 2 * self.dim + 2 * self.head_dim * self.qk_norm
        attention = self.dim * (heads + 2 * kv) + heads * self.dim
        return attention + 3 * self.dim * self.intermediate_size + norms + biases

    def kv_bytes_per_position(self, element_bytes: int) -> int:
        """Bytes of keys and values one position adds over all layers."""
        return 2 * self.n_layer * self.n_local_heads * self.head_dim * element_bytes


@dataclass(frozen=True, slots=True)
class DualARConfig:
    """The slow transformer over frames and the fast one over a frame's codebooks."""

    slow: TransformerConfig
    fast: TransformerConfig
    vocab_size: int
    codebook_size: int
    num_codebooks: int
    max_seq_len: int
    tie_word_embeddings: bool = True
    scale_codebook_embeddings: bool = False

    @property
    def residual_codebook_size(self) -> int:
        """Codes a fast logit row is cut to."""
        return min(self.codebook_size, RESIDUAL_CODEBOOK_SIZE)

    @property
    def parameters(self) -> int:
        """Weights of both transformers, embeddings included."""
        embeddings = (self.vocab_size + self.codebook_size * self.num_codebooks) * self.slow.dim
        head = 0 if self.tie_word_embeddings else self.vocab_size * self.slow.dim
        bridge = (self.slow.dim + 1) * self.fast.dim if self.slow.dim != self.fast.dim else 0
        books = 2 * self.codebook_size * self.fast.dim
        slow = self.slow.n_layer * self.slow.layer_parameters + self.slow.dim
        fast = self.fast.n_layer * self.fast.layer_parameters + self.fast.dim
        return embeddings + head + slow + bridge + books + fast

    def weights_read_per_frame(self, legal_tokens: int) -> int:
        """Weights a one-row frame must read: the slow stack and the legal head rows once, the fast
        stack and its head once a codebook (the first two positions go together)."""
        slow = self.slow.n_layer * self.slow.layer_parameters + legal_tokens * self.slow.dim
        fast = self.fast.n_layer * self.fast.layer_parameters + self.codebook_size * self.fast.dim
        return slow + max(1, self.num_codebooks - 1) * fast

    def kv_bytes_per_frame(self, element_bytes: int) -> int:
        """Bytes one position of the slow transformer adds to the cache."""
        return self.slow.kv_bytes_per_position(element_bytes)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read a `config.json`; BadCheckpoint names what is missing or not supported."""
        kind = raw.get("model_type")
        if kind not in MODEL_TYPES:
            raise BadCheckpoint(
                f"config.json has model_type {kind!r}; this version reads {', '.join(MODEL_TYPES)}"
            )
        missing = sorted({"dim", "n_layer", "n_head", "vocab_size"} - raw.keys())
        if missing:
            raise BadCheckpoint(f"config.json lacks {', '.join(missing)}")
        dim, n_head = raw["dim"], raw["n_head"]
        n_local = raw.get("n_local_heads", -1)
        slow = TransformerConfig(
            dim=dim,
            n_layer=raw["n_layer"],
            n_head=n_head,
            n_local_heads=n_head if n_local == -1 else n_local,
            # The package's default is 64; null there means dim / n_head.
            head_dim=raw.get("head_dim", 64) or dim // n_head,
            intermediate_size=raw.get("intermediate_size") or _round_up(int(8 * dim / 3), 256),
            rope_base=raw.get("rope_base", 10_000.0),
            norm_eps=raw.get("norm_eps", 1e-5),
            qkv_bias=raw.get("attention_qkv_bias", False),
            o_bias=raw.get("attention_o_bias", False),
            qk_norm=raw.get("attention_qk_norm", False),
        )

        def or_slow(key: str, inherited: Any) -> Any:
            value = raw.get(key)
            return inherited if value is None else value

        fast = TransformerConfig(
            dim=raw.get("fast_dim") or slow.dim,
            n_layer=raw.get("n_fast_layer", 4),
            n_head=raw.get("fast_n_head") or slow.n_head,
            n_local_heads=raw.get("fast_n_local_heads") or slow.n_local_heads,
            head_dim=raw.get("fast_head_dim") or slow.head_dim,
            intermediate_size=raw.get("fast_intermediate_size") or slow.intermediate_size,
            rope_base=slow.rope_base,
            norm_eps=slow.norm_eps,
            qkv_bias=or_slow("fast_attention_qkv_bias", slow.qkv_bias),
            o_bias=or_slow("fast_attention_o_bias", slow.o_bias),
            qk_norm=or_slow("fast_attention_qk_norm", slow.qk_norm),
        )
        return cls(
            slow=slow,
            fast=fast,
            vocab_size=raw["vocab_size"],
            codebook_size=raw.get("codebook_size", 160),
            num_codebooks=raw.get("num_codebooks", 4),
            max_seq_len=raw.get("max_seq_len", 2048),
            tie_word_embeddings=raw.get("tie_word_embeddings", True),
            scale_codebook_embeddings=raw.get("scale_codebook_embeddings", False),
        )

    def to_json(self) -> dict[str, Any]:
        """The `config.json` that `from_json` and the package read back."""
        slow, fast = self.slow, self.fast
        return {
            "model_type": "dual_ar",
            "vocab_size": self.vocab_size,
            "n_layer": slow.n_layer,
            "n_head": slow.n_head,
            "dim": slow.dim,
            "intermediate_size": slow.intermediate_size,
            "n_local_heads": slow.n_local_heads,
            "head_dim": slow.head_dim,
            "rope_base": slow.rope_base,
            "norm_eps": slow.norm_eps,
            "max_seq_len": self.max_seq_len,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_qkv_bias": slow.qkv_bias,
            "attention_o_bias": slow.o_bias,
            "attention_qk_norm": slow.qk_norm,
            "codebook_size": self.codebook_size,
            "num_codebooks": self.num_codebooks,
            "scale_codebook_embeddings": self.scale_codebook_embeddings,
            "n_fast_layer": fast.n_layer,
            "fast_dim": fast.dim,
            "fast_n_head": fast.n_head,
            "fast_n_local_heads": fast.n_local_heads,
            "fast_head_dim": fast.head_dim,
            "fast_intermediate_size": fast.intermediate_size,
            "fast_attention_qkv_bias": fast.qkv_bias,
            "fast_attention_qk_norm": fast.qk_norm,
            "fast_attention_o_bias": fast.o_bias,
        }


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """A causal transformer of the codec that looks back over `window` positions."""

    dim: int = 1024
    n_layer: int = 8
    n_head: int = 16
    head_dim: int = 64
    intermediate_size: int = 3072
    window: int = 128
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The DAC codec: waveform ↔ one semantic and several residual code books.

    The defaults are the package's `configs/modded_dac_vq.yaml`, which every `codec.pth` follows.
    """

    sample_rate_hz: int = 44_100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    encoder_transformer_layers: tuple[int, ...] = (0, 0, 0, 4)
    encoder_window: int = 512
    latent_dim: int = 1024
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    downsample_factor: tuple[int, ...] = (2, 2)
    semantic_codebook_size: int = 4096
    residual_codebooks: int = 9
    residual_codebook_size: int = RESIDUAL_CODEBOOK_SIZE
    codebook_dim: int = 8
    pre: WindowConfig = field(default_factory=WindowConfig)
    post: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise BadCheckpoint(
                f"encoder rates {self.encoder_rates} and decoder rates {self.decoder_rates} differ"
            )

    @property
    def num_codebooks(self) -> int:
        """Code books of a frame, the semantic one first."""
        return 1 + self.residual_codebooks

    @property
    def frame_samples(self) -> int:
        """PCM samples of one code frame."""
        return math.prod(self.encoder_rates) * math.prod(self.downsample_factor)

    @property
    def frame_rate_hz(self) -> float:
        """Code frames per second of audio."""
        return self.sample_rate_hz / self.frame_samples

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read our `codec.json`; BadCheckpoint names a key that is not known."""
        values = dict(raw)
        unknown = sorted(values.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise BadCheckpoint(f"codec.json has unknown keys {', '.join(unknown)}")
        for name in ("pre", "post"):
            if name in values:
                values[name] = WindowConfig(**values[name])
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """What a checkpoint says of itself: `shoal.json` in a folder of our own layout.

    An official folder has none; the defaults are what `openaudio-s1-mini` was trained for.
    """

    name: str
    max_segment_characters: int = 400
    max_reference_s: float = 60.0
    languages: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read `shoal.json`; BadCheckpoint names a key that is not known."""
        unknown = sorted(raw.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown or "name" not in raw:
            raise BadCheckpoint(f"shoal.json must have a name and no unknown keys {unknown}")
        return cls(**{**raw, "languages": tuple(raw.get("languages", ()))})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return dataclasses.asdict(self)
