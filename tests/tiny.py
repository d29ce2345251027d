"""A checkpoint small enough for any test: random weights, real formats, our own layout."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from backend.bench.random_checkpoint import byte_tokenizer, randomize_weight_
from backend.model.checkpoint import Checkpoint, save_checkpoint
from backend.model.config import CheckpointInfo, CodecConfig, DualARConfig, WindowConfig
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR

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


def randomize_(module: nn.Module, seed: int) -> None:
    """Random weights that keep activations near 1 and leave no scale or bias at its default."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        randomize_weight_(name, weight, lambda shape: torch.randn(shape, generator=generator))


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
