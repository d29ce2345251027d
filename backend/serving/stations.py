"""Which worker takes the next sentence: the one that can soonest."""

from collections import Counter
from dataclasses import dataclass

from backend.errors import OverCapacity
from backend.hardware.leases import Lease
from backend.hardware.memory import Demand
from backend.serving.slots import PendingSlot, Station, Work

Held = Counter[tuple[Station, Work]]
"""Slots at work, by where and what."""

ENCODED_TOGETHER = 1
"""Recordings, at one station."""
_WAITING, _WAITING_FOR_EACH = 112, 7
"""Requests that may wait, where no setting says how many; more where so many for each row are."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a station was planned with, whatever becomes of it."""

    rows: int
    most_rows: int
    """Rows of its worker, which may be more than are spoken together."""
    characters_per_s: float


class Stations:
    """The workers that a queue has. Those that are not able are passed over while others are."""

    def __init__(self) -> None:
        self._terms: dict[Station, _Terms] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def join(self, station: Station, *, rows: int, most_rows: int, characters_per_s: float) -> None:
        """One more takes sentences, or one goes on with another plan."""
        self._terms[station] = _Terms(rows, most_rows, characters_per_s)

    def part(self, station: Station) -> None:
        """It takes no more."""
        del self._terms[station]

    def expect(self, station: Station, characters_per_s: float) -> None:
        """Something better is known of its speed than what was planned; of one that has parted
        meanwhile, nothing."""
        if (was := self._terms.get(station)) is not None:
            self._terms[station] = _Terms(was.rows, was.most_rows, characters_per_s)

    @property
    def planned_rows(self) -> int:
        """Sentences together, as planned."""
        return sum(terms.rows for terms in self._terms.values())

    @property
    def waiting(self) -> int:
        """Requests that may wait for them, where no setting says how many."""
        each = sum(terms.most_rows for terms in self._terms.values())
        return max(_WAITING, _WAITING_FOR_EACH * each)

    @property
    def characters_per_s(self) -> float:
        """What is expected of all together."""
        return sum(terms.characters_per_s for terms in self._terms.values())

    @property
    def at_hand(self) -> list[Station]:
        """Those that are able; all where none is, for then who is first is waited for."""
        return [each for each in self._terms if each.is_able] or list(self._terms)

    @property
    def are_all_able(self) -> bool:
        """None is passed over."""
        return all(each.is_able for each in self._terms)

    @property
    def rows(self) -> int:
        """Sentences of this queue together, now."""
        return sum(station.rows - station.elsewhere for station in self.at_hand)

    def is_another_able(self, station: Station) -> bool:
        """It cannot speak, and another can."""
        return not station.is_able and any(each.is_able for each in self._terms)

    def free(self, held: Held) -> set[Work]:
        """The kinds of slot of which one is to be had, beside those that are `held`."""
        works: tuple[Work, ...] = ("speak", "encode")
        return {
            work
            for work in works
            if any(_has_room(station, work, held) for station in self.at_hand)
        }

    def check(self, demand: Demand) -> None:
        """Raise what is to be told where it can never fit any; its turn decides the rest."""
        problem: Exception | None = None
        for station in self.at_hand:
            try:
                station.memory.lease(demand).release()
            except OverCapacity:
                return
            except Exception as error:  # noqa: BLE001 - raised again, unless another takes it
                problem = error
            else:
                return
        if problem is not None:
            raise problem

    def place(self, wanted: PendingSlot, held: Held) -> tuple[Station, Lease] | None:
        """The station that takes `wanted` soonest, and its memory there; None where that has to
        wait for those that are `held`. Raises what is to be told where it never fits.
        """
        has_to_wait = False
        problem: Exception | None = None
        for station in self._soonest_first(wanted, held):
            if not _has_room(station, wanted.work, held):
                has_to_wait = True
                continue
            try:
                return station, station.memory.lease(wanted.demand)
            except Exception as error:  # noqa: BLE001 - raised again, unless another takes it
                is_at_work = held[station, "speak"] or held[station, "encode"]
                if is_at_work and isinstance(error, OverCapacity):
                    has_to_wait = True
                else:
                    problem = error
        if problem is not None and not has_to_wait:
            raise problem
        return None

    def _soonest_first(self, wanted: PendingSlot, held: Held) -> list[Station]:
        """By the sentences that it would be spoken beside, and how slow each is there. To read the
        prompt of a voice takes about as long as one more of them would."""
        voice = wanted.voice

        def after(station: Station) -> tuple[float, bool]:
            is_new = voice is not None and not station.has_voice(voice)
            beside = held[station, "speak"] + station.elsewhere
            return (beside + 1 + is_new) * station.rtf, is_new

        return sorted(self.at_hand, key=after)


def _has_room(station: Station, work: Work, held: Held) -> bool:
    most = station.rows - station.elsewhere if work == "speak" else ENCODED_TOGETHER
    return held[station, work] < most
