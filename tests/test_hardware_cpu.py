"""What the raw readings say of the processor, table by table."""

import pytest

from backend.hardware.cpu import cpu_generation, cpu_list, detect_cpu
from backend.hardware.readings import Readings
from backend.hardware.windows import cores_in


def linux(cpuinfo: str = "", **files: str) -> Readings:
    return Readings("Linux", "x86_64", files={"/proc/cpuinfo": cpuinfo, **files}, logical_cores=1)


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("12th Gen Intel(R) Core(TM) i5-1235U", 12),
        ("13th Gen Intel(R) Core(TM) i5-1334U", 13),
        ("Intel(R) Core(TM) i9-14900KS", 14),
        ("11th Gen Intel(R) Core(TM) i7-11370H @ 3.30GHz", 11),
        ("Intel(R) Core(TM) i5-10400 CPU @ 2.90GHz", 10),
        ("Intel(R) Core(TM) i7-1065G7 CPU @ 1.30GHz", 10),
        ("Intel(R) Core(TM) i5-1135G7", 11),
        ("Intel(R) Core(TM) i9-9900K CPU @ 3.60GHz", 9),
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", 8),
        ("Intel(R) Core(TM) m3-7Y30 CPU @ 1.00GHz", 7),
        ("Intel(R) Core(TM) i5-4590 CPU @ 3.30GHz", 4),
        ("Intel(R) Core(TM) i7-2600K CPU @ 3.40GHz", 2),
        ("Intel(R) Core(TM) i7 CPU         870  @ 2.93GHz", 1),
        ("Intel(R) Core(TM) i5-750 CPU @ 2.67GHz", 1),
        ("Intel(R) Core(TM) i3-N305", None),
        ("Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz", None),
        ("Intel(R) Core(TM) Ultra 7 155H", 1),
        ("Intel(R) Core(TM) Ultra 9 285K", 2),
        ("Intel(R) Core(TM) 7 150U", 1),
        ("Intel(R) Celeron(R) N4020 CPU @ 1.10GHz", None),
        ("Intel(R) N100", None),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 3),
        ("Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 1),
        ("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.10GHz", 5),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 4),
        ("Intel(R) Xeon(R) 6980P", 6),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", None),
        ("AMD Ryzen 5 3600 6-Core Processor", 3),
        ("AMD Ryzen 5 PRO 5650U with Radeon Graphics", 5),
        ("AMD Ryzen 7 7840HS w/ Radeon 780M Graphics", 7),
        ("AMD Ryzen 9 9950X 16-Core Processor", 9),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", None),
        ("AMD Ryzen Threadripper 3970X 32-Core Processor", 3),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", 5),
        ("AMD EPYC 7763 64-Core Processor", 3),
        ("AMD EPYC 9R14", 4),
        ("AMD EPYC 9654 96-Core Processor", 4),
        ("AMD EPYC", None),
        ("Apple M1", 1),
        ("Apple M4 Max", 4),
        ("Neoverse-N1", None),
        ("", None),
    ],
)
def test_generation_by_name(model: str, generation: int | None) -> None:
    assert cpu_generation(model) == generation


@pytest.mark.parametrize(
    ("board", "generation"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", 5),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 3),
        ("Raspberry Pi 400 Rev 1.0", 4),
        ("Raspberry Pi Compute Module 4 Rev 1.1", 4),
        ("Raspberry Pi Zero 2 W Rev 1.0", None),
        ("Raspberry Pi Model B Rev 2", None),
        ("Orange Pi 5", None),
    ],
)
def test_generation_by_board(board: str, generation: int | None) -> None:
    assert cpu_generation("Cortex-A72", board) == generation


@pytest.mark.parametrize(
    ("cpuinfo", "vendor", "model"),
    [
        ("vendor_id\t: GenuineIntel\nmodel name\t: Intel(R)  N100 \n", "intel", "Intel(R) N100"),
        ("vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", "amd", "AMD EPYC"),
        ("vendor_id\t: HygonGenuine\nmodel name\t: Hygon C86 7185\n", "hygon", "Hygon C86 7185"),
        ("vendor_id\t:   Shanghai  \nmodel name\t: ZHAOXIN KX\n", "zhaoxin", "ZHAOXIN KX"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "arm", "Neoverse-N1"),
        ("CPU implementer\t: 0xc0\nCPU part\t: 0xac3\n", "ampere", ""),
        ("CPU implementer\t: 0x7f\nCPU part\t: 0x001\n", "unknown", ""),
        ("processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n", "unknown", ""),
        ("", "unknown", ""),
    ],
)
def test_vendor_and_model(cpuinfo: str, vendor: str, model: str) -> None:
    cpu = detect_cpu(linux(cpuinfo))
    assert (cpu.vendor, cpu.model) == (vendor, model)


