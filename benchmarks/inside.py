"""A command under a memory limit: in a cgroup, or with a bound on its data where none is writable.

    python -m benchmarks.inside --group FOLDER COMMAND …
    python -m benchmarks.inside --data-mb 2048 COMMAND …

Becomes the command, which keeps this process's id.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource

MIB = 1024 * 1024
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limit:
    """A memory limit: how a command comes under it, and what the kernel says of it."""

    limit_mb: int
    group: Path | None
    """None where no cgroup can be made: then each process has the limit for itself."""

    def command(self, *command: str) -> tuple[str, ...]:
        """`command` under the limit."""
        how = ("--data-mb", str(self.limit_mb))
        if self.group is not None:
            how = ("--group", str(self.group))
        return (sys.executable, "-m", "benchmarks.inside", *how, *command)

    def kernel_says(self) -> dict[str, int]:
        """What a cgroup took at most, in MiB, and how many processes were killed for it."""
        for peak, events in (
            ("memory.max_usage_in_bytes", "memory.oom_control"),
            ("memory.peak", "memory.events"),
        ):
            if self.group is not None and (self.group / peak).exists():
                lines = (self.group / events).read_text().splitlines()
                counts = dict(line.split() for line in lines)
                peak_mb = int((self.group / peak).read_text()) // MIB
                return {"peak_mb": peak_mb, "oom_kills": int(counts.get("oom_kill", 0))}
        return {}

    def become(self, limit_mb: int) -> None:
        """Give the cgroup another limit; OSError where more is taken that cannot be given back."""
        assert self.group is not None
        name = "memory.limit_in_bytes" if self.group.parent == V1 else "memory.max"
        (self.group / name).write_text(str(limit_mb * MIB))


@contextlib.contextmanager
def limited(limit_mb: int) -> Iterator[Limit]:
    """A limit of that size."""
    group = (V1 if V1.is_dir() else V2) / f"shoal-{os.getpid()}-{limit_mb}"
    try:
        group.mkdir()
        limit = Limit(limit_mb, group)
        limit.become(limit_mb)
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield Limit(limit_mb, None)
        return
    try:
        yield limit
    finally:
        with contextlib.suppress(OSError):  # a process that is still ending holds it
            group.rmdir()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--group", type=Path)
    how.add_argument("--data-mb", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.group is not None:
        (arguments.group / "cgroup.procs").write_text(str(os.getpid()))
    elif sys.platform != "win32":
        most = arguments.data_mb * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if sys.platform == "win32":
        sys.exit(subprocess.call(arguments.command))
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
