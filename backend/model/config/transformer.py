"""Shapes and costs of the two transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import BadCheckpoint

MODEL_TYPES = ("dual_ar",)

RESIDUAL_CODEBOOK_SIZE = 1024
"""Residual codebooks hold this many codes, whatever the semantic one holds."""
SMALL_PARAMETERS = 100_000_000
"""Of weights; a model with fewer is small."""


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
        return sum(rows * columns for rows, columns in self.matrices) + norms + biases

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Shapes [out, in] of one block's Linear weights."""
        heads, kv = self.n_head * self.head_dim, self.n_local_heads * self.head_dim
        inner = (self.intermediate_size, self.dim)
        return (
            (heads + 2 * kv, self.dim),
            (self.dim, heads),
            inner,
            inner,
            (self.dim, self.intermediate_size),
        )

    @property
    def fine_layers(self) -> int:
        """The last blocks, which int4 holds in 8 bits where a CPU's kernels multiply."""
        return -(-self.n_layer // 4)

    @property
    def wide_layers(self) -> int:
        """The last blocks, which a small checkpoint has in 16 bits there: they lose most."""
        return -(-self.n_layer // 8)

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

    @property
    def is_small(self) -> bool:
        """Little beside its codec: it can have finer weights, keys and values where those are
        rounded, and is packed in less than a second."""
        return self.parameters < SMALL_PARAMETERS

    def weights_read_per_frame(self, legal_tokens: int) -> int:
        """Weights a one-row frame must read: the slow stack and the legal head rows once, the fast
        stack and its head once a codebook (the first two positions go together)."""
        slow = self.slow.n_layer * self.slow.layer_parameters + legal_tokens * self.slow.dim
        fast = self.fast.n_layer * self.fast.layer_parameters + self.codebook_size * self.fast.dim
        return slow + max(1, self.num_codebooks - 1) * fast

    def kv_bytes_per_frame(self, element_bytes: int) -> int:
        """Bytes one position of the slow transformer adds to the cache."""
        return self.slow.kv_bytes_per_position(element_bytes)

    def prefill_workspace_bytes(self, positions: int, element_bytes: int) -> int:
        """Memory beside weights and cache while a prompt of so many positions is read."""
        slow = self.slow
        qkv = (slow.n_head + 2 * slow.n_local_heads) * slow.head_dim
        qk = qkv - slow.n_local_heads * slow.head_dim
        embedding = (self.num_codebooks + 2) * slow.dim * element_bytes
        attention = (qkv + 2 * qk + 2 * slow.dim) * element_bytes
        if element_bytes < 4:
            attention += 2 * qk * 4  # queries and keys are turned in float32
        feed_forward = 3 * (slow.intermediate_size + slow.dim) * element_bytes
        return positions * max(embedding, attention, feed_forward)

    def sampling_bytes(self, rows: int) -> int:
        """Memory of drawing one frame for `rows`: penalties, and logits in order of size."""
        size = self.codebook_size + 1
        return rows * size * 4 * (2 * self.num_codebooks + 8)

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
