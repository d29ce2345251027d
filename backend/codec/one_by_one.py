"""Code pieces to PCM, one signal at a time."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from backend.codec.pieces import Piece, piece_sizes
from backend.codec.stage import Flight, Key
from backend.model.config import DECODE_FRAMES
from backend.model.dac import DAC
from backend.model.stream import Stream


class Landed:
    """What a CPU decoded: done when it is begun."""

    def __init__(self, samples: Tensor) -> None:
        self._samples = samples

    def is_done(self) -> bool:
        """It is."""
        return True

    def samples(self) -> Tensor:
        """float32 [1, samples]."""
        return self._samples


class OneByOne:
    """Decodes one sequence's piece at a time, as a CPU does it best.

    Of a sequence it keeps a stream of its own: memory is taken when it begins and given back when
    it ends. There are few sizes, because oneDNN compiles and keeps 3 MB of code for each.
    """

    def __init__(self, codec: DAC, most_frames: int = DECODE_FRAMES) -> None:
        self._codec = codec
        self.sizes, self.frame_samples = piece_sizes(most_frames), codec.config.frame_samples
        self.most_flights = 1
        self._streams: dict[Key, Stream] = {}

    def prepare(self) -> bool:
        """Nothing is made beforehand."""
        return False

    def fitting(self, frames: int, keys: Sequence[Key]) -> Sequence[Key]:
        """The first."""
        return keys[:1]

    def begin(self, keys: Sequence[Key], pieces: Sequence[Piece]) -> Flight:
        """Decode the only one."""
        (key,), (piece,) = keys, pieces
        stream = self._streams.setdefault(key, Stream())
        return Landed(_decode(self._codec, torch.stack(piece.frames, dim=1), stream)[None])

    def forget(self, key: Key) -> None:
        """Drop its stream."""
        self._streams.pop(key, None)


def decode_codes(
    codec: DAC, codes: Tensor, before_piece: Callable[[], None] = lambda: None
) -> Iterator[Tensor]:
    """Codes [N, frames] -> float32 samples on the CPU, a second or so at a time.

    `before_piece` is called before each of them; what it raises ends this.
    """
    stream, sizes = Stream(), piece_sizes(DECODE_FRAMES)
    for piece in torch.split(codes, DECODE_FRAMES, dim=1):
        before_piece()
        frames = piece.shape[1]
        size = next(size for size in sizes if size >= frames)
        filled = torch.cat((piece, piece[:, -1:].expand(-1, size - frames)), dim=1)
        yield _decode(codec, filled, stream)[: frames * codec.config.frame_samples].clone()


@torch.inference_mode()
def _decode(codec: DAC, codes: Tensor, stream: Stream) -> Tensor:
    """Codes [N, frames] -> float32 samples on the CPU."""
    device = next(codec.decoder.parameters()).device
    return codec.decode(codes[None].to(device), stream)[0].float().cpu()
