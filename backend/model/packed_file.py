"""A transformer as it was quantized and packed once, kept on disk for the next start.

The file is mapped: what a frame reads of it is in memory, and of the embeddings only the rows that
were asked for; where memory is short, the system may drop what it can read again.
"""

import contextlib
import copy
import json
import os
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from loguru import logger
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from backend.core import QualityCost, Quantization
from backend.model.dual_ar import DualAR
from backend.model.packed import PackedLinear
from backend.model.quantize import held_in, linears, replace_
from backend.native.pool import NativePool

_LAYOUT = 4
"""Of the file, and of packed matrices: another number where either changes."""
_LENGTH = struct.Struct("<Q")
_HEADER_BYTES = 192
"""Of a file's header for each tensor, at most."""
_ALIGNED_BYTES = 64
_TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}
_KEPT, _KEPT_COSTS = 2, 16
"""Files that a folder holds: a transformer is half a gigabyte and more, a cost a line."""


def packed_path(
    folder: Path, fingerprint: str, dtype: torch.dtype, quantization: Quantization
) -> Path:
    """Where in `folder` the transformer of the checkpoint of that `packed_fingerprint` is kept,
    held so."""
    parts = (fingerprint, str(dtype).removeprefix("torch."), quantization)
    return folder / f"{'-'.join(parts)}-v{_LAYOUT}.safetensors"


def write_packed(parts: Iterable[Mapping[str, Tensor]], keys: int, path: Path) -> bool:
    """Keep a model that is packed part by part, of which no more than one is ever in memory.

    `parts` are made as they are asked for, at most `keys` tensors in all. False where they could
    not be written, which is one warning.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file, ThreadPoolExecutor(1) as syncing:
            _write(parts, keys, file, syncing)
        partial.replace(path)
        _prune(path.parent, "*.safetensors", _KEPT)
    except OSError as error:
        logger.warning("Packed weights are not kept for the next start: {}", error)
        partial.unlink(missing_ok=True)
        return False
    return True


def _write(
    parts: Iterable[Mapping[str, Tensor]], keys: int, file: BinaryIO, syncing: Executor
) -> None:
    """As the format safetensors says: a header's length, the header in JSON, then all tensors."""
    header: dict[str, Any] = {}
    room = -(-(_LENGTH.size + keys * _HEADER_BYTES) // _ALIGNED_BYTES) * _ALIGNED_BYTES
    file.seek(room)
    at = 0
    synced: Future[object] = syncing.submit(bool)
    for part in parts:
        for key, tensor in part.items():
            header[key] = {
                "dtype": _TYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [at, at + tensor.nbytes],
            }
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
            at += tensor.nbytes
        if synced.done():  # the disk takes what there is while more is packed
            file.flush()
            synced = syncing.submit(os.fsync, file.fileno())
    synced.result()
    text = json.dumps(header).encode().ljust(room - _LENGTH.size)
    if len(text) + _LENGTH.size > room:
        raise OSError(f"a header of {len(text)} bytes is larger than was expected")
    file.seek(0)
    file.write(_LENGTH.pack(len(text)) + text)
    file.flush()
    os.fsync(file.fileno())  # power may fail: no name before its contents


def read_packed(
    empty: DualAR, path: Path, quantization: Quantization, pool: NativePool
) -> DualAR | None:
    """What `path` keeps of a model like `empty`, which is on the meta device; None where nothing is
    kept, or nothing that can be used."""
    if not path.is_file():
        return None
    model = copy.deepcopy(empty)
    try:
        _fill(model, path, quantization, pool)
        os.utime(path)  # it is the last that was wanted
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        logger.warning("What was packed before cannot be used: {}", error)
        return None
    return model


def write_cost(cost: QualityCost, path: Path) -> None:
    """Keep what the quantization cost of the transformer that `path` is for, kept or not."""
    kept = _cost_path(path)
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(cost)), "utf-8")
        partial.replace(kept)
        _prune(kept.parent, f"*-v{_LAYOUT}.json", _KEPT_COSTS)


def read_cost(path: Path) -> QualityCost | None:
    """What `write_cost` kept; None where it was not measured."""
    try:
        return QualityCost(**json.loads(_cost_path(path).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _cost_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _fill(model: DualAR, path: Path, quantization: Quantization, pool: NativePool) -> None:
    with safe_open(path, framework="pt") as file:
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for name, linear in list(linears(model, "")):
        bits = held_in(name, quantization, model.config, is_packed=True)
        replace_(model, name, _packed(tensors, name, linear, bits, pool))
    head = nn.Linear(model.config.slow.dim, model.config.codebook_size + 1, device="meta")
    model.head = _packed(tensors, "head", head, 16, pool)
    for name, module in model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            found = tensors[f"{name}.{key}"]
            if found.shape != parameter.shape:
                raise ValueError(f"{name}.{key} is {tuple(found.shape)}")
            setattr(module, key, nn.Parameter(found, requires_grad=False))
    model.legal_head = torch.empty(0)


def _packed(
    tensors: dict[str, Tensor], name: str, linear: nn.Linear, bits: int | None, pool: NativePool
) -> PackedLinear:
    packed = tensors[f"{name}.packed"]
    return PackedLinear(
        packed,
        tensors.get(f"{name}.bias"),
        linear.out_features,
        linear.in_features,
        bits or 8 * packed.element_size(),
        pool,
    )


def _prune(folder: Path, files: str, kept: int) -> None:
    """Remove all of `files` but the last that were wanted."""
    by_age = sorted(folder.glob(files), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-kept]:
        old.unlink(missing_ok=True)
