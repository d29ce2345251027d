"""Writes random checkpoints in the official layout, in each form that such files come in."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.bench.random_checkpoint import byte_tokenizer
from backend.fish_worker.convert import norm_names
from backend.model.config import CodecConfig, DualARConfig, WindowConfig
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.layers import rope_table
from backend.model.stream import WindowTransformer
from tests.tiny import randomize_

POSITIONS = 2048
"""Length of the tables in a small codec's file (the official one has 4,096 and 16,384)."""

ILLEGAL_SCALE, END_SCALE = 1e-3, 0.05
"""The package's head may choose any token: with these rows a greedy one is always semantic."""


@dataclass(frozen=True)
class Form:
    """How a checkpoint's files are written."""

    lightning: bool = False  # under "state_dict", with "model." before every key
    split_qkv: bool = False  # wq, wk and wv apart
    extra_audio: bool = False  # weights of an audio encoder that nobody uses
    generator: bool = False  # "generator." before every key of the codec
    codec_tables: bool = True  # the codec's persistent buffers
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Official:
    """A checkpoint in the official layout; `codec` None means the package's own shape."""

    name: str
    config: dict[str, Any]
    codec: CodecConfig | None = None
    form: Form = field(default_factory=Form)
    seed: int = 0

    def write(self, folder: Path, ranks: dict[bytes, int]) -> Path:
        """Write the folder and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config), "utf-8")
        config = DualARConfig.from_json(self.config)
        tokenizer = byte_tokenizer(config.codebook_size, ranks)
        tokenizer.to_folder(folder)
        model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        randomize_(model, self.seed)
        _quieten_illegal_(model)
        torch.save(transformer_file(model, self.form), folder / "model.pth")
        if self.codec is not None:
            (folder / "codec.json").write_text(json.dumps(self.codec.to_json()), "utf-8")
        dac = DAC(self.codec or CodecConfig())
        randomize_(dac, self.seed + 1)
        torch.save(codec_file(dac, self.form, self.seed), folder / "codec.pth")
        return folder


def _quieten_illegal_(model: DualAR) -> None:
    head = model.embeddings if model.config.tie_word_embeddings else model.output
    scale = torch.full((model.config.vocab_size, 1), ILLEGAL_SCALE)
    begin = model.semantic_begin_id
    scale[begin : begin + model.config.codebook_size] = 1.0
    scale[model.end_id] = END_SCALE
    with torch.no_grad():
        head.weight *= scale


def transformer_file(model: DualAR, form: Form) -> dict[str, Any]:
    """What `model.pth` holds."""
    state = {key: value.to(form.dtype) for key, value in model.state_dict().items()}
    if form.split_qkv:
        state = dict(_split(state, model.config))
    if form.extra_audio:
        state["audio_projector.weight"] = torch.zeros(4, 4)
        state["embed_audio_in.bias"] = torch.zeros(4)
    if form.lightning:
        return {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 3}
    return state


def _split(state: dict[str, Tensor], config: DualARConfig) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if not key.endswith("wqkv.weight"):
            yield key, value
            continue
        part = config.fast if key.startswith("fast_") else config.slow
        widths = [part.n_head, part.n_local_heads, part.n_local_heads]
        pieces = torch.split(value, [width * part.head_dim for width in widths])
        for letter, piece in zip("qkv", pieces, strict=True):
            yield key.replace("wqkv", f"w{letter}"), piece.clone()


def codec_file(dac: DAC, form: Form, seed: int) -> dict[str, Tensor]:
    """What `codec.pth` holds: convolutions with weight norm, in the two ways torch writes it."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, value in dac.state_dict().items():
        names = norm_names(key)
        if names is None:
            state[key] = value.to(form.dtype)
            continue
        # The direction's own length means nothing: give it one that folding must undo.
        dims = tuple(range(1, value.ndim))
        stretch = torch.rand(value.shape[:1] + (1,) * len(dims), generator=generator) + 0.5
        state[names[0]] = torch.linalg.vector_norm(value, dim=dims, keepdim=True).to(form.dtype)
        state[names[1]] = (value * stretch).to(form.dtype)
    if form.codec_tables:
        state |= dict(_tables(dac))
    if form.generator:
        return {f"generator.{key}": value for key, value in state.items()}
    return state


def _tables(dac: DAC) -> Iterator[tuple[str, Tensor]]:
    for name, module in dac.named_modules():
        if isinstance(module, WindowTransformer):
            # The oracle checks that these are the package's own tables.
            positions, shape = torch.arange(POSITIONS), module.config
            table = rope_table(positions, shape.head_dim, shape.rope_base)
            yield f"{name}.freqs_cis", table.to(torch.bfloat16)
            mask = torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).tril()
            yield f"{name}.causal_mask", mask


def table_names(codec: CodecConfig | None) -> list[str]:
    """Names of the buffers above."""
    with torch.device("meta"):
        dac = DAC(codec or CodecConfig())
    modules = [n for n, module in dac.named_modules() if isinstance(module, WindowTransformer)]
    return [f"{name}.{table}" for name in modules for table in ("freqs_cis", "causal_mask")]


def small_codec(config: dict[str, Any]) -> CodecConfig:
    """A codec of few weights with everything in it, for a transformer's code books.

    A transformer in the encoder; a pre module of another width than the latents, a post module of
    the same; windows shorter than the audio; latents of another width than the encoder's last.
    """
    return CodecConfig(
        sample_rate_hz=22_050,
        encoder_dim=16,
        encoder_rates=(2, 4, 5),
        encoder_transformer_layers=(0, 0, 2),
        latent_dim=96,
        decoder_dim=64,
        decoder_rates=(5, 4, 2),
        downsample_factor=(2, 2),
        semantic_codebook_size=config["codebook_size"],
        residual_codebooks=config["num_codebooks"] - 1,
        residual_codebook_size=min(config["codebook_size"], 1024),
        pre=WindowConfig(64, 2, 4, 16, 96, window=8),
        post=WindowConfig(96, 3, 3, 32, 160, window=12),
    )


def speechlike(rate_hz: int, seconds: float, seed: int) -> Tensor:
    """Audio [1, samples]: a gliding, gated buzz with noise, neither silent nor periodic."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(round(rate_hz * seconds)) / rate_hz
    pitch = 120 + 40 * torch.sin(2 * math.pi * 1.3 * t) + 15 * torch.sin(2 * math.pi * 5.1 * t)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / rate_hz
    buzz = sum(torch.sin(k * phase) / k for k in range(1, 12))
    gate = torch.sigmoid(8 * torch.sin(2 * math.pi * 3.7 * t))
    noise = torch.randn(t.shape, generator=generator)
    return (0.25 * (buzz * gate + 0.2 * noise * (1.2 - gate)))[None].float()
