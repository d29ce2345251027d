"""What all clients share, and what one of them may have of it: connections, and bytes held."""

from collections import Counter

_FREE_BYTES = 64 * 1024
"""Of each upload, not counted: a sentence is spoken whatever recordings others send."""


class Quota:
    """So much of something for everybody together, and no more than `share` for one network."""

    def __init__(self, whole: int, share: int) -> None:
        self._whole, self._share = whole, share
        self._taken = 0
        self._by_network: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """What is had by all of them."""
        return self._taken

    def take(self, network: str, amount: int = 1) -> bool:
        """Whether `network` gets it; the whole of it, or nothing."""
        if self._taken + amount > self._whole or self._by_network[network] + amount > self._share:
            return False
        self._taken += amount
        self._by_network[network] += amount
        return True

    def give_back(self, network: str, amount: int = 1) -> None:
        """What was taken can be had by others."""
        self._taken -= amount
        self._by_network[network] -= amount
        if not self._by_network[network]:
            del self._by_network[network]  # every network of the world may come


class Holding:
    """Bytes of one upload that are held in memory, counted against a quota."""

    def __init__(self, quota: Quota, network: str) -> None:
        self._quota, self._network = quota, network
        self._counted_bytes = 0

    def grow_to(self, size_bytes: int) -> bool:
        """Whether there is room for so many bytes; where there is none, nothing changes."""
        more = size_bytes - _FREE_BYTES - self._counted_bytes
        if more > 0:
            if not self._quota.take(self._network, more):
                return False
            self._counted_bytes += more
        return True

    def release(self) -> None:
        """The bytes are held no more."""
        if self._counted_bytes:
            self._quota.give_back(self._network, self._counted_bytes)
            self._counted_bytes = 0
