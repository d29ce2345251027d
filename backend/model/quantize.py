"""Weight-only quantization: Linears whose matrix is held in 8, 6 or 4 bits, activations untouched.

8 and 6 bits have one scale for each output channel. 4 has a scale and an offset for every group of
columns of a channel: `weight = (value - 8) * scale + offset`. Scales and offsets are bfloat16,
because torch's packed kernels want them so, and values are rounded with the rounded scales.

Where torch has no fast kernel, the matrix is unpacked for each call: less memory, no more speed.
"""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.core import Quantization
from backend.model.config import DualARConfig
from backend.model.dual_ar import DualAR

Bits = Literal[4, 6, 8]

GROUP_SIZE = 32
"""Columns that share a scale in int4; a matrix whose columns it does not divide is held in int8."""

_FITS = 2
"""Rounds of least squares by which calibration fits the scales and offsets of four bits."""

RANGE: dict[Bits, tuple[int, int]] = {8: (-127, 127), 6: (-32, 31), 4: (-8, 7)}
"""The steps that there are."""

_INT8_KERNEL_ROWS = {torch.bfloat16: 16, torch.float16: 32, torch.float32: 32}
"""Rows up to which torch's int8 kernel on the CPU beats unpacking the matrix once a call."""


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """A weight [out, in] as integers, before it is packed for any kernel."""

    bits: Bits
    values: Tensor
    """int8 [out, in], or where there are 4 bits uint8 [out, in] of 0 to 15."""
    scales: Tensor
    """bfloat16 [out, groups]; one group but where there are 4 bits."""
    offsets: Tensor
    """bfloat16 [out, groups]; zeros but where there are 4 bits."""

    @property
    def group_size(self) -> int:
        """Columns that share a scale."""
        return self.values.shape[1] // self.scales.shape[1]

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight [out, in] that those integers stand for."""
        rows, groups = self.scales.shape
        steps = self.values.view(rows, groups, -1).float()
        if self.bits == 4:
            steps = steps - 8
        weight = steps * self.scales.float()[..., None] + self.offsets.float()[..., None]
        return weight.view(rows, -1).to(dtype)


def quantize_matrix(
    weight: Tensor, bits: Bits, importance: Tensor | None = None
) -> QuantizedMatrix:
    """Round `weight` [out, in] to so many bits; to 8 instead of 4 where `GROUP_SIZE` does not fit.

    Four bits reach from the least weight of a group to the largest. With `importance` [in], the
    mean square of each input, they reach where the squared error of the outputs is least.
    """
    rows, columns = weight.shape
    bits = 8 if bits == 4 and columns % GROUP_SIZE else bits
    group_size = GROUP_SIZE if bits == 4 else columns
    by_group = None if importance is None else importance.float().view(-1, group_size)
    values = weight.new_empty(rows, columns, dtype=torch.uint8 if bits == 4 else torch.int8)
    scales, offsets = weight.new_empty(2, rows, columns // group_size, dtype=torch.bfloat16)
    # On a CPU as many rows at a time as stay in its cache, and leave no holes in the heap.
    step = max(1, (1 << 17 if weight.device.type == "cpu" else 1 << 24) // columns)
    for begin in range(0, rows, step):
        piece = slice(begin, begin + step)
        groups = weight[piece].detach().float().view(-1, columns // group_size, group_size)
        scale, offset = _fitted(groups, by_group) if bits == 4 else _symmetric(groups, bits)
        # Rounded first: the values are then the best for what is stored.
        scales[piece], offsets[piece] = scale, offset
        steps = _steps(groups, scales[piece], offsets[piece], bits)
        values[piece] = (steps + 8 if bits == 4 else steps).view(-1, columns)
    return QuantizedMatrix(bits, values, scales, offsets)


def _symmetric(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Scales [R, G] of `weight` [R, G, g] and offsets of zero.

    Of six bits the scale may be negative: the largest weight takes the one step that has no
    counterpart on the other side, and all the others have finer ones.
    """
    top, bottom = weight.amax(-1), weight.amin(-1)
    if bits == 8:
        scale = torch.maximum(top, -bottom) / 127
    else:
        scale = torch.where(top > -bottom, top, bottom) / -32
    # Of a channel of zeros, to which any scale will do.
    return torch.where(scale == 0, 1e-8, scale), torch.zeros_like(scale)


