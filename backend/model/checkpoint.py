"""Read and write checkpoint folders. Loading runs no code from them.

Two layouts are read. The official one (`openaudio-s1-mini`): `config.json`, `model.pth`,
`codec.pth`. Our own: `config.json`, `codec.json`, `shoal.json`, `model.safetensors`,
`codec.safetensors`. Both hold `tokenizer.tiktoken` and `special_tokens.json`; an official folder
may hold our two JSON files as well.
"""

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backend.errors import BadCheckpoint
from backend.model.config import CheckpointCard, CodecConfig, DualARConfig
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.layers import lay_out_for_cpu_
from backend.model.tokenizer import Tokenizer

Module = TypeVar("Module", bound=nn.Module)

_COMPUTED = ("freqs_cis", "fast_freqs_cis", "causal_mask", "k_cache", "v_cache")
"""Buffers the package may save and we compute: ignored by the last part of their name."""

_NORM_PARTS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)
"""Suffixes of weight norm's magnitude and direction, as new and as old torch save them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint, ready to generate."""

    card: CheckpointCard
    config: DualARConfig
    codec_config: CodecConfig
    tokenizer: Tokenizer
    model: DualAR
    codec: DAC

    @property
    def parameters(self) -> int:
        """Weights of transformer and codec."""
        modules = (self.model, self.codec)
        return sum(p.numel() for module in modules for p in module.parameters())

    @property
    def weight_bytes(self) -> int:
        """Bytes those weights take in memory."""
        modules = (self.model, self.codec)
        return sum(p.nbytes for module in modules for p in module.parameters())


def load_checkpoint(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    codec_dtype: torch.dtype | None = None,
) -> Checkpoint:
    """Load the checkpoint in `folder`; BadCheckpoint says everything that is wrong with it."""
    if not folder.is_dir():
        raise BadCheckpoint(f"there is no checkpoint folder {folder}")
    config = DualARConfig.from_json(_read_json(folder / "config.json"))
    codec_file, card_file = folder / "codec.json", folder / "shoal.json"
    codec_config = CodecConfig()
    if codec_file.exists():
        codec_config = CodecConfig.from_json(_read_json(codec_file))
    card = CheckpointCard(name=folder.name)
    if card_file.exists():
        card = CheckpointCard.from_json(_read_json(card_file))
    tokenizer = Tokenizer.from_folder(folder)
    _check_sizes(config, codec_config, tokenizer)

    with torch.device("meta"):
        model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        codec = DAC(codec_config)
    _fill(
        model, "model", _transformer_weights(_read_weights(folder, "model"), config), device, dtype
    )
    codec_weights = _codec_weights(_read_weights(folder, "codec"))
    _fill(codec, "codec", codec_weights, device, codec_dtype or dtype)
    model.freeze_head_()
    if torch.device(device).type == "cpu":
        lay_out_for_cpu_(model)
    return Checkpoint(card, config, codec_config, tokenizer, model.eval(), codec.eval())


def save_checkpoint(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Write a folder of our own layout, weights as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (
        ("config", checkpoint.config),
        ("codec", checkpoint.codec_config),
        ("shoal", checkpoint.card),
    ):
        text = json.dumps(part.to_json(), indent=2) + "\n"
        (folder / f"{name}.json").write_text(text, "utf-8")
    checkpoint.tokenizer.to_folder(folder)
    for name, module in (("model", checkpoint.model), ("codec", checkpoint.codec)):
        tensors = {
            k: v.detach().to("cpu", dtype).contiguous() for k, v in module.state_dict().items()
        }
        save_file(tensors, folder / f"{name}.safetensors")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path} must hold a JSON object")
    return value


def _check_sizes(config: DualARConfig, codec: CodecConfig, tokenizer: Tokenizer) -> None:
    problems = []
    if tokenizer.vocab_size > config.vocab_size:
        problems.append(f"{tokenizer.vocab_size} token ids for a vocabulary of {config.vocab_size}")
    if tokenizer.semantic_tokens < config.codebook_size:
        problems.append(
            f"{tokenizer.semantic_tokens} semantic tokens for a code book of {config.codebook_size}"
        )
    if config.num_codebooks != codec.num_codebooks:
        problems.append(
            f"{config.num_codebooks} code books in config.json, {codec.num_codebooks} in the codec"
        )
    if config.codebook_size != codec.semantic_codebook_size:
        problems.append(
            f"a code book of {config.codebook_size} in config.json, "
            f"of {codec.semantic_codebook_size} in the codec"
        )
    if problems:
        raise BadCheckpoint("the checkpoint's files do not fit together: " + "; ".join(problems))


