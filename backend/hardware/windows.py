"""What only Windows' own calls tell of the processor. On other systems everything is empty."""

import ctypes
import struct
import sys
from collections.abc import Iterator

if sys.platform == "win32":
    import winreg

_PROCESSOR_CORE = 0
"""`RelationProcessorCore` of GetLogicalProcessorInformationEx."""
_HEADER = struct.Struct("<II")
"""Relationship and size in bytes of one record."""
_CORE = struct.Struct("<BB20xH")
"""Flags, efficiency class and number of groups."""
_GROUP = struct.Struct("<QH6x")
"""Mask of logical CPUs, and the group of up to 64 that they are in."""
_FEATURES = (19, 40, 41, 43)
"""PF_ARM_NEON, PF_AVX2, PF_AVX512F and PF_ARM_V82_DP of winnt.h."""
_PROCESSOR_KEY = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def read_registry() -> dict[str, str]:
    """Name of the first processor."""
    if sys.platform == "win32":
        name = "ProcessorNameString"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PROCESSOR_KEY) as key:
                return {name: str(winreg.QueryValueEx(key, name)[0])}
        except OSError:
            return {}
    else:
        return {}


def read_features() -> tuple[int, ...]:
    """Numbers of `IsProcessorFeaturePresent` that this processor has, of those that matter here."""
    if sys.platform == "win32":
        is_present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return tuple(number for number in _FEATURES if is_present(number))
    else:
        return ()


def read_cores() -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(efficiency class, logical CPUs) of each core."""
    if sys.platform == "win32":
        ask = ctypes.windll.kernel32.GetLogicalProcessorInformationEx
        size = ctypes.c_ulong(0)
        ask(_PROCESSOR_CORE, None, ctypes.byref(size))  # fails, and tells how much room it needs
        buffer = ctypes.create_string_buffer(size.value)
        if ask(_PROCESSOR_CORE, buffer, ctypes.byref(size)):
            return tuple(cores_in(buffer.raw[: size.value]))
    return ()


def cores_in(records: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The cores in an answer of GetLogicalProcessorInformationEx."""
    start = 0
    while start < len(records):
        relationship, size = _HEADER.unpack_from(records, start)
        if relationship == _PROCESSOR_CORE:
            _, efficiency_class, groups = _CORE.unpack_from(records, start + _HEADER.size)
            logical: list[int] = []
            for number in range(groups):
                at = start + _HEADER.size + _CORE.size + number * _GROUP.size
                mask, group = _GROUP.unpack_from(records, at)
                logical += [64 * group + bit for bit in range(64) if mask >> bit & 1]
            yield efficiency_class, tuple(logical)
        start += size