def _fitted(weight: Tensor, importance: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scales and offsets [R, G] of four bits for `weight` [R, G, g]; `importance` is [G, g]."""
    top, bottom = weight.amax(-1), weight.amin(-1)
    scale = ((top - bottom) / 15).clamp_min(1e-8)  # of equal weights, to which any will do
    # There are eight steps below the offset and seven above it.
    offset = bottom + 8 * scale
    if importance is None:
        return scale, offset
    share = importance / importance.sum(-1, keepdim=True).clamp_min(1e-30)
    mean = (weight * share).sum(-1)
    for _ in range(_FITS):
        # The weights as a straight line over their steps.
        steps = _steps(weight, scale, offset, 4)
        middle = (steps * share).sum(-1)
        spread = (steps.square() * share).sum(-1) - middle.square()
        slope = ((steps * weight * share).sum(-1) - middle * mean) / spread.clamp_min(1e-6)
        rises = (spread > 1e-6) & (slope > 0)  # not where all are of one step, or unused
        scale = torch.where(rises, slope, scale)
        offset = torch.where(rises, mean - middle * slope, offset)
    return scale, offset


def _steps(weight: Tensor, scale: Tensor, offset: Tensor, bits: Bits) -> Tensor:
    """The steps of a grid [R, G] that are nearest to `weight` [R, G, g]."""
    steps = weight - offset.float()[..., None] if bits == 4 else weight
    return (steps / scale.float()[..., None]).round_().clamp_(*RANGE[bits])


class QuantizedLinear(nn.Module):
    """x W^T + b for a W [out, in] held in few bits. It has buffers only, no parameters."""

    bits: Bits

    def __init__(self, matrix: QuantizedMatrix, bias: Tensor | None, uses_kernel: bool) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.values.shape
        self.uses_kernel = uses_kernel
        self.values: Tensor
        self.scales: Tensor
        self.bias: Tensor | None
        values, scales = self._stored(matrix)
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self._product(x.reshape(-1, self.in_features))
        if self.bias is not None:
            y = y + self.bias
        return y.view(*x.shape[:-1], self.out_features)

    def _stored(self, matrix: QuantizedMatrix) -> tuple[Tensor, Tensor]:
        """Values and scales as `_product` reads them."""
        raise NotImplementedError

    def _product(self, rows: Tensor) -> Tensor:
        """x [rows, in] to [rows, out]."""
        raise NotImplementedError


class Int8Linear(QuantizedLinear):
    """One scale for each output channel; the kernel is worth it for few rows only.

    A matrix of six bits is one of eight whose values are small.
    """

    bits = 8

    def _stored(self, matrix: QuantizedMatrix) -> tuple[Tensor, Tensor]:
        return matrix.values, matrix.scales[:, 0].contiguous()

    def _product(self, rows: Tensor) -> Tensor:
        dtype = rows.dtype
        if self.uses_kernel and rows.shape[0] <= _INT8_KERNEL_ROWS[dtype]:
            narrow = rows.to(torch.bfloat16).contiguous()
            y: Tensor = torch.ops.aten._weight_int8pack_mm(narrow, self.values, self.scales)
            return y.to(dtype)
        # By a power of two, which rounds nothing: float16 would overflow on inputs times 127.
        y = F.linear(rows * 2.0**-7, self.values.to(dtype))
        return y * (self.scales * 2.0**7).to(dtype)


class Int4Linear(QuantizedLinear):
    """Packed as the kernel wants it, or, where there is none, two values to a byte."""

    bits = 4

    def _stored(self, matrix: QuantizedMatrix) -> tuple[Tensor, Tensor]:
        self.group_size = matrix.group_size
        values, scales = matrix.values, torch.stack((matrix.scales, matrix.offsets), dim=-1)
        if not self.uses_kernel:
            # Transposed, so that unpacking goes along the channels, each with its own scale.
            lower, upper = values.t().view(-1, 2, self.group_size // 2, self.out_features).unbind(1)
            pairs = (lower | (upper << 4)).contiguous()
            return pairs, scales.permute(2, 1, 0).contiguous()
        # The kernel wants whole blocks of channels; what is added is cut off again.
        surplus = -self.out_features % (64 if values.device.type == "cpu" else 8)
        values = F.pad(values, (0, 0, 0, surplus))
        scales = F.pad(scales, (0, 0, 0, 0, 0, surplus))
        return _pack_int4(values), scales.transpose(0, 1).contiguous()

    def _product(self, rows: Tensor) -> Tensor:
        dtype = rows.dtype
        if not self.uses_kernel:
            return F.linear(rows, self._unpacked(dtype))
        narrow = rows.to(torch.bfloat16).contiguous()
        product = (
            torch.ops.aten._weight_int4pack_mm_for_cpu
            if narrow.device.type == "cpu"
            else torch.ops.aten._weight_int4pack_mm
        )
        y: Tensor = product(narrow, self.values, self.group_size, self.scales)
        return y[:, : self.out_features].to(dtype)

    def _unpacked(self, dtype: torch.dtype) -> Tensor:
        steps = torch.cat((self.values & 15, self.values >> 4), dim=1).to(dtype)  # [G, g, out]
        scales, offsets = self.scales.to(dtype)[:, :, None]
        return steps.sub_(8).mul_(scales).add_(offsets).view(-1, self.out_features).t()


def _pack_int4(values: Tensor) -> Tensor:
    """uint8 [out, in] of 0 to 15 in the layout that this device's kernel reads."""
    packed: Tensor
    if values.device.type == "cpu":
        # Each 64 rows are packed on their own; some at a time, since they are widened to int32.
        pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu
        return torch.cat([pack(piece.int(), 1) for piece in torch.split(values, 256)])
    inner_tiles = next(tiles for tiles in (8, 4, 2) if values.shape[1] % (16 * tiles) == 0)
    pairs = ((values[:, ::2] << 4) | values[:, 1::2]).contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack(pairs, inner_tiles)
    return packed


def quantized_linear(
    matrix: QuantizedMatrix, bias: Tensor | None = None, uses_kernel: bool | None = None
) -> QuantizedLinear:
    """The module that multiplies by `matrix`; `uses_kernel` None lets the device decide."""
    if uses_kernel is None:
        # The int8 kernel reads many columns at a time and does not ask whether there are so many.
        fits = matrix.values.shape[1] % 32 == 0
        uses_kernel = fits and has_kernel(matrix.bits, matrix.values.device)
    kind = Int4Linear if matrix.bits == 4 else Int8Linear
    return kind(matrix, bias, uses_kernel)


@cache
def has_kernel(bits: Bits, device: torch.device) -> bool:
    """Whether torch multiplies by packed weights on `device`, and faster than by unpacking them.

    Tried once on a small matrix: an operation that is absent, refuses or is wrong is not used.
    """
    if not _is_worth_trying(bits, device):
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=generator).to(device)
    x = torch.randn(2, 128, generator=generator).to(device)
    matrix = quantize_matrix(weight, bits)
    wanted = F.linear(x, matrix.dequantized())
    try:
        found = quantized_linear(matrix, uses_kernel=True)(x)
    except (RuntimeError, AttributeError):  # AttributeError: this torch has no such operation
        return False
    return bool((found - wanted).abs().max() <= 0.02 * wanted.abs().max())


