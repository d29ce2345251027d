"""Which sequences have a slot and which wait for one. Decides only: no tensor is touched here."""

from collections import deque

from backend.engine.sequence import Sequence
from backend.model.config import CacheGeometry


class Scheduler:
    """First come, first served into `max_batch` slots, as far as keys and values fit the memory.

    A sequence keeps the slot that it was given until it leaves; it is given the lowest free one.
    """

    def __init__(
        self, max_batch: int, geometry: CacheGeometry, cache_bytes: int | None = None
    ) -> None:
        self.max_batch, self._geometry = max_batch, geometry
        self.cache_bytes = cache_bytes
        """Bytes that keys and values may take over all slots; None is no bound. A sequence that is
        alone may always run."""
        self.slots: dict[Sequence, int] = {}
        """Of each sequence that runs, its slot: 0 to `max_batch` - 1."""
        self._waiting: deque[Sequence] = deque()

    @property
    def running(self) -> list[Sequence]:
        """Sequences that have a slot, in the order of their slots."""
        return sorted(self.slots, key=self.slots.__getitem__)

    @property
    def waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """There is nothing to do."""
        return not self.slots and not self._waiting

    def add(self, sequence: Sequence) -> None:
        """Put `sequence` last in the queue."""
        self._waiting.append(sequence)

    def join(self) -> Sequence | None:
        """Give the first in the queue the lowest free slot, if there is room; it, or None.

        One at a time: those that run wait for one prompt to be read, not for a burst of them.
        """
        if not self._waiting or not self._has_room_for(self._waiting[0]):
            return None
        sequence = self._waiting.popleft()
        taken = set(self.slots.values())
        self.slots[sequence] = next(s for s in range(self.max_batch) if s not in taken)
        return sequence

    def leave(self, sequence: Sequence) -> int | None:
        """Take `sequence` out, wherever it is; the slot that became free, if it had one."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        return self.slots.pop(sequence, None)

    def _has_room_for(self, sequence: Sequence) -> bool:
        if len(self.slots) >= self.max_batch:
            return False
        running = (each.most_positions for each in self.slots)
        return self._geometry.fits(running, sequence.most_positions, self.cache_bytes)
