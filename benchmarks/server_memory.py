"""`python -m benchmarks.server_memory`: what the server's memory is made of, request by request.

The real server around a worker that costs nothing (`costless_worker`) is asked the same text again
and again, by clients that ask at once. Between, it counts itself: resident memory and of it the
pages of files (code), what of malloc's heap is in use and what is free and kept, and Python's
objects. The last line has been asked to give back what it keeps (`malloc_trim`). glibc on Linux
alone. Prints a table, then one JSON line.
"""

import argparse
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import costless_worker
from tests.e2e.serving import Served, serving

MIB = 1024 * 1024
TOGETHER = 16
_FILE = "SHOAL_BENCH_CENSUS"
"""The variable that names the file in which the server leaves what it has counted."""
_FAST = ("--frames-per-s", "200000", "--row-frames-per-s", "20000", "--piece-frames", "40")
_INFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h: bytes."""

    _fields_ = [(name, ctypes.c_size_t) for name in _INFO]


def census() -> dict[str, float]:
    """This process, in MiB and objects."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo
    info, maps = libc.mallinfo2(), psutil.Process().memory_maps()
    return {
        "cpu_s": sum(psutil.Process().cpu_times()[:2]),
        "resident_mb": psutil.Process().memory_info().rss / MIB,
        "files_mb": sum(each.rss for each in maps if each.path.startswith("/")) / MIB,
        "malloc_used_mb": (info.uordblks + info.hblkhd) / MIB,
        "malloc_kept_mb": info.fordblks / MIB,
        "objects": sys.getallocatedblocks(),
    }


def serve() -> None:
    """The server, which counts itself whenever it gets SIGUSR1, and gives back first on SIGUSR2."""
    wanted, file = threading.Event(), Path(os.environ.pop(_FILE))

    def count() -> None:
        while True:
            wanted.wait()
            wanted.clear()
            file.with_suffix(".new").write_text(json.dumps(census()), "utf-8")
            file.with_suffix(".new").replace(file)

    def give_back(*_: object) -> None:
        ctypes.CDLL(None).malloc_trim(0)
        wanted.set()

    signal.signal(signal.SIGUSR1, lambda *_: wanted.set())
    signal.signal(signal.SIGUSR2, give_back)
    threading.Thread(target=count, daemon=True).start()
    sys.argv = [sys.argv[0], "--serve", *_FAST]
    costless_worker.main()


def counted(server: Served, file: Path, how: int) -> dict[str, Any]:
    """What it counts now."""
    server.process.send_signal(how)
    never = threading.Event()
    while not file.exists():
        never.wait(0.05)
    told: dict[str, Any] = json.loads(file.read_text("utf-8"))
    file.unlink()
    return told


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="the server that counts itself")
    parser.add_argument("--requests", type=int, nargs="+", default=[0, 100, 1000, 2000, 5000])
    parser.add_argument("--text", default="Hello.")
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    command = (sys.executable, "-m", "benchmarks.server_memory", "--serve")
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, ThreadPoolExecutor(TOGETHER) as pool:
        file, metrics = Path(folder) / "census.json", Path(folder) / "metrics"
        told = {_FILE: str(file), "SHOAL_METRICS": "true", "SHOAL_METRICS_DIR": str(metrics)}
        with serving(*command, **told) as server, httpx.Client(base_url=server.url) as http:

            def ask(_: int) -> None:
                form = {"text": arguments.text, "long_text": "split"}
                http.post("/tts", data=form, timeout=120).raise_for_status()

            asked = 0
            for requests in sorted(arguments.requests):
                list(pool.map(ask, range(requests - asked)))
                asked = requests
                rows.append({"requests": asked} | counted(server, file, signal.SIGUSR1))
            rows.append({"requests": asked} | counted(server, file, signal.SIGUSR2))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(
            *(f"{value:.1f}" if isinstance(value, float) else f"{value}" for value in row.values())
        )
    Console(width=110).print(table)
    print(json.dumps({"measure": "server_memory", "text": arguments.text, "rows": rows}))


if __name__ == "__main__":
    main()
