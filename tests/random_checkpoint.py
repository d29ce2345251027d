"""`python -m tests.random_checkpoint OUT_DIR`: a checkpoint of real size whose weights are random.

It has the shapes of openaudio-s1-mini and of the codec that every Fish Speech checkpoint uses, in
our own layout, so that memory and speed can be measured without the gated weights. What it says is
noise. Weights are made and written piece by piece: writing takes little memory. Random numbers are
drawn once and used again elsewhere: drawing 1.1 billion of them takes longer than all else.
"""

import argparse
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from backend.model.config import CheckpointInfo, CodecConfig, DualARConfig
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from tests.tiny import byte_tokenizer, randomize_weight_

S1_MINI: dict[str, Any] = {
    "model_type": "dual_ar",
    "dim": 1024,
    "n_layer": 28,
    "n_head": 16,
    "n_local_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 155_776,
    "codebook_size": 4096,
    "num_codebooks": 10,
    "max_seq_len": 8192,
    "rope_base": 1_000_000.0,
    "norm_eps": 1e-6,
    "attention_qk_norm": True,
    "scale_codebook_embeddings": True,
    "n_fast_layer": 4,
    "fast_dim": 1024,
    "fast_n_head": 16,
    "fast_n_local_heads": 8,
    "fast_head_dim": 64,
    "fast_intermediate_size": 3072,
    "fast_attention_qk_norm": False,
}
"""`config.json` of openaudio-s1-mini; any of its keys can be overridden."""

_PIECE_ELEMENTS = 1 << 22
_SAFETENSORS_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def random_checkpoint(
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
    end_scale: float = 0.0,
    codec: CodecConfig | None = None,
    **overrides: Any,
) -> Path:
    """Write a random checkpoint into `folder` and return it.

    `overrides` are keys of `config.json`. `end_scale` scales the end token's embedding row; at 0
    speech practically never ends by itself, so that its length is the caller's to choose.
    """
    config = DualARConfig.from_json({**S1_MINI, **overrides})
    codec = codec or CodecConfig()
    tokenizer = byte_tokenizer(config.codebook_size)
    folder.mkdir(parents=True, exist_ok=True)
    card = CheckpointInfo(name=f"random-{folder.name}", description="Random weights: noise.")
    for name, part in (("config", config), ("codec", codec), ("shoal", card)):
        (folder / f"{name}.json").write_text(json.dumps(part.to_json(), indent=2) + "\n", "utf-8")
    tokenizer.to_folder(folder)
    with torch.device("meta"):
        model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        dac = DAC(codec)
    quiet = {"embeddings.weight": (tokenizer.im_end_id, end_scale)}
    _write(folder / "model.safetensors", model, dtype, seed, quiet)
    _write(folder / "codec.safetensors", dac, dtype, seed + 1, {})
    return folder


def _write(
    path: Path,
    module: nn.Module,
    dtype: torch.dtype,
    seed: int,
    scaled_rows: dict[str, tuple[int, float]],
) -> None:
    """A safetensors file of `module`'s parameters, of which only the shapes are looked at.

    `scaled_rows` names a row of a parameter and what to multiply it by.
    """
    parameters = dict(module.named_parameters())
    noise = _Noise(seed, max(weight.numel() for weight in parameters.values()))
    with path.open("wb") as file:
        _write_header(file, parameters, dtype)
        for name, like in parameters.items():
            row, factor = scaled_rows.get(name, (-1, 1.0))
            for begin, piece in _pieces(name, like.shape, noise):
                if begin <= row < begin + piece.shape[0]:
                    piece[row - begin] *= factor
                file.write(piece.to(dtype).view(torch.uint8).numpy().data)


def _write_header(file: BinaryIO, parameters: dict[str, nn.Parameter], dtype: torch.dtype) -> None:
    header, offset = {}, 0
    for name, like in parameters.items():
        end = offset + like.numel() * dtype.itemsize
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[dtype],
            "shape": list(like.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    file.write(struct.pack("<Q", len(text)) + text)


class _Noise:
    """Normally distributed numbers: a stretch of the same few million for each piece of a weight.

    Each stretch begins elsewhere and is a little louder or quieter than the others, so that no two
    rows of a weight are the same.
    """

    def __init__(self, seed: int, largest_weight: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        count = min(largest_weight, 4 * _PIECE_ELEMENTS)
        self._numbers = torch.randn(count, generator=self._generator)

    def draw(self, shape: torch.Size) -> Tensor:
        """As many of them as `shape` has, at most a piece."""
        count = math.prod(shape)
        begins = len(self._numbers) - count + 1
        begin = int(torch.randint(begins, (), generator=self._generator))
        gain = 0.95 + 0.1 * torch.rand((), generator=self._generator).item()
        return self._numbers[begin : begin + count].view(shape) * gain


def _pieces(name: str, shape: torch.Size, noise: _Noise) -> Iterator[tuple[int, Tensor]]:
    """A random weight in pieces of whole rows, each with its first row's number."""
    rows = max(1, _PIECE_ELEMENTS * shape[0] // shape.numel())
    for begin in range(0, shape[0], rows):
        piece = torch.empty(min(rows, shape[0] - begin), *shape[1:])
        randomize_weight_(name, piece, noise.draw)
        yield begin, piece


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--layers", type=int, default=S1_MINI["n_layer"], help="slow layers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = random_checkpoint(
        arguments.out_dir,
        dtype=DTYPES[arguments.dtype],
        seed=arguments.seed,
        n_layer=arguments.layers,
    )
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
