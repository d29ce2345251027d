"""How a codec's decoder is laid out and computed on a GPU."""

from dataclasses import dataclass

import torch
from torch import nn

from backend.model.dac import DAC, ResidualUnit
from backend.model.stream import CausalConv, CausalTransposedConv, Snake


@dataclass(frozen=True, slots=True)
class DecoderLayout:
    """What is done to the half of a codec that decodes; the encoder stays as it is."""

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    one_pass_snakes: bool = False
    """Triton's."""
    fused_units: bool = False
    """Triton's convolutions, snakes and sum of residual units; they want channels last."""
    upsampling_products: bool = False
    """Transposed convolutions as one product each; they want channels last."""


def lay_out_decoder_(codec: DAC, layout: DecoderLayout) -> None:
    """Lay the decoding half of `codec` out; what it computes stays the same but for rounding."""
    for part in (codec.quantizer.post_module, codec.quantizer.upsample, codec.decoder):
        part.to(layout.dtype)
        for module in part.modules():
            _lay_out(module, layout)


def _lay_out(module: nn.Module, layout: DecoderLayout) -> None:
    if isinstance(module, CausalConv | CausalTransposedConv):
        module.channels_last = layout.channels_last
        weight = module.conv.weight.detach()
        if layout.channels_last:
            weight = weight.transpose(1, 2).contiguous().transpose(1, 2)
        else:
            weight = weight.contiguous()
        module.conv.weight = nn.Parameter(weight, requires_grad=False)
        if isinstance(module, CausalTransposedConv):
            if layout.upsampling_products:
                module.as_product_()
            else:
                module.product = None
    elif isinstance(module, Snake):
        module.in_one_pass = layout.one_pass_snakes
    elif isinstance(module, ResidualUnit):
        module.is_fused = layout.fused_units
