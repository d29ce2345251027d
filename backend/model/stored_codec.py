"""A codec some of whose weights are still in their file, and come into memory when they are needed.

What encodes is as large as what decodes, and most workers never encode.
"""

import torch

from backend.model.dac import DAC
from backend.model.weights import Weights, fill_

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
        self._weights = weights
        self._can_encode = False
        for name in _ALWAYS:
            self.read_(name)

    def read_(self, name: str) -> None:
        """Have the weights of the plain part `name` in memory, in float32."""
        part = self.codec.get_submodule(name)
        fill_(part, name, self._weights, "cpu", torch.float32)

    def let_go_(self, name: str) -> None:
        """Give the memory of part `name` back."""
        self.codec.get_submodule(name).to("meta")

    def read_encoder_(self) -> None:
        """Have what encodes in memory; BadCheckpoint where its file is not what it was."""
        if not self._can_encode:
            for name in ENCODING:
                self.read_(name)
            self._can_encode = True

    def let_go_of_encoder_(self) -> None:
        """Give its memory back."""
        if self._can_encode:
            self._can_encode = False
            for name in ENCODING:
                self.let_go_(name)
