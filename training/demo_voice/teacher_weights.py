"""The teacher's weights in one small file: matrices as bytes with scales, the rest as halves."""

import io
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight as (value - zero) * scale; one scale for all or one for each output channel."""

    value: NDArray[np.uint8]
    zero: NDArray[np.int16]
    scale: NDArray[np.float32]

    @staticmethod
    def of(value: NDArray, zero: NDArray, scale: NDArray) -> "Quantized":  # type: ignore[type-arg]
        """From ONNX's signed or unsigned bytes."""
        wide = value.astype(np.int16) - np.asarray(zero, np.int16)
        low = np.int16(wide.min())
        return Quantized(
            (wide - low).astype(np.uint8), np.asarray(-low), np.asarray(scale, np.float32)
        )

    def transposed(self) -> "Quantized":
        return Quantized(self.value.T, self.zero, self.scale)

    def dequantized(self) -> NDArray[np.float32]:
        """float32 of the weight's shape; scales lie along the first dimension."""
        scale = self.scale
        if scale.size > 1:
            if scale.size != self.value.shape[0]:
                raise ValueError(f"{scale.size} scales for a weight of {self.value.shape}")
            scale = scale.reshape(-1, *[1] * (self.value.ndim - 1))
        wide: NDArray[np.float32] = self.value.astype(np.float32) - np.float32(self.zero)
        return wide * scale


Weights = dict[str, NDArray[np.float32] | Quantized]


def save_weights(weights: Weights, path: Path) -> None:
    """Compressed, whole or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, weight in weights.items():
        if isinstance(weight, Quantized):
            arrays[f"value:{name}"] = weight.value
            arrays[f"zero:{name}"], arrays[f"scale:{name}"] = weight.zero, weight.scale
        else:
            arrays[f"plain:{name}"] = weight.astype(np.float16)
    raw = io.BytesIO()
    np.savez(raw, **arrays)  # type: ignore[arg-type]
    partial = path.with_suffix(".partial")
    partial.write_bytes(lzma.compress(raw.getvalue(), preset=6))
    partial.replace(path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """float32 tensors by name."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
        weights = {}
        for key in arrays.files:
            kind, _, name = key.partition(":")
            if kind == "plain":
                weights[name] = torch.from_numpy(arrays[key].astype(np.float32))
            elif kind == "value":
                stored = Quantized(arrays[key], arrays[f"zero:{name}"], arrays[f"scale:{name}"])
                weights[name] = torch.from_numpy(stored.dequantized())
        return weights
