"""What a container's limits leave: cgroup v1 and v2, read from the texts of their files.

A limit may stand at any level between the process's own group and the top that it can see, so all
of them are looked at and the tightest counts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from backend.hardware.machine import GIB, Memory

OWN_GROUPS, MOUNTS = "/proc/self/cgroup", "/proc/self/mountinfo"
ADDRESSABLE_32_BIT_BYTES = 3 * GIB
"""What a 32-bit process gets of its 4 GiB of addresses; the kernel takes the rest."""
_FILES: dict[str, tuple[str, ...]] = {
    "v1 memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
    "v1 cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "v2": ("memory.max", "memory.high", "memory.current", "memory.stat", "cpu.max"),
}
"""What is read of each folder of a hierarchy."""
Source = Literal["machine", "cgroup v1", "cgroup v2"]


@dataclass(frozen=True, slots=True)
class _Level:
    """One group on the way from the process up: what it may have, and how much of it is taken."""

    limit_bytes: int
    used_bytes: int
    source: Source


def cgroup_mounts(mountinfo: str) -> str:
    """The lines of /proc/self/mountinfo that mount cgroups."""
    return "".join(f"{line}\n" for line in mountinfo.splitlines() if " - cgroup" in line)


def limit_files(files: Mapping[str, str]) -> list[str]:
    """Paths of every file that may hold a limit of this process, from its groups and mounts."""
    return [f"{folder}/{name}" for kind, folder in _folders(files) for name in _FILES[kind]]


def memory_of(
    files: Mapping[str, str], total_bytes: int, available_bytes: int, pointer_bits: int = 64
) -> Memory:
    """Main memory as this process may use it; a limit above the total is none."""
    limit, free = total_bytes, available_bytes
    if pointer_bits == 32 and limit > ADDRESSABLE_32_BIT_BYTES:
        limit, free = ADDRESSABLE_32_BIT_BYTES, min(free, ADDRESSABLE_32_BIT_BYTES)
    tightest: Source = "machine"
    for level in _memory_levels(files):
        if level.limit_bytes >= total_bytes:
            continue
        free = min(free, max(0, level.limit_bytes - level.used_bytes))
        if level.limit_bytes < limit:
            limit, tightest = level.limit_bytes, level.source
    return Memory(total_bytes, limit, free, tightest)


def quota_cpus(files: Mapping[str, str]) -> float | None:
    """CPUs' worth of time that the tightest quota grants; None is no limit."""
    quotas = [quota for kind, folder in _folders(files) if (quota := _quota(files, kind, folder))]
    return min(quotas, default=None)


def _quota(files: Mapping[str, str], kind: str, folder: str) -> float | None:
    if kind == "v2":
        words = files.get(f"{folder}/cpu.max", "").split()
    elif kind == "v1 cpu":
        words = [files.get(f"{folder}/{name}", "").strip() for name in _FILES[kind]]
    else:
        return None
    if len(words) != 2 or not all(word.isdigit() for word in words):  # "max 100000", or -1 in v1
        return None
    quota_us, period_us = map(int, words)
    return quota_us / period_us if quota_us and period_us else None


def _memory_levels(files: Mapping[str, str]) -> Iterator[_Level]:
    for kind, folder in _folders(files):
        stat = _stat(files.get(f"{folder}/memory.stat", ""))
        if kind == "v2":
            names, used, cached = ("memory.max", "memory.high"), "memory.current", "inactive_file"
            limits = [_number(files.get(f"{folder}/{name}", "")) for name in names]
        elif kind == "v1 memory":
            used, cached = "memory.usage_in_bytes", "total_inactive_file"
            # The second holds for groups above that a container cannot see.
            limits = [
                _number(files.get(f"{folder}/memory.limit_in_bytes", "")),
                stat.get("hierarchical_memory_limit"),
            ]
        else:
            continue
        limit = min((number for number in limits if number is not None), default=None)
        if limit is not None:
            taken = _number(files.get(f"{folder}/{used}", "")) or 0
            # Cached files that nobody used lately are dropped before anybody is refused memory.
            yield _Level(
                limit,
                max(0, taken - stat.get(cached, 0)),
                "cgroup v2" if kind == "v2" else "cgroup v1",
            )


def _folders(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(kind of `_FILES`, folder) of each hierarchy, from the process's own group up to its top."""
    own = _own_groups(files.get(OWN_GROUPS, ""))
    for line in files.get(MOUNTS, "").splitlines():
        left, separator, right = line.partition(" - ")
        if not separator or not right.startswith("cgroup"):
            continue
        root, mount_point = map(_unescape, left.split()[3:5])
        kind_of_system, _, options = right.split(maxsplit=2)
        if kind_of_system == "cgroup2":
            kinds = {"v2": own.get("")}
        else:
            controllers = set(options.split(",")) & {"memory", "cpu"}
            kinds = {f"v1 {name}": own.get(name) for name in sorted(controllers)}
        for kind, group in kinds.items():
            for folder in _upwards(mount_point, _below(root, group)):
                yield kind, folder


def _own_groups(text: str) -> dict[str, str]:
    """Path of the process's own group by controller; that of v2 by ""."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        own |= dict.fromkeys(controllers.split(","), path.removesuffix(" (deleted)"))
    return own


def _below(root: str, group: str | None) -> str:
    """Where `group` is under a mount whose top is `root`; the top itself if it is not below it."""
    if group is None or ".." in group.split("/"):  # a group outside of this namespace
        return ""
    if root == "/":
        return group.strip("/")
    return group.removeprefix(root).strip("/") if f"{group}/".startswith(f"{root}/") else ""


def _upwards(mount_point: str, below: str) -> Iterator[str]:
    while below:
        yield f"{mount_point}/{below}"
        below = below.rpartition("/")[0]
    yield mount_point


def _unescape(path: str) -> str:
    """Mountinfo writes blanks and backslashes of paths as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _number(text: str) -> int | None:
    """None for "max", for a missing file, and for anything else that is no number."""
    return int(text) if text.strip().isdigit() else None


def _stat(text: str) -> dict[str, int]:
    pairs = [line.split() for line in text.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
