"""Which row of the tier table a machine gets, and why. Pure."""

import math
import re

from backend.hardware.gpu_models import GPU_MODEL_TIERS, SMALL_GPU, SMALL_VRAM_GIB
from backend.hardware.machine import GIB, Core, Cpu, Gpu, Hardware
from backend.hardware.tiers import CPU_TIERS, GPU_TIERS, Tier, TierName

TIERS: dict[str, Tier] = {row.name: row for row in (*CPU_TIERS, *GPU_TIERS)}
"""The general row of each tier, by name."""

MID_VRAM_GIB, HIGH_VRAM_GIB = 8, 12
HIGH_END_CORES = {"intel": 6, "amd": 8}
"""Physical cores from which a Core i7 or Ryzen 7 is more than the laptop chip of that name."""
_SMALL_APPLE_BYTES = 8 * GIB
_FANLESS_MACS = {"Mac14,2", "Mac14,15", "Mac15,12", "Mac15,13", "Mac16,12", "Mac16,13"}
"""MacBook Airs from the M2 on, whose identifiers do not say so; where their name is not told."""
_OTHER_CARD = frozenset({"ti", "super", "d", "laptop", "max-q", "mobile"})
"""Words after a card's name that make it another card."""


def tier_of(hardware: Hardware, device: str) -> tuple[Tier, str]:
    """The row for computing on `device` (cpu, mps, or cuda:N of one that is there), and why."""
    if device.startswith("cuda:"):
        gpu = next(gpu for gpu in hardware.gpus if f"cuda:{gpu.index}" == device)
        return gpu_tier(gpu)
    if "raspberry pi" in hardware.board.lower():
        return TIERS["raspberry_pi"], f"the board is a {hardware.board}"
    if hardware.cpu.vendor == "apple":
        name, reason = _apple(hardware)
    elif hardware.cpu.vendor == "intel":
        name, reason = _intel(hardware.cpu)
    elif hardware.cpu.vendor == "amd":
        name, reason = _amd(hardware.cpu)
    else:
        name, reason = "generic_cpu", f"{hardware.cpu.model or 'an unnamed CPU'} has no own tier"
    return TIERS[name], reason


def gpu_tier(gpu: Gpu) -> tuple[Tier, str]:
    """By VRAM, refined by a row for that very card."""
    name: TierName = "gpu_entry"
    if gpu.vram_gib >= HIGH_VRAM_GIB:
        name = "gpu_high"
    elif gpu.vram_gib >= MID_VRAM_GIB:
        name = "gpu_mid"
    seen = f"{gpu.name} with {gpu.vram_gib} GiB"
    for row in GPU_MODEL_TIERS:
        if row.name == name and _is_card(gpu, row.card):
            return row, f"{seen}, which the row of {row.card} is for"
    return TIERS[name], seen


def usable_performance_cores(cpu: Cpu) -> int:
    """Performance cores this process may run on, at least 1; any cores where only others are left.

    Where the topology is not told, one for each logical CPU that is allowed at most.
    """
    if cpu.topology:
        cores = _allowed_cores(cpu)
        return max(1, sum(core.kind == "performance" for core in cores) or len(cores))
    allowed = len(cpu.allowed) or cpu.logical_cores
    return max(1, min(cpu.performance_cores or cpu.physical_cores, allowed))


def granted_cores(cpu: Cpu) -> int:
    """Physical cores of any kind that this process really gets, a container's quota considered."""
    allowed = len(cpu.allowed) or cpu.logical_cores
    cores = len(_allowed_cores(cpu)) if cpu.topology else min(cpu.physical_cores, allowed)
    quota = math.ceil(cpu.quota_cpus) if cpu.quota_cpus is not None else cores
    return max(1, min(cores, quota))


def _allowed_cores(cpu: Cpu) -> list[Core]:
    if not cpu.allowed:
        return list(cpu.topology)
    return [core for core in cpu.topology if set(core.logical) & set(cpu.allowed)]


def _is_card(gpu: Gpu, card: str) -> bool:
    if card == SMALL_GPU:
        return gpu.vram_gib <= SMALL_VRAM_GIB
    words, wanted = re.split(r"[\s-]+(?!q\b)", gpu.name.lower()), card.lower().split()
    for start in range(len(words) - len(wanted) + 1):
        end = start + len(wanted)
        if words[start:end] == wanted:
            return not _OTHER_CARD & set(words[end:])
    return False


def _apple(hardware: Hardware) -> tuple[TierName, str]:
    chip, board = hardware.cpu.model or "Apple silicon", hardware.board
    if re.search(r"\bM\d+ (Pro|Max|Ultra)\b", f"{chip} {board}"):
        return "m1_pro", f"{chip} has the cores, the bandwidth and the fan of a Pro"
    if re.search(r"MacBook ?Air", board) or set(re.findall(r"Mac\d+,\d+", board)) & _FANLESS_MACS:
        return "m1_air", f"{chip} in a {board}, which has no fan"
    if hardware.memory.total_bytes <= _SMALL_APPLE_BYTES:
        return "m1_air", f"{chip} with 8 GiB or less: the memory budget of an Air"
    if not board:
        return "m1_air", f"{chip}, and the system does not say whether it has a fan"
    return "m1_pro", f"{chip} with a fan ({board}) and more than 8 GiB"


def _intel(cpu: Cpu) -> tuple[TierName, str]:
    cores = granted_cores(cpu)
    if re.search(r"\b(Xeon|i[79]|Ultra [79]|Ultra X[79]|Core\(TM\) [79])\b", cpu.model):
        if cores >= HIGH_END_CORES["intel"]:
            return "intel_high_end", f"{cpu.model} with {cores} physical cores"
        if "Xeon" in cpu.model:
            return "generic_cpu", f"{cores} cores of {cpu.model}, a small part of a server"
        return "intel_i5", f"{cpu.model} with {cores} physical cores, no more than an i5"
    if re.search(r"\b(i[35]|Ultra [35]|Core\(TM\) [35])\b", cpu.model):
        return "intel_i5", f"{cpu.model} is of that class"
    return (
        "generic_cpu",
        f"{cpu.model or 'an Intel CPU'} is weaker than a Core i3, or does not tell",
    )


def _amd(cpu: Cpu) -> tuple[TierName, str]:
    cores = granted_cores(cpu)
    if re.search(r"Ryzen (AI )?[79]\b|Ryzen AI Max|Threadripper|EPYC", cpu.model, re.IGNORECASE):
        if cores >= HIGH_END_CORES["amd"]:
            return "amd_high_end", f"{cpu.model} with {cores} physical cores"
        if "EPYC" in cpu.model:
            return "generic_cpu", f"{cores} cores of {cpu.model}, a small part of a server"
        return "amd_ryzen5", f"{cpu.model} with {cores} physical cores, no more than a Ryzen 5"
    if re.search(r"Ryzen (AI )?[35]\b", cpu.model, re.IGNORECASE):
        return "amd_ryzen5", f"{cpu.model} is of that class"
    return "generic_cpu", f"{cpu.model or 'an AMD CPU'} is weaker than a Ryzen 3, or does not tell"
