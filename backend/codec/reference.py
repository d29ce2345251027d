"""Reference recordings to codes."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backend.model.config import ENCODE_FRAMES
from backend.model.dac import DAC
from backend.model.stream import Stream


@torch.inference_mode()
def encode_reference(
    codec: DAC,
    samples: NDArray[np.float32],
    before_piece: Callable[[], None] = lambda: None,
    stages: Iterable[nn.Module] | None = None,
) -> Tensor:
    """Mono samples at the codec's rate -> codes [N, frames] on the CPU.

    `before_piece` is called before each second or two of them in each stage; what it raises ends
    this. `stages` are those of a codec in parts: one after another is in memory.
    """
    quantizer, frame_samples = codec.quantizer, codec.config.frame_samples
    weight = next(quantizer.semantic_quantizer.parameters())
    stages = stages or (codec.encoder, quantizer.downsample, quantizer.pre_module)
    frames = -(-len(samples) // frame_samples)
    # Filled up to whole pieces: oneDNN compiles and keeps code for each new size. What follows the
    # last frame changes nothing before it.
    piece_samples = ENCODE_FRAMES * frame_samples
    audio = torch.from_numpy(np.pad(samples, (0, -len(samples) % piece_samples)))
    pieces = [piece[None, None] for piece in torch.split(audio, piece_samples)]
    for stage in stages:
        stream = Stream()
        for index, piece in enumerate(pieces):
            before_piece()
            pieces[index] = stage(piece.to(weight.device, weight.dtype), stream)
        del stage, stream  # before the next one is read
    return torch.cat([quantizer.quantise(piece)[0].cpu() for piece in pieces], dim=1)[:, :frames]