def _read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    safe, torch_file = folder / f"{name}.safetensors", folder / f"{name}.pth"
    path = safe if safe.exists() else torch_file
    if not path.exists():
        raise BadCheckpoint(f"{folder} holds neither {safe.name} nor {torch_file.name}")
    try:
        if path == safe:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise BadCheckpoint(f"{path} cannot be read as weights: {error}") from error
    if isinstance(raw, Mapping) and isinstance(raw.get("state_dict"), Mapping):
        raw = raw["state_dict"]
    if not isinstance(raw, Mapping):
        raise BadCheckpoint(f"{path} does not hold a state dict")
    return {str(k): v for k, v in raw.items() if isinstance(v, Tensor)}


def _transformer_weights(raw: dict[str, Tensor], config: DualARConfig) -> dict[str, Tensor]:
    if any(key.startswith("model.") for key in raw):
        raw = {key.removeprefix("model."): value for key, value in raw.items()}
    weights = {}
    for key, value in raw.items():
        if "audio_" in key or key.rpartition(".")[2] in _COMPUTED:
            continue
        if key == "output.weight" and config.tie_word_embeddings:
            continue
        stem, _, last = key.rpartition(".")
        if stem.endswith((".wk", ".wv")) and f"{stem[:-1]}q.{last}" in raw:
            continue
        if stem.endswith(".wq"):
            parts = [raw.get(f"{stem[:-1]}{letter}.{last}") for letter in "qkv"]
            present = [part for part in parts if part is not None]
            if len(present) == len(parts):
                weights[f"{stem[:-1]}qkv.{last}"] = torch.cat(present)
                continue
        weights[key] = value
    return weights


def _codec_weights(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    if any("generator." in key for key in raw):
        raw = {k.replace("generator.", ""): v for k, v in raw.items() if "generator." in k}
    weights = {k: v for k, v in raw.items() if k.rpartition(".")[2] not in _COMPUTED}
    for magnitude_suffix, direction_suffix in _NORM_PARTS:
        for key in [key for key in weights if key.endswith(magnitude_suffix)]:
            stem = key.removesuffix(magnitude_suffix)
            if stem + direction_suffix in weights:
                magnitude, direction = weights.pop(key), weights.pop(stem + direction_suffix)
                weights[f"{stem}.weight"] = _fold(magnitude, direction)
    return weights


def _fold(magnitude: Tensor, direction: Tensor) -> Tensor:
    """Weight norm over all but the first dimension; float32, so that nothing more is rounded."""
    dims = tuple(range(1, direction.ndim))
    norm = torch.linalg.vector_norm(direction.float(), dim=dims, keepdim=True)
    return cast(Tensor, direction.float() * (magnitude.float() / norm))


def _fill(
    module: Module,
    name: str,
    weights: dict[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
) -> Module:
    problems = list(_mismatches(dict(module.state_dict()), weights))
    if problems:
        raise BadCheckpoint(f"the {name} weights do not fit: " + "; ".join(problems))
    # One by one, so that the file's and the wanted form of a single weight stand side by side.
    for key in list(weights):
        weights[key] = weights[key].to(device, dtype)
    module.load_state_dict(weights, assign=True)
    # Afterwards: `assign` gives each new parameter the requires_grad of the one it replaces.
    return module.requires_grad_(False)


def _mismatches(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> Iterator[str]:
    for key in sorted(wanted.keys() - found.keys()):
        yield f"missing {key} {tuple(wanted[key].shape)}"
    for key in sorted(found.keys() - wanted.keys()):
        yield f"unexpected {key} {tuple(found[key].shape)}"
    for key in sorted(wanted.keys() & found.keys()):
        if wanted[key].shape != found[key].shape:
            yield f"{key} is {tuple(found[key].shape)}, not {tuple(wanted[key].shape)}"
