"""What the raw readings say of the processor."""

import re
from collections.abc import Mapping

from backend.hardware.cgroup import quota_cpus
from backend.hardware.machine import Core, CoreKind, Cpu, CpuFeature
from backend.hardware.readings import CPU_FOLDER, CPUINFO, EFFICIENCY_CPUS, Readings

_VENDORS = {
    "GenuineIntel": "intel",
    "AuthenticAMD": "amd",
    "HygonGenuine": "hygon",
    "CentaurHauls": "zhaoxin",
    "Shanghai": "zhaoxin",
    "Qualcomm": "qualcomm",
    "Apple": "apple",
    "VirtualApple": "apple",
}
_IMPLEMENTERS = {
    0x41: "arm",
    0x42: "broadcom",
    0x43: "cavium",
    0x46: "fujitsu",
    0x48: "hisilicon",
    0x4E: "nvidia",
    0x51: "qualcomm",
    0x53: "samsung",
    0x61: "apple",
    0xC0: "ampere",
}
"""The designer of an ARM core, by the number in /proc/cpuinfo."""
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
    0xD84: "Neoverse-V3",
    0xD8E: "Neoverse-N3",
}
"""Names of Arm's own cores: Linux on ARM tells numbers only."""
_FLAGS: dict[CpuFeature, frozenset[str]] = {
    "avx2": frozenset({"avx2"}),
    "avx512": frozenset({"avx512f"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni", "avx512vnni"}),
    "amx": frozenset({"amx_tile"}),
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "neon": frozenset({"neon", "asimd"}),
    "dotprod": frozenset({"asimddp"}),
}
"""Any of these flags of /proc/cpuinfo, or of macOS's machdep.cpu, means the feature."""
_SYSCTL: dict[CpuFeature, tuple[str, ...]] = {
    "avx2": ("hw.optional.avx2_0",),
    "avx512": ("hw.optional.avx512f",),
    "bf16": ("hw.optional.arm.FEAT_BF16",),
    "neon": ("hw.optional.neon", "hw.optional.AdvSIMD", "hw.optional.arm64"),
    "dotprod": ("hw.optional.arm.FEAT_DotProd",),
}
_WINDOWS_FEATURES: dict[CpuFeature, frozenset[int]] = {
    "avx2": frozenset({40}),
    "avx512": frozenset({41}),
    "neon": frozenset({19}),
    "dotprod": frozenset({43}),
}
"""By the numbers of `IsProcessorFeaturePresent`, which knows no more of these."""
_EFFICIENCY_CAPACITY = 0.8
"""A core below this share of the strongest core's capacity is an efficiency core. Cores of one kind
differ a little where the firmware favours some."""
_GENERATION = (
    r"Core\(TM\) (?:Ultra )?[3579] (\d)\d\d",
    r"Xeon\(R\) (?:Platinum|Gold|Silver|Bronze) \d(\d)\d\d",
    r"Xeon\(R\) (6)\d{3}[EP]",
    r"Xeon\(R\) .* v(\d)",
    r"Ryzen (?:Threadripper )?(?:[3579] )?(?:PRO )?(\d)\d{3}",
    r"EPYC \d\w\d(\d)",
    r"Apple M(\d+)",
)
"""How the families but Core i write their generation; tried in this order."""


def detect_cpu(readings: Readings) -> Cpu:
    """The processor; where nothing is told its cores count as alike."""
    cpuinfo = readings.files.get(CPUINFO, "")
    model = _model(readings, cpuinfo)
    topology = _topology(readings)
    logical = readings.logical_cores or len(readings.affinity) or 1
    physical = len(topology) or readings.physical_cores or logical
    efficiency = sum(core.kind == "efficiency" for core in topology)
    levels = _apple_levels(readings.sysctl)
    if levels is not None:
        physical, efficiency = sum(levels), levels[1]
    return Cpu(
        vendor=_vendor(readings, cpuinfo),
        model=model,
        generation=cpu_generation(model, board(readings)),
        physical_cores=physical,
        logical_cores=logical,
        performance_cores=physical - efficiency,
        efficiency_cores=efficiency,
        topology=topology,
        allowed=tuple(sorted(readings.affinity)),
        quota_cpus=quota_cpus(readings.files),
        features=_features(readings, cpuinfo),
    )


def board(readings: Readings) -> str:
    """Model of a single-board computer, or of a Mac as "MacBook Air (Mac14,2)"; else ""."""
    identifier, name = readings.sysctl.get("hw.model", ""), readings.model_name
    if identifier:
        return f"{name} ({identifier})" if name else identifier
    return readings.files.get("/proc/device-tree/model", "").strip("\0\n ")


def cpu_generation(model: str, board: str = "") -> int | None:
    """Which generation of its family a processor is, by its name; None where the name is silent.

    Core Ultra counts anew: 155H is 1, 285K is 2.
    """
    if match := re.match(r"Raspberry Pi (?:Compute Module )?(\d)(?:00)?\b", board):
        return int(match[1])
    if match := re.search(r"\b(?:i[3579](?:-| CPU +)|m[357]-)(\d+)", model):
        return _core_generation(match[1])
    for pattern in _GENERATION:
        if match := re.search(pattern, model, re.IGNORECASE):
            return int(match[1])
    return None


def _core_generation(number: str) -> int | None:
    """Of the digits after i5-: 4590 is 4, 10400 and 1065(G7) are 10, 1235 is 12, 870 is 1."""
    if len(number) == 5 or (len(number) == 4 and number.startswith("1")):
        return int(number[:2])
    return {4: int(number[0]), 3: 1, 1: int(number[0])}.get(len(number))


def _model(readings: Readings, cpuinfo: str) -> str:
    name = (
        readings.sysctl.get("machdep.cpu.brand_string")
        or readings.registry.get("ProcessorNameString")
        or _field(cpuinfo, "model name")
    )
    if not name or name.startswith("ARMv"):  # 32-bit kernels tell the architecture only
        name = _arm_model(cpuinfo) or name
    return " ".join((name or readings.processor).split())


def _arm_model(cpuinfo: str) -> str:
    """Names of the cores, each kind once, in the order of their numbers."""
    parts = re.findall(r"^CPU part\s*: (0x\w+)", cpuinfo, re.MULTILINE)
    known = [_ARM_PARTS.get(int(part, 16), "") for part in parts]
    return " + ".join(name for name in dict.fromkeys(known) if name)


def _vendor(readings: Readings, cpuinfo: str) -> str:
    if "Raspberry Pi" in board(readings):
        return "broadcom"
    sources = (
        readings.sysctl.get("machdep.cpu.brand_string", ""),  # Rosetta pretends Intel, not here
        readings.sysctl.get("machdep.cpu.vendor", ""),
        readings.environment.get("PROCESSOR_IDENTIFIER", ""),
        _field(cpuinfo, "vendor_id"),
    )
    words = re.findall(r"\w+", " ".join(sources))
    implementer = _field(cpuinfo, "CPU implementer")
    told = [_VENDORS[word] for word in words if word in _VENDORS]
    told += [_IMPLEMENTERS.get(int(implementer, 16), "unknown")] if implementer else []
    return told[0] if told else "unknown"


def _features(readings: Readings, cpuinfo: str) -> frozenset[CpuFeature]:
    intel_mac = (f"machdep.cpu.{name}" for name in ("features", "leaf7_features"))
    told = [_field(cpuinfo, "flags"), _field(cpuinfo, "Features")]
    flags = set(" ".join([*told, *(readings.sysctl.get(key, "") for key in intel_mac)]).split())
    flags |= {flag.lower() for flag in flags}
    found = {feature for feature, names in _FLAGS.items() if names & flags}
    found |= {
        feature
        for feature, keys in _SYSCTL.items()
        if any(readings.sysctl.get(key) == "1" for key in keys)
    }
    present = set(readings.windows_features)
    found |= {feature for feature, numbers in _WINDOWS_FEATURES.items() if numbers & present}
    return frozenset(found)


def _topology(readings: Readings) -> tuple[Core, ...]:
    if readings.windows_cores:
        strongest = max(efficiency_class for efficiency_class, _ in readings.windows_cores)
        return tuple(
            Core(logical, "performance" if efficiency_class == strongest else "efficiency")
            for efficiency_class, logical in sorted(readings.windows_cores, key=lambda c: c[1])
        )
    files = readings.files
    siblings = {
        int(match[1]): cpu_list(text)
        for path, text in files.items()
        if (match := re.fullmatch(rf"{CPU_FOLDER}/cpu(\d+)/topology/\w+_list", path))
    }
    if set(siblings) != set(cpu_list(files.get(f"{CPU_FOLDER}/online", ""))):
        return ()  # a core that is half told would be worse than none
    weak = _weak_cpus(files)
    cores = sorted(set(siblings.values()))
    return tuple(Core(logical, _kind(logical, weak)) for logical in cores)


def _kind(logical: tuple[int, ...], weak: set[int]) -> CoreKind:
    return "efficiency" if weak.issuperset(logical) else "performance"


def _weak_cpus(files: Mapping[str, str]) -> set[int]:
    """Logical CPUs of efficiency cores: as Intel's drivers list them, else by their capacity."""
    listed = {cpu for path in EFFICIENCY_CPUS for cpu in cpu_list(files.get(path, ""))}
    if listed:
        return listed
    capacity = {
        int(match[1]): int(text)
        for path, text in files.items()
        if (match := re.fullmatch(rf"{CPU_FOLDER}/cpu(\d+)/cpu_capacity", path))
    }
    least = _EFFICIENCY_CAPACITY * max(capacity.values(), default=0)
    return {cpu for cpu, value in capacity.items() if value < least}


def _apple_levels(sysctl: Mapping[str, str]) -> tuple[int, int] | None:
    """Performance and efficiency cores of a Mac; None where it does not tell them apart."""
    strong = sysctl.get("hw.perflevel0.physicalcpu")
    return (int(strong), int(sysctl.get("hw.perflevel1.physicalcpu", "0"))) if strong else None


def cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's way to write CPUs: "0-2,8" is 0, 1, 2, 8."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def _field(cpuinfo: str, name: str) -> str:
    """The first value of that name."""
    match = re.search(rf"^{name}[\t ]*:[\t ]*(.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""
