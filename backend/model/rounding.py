"""Rounds a matrix to whole steps by how it is used: what rounding one column does to the outputs,
the columns that are still to be rounded make up for (GPTQ, optimal brain quantization).

Scales stay one a channel, so whatever multiplies by `quantize_matrix` multiplies by this.
"""

import torch
from torch import Tensor

from backend.model.quantize import RANGE, Bits, QuantizedMatrix, quantize_matrix

_DAMPING = 0.05
"""Of the inputs' mean square, added to that of each: there are few inputs for so many weights. From
0.03 to 0.1 codes of sentences that were not fitted to were kept alike."""
_RELUCTANCE = 0.5
"""The same where weights are moved for what was rounded before them, which is fitted loosely."""
_TOGETHER = 64
"""Columns whose errors are passed on to those after them at once."""


def round_by_use(weight: Tensor, bits: Bits, inputs: Tensor, exact: Tensor) -> QuantizedMatrix:
    """Round `weight` [out, in] to 8 or 6 bits, so that `inputs` [M, in] give what `exact` did.

    `exact` [M, in] are the inputs as they would be had nothing before been rounded.
    """
    weight, inputs, exact = weight.float(), inputs.float(), exact.float()
    moment = (inputs.t() @ inputs).double()
    size = moment.diagonal().mean()
    if not (size.isfinite() and size > 0):  # it is not used, or something overflowed
        return quantize_matrix(weight, bits)
    lost = weight.double() @ ((exact - inputs).t() @ inputs).double()
    weight = weight + torch.linalg.solve(_damped(moment, _RELUCTANCE * size), lost.t()).t().float()
    scales = quantize_matrix(weight, bits).scales
    # What is used most is rounded first, while there is much left to make up for it.
    order = moment.diagonal().argsort(descending=True)
    inverse = torch.linalg.inv(_damped(moment[order][:, order], _DAMPING * size))
    factor = torch.linalg.cholesky(inverse, upper=True).float()
    left, steps = weight.t()[order].contiguous(), torch.empty_like(weight.t())
    _round_in_order(left, scales[:, 0].float(), factor, RANGE[bits], steps)
    values = torch.empty_like(steps, dtype=torch.int8)
    values[order] = steps.to(torch.int8)
    return QuantizedMatrix(bits, values.t().contiguous(), scales, torch.zeros_like(scales))


def _damped(moment: Tensor, by: Tensor) -> Tensor:
    return moment + torch.eye(len(moment), dtype=moment.dtype, device=moment.device) * by


def _round_in_order(
    left: Tensor, scales: Tensor, factor: Tensor, bounds: tuple[int, int], steps: Tensor
) -> None:
    """Fill `steps` [in, out] row by row from `left`, which is changed on the way.

    `factor` [in, in] is the upper triangle whose square is the inverse of the inputs' moment: a row
    says by how much each later weight makes up for one of this.
    """
    count = len(left)
    for begin in range(0, count, _TOGETHER):
        end = min(begin + _TOGETHER, count)
        errors = torch.empty_like(left[begin:end])
        for at in range(begin, end):
            torch.div(left[at], scales, out=steps[at]).round_().clamp_(*bounds)
            error = errors[at - begin]
            torch.addcmul(left[at], steps[at], scales, value=-1, out=error).div_(factor[at, at])
            left[at + 1 : end].addr_(factor[at, at + 1 : end], error, alpha=-1)
        left[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
