"""Weights that are still in their files: listed by our names, each read when it is wanted.

So a checkpoint can be loaded tensor by tensor, and memory never holds a second copy of it. What is
read may be part of the mapped file: copy it and let go of it, or the mapping stays in memory.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from backend.core import MIB
from backend.errors import BadCheckpoint
from backend.model.config import DualARConfig

_COMPUTED = ("freqs_cis", "fast_freqs_cis", "causal_mask", "k_cache", "v_cache")
"""Buffers the package may save and we compute: ignored by the last part of their name."""

_NORM_PARTS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)
"""Suffixes of weight norm's magnitude and direction, as new and as old torch save them."""

_REMAP_BYTES = 128 * MIB
"""A .pth file is mapped as one: after this much was read, it is mapped anew, so that what was read
before leaves memory."""


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """A tensor that is still in its file."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    """On the CPU, in the type it is stored in; BadCheckpoint where the file cannot be read."""


Weights = dict[str, StoredWeight]


def open_weights(folder: Path, name: str) -> Weights:
    """What `name`.safetensors holds, or else `name`.pth; BadCheckpoint says why it cannot be read.

    Nothing is unpickled but plain tensors.
    """
    safe, torch_file = folder / f"{name}.safetensors", folder / f"{name}.pth"
    if safe.exists():
        with _reading(safe), safe_open(safe, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        return {key: StoredWeight(s, partial(_read_safe, safe, key)) for key, s in shapes.items()}
    if not torch_file.exists():
        raise BadCheckpoint(f"{folder} holds neither {safe.name} nor {torch_file.name}")
    return _TorchFile(torch_file).weights()


def transformer_weights(raw: Weights, config: DualARConfig) -> Weights:
    """The transformer's weights by our names: attention in one piece, nothing that is not used."""
    if any(key.startswith("model.") for key in raw):
        raw = {key.removeprefix("model."): value for key, value in raw.items()}
    weights = {}
    for key, value in raw.items():
        if "audio_" in key or key.rpartition(".")[2] in _COMPUTED:
            continue
        if key == "output.weight" and config.tie_word_embeddings:
            continue
        stem, _, last = key.rpartition(".")
        if stem.endswith((".wq", ".wk", ".wv")):
            parts = [raw.get(f"{stem[:-1]}{letter}.{last}") for letter in "qkv"]
            whole = _joined([part for part in parts if part is not None], 3)
            if whole is not None:
                weights[f"{stem[:-1]}qkv.{last}"] = whole
                continue
        weights[key] = value
    return weights


def codec_weights(raw: Weights) -> Weights:
    """The codec's weights by our names, weight norm folded."""
    if any("generator." in key for key in raw):
        raw = {k.replace("generator.", ""): v for k, v in raw.items() if "generator." in k}
    weights = {k: v for k, v in raw.items() if k.rpartition(".")[2] not in _COMPUTED}
    for magnitude_suffix, direction_suffix in _NORM_PARTS:
        for key in [key for key in weights if key.endswith(magnitude_suffix)]:
            stem = key.removesuffix(magnitude_suffix)
            if stem + direction_suffix in weights:
                magnitude, direction = weights.pop(key), weights.pop(stem + direction_suffix)
                folded = partial(_fold, magnitude.read, direction.read)
                weights[f"{stem}.weight"] = StoredWeight(direction.shape, folded)
    return weights


def fill_(
    module: nn.Module,
    name: str,
    weights: Weights,
    device: torch.device | str,
    dtype: torch.dtype,
) -> None:
    """Read the weights of `module`, whose full name is `name` ("" for a whole), one by one."""
    # Always a copy: what was read may be a part of the file.
    _set_(module, name, weights, lambda stored: stored.to(device, dtype, copy=True))


def lend_(module: nn.Module, name: str, weights: Weights) -> None:
    """Let `module` use its weights as they are stored, perhaps in their file: copy them at once."""
    _set_(module, name, weights, lambda stored: stored)


def _set_(module: nn.Module, name: str, weights: Weights, made: Callable[[Tensor], Tensor]) -> None:
    """Give `module` what is `made` of each of its weights as it was read."""
    prefix = f"{name}." if name else ""
    for key in module.state_dict():
        parent, _, last = key.rpartition(".")
        value = made(weights[prefix + key].read())
        setattr(module.get_submodule(parent), last, nn.Parameter(value, requires_grad=False))


def mismatches(wanted: Mapping[str, Tensor], found: Weights) -> Iterator[str]:
    """What is missing, unexpected or of another shape, one phrase each."""
    for key in sorted(wanted.keys() - found.keys()):
        yield f"missing {key} {tuple(wanted[key].shape)}"
    for key in sorted(found.keys() - wanted.keys()):
        yield f"unexpected {key} {found[key].shape}"
    for key in sorted(wanted.keys() & found.keys()):
        if tuple(wanted[key].shape) != found[key].shape:
            yield f"{key} is {found[key].shape}, not {tuple(wanted[key].shape)}"


def _joined(parts: list[StoredWeight], count: int) -> StoredWeight | None:
    """`count` parts laid below one another; None where some are missing or of another width."""
    if len(parts) != count or len({part.shape[1:] for part in parts}) != 1:
        return None
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return StoredWeight(shape, lambda: torch.cat([part.read() for part in parts]))


def _fold(magnitude: Callable[[], Tensor], direction: Callable[[], Tensor]) -> Tensor:
    """Weight norm over all but the first dimension; float32, so that nothing more is rounded."""
    vectors = direction().float()
    dims = tuple(range(1, vectors.ndim))
    norm = torch.linalg.vector_norm(vectors, dim=dims, keepdim=True)
    return cast(Tensor, vectors * (magnitude().float() / norm))


def _read_safe(path: Path, key: str) -> Tensor:
    # Opened for each tensor (0.2 ms): the mapping goes when its tensor does.
    with _reading(path), safe_open(path, framework="pt") as file:
        return cast(Tensor, file.get_tensor(key))


class _TorchFile:
    """A state dict that torch wrote. The older kind cannot be mapped and is held whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _reading(path):
            self._is_mapped = zipfile.is_zipfile(path)
        self._tensors = self._load()
        self._read_bytes = 0

    def weights(self) -> Weights:
        return {
            key: StoredWeight(tuple(tensor.shape), partial(self._read, key))
            for key, tensor in self._tensors.items()
        }

    def _read(self, key: str) -> Tensor:
        if self._is_mapped and self._read_bytes > _REMAP_BYTES:
            self._tensors = self._load()
            self._read_bytes = 0
        tensor = self._tensors[key]
        self._read_bytes += tensor.nbytes
        return tensor

    def _load(self) -> dict[str, Tensor]:
        path = self._path
        with _reading(path):
            raw = torch.load(path, map_location="cpu", weights_only=True, mmap=self._is_mapped)
        if isinstance(raw, Mapping) and isinstance(raw.get("state_dict"), Mapping):
            raw = raw["state_dict"]
        if not isinstance(raw, Mapping):
            raise BadCheckpoint(f"{path} does not hold a state dict")
        return {str(k): v for k, v in raw.items() if isinstance(v, Tensor)}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise BadCheckpoint(f"{path} cannot be read as weights: {error}") from error
