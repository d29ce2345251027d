"""What a container's limits leave: every shape in which the kernel tells them."""

from pathlib import Path

import pytest

from backend.hardware import readings
from backend.hardware.cgroup import memory_of, quota_cpus
from backend.hardware.machine import GIB, Memory
from backend.hardware.readings import read_limits

TOTAL, AVAILABLE = 16 * GIB, 12 * GIB
V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
TOP = "/sys/fs/cgroup"


def v2(own: str, mount: str = V2_MOUNT, **files: str) -> Memory:
    """Memory under cgroup v2; of `files`, the names have __ for / and _dot_ for a dot."""
    texts = {
        f"{TOP}/{name.replace('__', '/').replace('_dot_', '.')}": text
        for name, text in files.items()
    }
    texts |= {"/proc/self/cgroup": f"0::{own}\n", "/proc/self/mountinfo": mount}
    return memory_of(texts, TOTAL, AVAILABLE)


def test_no_cgroup_at_all() -> None:
    assert memory_of({}, TOTAL, AVAILABLE) == Memory(TOTAL, TOTAL, AVAILABLE, "machine")


@pytest.mark.parametrize("text", ["max\n", "", "nonsense\n", f"{TOTAL}\n", f"{2 * TOTAL}\n"])
def test_no_limit(text: str) -> None:
    memory = v2("/", memory_dot_max=text, memory_dot_current="1\n")
    assert memory == Memory(TOTAL, TOTAL, AVAILABLE, "machine")


def test_a_limit_above_the_total_says_nothing_of_what_is_free() -> None:
    memory = v2("/", memory_dot_max=f"{17 * GIB}", memory_dot_current=f"{8 * GIB}")
    assert memory.available_bytes == AVAILABLE


def test_limit_with_nothing_else_told() -> None:
    assert v2("/", memory_dot_max=f"{GIB}\n") == Memory(TOTAL, GIB, GIB, "cgroup v2")


def test_cached_files_count_as_free_but_busy_ones_do_not() -> None:
    memory = v2(
        "/",
        memory_dot_max=f"{4 * GIB}",
        memory_dot_current=f"{3 * GIB}",
        memory_dot_stat=f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n",
    )
    assert memory.available_bytes == 2 * GIB


def test_a_machine_with_less_than_the_limit_leaves() -> None:
    memory = v2("/", memory_dot_max=f"{15 * GIB}", memory_dot_current="0")
    assert (memory.limit_bytes, memory.available_bytes) == (15 * GIB, AVAILABLE)


def test_used_beyond_the_limit_leaves_nothing() -> None:
    memory = v2("/", memory_dot_max=f"{GIB}", memory_dot_current=f"{GIB + 4096}")
    assert memory.available_bytes == 0


def test_memory_high_counts_like_a_limit() -> None:
    memory = v2("/", memory_dot_max=f"{4 * GIB}", memory_dot_high=f"{2 * GIB}")
    assert memory.limit_bytes == 2 * GIB


