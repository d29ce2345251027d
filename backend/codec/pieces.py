"""Which frames of a sequence are decoded together."""

from dataclasses import dataclass, field

from torch import Tensor

FIRST_FRAMES = 2
"""Few at first, so that something is heard soon, then twice as many each time, because the codec
costs less a frame the more it is given at once."""


def piece_sizes(most_frames: int) -> tuple[int, ...]:
    """Frames of a sequence's pieces, in order, the last of them again and again."""
    sizes = [FIRST_FRAMES]
    while sizes[-1] < most_frames:
        sizes.append(min(2 * sizes[-1], most_frames))
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames to be decoded together, filled up to a size that is decoded anyway."""

    frames: list[Tensor]
    """Codes [N] of each."""
    wanted: int
    """Frames that are heard; what follows them changes nothing before it."""


@dataclass(slots=True)
class Pieces:
    """One sequence's frames that wait to be decoded."""

    sizes: tuple[int, ...]
    waiting: list[Tensor] = field(default_factory=list)
    is_ended: bool = False
    """No frame is to come."""
    _step: int = 0
    """Where among `sizes` the next piece is."""

    @property
    def due(self) -> int:
        """Frames of the piece that can be decoded now; 0 if there is none."""
        count = len(self.waiting)
        if count < self.sizes[self._step]:
            fitting = (size for size in self.sizes if size >= count)
            return next(fitting) if count and self.is_ended else 0
        # More may have come while others were decoded.
        return max(size for size in self.sizes if size <= count)

    def take(self) -> Piece:
        """The piece that is due."""
        size = self.due
        frames, self.waiting = self.waiting[:size], self.waiting[size:]
        wanted = len(frames)
        frames += [frames[-1]] * (size - wanted)
        self._step = min(self.sizes.index(size) + 1, len(self.sizes) - 1)
        return Piece(frames, wanted)
