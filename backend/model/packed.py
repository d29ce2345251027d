"""Linears whose matrix lies in memory as the native kernels (`backend/native`) read it."""

from ctypes import pointer
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import DualARConfig
from backend.model.dual_ar import DualAR
from backend.model.layers import RMSNorm
from backend.model.quantize import Bits, QuantizedMatrix, linears, quantize_matrix, replace_
from backend.native.compiler import CannotCompile
from backend.native.pool import NativePool
from backend.native.structs import (
    BF16,
    F32,
    I6,
    I8,
    I16,
    MOST_GROUPS,
    MOST_ROWS,
    PRODUCT,
    TILE,
    Matrix,
)

KINDS = {torch.float32: F32, torch.bfloat16: BF16}
"""What the kernels call the types of weights that are no integers."""
_FLOATS = {32: F32, 16: BF16}
_INTEGERS = {16: I16, 8: I8, 6: I6}
_MOST_ERROR = 1e-3
"""Of a product, as a share of the largest."""


class PackedLinear(nn.Module):
    """x W^T + b on a CPU, for a W [out, in] in float32, bfloat16, or integers of 16, 8 or 6 bits.

    With integers x is rounded, too: to 16 bits, with a scale for each of its rows. A W of 16 bits
    is two of 8, which multiply faster than floats do: the second holds what the first one lost.
    """

    def __init__(
        self,
        packed: Tensor,
        bias: Tensor | None,
        outputs: int,
        inputs: int,
        bits: int,
        pool: NativePool,
    ) -> None:
        """`packed` and `bias` are what `of` made; ValueError where they are of another size."""
        super().__init__()
        self.out_features, self.in_features, self.bits = outputs, inputs, bits
        self.pool = pool
        self.packed: Tensor
        self.bias: Tensor | None
        self.register_buffer("packed", packed)
        self.register_buffer("bias", bias)
        tiles = -(-outputs // TILE)
        is_whole = packed.dtype == torch.uint8
        scales = 4 * max(1, bits // 8) if is_whole else 0
        if packed.nbytes != tiles * TILE * (inputs * bits // 8 + scales):
            raise ValueError(f"{packed.nbytes} bytes are no matrix of {outputs} by {inputs}")
        self.matrix = Matrix(
            weights=packed.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            outputs=tiles * TILE,
            inputs=inputs,
            kind=(_INTEGERS if is_whole else _FLOATS)[bits],
        )
        pool.reserve(inputs)

    @classmethod
    def of(
        cls, weight: Tensor | QuantizedMatrix, bias: Tensor | None, pool: NativePool
    ) -> "PackedLinear":
        """That of a matrix [out, in] and a bias [out]."""
        bits: int
        if isinstance(weight, QuantizedMatrix):
            (outputs, inputs), bits = weight.values.shape, weight.bits
            packed = _pack_integers(weight)
        else:
            (outputs, inputs), bits = weight.shape, 8 * weight.element_size()
            packed = _pack_floats(weight)
        if bias is not None:
            bias = F.pad(bias.detach().float(), (0, -outputs % TILE))
        return cls(packed, bias, outputs, inputs, bits, pool)

    @classmethod
    def rounded(
        cls,
        weight: Tensor,
        bits: Bits | Literal[16] | None,
        bias: Tensor | None,
        pool: NativePool,
    ) -> "PackedLinear":
        """That of `quantize_matrix(weight, bits)`, in a tenth of the time; of `weight` itself where
        `bits` is None."""
        if bits is None:
            return cls.of(weight, bias, pool)
        outputs, inputs = weight.shape
        weight = weight if weight.dtype in KINDS else weight.float()
        packed = pool.pack(weight, KINDS[weight.dtype], 8 if bits == 16 else bits)
        if bits == 16:
            rest = weight.float() - quantize_matrix(weight, 8).dequantized()
            packed = torch.cat((packed, pool.pack(rest, F32, 8)), dim=1)
        if bias is not None:
            bias = F.pad(bias.detach().float(), (0, -outputs % TILE))
        return cls(packed, bias, outputs, inputs, bits, pool)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features).float().contiguous()
        y = rows.new_empty(rows.shape[0], self.matrix.outputs)
        for begin in range(0, rows.shape[0], MOST_ROWS):
            piece, into = rows[begin : begin + MOST_ROWS], y[begin:]
            self.pool.run(
                PRODUCT,
                len(piece),
                matrix=pointer(self.matrix),
                input=piece.data_ptr(),
                output=into.data_ptr(),
            )
        return y[:, : self.out_features].to(x.dtype).view(*x.shape[:-1], self.out_features)


def _pack_floats(weight: Tensor) -> Tensor:
    """[tiles, in, TILE]."""
    weight = F.pad(weight.detach(), (0, 0, 0, -weight.shape[0] % TILE))
    return weight.view(-1, TILE, weight.shape[1]).transpose(1, 2).contiguous()


def _pack_integers(matrix: QuantizedMatrix) -> Tensor:
    """uint8 [tiles, bytes] as `native/products.c` says."""
    surplus, middle = -matrix.values.shape[0] % TILE, 1 << (matrix.bits - 1)
    values = F.pad(matrix.values, (0, 0, 0, surplus)).view(torch.uint8) + middle
    tiles = laid_out_for_kernels(torch.unflatten(values, 0, (-1, TILE)), matrix.bits)
    scales = F.pad(matrix.scales[:, 0].float(), (0, surplus)).view(-1, TILE)
    return torch.cat((tiles, scales.view(torch.uint8)), dim=1)


_SHIFTS = torch.tensor((0, 2, 4), dtype=torch.uint8)[:, None, None]


def laid_out_for_kernels(counts: Tensor, bits: int) -> Tensor:
    """uint8 [..., out, in] of `bits` each as `native/integers.h` says of a tile: [..., bytes]."""
    fours = torch.unflatten(counts, -1, (-1, 4)).transpose(-3, -2).contiguous()
    if bits == 6:
        sixteens = torch.unflatten(fours, -3, (-1, 4))
        lower, upper = sixteens[..., :3, :, :], sixteens[..., 3:, :, :]
        fours = (lower | ((upper >> _SHIFTS) << 6)).flatten(-4, -3)
    return fours.flatten(-3)


def laid_out_plainly(held: Tensor, outputs: int, bits: int) -> Tensor:
    """uint8 [..., bytes] that `laid_out_for_kernels` made of so many `outputs`: [..., out, in]."""
    fours = torch.unflatten(held, -1, (-1, outputs, 4))
    if bits == 6:
        threes = torch.unflatten(fours, -3, (-1, 3))
        upper = ((threes >> 6) << _SHIFTS).sum(-3, keepdim=True, dtype=torch.uint8)
        fours = torch.cat((threes & 63, upper), dim=-3).flatten(-4, -3)
    return fours.transpose(-3, -2).flatten(-2)


def refusal(config: DualARConfig) -> str:
    """Why the kernels are not for a model of this shape; "" where they are."""
    for stack in (config.slow, config.fast):
        sizes = (stack.dim, stack.intermediate_size, stack.head_dim, stack.n_head * stack.head_dim)
        if any(size % TILE for size in sizes):
            return f"sizes of {sizes} are no multiples of {TILE}"
        if stack.n_head // stack.n_local_heads > MOST_GROUPS:
            return f"more than {MOST_GROUPS} heads share a key head"
    return ""


def tried_pool(library: Path) -> NativePool:
    """Threads with the kernels of `library`, tried on each kind of matrix.

    Raises `CannotCompile` where they are wrong; OSError as loading does.
    """
    pool = NativePool(library)
    chance = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(80, 96, generator=chance), torch.randn(80, generator=chance)
    x = torch.randn(7, 96, generator=chance)
    integers = (quantize_matrix(weight, 8), quantize_matrix(weight, 6))
    kinds = (weight, weight.bfloat16(), *integers)
    tried = [(kind, PackedLinear.of(kind, bias, pool)) for kind in kinds]
    for kind, packed in (*tried, (weight, PackedLinear.rounded(weight, 16, bias, pool))):
        plain = kind.dequantized() if isinstance(kind, QuantizedMatrix) else kind.float()
        wanted = F.linear(x, plain, bias)
        error = float((packed(x) - wanted).abs().max() / wanted.abs().max())
        if not error <= _MOST_ERROR:
            raise CannotCompile(f"the kernels are wrong by {error:.1e} here")
        if isinstance(kind, QuantizedMatrix):
            rounded = PackedLinear.rounded(weight, kind.bits, bias, pool)
            if not torch.equal(rounded.packed, packed.packed):
                raise CannotCompile(f"the kernels round to {kind.bits} bits wrongly here")
    return pool


def compute_in_float32_(module: nn.Module) -> None:
    """Hold what is no matrix in float32: the kernels compute in nothing else, and it is little."""
    for child in module.modules():
        if isinstance(child, RMSNorm):
            child.weight = nn.Parameter(child.weight.float(), requires_grad=False)


def pack_linears_(
    model: nn.Module, name: str, pool: NativePool, bits: Bits | Literal[16] | None = None
) -> None:
    """Pack every Linear of `model`'s submodule `name`, one after another, rounded to `bits`."""
    for inner, linear in list(linears(model.get_submodule(name), name)):
        replace_(model, inner, PackedLinear.rounded(linear.weight, bits, linear.bias, pool))


def pack_head_(model: DualAR, pool: NativePool, *, is_rounded: bool) -> None:
    """Pack the head's legal rows, in 16 bits or as they are; what they are copied from stays.

    In 8 bits the head alone cost as many codes as all slow layers (MDs/BENCHMARKS.md).
    """
    model.head = PackedLinear.rounded(model.head_weight(), 16 if is_rounded else None, None, pool)
    model.legal_head = torch.empty(0)