def test_limit_and_free_memory_may_come_from_two_levels() -> None:
    memory = v2(
        "/a/b",
        a__b__memory_dot_max=f"{2 * GIB}",
        a__b__memory_dot_current="0",
        a__memory_dot_max=f"{3 * GIB}",
        a__memory_dot_current=f"{2 * GIB + GIB // 2}",
    )
    assert (memory.limit_bytes, memory.available_bytes) == (2 * GIB, GIB // 2)


def test_a_group_of_another_branch_does_not_count() -> None:
    memory = v2("/a/b", a__c__memory_dot_max=f"{GIB}", ab__memory_dot_max=f"{GIB}")
    assert memory.limit_source == "machine"


@pytest.mark.parametrize(
    ("root", "own", "decoy"),
    [
        ("/", "/", "x"),
        ("/docker/1", "/docker/1", "docker/1"),
        ("/docker/1", "/docker/11", "1"),  # not below the mount, though its name begins alike
        ("/docker/1", "/", "docker/1"),
        ("/", "/../../other", "../../other"),  # outside of this namespace
    ],
)
def test_what_is_not_below_a_mount_is_judged_by_its_top(root: str, own: str, decoy: str) -> None:
    texts = {
        "/proc/self/cgroup": f"0::{own}\n",
        "/proc/self/mountinfo": f"29 23 0:26 {root} {TOP} rw - cgroup2 cgroup2 rw\n",
        f"{TOP}/memory.max": str(2 * GIB),
        f"{TOP}/{decoy}/memory.max": str(GIB),
    }
    assert memory_of(texts, TOTAL, AVAILABLE).limit_bytes == 2 * GIB


def test_below_a_mount_that_begins_at_a_group() -> None:
    mount = "29 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert v2("/docker/1/x", mount, x__memory_dot_max=f"{GIB}").limit_bytes == GIB


def test_mount_point_with_a_blank() -> None:
    texts = {
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": "29 23 0:26 / /my\\040groups rw shared:1 - cgroup2 cgroup2 rw\n",
        "/my groups/memory.max": str(GIB),
    }
    assert memory_of(texts, TOTAL, AVAILABLE).limit_bytes == GIB


def test_v1_beside_v2_takes_the_tighter() -> None:
    texts = {
        "/proc/self/cgroup": "4:memory:/a\n0::/b\n",
        "/proc/self/mountinfo": (
            "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n"
        ),
        "/cg/memory/a/memory.limit_in_bytes": str(GIB),
        "/cg/unified/b/memory.max": str(2 * GIB),
    }
    assert memory_of(texts, TOTAL, AVAILABLE) == Memory(TOTAL, GIB, GIB, "cgroup v1")
    del texts["/cg/memory/a/memory.limit_in_bytes"]
    assert memory_of(texts, TOTAL, AVAILABLE) == Memory(TOTAL, 2 * GIB, 2 * GIB, "cgroup v2")


def test_32_bit_process() -> None:
    memory = memory_of({}, TOTAL, AVAILABLE, pointer_bits=32)
    assert (memory.limit_bytes, memory.available_bytes) == (3 * GIB, 3 * GIB)
    assert memory_of({}, GIB, GIB // 2, pointer_bits=32) == Memory(GIB, GIB, GIB // 2, "machine")


@pytest.mark.parametrize(
    ("cpu_max", "quota"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("50000 100000\n", 0.5),
        ("100000\n", None),
        ("", None),
        ("100000 0\n", None),
    ],
)
def test_quota_v2(cpu_max: str, quota: float | None) -> None:
    texts = {"/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": V2_MOUNT}
    assert quota_cpus(texts | {f"{TOP}/cpu.max": cpu_max}) == quota


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [("-1", "100000", None), ("200000\n", "100000\n", 2.0), ("5000", "", None)],
)
def test_quota_v1(quota_us: str, period_us: str, quota: float | None) -> None:
    texts = {
        "/proc/self/cgroup": "4:cpu,cpuacct:/a\n",
        "/proc/self/mountinfo": "35 31 0:32 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
        "/cg/cpu/a/cpu.cfs_quota_us": quota_us,
        "/cg/cpu/a/cpu.cfs_period_us": period_us,
    }
    assert quota_cpus(texts) == quota


def test_the_tightest_quota_of_all_levels() -> None:
    texts = {"/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": V2_MOUNT}
    texts |= {f"{TOP}/cpu.max": "100000 100000", f"{TOP}/a/cpu.max": "400000 100000"}
    assert quota_cpus(texts) == 1.0


def test_limits_are_read_from_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that a process in a nested group would find, really lying in a folder."""
    top = tmp_path / "cgroup"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "memory.max").write_text(f"{GIB}\n")
    (top / "a" / "memory.current").write_text(f"{GIB // 4}\n")
    (top / "a" / "b" / "memory.max").write_text("max\n")
    (top / "a" / "b" / "cpu.max").write_text("50000 100000\n")
    texts = {
        "/proc/self/cgroup": "0::/a/b\n",
        "/proc/self/mountinfo": (
            "22 1 8:1 / / rw - ext4 /dev/vda rw\n"
            f"29 23 0:26 / {str(top).replace(' ', chr(92) + '040')} rw - cgroup2 cgroup2 rw\n"
        ),
    }
    really = readings.read_files
    monkeypatch.setattr(
        readings,
        "read_files",
        lambda paths: {p: texts[p] for p in paths if p in texts} or really(paths),
    )
    limits = read_limits()
    memory = memory_of(limits, TOTAL, AVAILABLE)
    assert memory == Memory(TOTAL, GIB, GIB - GIB // 4, "cgroup v2")
    assert quota_cpus(limits) == 0.5
    assert "ext4" not in limits["/proc/self/mountinfo"]
