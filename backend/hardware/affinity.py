"""Which logical CPUs the worker runs on, and pinning it there. Imported before torch."""

import psutil

from backend.core import Choice
from backend.errors import BadSetting
from backend.hardware.machine import Cpu
from backend.hardware.tiers import Tier

Cpus = tuple[int, ...]
_NOWHERE: Cpus = ()
"""Not pinned."""


class CPUAffinityManager:
    """Chooses the worker's CPUs by tier and topology (pure), and pins a process to them."""

    @staticmethod
    def choose(cpu: Cpu, tier: Tier, threads: int, setting: str = "auto") -> Choice[Cpus]:
        """Logical CPUs for that many threads; empty is not pinned.

        `setting` is auto, off, or a list as in "0-3,6". Raises `BadSetting` where the list names
        CPUs that are not allowed, fewer than threads, or where the system cannot pin.
        """
        if setting == "off":
            return Choice(_NOWHERE, "CPU_AFFINITY=off asks for it", "user")
        if setting != "auto":
            return Choice(_asked_for(setting, cpu, threads), "CPU_AFFINITY asks for them", "user")
        if tier.cpu.affinity == "none":
            return Choice(_NOWHERE, f"{tier.name} has nothing to gain from pinning")
        if not cpu.allowed:
            return Choice(_NOWHERE, "this system does not let a process choose its CPUs", "machine")
        if cpu.quota_cpus is not None:
            reason = "a container's quota shares these CPUs with others, which would be in the way"
            return Choice(_NOWHERE, reason, "machine")
        return _by_topology(cpu, tier, threads)

    @staticmethod
    def intent(cpu: Cpu, tier: Tier) -> str:
        """What would be pinned where the system allows no pinning, for the log; "" elsewhere."""
        if cpu.allowed or tier.cpu.affinity == "none":
            return ""
        return (
            f"The worker wants the performance cores ({cpu.performance_cores} of "
            f"{cpu.physical_cores}); macOS does not let a process choose, its scheduler decides."
        )

    @staticmethod
    def apply(cpus: Cpus) -> str:
        """Pin this process, and every thread that it starts from now on, to `cpus`.

        "" where that worked or there is nothing to do, else a warning: no worker fails for it.
        """
        if not cpus:
            return ""
        process = psutil.Process()
        if not hasattr(process, "cpu_affinity"):
            return "Not pinned: this system does not let a process choose its CPUs."
        try:
            process.cpu_affinity(list(cpus))
        except (psutil.Error, OSError, ValueError) as error:
            return f"Not pinned to CPUs {format_cpus(cpus)}: {error}"
        return ""


def parse_cpus(text: str) -> Cpus:
    """ "0-3,6" as (0, 1, 2, 3, 6); `BadSetting` if a range runs backwards."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise BadSetting(f"CPU_AFFINITY={text}: {part} runs backwards.")
        cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def format_cpus(cpus: Cpus) -> str:
    """(0, 1, 2, 3, 6) as "0-3,6"."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _asked_for(setting: str, cpu: Cpu, threads: int) -> Cpus:
    cpus = parse_cpus(setting)
    allowed = format_cpus(cpu.allowed)
    if not cpu.allowed:
        raise BadSetting("CPU_AFFINITY cannot be had: this system does not let a process choose.")
    if strangers := set(cpus) - set(cpu.allowed):
        named = format_cpus(tuple(strangers))
        raise BadSetting(f"CPU_AFFINITY names {named}: this process may run on {allowed} only.")
    if len(cpus) < threads:
        raise BadSetting(
            f"CPU_AFFINITY={setting} is {len(cpus)} CPUs for {threads} threads: name more of "
            f"{allowed}, or set NUM_THREADS={len(cpus)}."
        )
    return cpus


def _by_topology(cpu: Cpu, tier: Tier, threads: int) -> Choice[Cpus]:
    """One logical CPU of each performance core, as far as it is told or can be guessed."""
    which = "performance core" if cpu.efficiency_cores else "core"
    if cpu.topology:
        cores = [core for core in cpu.topology if core.kind == "performance"]
        usable = [[one for one in core.logical if one in cpu.allowed] for core in cores]
        chosen = tuple(sorted(logical[0] for logical in usable if logical))
        reason = f"one logical CPU of each {which}, so that no two threads share one"
    elif tier.cpu.affinity == "one_per_core":
        return Choice(_NOWHERE, "which logical CPUs share a core is not told", "machine")
    else:
        chosen = tuple(one for one in _guessed(cpu) if one in cpu.allowed)
        reason = f"which logical CPUs share a core is not told: even ones, one of each {which}"
    if len(chosen) < threads:
        reason = f"{threads} threads want more CPUs than the {len(chosen)} that would be chosen"
        return Choice(_NOWHERE, reason, "machine")
    if chosen == cpu.allowed:
        return Choice(_NOWHERE, f"every CPU that is allowed is a {which} of its own", "machine")
    return Choice(chosen, reason)


def _guessed(cpu: Cpu) -> range:
    """Even CPUs where two share a core; hybrid CPUs count their performance cores first."""
    last = cpu.logical_cores - cpu.efficiency_cores
    return range(0, last, 2 if last >= 2 * cpu.performance_cores else 1)
