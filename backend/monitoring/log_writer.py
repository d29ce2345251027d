"""The thread that writes the request log, so that no request waits for the disk."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from backend.monitoring.csv_log import CsvLog
from backend.monitoring.retention import Retention, sweep
from backend.monitoring.rows import Row

QUEUE_ROWS = 4096
"""Rows that may wait for the disk, some 4 MB; further ones are lost, and counted."""
CLOSE_S = 5.0
"""The last rows get so long to reach the disk; a dead one does not hold the server back."""

_Job = Row | dict[str, Any] | threading.Event | None
"""A row, what machine it is, a flush, the end."""


class LogWriter:
    """Writes rows in the order in which they come, and deletes what `retention` does not keep.

    A row is in its file as soon as the disk takes it, usually within a millisecond: `kill -9` loses
    those that still wait. Thread-safe.
    """

    def __init__(
        self,
        log: CsvLog,
        retention: Retention,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._retention, self._now_s = log, retention, now_s
        self._jobs: queue.Queue[_Job] = queue.Queue(QUEUE_ROWS)
        # A daemon: a write that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._lock = threading.Lock()
        self._rows_lost = 0

    @property
    def problem(self) -> str:
        """Why rows are not written just now; "" if they are."""
        return "the disk does not answer" if self._rows_lost else self._log.problem

    def start(self, specs: dict[str, Any]) -> None:
        """Begin: with what machine it is, and with deleting what is too old."""
        self._jobs.put(specs)
        self._thread.start()

    def append(self, row: Row) -> None:
        """Have `row` written; it is lost where too many wait already."""
        with self._lock:
            try:
                self._jobs.put_nowait(row)
            except queue.Full:
                is_first = not self._rows_lost
                self._rows_lost += 1
            else:
                lost, self._rows_lost = self._rows_lost, 0
                is_first = False
                if lost:
                    logger.info("The request log is written again; {} rows are lost.", lost)
        if is_first:
            logger.warning(
                "The request log's disk ({}) does not answer: rows are lost. Speech goes on.",
                self._log.directory,
            )

    def flush(self, timeout_s: float) -> bool:
        """Block until every row that was handed over is written; whether that was in time."""
        written = threading.Event()
        try:
            self._jobs.put(written, timeout=timeout_s)
        except queue.Full:
            return False
        return written.wait(timeout_s)

    async def close(self) -> None:
        """Write what waits and close the files, for at most `CLOSE_S` seconds."""
        if self._thread.ident is not None:
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        ends_s = time.monotonic() + CLOSE_S
        try:
            self._jobs.put(None, timeout=CLOSE_S)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, ends_s - time.monotonic()))
        if self._thread.is_alive():
            logger.warning(
                "The request log's disk does not answer: {} rows are lost.",
                self._jobs.qsize() + self._rows_lost,
            )

    def _run(self) -> None:
        begun = -1
        while (job := self._jobs.get()) is not None:
            if isinstance(job, threading.Event):
                job.set()
            elif isinstance(job, dict):
                self._log.write_hardware_specs(job)
            else:
                self._log.append(job)
            if begun != self._log.files_begun:  # at the start, and whenever a file follows another
                begun = self._log.files_begun
                written = self._log.written
                sweep(self._log.directory, self._retention, written, self._now_s())
        self._log.close()
