"""Our own checkpoint layout to the official one, which is all that the package reads.

A conversion is made once and kept until the checkpoint changes. It appears whole or not at all.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backend.errors import BadCheckpoint

WEIGHTS = ("model", "codec")
_NORMED = ("encoder.", "decoder.")


def official_folder(folder: Path, converted: Path) -> Path:
    """`folder` itself where the package reads it, else its conversion under `converted`.

    Raises `BadCheckpoint` where something is missing or cannot be read, or there is no room.
    """
    if not folder.is_dir():
        raise BadCheckpoint(f"there is no checkpoint folder {folder}")
    lacking = [name for name in WEIGHTS if _weights_file(folder, name) is None]
    if lacking:
        names = " and ".join(lacking)
        raise BadCheckpoint(f"{folder} holds no weights for {names}, .safetensors or .pth")
    if not any((folder / f"{name}.safetensors").exists() for name in WEIGHTS):
        return folder
    source = _digest(str(folder.resolve()))
    target = converted / f"{source}-{_state(folder)}"
    if target.is_dir():
        return target
    try:
        converted.mkdir(parents=True, exist_ok=True)
        _convert_whole(folder, target)
    except (SafetensorError, OSError, RuntimeError) as error:
        if not target.is_dir():  # else another worker was quicker
            raise BadCheckpoint(f"{folder} cannot be converted for fish-speech: {error}") from error
    for older in converted.glob(f"{source}-*"):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)  # on Windows one may be in use
    return target


def norm_names(key: str) -> tuple[str, str] | None:
    """Names of a convolution's magnitude and direction, where the package normalises weight `key`.

    None where it does not.
    """
    if key.endswith(("in_proj.weight", "out_proj.weight")):
        return f"{key}_g", f"{key}_v"
    if key.endswith(".conv.weight") and key.startswith(_NORMED):
        stem = key.removesuffix("weight") + "parametrizations.weight"
        return f"{stem}.original0", f"{stem}.original1"
    return None


def split_norms(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A codec's folded weights in float32 as the package holds them: magnitude and direction."""
    for key, value in weights.items():
        names = norm_names(key)
        weight = value.float()
        if names is None:
            yield key, weight
            continue
        dims = tuple(range(1, weight.ndim))
        yield names[0], torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
        yield names[1], weight


def _convert_whole(folder: Path, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}.unfinished-", dir=target.parent))
    try:
        for file in (*folder.glob("*.json"), folder / "tokenizer.tiktoken"):
            shutil.copyfile(file, scratch / file.name)
        for name in WEIGHTS:
            _convert(folder, name, scratch / f"{name}.pth")
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _convert(folder: Path, name: str, target: Path) -> None:
    source = _weights_file(folder, name)
    assert source is not None
    if source.suffix == ".pth":
        shutil.copyfile(source, target)
        return
    weights = load_file(source)
    torch.save(dict(split_norms(weights)) if name == "codec" else weights, target)


def _weights_file(folder: Path, name: str) -> Path | None:
    files = (folder / f"{name}{suffix}" for suffix in (".safetensors", ".pth"))
    return next((file for file in files if file.is_file()), None)


def _state(folder: Path) -> str:
    """Changes whenever a file of the folder does."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    told = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return _digest(repr(told))


def _digest(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=6).hexdigest()
