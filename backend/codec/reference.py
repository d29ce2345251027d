"""Reference recordings to codes, remembered as long as there is room."""

import hashlib
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.model.dac import DAC

CACHE_BYTES = 16 * 1024 * 1024
"""Hours of speech: codes are small."""


class ReferenceEncoder:
    """Encodes each recording once: the same samples again are looked up by their digest."""

    def __init__(self, codec: DAC, max_reference_s: float, cache_bytes: int = CACHE_BYTES) -> None:
        self._codec = codec
        self._max_samples = int(max_reference_s * codec.config.sample_rate_hz)
        self._cache_bytes = cache_bytes
        self._codes: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes of codes remembered now."""
        return sum(codes.nbytes for codes in self._codes.values())

    def clear(self) -> int:
        """Forget everything; the bytes that were held."""
        held_bytes = self.held_bytes
        self._codes.clear()
        return held_bytes

    def encode(self, samples: NDArray[np.float32]) -> Tensor:
        """Mono samples at the codec's rate -> codes [N, frames] on the CPU.

        What is longer than the checkpoint's longest reference is left out.
        """
        samples = np.ascontiguousarray(samples[: self._max_samples], dtype=np.float32)
        digest = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        if (known := self._codes.get(digest)) is not None:
            self._codes.move_to_end(digest)
            return known
        codes = self._encode(samples)
        self._codes[digest] = codes
        while self.held_bytes > self._cache_bytes:
            self._codes.popitem(last=False)
        return codes

    @torch.inference_mode()
    def _encode(self, samples: NDArray[np.float32]) -> Tensor:
        weight = next(self._codec.parameters())
        audio = torch.from_numpy(samples).to(weight.device, weight.dtype)
        return self._codec.encode(audio[None])[0].cpu()
