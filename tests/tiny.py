"""A checkpoint small enough for any test: random weights, real formats, our own layout."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backend.model.checkpoint import Checkpoint, save_checkpoint
from backend.model.config import CheckpointInfo, CodecConfig, DualARConfig, WindowConfig
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.tokenizer import IM_END, INTERLEAVE, Tokenizer

CONTROL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|pad|>",
    "<|im_start|>",
    IM_END,
    "<|text|>",
    "<|voice|>",
    INTERLEAVE,
)
"""What the small checkpoints know beside text and semantic tokens."""

TINY: dict[str, Any] = {
    "model_type": "dual_ar",
    "dim": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_local_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 352,
    "codebook_size": 64,
    "num_codebooks": 4,
    "max_seq_len": 512,
    "rope_base": 10_000.0,
    "attention_qk_norm": True,
    "scale_codebook_embeddings": True,
    "n_fast_layer": 2,
    "fast_dim": 32,
    "fast_n_head": 2,
    "fast_n_local_heads": 1,
    "fast_head_dim": 16,
    "fast_intermediate_size": 64,
    "fast_attention_qk_norm": False,
}
"""`config.json` of the smallest transformer; any of its keys can be overridden."""

_WINDOW = WindowConfig(dim=32, n_layer=1, n_head=2, head_dim=16, intermediate_size=64, window=6)

TINY_CODEC: dict[str, Any] = {
    "sample_rate_hz": 8000,
    "encoder_dim": 8,
    "encoder_rates": (4, 5),
    "encoder_transformer_layers": (0, 0),
    "latent_dim": 32,
    "decoder_dim": 32,
    "decoder_rates": (5, 4),
    "downsample_factor": (2, 2),
    "semantic_codebook_size": 64,
    "residual_codebooks": 3,
    "residual_codebook_size": 64,
    "pre": _WINDOW,
    "post": _WINDOW,
}
"""Arguments of the smallest CodecConfig: 80 samples a frame, 100 frames a second."""


def byte_tokenizer(codes: int, ranks: dict[bytes, int] | None = None) -> Tokenizer:
    """A tokenizer of plain bytes (or of `ranks`), the control tokens and `codes` semantic ones."""
    return Tokenizer(ranks or {bytes([i]): i for i in range(256)}, special_tokens(codes))


def special_tokens(codes: int) -> list[str]:
    """The small checkpoints' special tokens, in the order of their ids."""
    return [*CONTROL_TOKENS, *(f"<|semantic:{code}|>" for code in range(codes))]


def randomize_(module: nn.Module, seed: int) -> None:
    """Random weights that keep activations near 1 and leave no scale or bias at its default."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        randomize_weight_(name, weight, lambda shape: torch.randn(shape, generator=generator))


@torch.no_grad()
def randomize_weight_(
    name: str, weight: torch.Tensor, draw: Callable[[torch.Size], torch.Tensor]
) -> None:
    """Fill a weight, or some of its rows, as what its full name says it is.

    `draw` gives normally distributed numbers of a shape, a tensor that may be written to.
    """

    def fill(mean: float, std: float) -> None:
        weight.copy_(draw(weight.shape).mul_(std).add_(mean))

    kind = name.rpartition(".")[2]
    if kind == "bias":
        fill(0.0, 0.05)
    elif kind == "gamma":
        fill(0.5, 0.1)
    elif kind == "alpha":
        fill(1.0, 0.2)
        weight.copy_(weight.abs() + 0.1)
    elif weight.ndim == 1:
        fill(1.0, 0.2)
    elif "embeddings" in name or "codebook." in name:
        fill(0.0, 1.0 if "codebook." in name else 0.2)
    else:
        # A residual unit's last convolution and the waveform's own are quieter: otherwise
        # the codec's output would be clipped by its tanh, and its rounding errors large.
        pointwise = weight.ndim == 3 and weight.shape[-1] == 1 and "_proj" not in name
        gain = 0.3 if pointwise or weight.shape[0] == 1 else 1.0
        fill(0.0, gain / math.sqrt(weight[0].numel()))


def tiny_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    end_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    codec: dict[str, Any] | None = None,
    card: dict[str, Any] | None = None,
    ranks: dict[bytes, int] | None = None,
    **overrides: Any,
) -> Path:
    """Write a random checkpoint into `folder` and return it; load it with `load_checkpoint`.

    `overrides` are keys of `config.json`, `codec` of CodecConfig, `card` of CheckpointInfo. The
    same `seed` gives the same weights. `end_scale` scales the end token's embedding row: at 0 a
    greedy sequence never ends by itself.
    """
    config = DualARConfig.from_json({**TINY, **overrides})
    books = {
        "semantic_codebook_size": config.codebook_size,
        "residual_codebooks": config.num_codebooks - 1,
        "residual_codebook_size": config.residual_codebook_size,
    }
    codec_config = CodecConfig(**{**TINY_CODEC, **books, **(codec or {})})
    tokenizer = byte_tokenizer(config.codebook_size, ranks)
    model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
    randomize_(model, seed)
    with torch.no_grad():
        model.embeddings.weight[tokenizer.im_end_id] *= end_scale
    dac = DAC(codec_config)
    randomize_(dac, seed + 1)
    described = CheckpointInfo.from_json({"name": "tiny", "languages": ["en"], **(card or {})})
    save_checkpoint(
        folder, Checkpoint(described, config, codec_config, tokenizer, model, dac), dtype
    )
    return folder
