"""Reference recordings to codes."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.model.config import ENCODE_FRAMES
from backend.model.dac import DAC
from backend.model.stream import Stream


@torch.inference_mode()
def encode_reference(
    codec: DAC, samples: NDArray[np.float32], before_piece: Callable[[], None] = lambda: None
) -> Tensor:
    """Mono samples at the codec's rate -> codes [N, frames] on the CPU.

    `before_piece` is called before each second or two of them; what it raises ends this.
    """
    weight, frame_samples = next(codec.parameters()), codec.config.frame_samples
    frames = -(-len(samples) // frame_samples)
    # Filled up to whole pieces: oneDNN compiles and keeps code for each new size. What follows the
    # last frame changes nothing before it.
    piece_samples = ENCODE_FRAMES * frame_samples
    audio = torch.from_numpy(np.pad(samples, (0, -len(samples) % piece_samples)))
    stream, codes = Stream(), []
    for piece in torch.split(audio, piece_samples):
        before_piece()
        codes.append(codec.encode(piece[None].to(weight.device, weight.dtype), stream)[0].cpu())
    return torch.cat(codes, dim=1)[:, :frames]
