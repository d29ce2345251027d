"""A codec some of whose weights are still in their file, and come into memory when they are needed.

What encodes is as large as what decodes, and most workers never encode.
"""

from collections.abc import Callable

import torch
from torch import nn

from backend.model.dac import DAC
from backend.model.weights import Weights, fill_, lend_

DECODING = ("quantizer.post_module", "quantizer.upsample", "decoder")
"""Parts that only decode, in the order in which sound goes through them."""
ENCODING = ("encoder", "quantizer.downsample", "quantizer.pre_module")
"""Parts that only encode."""
_ALWAYS = ("quantizer.semantic_quantizer", "quantizer.quantizer")


class StoredCodec:
    """Reads and lets go of parts of `codec`, whose tensors are on the meta device at first."""

    def __init__(self, codec: DAC, weights: Weights) -> None:
        """The code books are read at once, in float32; BadCheckpoint where a file cannot be."""
        self.codec = codec
        self.lay_out_encoding_part: Callable[[nn.Module], nn.Module] | None = None
        """What computes as a plain part that encodes does, if not torch: it copies its weights."""
        self._weights = weights
        self._plain = {name: codec.get_submodule(name) for name in (*DECODING, *ENCODING)}
        self._can_encode = False
        for name in _ALWAYS:
            self._fill_(name)

    def read_(self, name: str) -> nn.Module:
        """Let the codec use the plain part `name`, with its weights in memory in float32: it."""
        self.codec.set_submodule(name, self._plain[name])
        self._fill_(name)
        return self._plain[name]

    def lend_(self, name: str) -> nn.Module:
        """The plain part `name` with its weights as they are stored: to copy, and let go of."""
        lend_(self._plain[name], name, self._weights)
        return self._plain[name]

    def let_go_(self, name: str) -> None:
        """Give the memory of part `name` back."""
        self._plain[name].to("meta")
        self.codec.set_submodule(name, self._plain[name])

    def read_encoder_(self) -> None:
        """Have what encodes in memory; BadCheckpoint where its file is not what it was."""
        if not self._can_encode:
            for name in ENCODING:
                if self.lay_out_encoding_part is None:
                    self.read_(name)
                else:
                    made = self.lay_out_encoding_part(self.lend_(name))
                    self.let_go_(name)
                    self.codec.set_submodule(name, made)
            self._can_encode = True

    def let_go_of_encoder_(self) -> None:
        """Give its memory back."""
        if self._can_encode:
            self._can_encode = False
            for name in ENCODING:
                self.let_go_(name)

    def _fill_(self, name: str) -> None:
        fill_(self.codec.get_submodule(name), name, self._weights, "cpu", torch.float32)
