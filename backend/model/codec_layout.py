"""How the half of a codec that decodes is laid out in memory, and which kernels compute it."""

import importlib
from typing import Literal

import torch
from torch import nn

from backend.model.dac import DAC
from backend.model.stream import CausalConv, CausalTransposedConv

Kernels = Literal["plain", "channels last", "fused", "native"]
"""Torch's, as on any device; laid out for tensor cores; that with Triton's kernels in the decoder;
and on a CPU those of `native/codec.c`."""


DecodingParts = tuple[nn.Module, nn.Module, nn.Module]
"""What of a codec only decodes: behind the code books, between them and the decoder, and it."""


def decoding_parts(codec: DAC) -> DecodingParts:
    """Those of `codec`."""
    return codec.quantizer.post_module, codec.quantizer.upsample, codec.decoder


def use_decoding_parts_(codec: DAC, parts: DecodingParts) -> None:
    """Let `codec` decode with others."""
    behind_books, upsample, decoder = parts
    codec.quantizer.register_module("post_module", behind_books)
    codec.quantizer.register_module("upsample", upsample)
    codec.register_module("decoder", decoder)


def lay_out_decoder_(codec: DAC, dtype: torch.dtype, kernels: Kernels) -> None:
    """Lay the decoding half of a plain `codec` out; its sound stays the same but for rounding."""
    for part in decoding_parts(codec):
        part.to(dtype)
        if kernels != "plain":
            for module in part.modules():
                _lay_channels_last_(module)
    if kernels == "fused":
        # Here, since it brings Triton along.
        fused = importlib.import_module("backend.model.fused_decoder")
        codec.register_module("decoder", fused.FusedDecoder(codec.decoder))


def _lay_channels_last_(module: nn.Module) -> None:
    if isinstance(module, CausalConv | CausalTransposedConv):
        weight = module.conv.weight.detach().transpose(1, 2).contiguous().transpose(1, 2)
        module.conv.weight = nn.Parameter(weight, requires_grad=False)
        module.channels_last = True
    if isinstance(module, CausalTransposedConv):
        module.product = module.as_product()
