"""The thread that writes: nobody waits for the disk, and what is lost is counted."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.monitoring import log_writer as writer_module
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.log_writer import LogWriter
from backend.monitoring.retention import Retention
from backend.monitoring.rows import Row
from tests.monitored import logged, run
from tests.test_monitoring_csv_log import moment, read

WAIT_S = 30.0


class Disk(CsvLog):
    """A log whose disk hangs until it is let go on."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "t", 1 << 20)
        self.goes_on, self.hangs = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def append(self, row: Row) -> None:
        self.threads.add(threading.get_ident())
        self.hangs.set()
        assert self.goes_on.wait(WAIT_S)
        super().append(row)


def writer(log: CsvLog, now_s: Callable[[], float] = lambda: 0.0, **kept: Any) -> LogWriter:
    return LogWriter(log, Retention(**kept), now_s)


def test_rows_are_written_in_their_order_by_one_thread(tmp_path: Path) -> None:
    async def work() -> None:
        log = Disk(tmp_path)
        log.goes_on.set()
        writing = writer(log)
        writing.start({"gpu": "none"})
        for number in range(200):
            writing.append(moment(number))
        assert writing.flush(WAIT_S)
        (file,) = tmp_path.glob("realtime_*.csv")
        assert len(read(file)) == 200
        writing.append(moment(200))
        await writing.close()
        assert [row["timestamp"][17:19] for row in read(file)] == [
            f"{number % 60:02d}" for number in range(201)
        ]
        assert threading.get_ident() not in log.threads
        assert len(log.threads) == 1
        assert (tmp_path / "hardware_specs_t.json").exists()

    run(work())


def test_a_disk_that_hangs_costs_rows_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_ROWS", 8)

    async def work() -> None:
        log = Disk(tmp_path)
        writing = writer(log)
        writing.start({})
        with logged() as lines:
            writing.append(moment(0))
            assert log.hangs.wait(WAIT_S)
            for number in range(1, 101):  # returns at once, or the test would not
                writing.append(moment(number))
            assert [line.split()[0] for line in lines] == ["WARNING"]
            assert "does not answer" in lines[0]
            assert writing.problem
            assert not writing.flush(0.0)
            log.goes_on.set()
            assert writing.flush(WAIT_S)
            writing.append(moment(101))
            assert lines[1] == "INFO The request log is written again; 92 rows are lost.\n"
            assert writing.problem == ""
        await writing.close()
        (file,) = tmp_path.glob("realtime_*.csv")
        assert len(read(file)) == 10

    run(work())


def test_an_end_waits_for_a_disk_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CLOSE_S", 0.05)

    async def work() -> None:
        log = Disk(tmp_path)
        writing = writer(log)
        writing.start({})
        writing.append(moment(0))
        assert log.hangs.wait(WAIT_S)
        writing.append(moment(1))
        with logged("WARNING") as lines:
            async with asyncio.timeout(WAIT_S):
                await writing.close()
        assert len(lines) == 1
        assert "rows are lost" in lines[0]
        log.goes_on.set()

    run(work())


def test_what_was_never_begun_can_be_closed(tmp_path: Path) -> None:
    run(writer(CsvLog(tmp_path, "t", 1 << 20)).close())
    assert list(tmp_path.iterdir()) == []


def test_old_files_go_at_the_start_and_at_every_rotation(tmp_path: Path) -> None:
    def old(number: int) -> Path:
        path = tmp_path / f"synthesis_old_20250101_{number:06d}.csv"
        path.write_bytes(b"x" * 100)
        os.utime(path, (number, number))
        return path

    async def work() -> None:
        first, now_s = old(1), [10 * 24 * 3600.0]
        log = CsvLog(tmp_path, "t", 4096)
        writing = writer(log, lambda: now_s[0], keep_days=5)
        writing.start({})
        assert writing.flush(WAIT_S)
        assert not first.exists()
        writing.append(moment(0))  # begins a file
        assert writing.flush(WAIT_S)
        second = old(2)
        for number in range(1, 40):
            writing.append(moment(number))
        assert writing.flush(WAIT_S)
        assert log.files_begun == 1
        assert second.exists()
        while log.files_begun == 1:
            writing.append(moment(1))
            assert writing.flush(WAIT_S)
        assert not second.exists()
        await writing.close()

    run(work())


def test_the_log_stays_within_its_limit(tmp_path: Path) -> None:
    async def work() -> None:
        log = CsvLog(tmp_path, "t", 4096)
        writing = writer(log, limit_bytes=20_000)
        writing.start({})
        for number in range(2000):
            writing.append(moment(number))
        assert writing.flush(WAIT_S)
        await writing.close()
        files = list(tmp_path.glob("realtime_*.csv"))
        assert log.files_begun > 10 > len(files)
        assert sum(file.stat().st_size for file in files) <= 20_000 + 4096
        newest = max(read(file)[-1]["timestamp"] for file in files)
        assert newest == "1970-01-01T00:33:19.000Z"

    run(work())