def _is_worth_trying(bits: Bits, device: torch.device) -> bool:
    if device.type == "cpu":
        # On Windows, and on x86 without AVX2, torch compiles both kernels as plain loops, several
        # times slower than unpacking.
        is_arm = platform.machine().lower() in ("arm64", "aarch64")
        vectors = is_arm or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        return vectors and sys.platform != "win32"
    if device.type == "cuda" and bits == 4:
        return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    # CUDA's int8 kernel takes 45 us where unpacking takes 17 (4096 x 1024, one row, H200).
    return False


def linears(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Linear]]:
    """Every Linear within `module`, itself included, by its full name."""
    for inner, child in module.named_modules(prefix=name):
        if isinstance(child, nn.Linear):
            yield inner, child


def held_in(
    name: str, quantization: Quantization, config: DualARConfig, *, is_packed: bool = False
) -> Bits | Literal[16] | None:
    """In how many bits the matrices of the part of that name are held; None is in full.

    Of int4 only the slow layers are in less than 8: the fast ones and the heads are few weights,
    and fewer bits are heard there first. Where the native kernels multiply, those layers have six
    bits, because with four too many codes are others, and the last of them eight, where six cost
    most (`benchmarks.quantization_quality`). Torch has kernels for four and for eight only. Of a
    small checkpoint they multiply by 16 bits in the very last layers: int8 is over its bar by that.
    """
    if quantization == "none" or not name.startswith(("layers.", "fast_layers.", "fast_output")):
        return None
    if not name.startswith("layers."):
        return 8
    slow, index = config.slow, int(name.split(".")[1])
    if is_packed and config.is_small and index >= slow.n_layer - slow.wide_layers:
        return 16
    if quantization == "int8":
        return 8
    if not is_packed:
        return 4
    return 8 if index >= slow.n_layer - slow.fine_layers else 6


def quantize_linears_(model: DualAR, name: str, bits: Bits) -> None:
    """Quantize every Linear of `model`'s submodule `name`, one after another."""
    for inner, linear in list(linears(model.get_submodule(name), name)):
        replace_(model, inner, quantized_linear(quantize_matrix(linear.weight, bits), linear.bias))


def quantize_head_(model: DualAR) -> None:
    """Quantize the head's legal rows; the embeddings they are copied from stay."""
    matrix = quantize_matrix(model.head_weight(), 8)
    model.head = quantized_linear(matrix)
    model.legal_head = matrix.scales.new_empty(0)


def notes(model: DualAR, quantization: Quantization) -> Iterator[str]:
    """What is not as `quantization` promises, one sentence each."""
    if any(getattr(module, "bits", None) == 6 for module in model.layers.modules()):
        yield (
            "int4 is held in six bits a weight here: with four, 10 % of the most probable codes "
            "are others, with six 2 to 4 % (MDs/BENCHMARKS.md)."
        )
    slow = [m for m in model.layers.modules() if isinstance(m, QuantizedLinear)]
    wider = [linear for linear in slow if quantization == "int4" and linear.bits == 8]
    if wider:
        columns = ", ".join(map(str, sorted({linear.in_features for linear in wider})))
        yield (
            f"{len(wider)} of {len(slow)} matrices are held in int8, because groups of "
            f"{GROUP_SIZE} do not divide their {columns} columns."
        )
    if not all(linear.uses_kernel for linear in slow):
        yield "There is no fast kernel for them here: they take less memory, but no less time."


def replace_(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `model` has its submodule `name`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
