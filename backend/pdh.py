"""Windows' performance counters (pdh.dll), by their English names, which any user may read."""

import ctypes
import sys
from typing import Any

_MORE_DATA, _FORMAT_DOUBLE = 0x800007D2, 0x200
_VALID = (0, 1)
"""Of a value: it is there, and it may be newer than the last."""
_MOST_BUFFER_BYTES = 1 << 20


class CountersUnavailable(Exception):
    """There is no such counter here, or nobody tells it now."""


class _Value(ctypes.Structure):
    _fields_ = (("status", ctypes.c_uint32), ("number", ctypes.c_double))


class _Item(ctypes.Structure):
    _fields_ = (("name", ctypes.c_wchar_p), ("value", _Value))


def library() -> Any:
    """pdh.dll; `CountersUnavailable` on other systems."""
    if sys.platform == "win32":
        return ctypes.WinDLL("pdh")
    raise CountersUnavailable("only Windows has them")


class Counters:
    """Counters of all instances of one kind, read together. Blocks briefly."""

    def __init__(self, *paths: str, pdh: Any = None) -> None:
        r"""`paths` are as in `\Thermal Zone Information(*)\Temperature`; `pdh` stands in for the
        library."""
        self._pdh = library() if pdh is None else pdh
        handle, number = ctypes.c_void_p, ctypes.c_uint32
        pointer = ctypes.POINTER(handle)
        for name, arguments in {
            "PdhOpenQueryW": (ctypes.c_wchar_p, ctypes.c_size_t, pointer),
            "PdhAddEnglishCounterW": (handle, ctypes.c_wchar_p, ctypes.c_size_t, pointer),
            "PdhCollectQueryData": (handle,),
            "PdhGetFormattedCounterArrayW": (
                *(handle, number),
                *(ctypes.POINTER(number), ctypes.POINTER(number), ctypes.c_void_p),
            ),
            "PdhCloseQuery": (handle,),
        }.items():
            function = getattr(self._pdh, name)
            function.argtypes, function.restype = arguments, number
        self._query = handle()
        _check(self._pdh.PdhOpenQueryW(None, 0, ctypes.byref(self._query)))
        try:
            self._counters = {path: self._add(path) for path in paths}
        except CountersUnavailable:
            self.close()
            raise

    def read(self) -> dict[str, dict[str, float]]:
        """Of each path its value by instance, those that are told now."""
        _check(self._pdh.PdhCollectQueryData(self._query))
        return {path: self._values(counter) for path, counter in self._counters.items()}

    def close(self) -> None:
        """Read no more."""
        self._pdh.PdhCloseQuery(self._query)

    def _add(self, path: str) -> ctypes.c_void_p:
        counter = ctypes.c_void_p()
        _check(self._pdh.PdhAddEnglishCounterW(self._query, path, 0, ctypes.byref(counter)))
        return counter

    def _values(self, counter: ctypes.c_void_p) -> dict[str, float]:
        size, count = ctypes.c_uint32(0), ctypes.c_uint32(0)
        told = (ctypes.byref(size), ctypes.byref(count))
        get = self._pdh.PdhGetFormattedCounterArrayW
        status = get(counter, _FORMAT_DOUBLE, *told, None)
        if status != _MORE_DATA or not 0 < size.value <= _MOST_BUFFER_BYTES:
            return {}
        # The names lie behind the items, in the same buffer.
        buffer = ctypes.create_string_buffer(size.value)
        if get(counter, _FORMAT_DOUBLE, *told, buffer) != 0:
            return {}  # one more has come meanwhile
        items = ctypes.cast(buffer, ctypes.POINTER(_Item))
        found = [items[index] for index in range(count.value)]
        return {each.name: each.value.number for each in found if each.value.status in _VALID}


def _check(status: int) -> None:
    if status:
        raise CountersUnavailable(f"pdh.dll answers 0x{status & 0xFFFFFFFF:08X}")
