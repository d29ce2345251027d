"""Which sequences have a row and which wait for one. Decides only: no tensor is touched here."""

from collections import deque

from backend.engine.sequence import Sequence


class Scheduler:
    """First come, first served into `max_batch` rows whose keys and values fit the memory.

    `running[i]` has row i. Rows stay packed as in `KVCache.remove_row`: the last one moves into the
    place of the one that leaves.
    """

    def __init__(self, max_batch: int, max_positions: int | None = None) -> None:
        self.max_batch = max_batch
        self.max_positions = max_positions
        """Positions the cache may hold over all rows, each row counted as long as the longest; None
        is no bound. A sequence that is alone may always run."""
        self.running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()

    @property
    def waiting(self) -> int:
        """Sequences without a row."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """There is nothing to do."""
        return not self.running and not self._waiting

    def add(self, sequence: Sequence) -> None:
        """Put `sequence` last in the queue."""
        self._waiting.append(sequence)

    def join(self) -> Sequence | None:
        """Give the first in the queue the next row, if there is room; it, or None.

        One at a time: the running rows wait for one prompt to be read, not for a burst of them.
        """
        if not self._waiting or not self._has_room_for(self._waiting[0]):
            return None
        sequence = self._waiting.popleft()
        self.running.append(sequence)
        return sequence

    def leave(self, sequence: Sequence) -> int | None:
        """Take `sequence` out, wherever it is; the row that became free, if it had one."""
        if sequence in self.running:
            row = self.running.index(sequence)
            last = self.running.pop()
            if row < len(self.running):
                self.running[row] = last
            return row
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        return None

    def _has_room_for(self, sequence: Sequence) -> bool:
        rows = len(self.running) + 1
        if rows > self.max_batch:
            return False
        if self.max_positions is None or rows == 1:
            return True
        longest = max(s.most_positions for s in (*self.running, sequence))
        return rows * longest <= self.max_positions
