"""Code frames to PCM as they are made."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from backend.model.config import DECODE_FRAMES
from backend.model.dac import DAC
from backend.model.stream import Stream

FIRST_FRAMES, MOST_FRAMES = 2, DECODE_FRAMES
"""Frames decoded together: few at first, so that something is heard soon, then twice as many each
time, because the codec costs less a frame the more it is given at once."""


class FrameDecoder:
    """Decodes one sequence's frames piece by piece, exactly as if they were decoded whole."""

    def __init__(self, codec: DAC, first_frames: int = FIRST_FRAMES) -> None:
        self._codec, self._device = codec, next(codec.parameters()).device
        self._stream = Stream()
        self._frames: list[Tensor] = []
        self._chunk_frames = first_frames

    def push(self, frame: Tensor) -> Tensor | None:
        """Take the codes [N] of the next frame; float32 samples on the CPU once they are enough."""
        self._frames.append(frame)
        if len(self._frames) < self._chunk_frames:
            return None
        self._chunk_frames = min(2 * self._chunk_frames, MOST_FRAMES)
        return self._decode()

    def flush(self) -> Tensor | None:
        """The samples of the frames that are still held, when there are no more to come."""
        if not self._frames:
            return None
        # Filled up to a size that is decoded anyway: oneDNN compiles and keeps 3 MB of code for
        # each new one. What follows the last frame changes nothing before it.
        size, frames = FIRST_FRAMES, len(self._frames)
        while size < frames:
            size = min(2 * size, MOST_FRAMES)
        self._frames += [self._frames[-1]] * (size - frames)
        return self._decode()[: frames * self._codec.config.frame_samples].clone()

    @torch.inference_mode()
    def _decode(self) -> Tensor:
        codes = torch.stack(self._frames, dim=1).to(self._device)
        self._frames = []
        return self._codec.decode(codes[None], self._stream)[0].float().cpu()


def decode_codes(
    codec: DAC, codes: Tensor, before_piece: Callable[[], None] = lambda: None
) -> Iterator[Tensor]:
    """Codes [N, frames] -> float32 samples on the CPU, a second or so at a time.

    `before_piece` is called before each of them; what it raises ends this.
    """
    decoder = FrameDecoder(codec, first_frames=MOST_FRAMES)
    for piece in torch.split(codes, MOST_FRAMES, dim=1):
        before_piece()
        heard = [decoder.push(frame) for frame in piece.t()]
        samples = decoder.flush() if heard[-1] is None else heard[-1]
        assert samples is not None
        yield samples
