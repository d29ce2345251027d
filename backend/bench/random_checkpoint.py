"""`python -m backend.bench.random_checkpoint DIR`: a checkpoint of real size with random weights.

It has the shapes of openaudio-s1-mini and of the codec that every Fish Speech checkpoint uses, in
our own layout, so that memory and speed can be measured without the gated weights. What it says is
noise, but speech: other tokens are all but never likely, so that the published package, which looks
at every row of the vocabulary, can speak it as well. Weights are made and written piece
by piece: writing takes little memory. Random numbers are drawn once and used again elsewhere:
drawing 1.1 billion of them takes longer than all else.
"""

import argparse
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from backend.bench.messages import RANDOM_PREFIX
from backend.model.config import CheckpointInfo, CodecConfig, DualARConfig
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
"""What random checkpoints know beside text and semantic tokens."""

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

_SILENT_SCALE = 0.02
"""Of the embeddings of tokens that are no speech. Head and embeddings are the same matrix, so their
logits lie so much closer to 0 than the largest ones of speech."""
_PIECE_ELEMENTS = 1 << 22
_SAFETENSORS_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def byte_tokenizer(codes: int, ranks: dict[bytes, int] | None = None) -> Tokenizer:
    """A tokenizer of plain bytes (or of `ranks`), the control tokens and `codes` semantic ones."""
    return Tokenizer(ranks or {bytes([i]): i for i in range(256)}, special_tokens(codes))


def special_tokens(codes: int) -> list[str]:
    """The small checkpoints' special tokens, in the order of their ids."""
    return [*CONTROL_TOKENS, *(f"<|semantic:{code}|>" for code in range(codes))]


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
    card = CheckpointInfo(
        name=f"{RANDOM_PREFIX}{folder.name}", description="Random weights: noise."
    )
    for name, part in (("config", config), ("codec", codec), ("shoal", card)):
        (folder / f"{name}.json").write_text(json.dumps(part.to_json(), indent=2) + "\n", "utf-8")
    tokenizer.to_folder(folder)
    with torch.device("meta"):
        model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        dac = DAC(codec)
    loudness = torch.full((config.vocab_size, 1), _SILENT_SCALE)
    begin = tokenizer.semantic_begin_id
    loudness[begin : begin + config.codebook_size] = 1.0
    loudness[tokenizer.im_end_id] = end_scale
    _write(folder / "model.safetensors", model, dtype, seed, {"embeddings.weight": loudness})
    _write(folder / "codec.safetensors", dac, dtype, seed + 1, {})
    return folder


@torch.no_grad()
def randomize_weight_(name: str, weight: Tensor, draw: Callable[[torch.Size], Tensor]) -> None:
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


def _write(
    path: Path,
    module: nn.Module,
    dtype: torch.dtype,
    seed: int,
    row_scales: dict[str, Tensor],
) -> None:
    """A safetensors file of `module`'s parameters, of which only the shapes are looked at.

    `row_scales` has what to multiply each row of a parameter by, [rows, 1].
    """
    parameters = dict(module.named_parameters())
    noise = _Noise(seed, max(weight.numel() for weight in parameters.values()))
    with path.open("wb") as file:
        _write_header(file, parameters, dtype)
        for name, like in parameters.items():
            scales = row_scales.get(name)
            for begin, piece in _pieces(name, like.shape, noise):
                if scales is not None:
                    piece.mul_(scales[begin : begin + len(piece)])
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