@pytest.mark.parametrize(
    ("line", "features"),
    [
        ("flags\t\t: fpu sse4_2 avx f16c", set()),
        ("flags\t\t: avx avx2 fma", {"avx2"}),
        ("flags\t\t: avx2 avx512f avx512bw", {"avx2", "avx512"}),
        ("flags\t\t: avx2 avx512f avx512_vnni", {"avx2", "avx512", "vnni"}),
        ("flags\t\t: avx2 avx_vnni", {"avx2", "vnni"}),
        ("flags\t\t: avx2 avx512f avx512_bf16", {"avx2", "avx512", "bf16"}),
        ("flags\t\t: amx_bf16 amx_tile amx_int8", {"amx", "bf16"}),
        ("flags\t\t: amx_bf16_not avx512_vnni_not", set()),
        ("Features\t: fp asimd evtstrm crc32 cpuid", {"neon"}),
        ("Features\t: half thumb neon vfpv3", {"neon"}),
        ("Features\t: fp asimd sve svebf16 i8mm bf16", {"neon", "bf16"}),
        ("Features\t: fp asimd svebf16", {"neon"}),
        ("Features\t: fp asimd asimdhp asimddp", {"neon", "dotprod"}),
        ("vmx flags\t: vnmi avx2", set()),
    ],
)
def test_features(line: str, features: set[str]) -> None:
    assert detect_cpu(linux(f"processor\t: 0\n{line}\n")).features == features


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-2,8\n", (0, 1, 2, 8)), ("5\n", (5,)), ("\n", ()), ("", ()), ("0,64", (0, 64))],
)
def test_cpu_list(text: str, cpus: tuple[int, ...]) -> None:
    assert cpu_list(text) == cpus


def test_half_told_topology_is_none() -> None:
    """A core whose siblings are not told must not be taken for missing."""
    folder = "/sys/devices/system/cpu"
    files = {f"{folder}/online": "0-3", f"{folder}/cpu0/topology/core_cpus_list": "0-1"}
    files[f"{folder}/cpu1/topology/core_cpus_list"] = "0-1"
    assert detect_cpu(linux("", **files)).topology == ()
    files |= {f"{folder}/cpu{n}/topology/core_cpus_list": "2-3" for n in (2, 3)}
    assert [core.logical for core in detect_cpu(linux("", **files)).topology] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("capacities", "efficiency_cores"),
    [((1024, 1024), 0), ((1024, 983), 0), ((414, 1024), 1), ((640, 1024), 1)],
)
def test_capacity_tells_efficiency_cores(
    capacities: tuple[int, int], efficiency_cores: int
) -> None:
    folder = "/sys/devices/system/cpu"
    files = {f"{folder}/online": "0-1"}
    for cpu, capacity in enumerate(capacities):
        files[f"{folder}/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu}\n"
        files[f"{folder}/cpu{cpu}/cpu_capacity"] = f"{capacity}\n"
    assert detect_cpu(linux("", **files)).efficiency_cores == efficiency_cores


def windows_record(efficiency_class: int, mask: int, group: int = 0) -> bytes:
    """One core as GetLogicalProcessorInformationEx writes it, by the layout of winnt.h."""
    header = (0).to_bytes(4, "little") + (48).to_bytes(4, "little")
    core = bytes([1, efficiency_class]) + bytes(20) + (1).to_bytes(2, "little")
    return header + core + mask.to_bytes(8, "little") + group.to_bytes(2, "little") + bytes(6)


def test_windows_cores() -> None:
    other = (3).to_bytes(4, "little") + (16).to_bytes(4, "little") + bytes(8)  # a package
    answer = windows_record(1, 0b11) + other + windows_record(0, 0b100) + windows_record(0, 1, 1)
    assert list(cores_in(answer)) == [(1, (0, 1)), (0, (2,)), (0, (64,))]
    assert list(cores_in(b"")) == []
