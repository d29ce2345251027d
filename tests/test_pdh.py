"""How pdh.dll is asked: by its C structures, which a library of the tests fills as it does."""

import ctypes
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from backend.pdh import Counters, CountersUnavailable, library

MORE_DATA, NO_COUNTER, NO_DATA, INVALID = 0x800007D2, 0xC0000BB9, 0x800007D5, 0xC0000BBA


class Value(ctypes.Structure):
    """PDH_FMT_COUNTERVALUE: a status, and a union of eight bytes at offset 8."""

    _fields_ = (("status", ctypes.c_uint32), ("number", ctypes.c_double))


class Item(ctypes.Structure):
    """PDH_FMT_COUNTERVALUE_ITEM_W."""

    _fields_ = (("name", ctypes.c_wchar_p), ("value", Value))


def test_the_structures_are_those_of_64_bits() -> None:
    assert Value.number.offset == 8
    if sys.maxsize > 2**32:
        assert (ctypes.sizeof(Item), Item.value.offset) == (24, 8)


class Library:
    """A pdh.dll with these values, by path: (name, status, value) each."""

    def __init__(self, values: dict[str, list[tuple[str, int, float]]]) -> None:
        self.values, self.paths, self.kept = values, list[str](), list[Any]()
        self.open = 0
        self.collect_status = 0
        self.grows = False
        self.dll = SimpleNamespace(
            PdhOpenQueryW=partial(self._open),
            PdhAddEnglishCounterW=partial(self._add),
            PdhCollectQueryData=lambda query: self.collect_status,
            PdhGetFormattedCounterArrayW=partial(self._get),
            PdhCloseQuery=lambda query: self._close(),
        )

    def _open(self, source: None, user: int, query: Any) -> int:
        query._obj.value = 7
        self.open += 1
        return 0

    def _close(self) -> int:
        self.open -= 1
        return 0

    def _add(self, query: Any, path: str, user: int, counter: Any) -> int:
        assert query.value == 7
        if path not in self.values:
            return NO_COUNTER
        self.paths.append(path)
        counter._obj.value = len(self.paths)
        return 0

    def _get(self, counter: Any, form: int, size: Any, count: Any, buffer: Any) -> int:
        assert form == 0x200
        values = self.values[self.paths[counter.value - 1]]
        if not values:
            return NO_DATA
        needed = ctypes.sizeof(Item) * len(values)
        if buffer is None or size._obj.value < needed:
            size._obj.value = needed
            return MORE_DATA
        if self.grows:
            return MORE_DATA
        items = ctypes.cast(buffer, ctypes.POINTER(Item))
        for index, (name, status, number) in enumerate(values):
            self.kept.append(item := Item(name, Value(status, number)))
            items[index] = item
        count._obj.value = len(values)
        return 0


def test_values_by_instance() -> None:
    made = Library({"a": [("one", 0, 1.5), ("two", 1, 2.5), ("bad", INVALID, 9.0)], "b": []})
    counters = Counters("a", "b", pdh=made.dll)
    assert counters.read() == {"a": {"one": 1.5, "two": 2.5}, "b": {}}
    made.grows = True
    assert counters.read()["a"] == {}
    made.collect_status = NO_DATA
    with pytest.raises(CountersUnavailable, match="0x800007D5"):
        counters.read()
    counters.close()
    assert made.open == 0


def test_a_counter_that_is_not_there_leaves_no_query_open() -> None:
    made = Library({"a": []})
    with pytest.raises(CountersUnavailable, match="0xC0000BB9"):
        Counters("a", "b", pdh=made.dll)
    assert made.open == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there it is")
def test_elsewhere_there_is_no_library() -> None:
    with pytest.raises(CountersUnavailable):
        library()


@pytest.mark.skipif(sys.platform != "win32", reason="asks the real library")
def test_the_real_library_answers() -> None:
    path = r"\Processor Information(*)\% Processor Time"
    counters = Counters(path)
    counters.read()
    counters.close()
