"""Debian's redis, for tests of what servers count together."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

SERVER = shutil.which("redis-server") or ""
PASSWORD = "5ecretOfTheTests"


class RedisServer:
    """It, which can be stopped and started again, empty, at the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Answer from when this returns on."""
        bound = ("--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", PASSWORD)
        kept = ("--save", "", "--appendonly", "no", "--dir", str(self._directory))
        self._process = subprocess.Popen((SERVER, *bound, *kept), stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline_s and self._process.poll() is None
            time.sleep(0.01)

    def stop(self) -> None:
        """Answer nothing."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def keys(self) -> list[str]:
        """What it keeps."""
        with redis.Redis.from_url(self.url) as client:
            return [key.decode() for key in client.keys("*")]

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """One, until the block ends; the test is skipped where there is none."""
    if not SERVER:
        pytest.skip("redis-server is not installed")
    server = RedisServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
