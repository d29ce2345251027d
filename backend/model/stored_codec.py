"""A codec some of whose weights are still in their file, and come into memory when they are needed.

What encodes is as large as what decodes, and most workers never encode.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from backend.model.dac import DAC
from backend.model.weights import Weights, fill_, lend_

DECODING = ("quantizer.post_module", "quantizer.upsample", "decoder")
"""Parts that only decode, in the order in which sound goes through them."""
ENCODING = ("encoder", "quantizer.downsample", "quantizer.pre_module")
"""Parts that only encode."""
_ALWAYS = ("quantizer.semantic_quantizer", "quantizer.quantizer")


Stages = Callable[[nn.Module], Iterator[nn.Module]]
"""What computes as a plain part that encodes does: stages that copy its weights as they are asked
for."""


class StoredCodec:
    """Reads and lets go of parts of `codec`, whose tensors are on the meta device at first."""

    def __init__(self, codec: DAC, weights: Weights) -> None:
        """The code books are read at once, in float32; BadCheckpoint where a file cannot be."""
        self.codec = codec
        self.find_stages: Callable[[], Stages | None] = lambda: None
        """Asked when something is encoded, for what computes then; None is torch."""
        self._weights = weights
        self._plain = {name: codec.get_submodule(name) for name in (*DECODING, *ENCODING)}
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

    def encoding_stages(self) -> Iterator[nn.Module]:
        """What encodes, from the waveform on: each is in memory until the next is asked for.

        BadCheckpoint where its file is not what it was.
        """
        stages_of = self.find_stages()
        for name in ENCODING:
            try:
                if stages_of is None:
                    yield self.read_(name)
                else:
                    yield from stages_of(self.lend_(name))
            finally:
                self.let_go_(name)

    def _fill_(self, name: str) -> None:
        fill_(self.codec.get_submodule(name), name, self._weights, "cpu", torch.float32)
