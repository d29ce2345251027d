"""Memory that is promised to requests, until each gives it back."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from backend.hardware.need import RequestNeed

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Lease:
    """Memory promised to one request until it is released, which happens once however often."""

    need: RequestNeed
    _release: Callable[["Lease"], None] = field(repr=False)

    def release(self) -> None:
        """Give it back."""
        self._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Leases:
    """Those that are held, counted as they come and go: hundreds may be there, and each sentence
    asks several times what all need together. Any thread may ask."""

    def __init__(self) -> None:
        self._held: set[Lease] = set()
        self._cache_bytes = self._own_bytes = 0
        self._longest_rows: Counter[int] = Counter()
        self._passing: Counter[int] = Counter()
        self._lock = threading.Lock()

    def add(self, need: RequestNeed) -> Lease:
        """One more, of what `need` says."""
        lease = Lease(need, self._release)
        with self._lock:
            self._held.add(lease)
            self._cache_bytes += need.cache_bytes
            self._own_bytes += need.own_bytes
            self._longest_rows[need.longest_row_bytes] += 1
            self._passing[need.passing_bytes] += 1
        return lease

    def together(self, *more: RequestNeed) -> RequestNeed:
        """What all that are held need side by side, and `more`."""
        with self._lock:
            held = RequestNeed(
                cache_bytes=self._cache_bytes,
                longest_row_bytes=max(self._longest_rows, default=0),
                own_bytes=self._own_bytes,
                passing_bytes=max(self._passing, default=0),
            )
        return RequestNeed.together((held, *more))

    def _release(self, lease: Lease) -> None:
        need = lease.need
        with self._lock:
            if lease not in self._held:
                return
            self._held.remove(lease)
            self._cache_bytes -= need.cache_bytes
            self._own_bytes -= need.own_bytes
            count_down(self._longest_rows, need.longest_row_bytes)
            count_down(self._passing, need.passing_bytes)


def count_down(counter: Counter[T], key: T) -> None:
    """One less of `key`, which is forgotten with the last."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
