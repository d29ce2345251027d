"""What every client's program in Python is made of.

A program runs under its client's own interpreter, so it imports nothing of Shoal. It reads jobs as
lines of JSON from stdin and writes one line for each; what the client prints goes to stderr.
"""

import asyncio
import ipaddress
import json
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
"""A client that has not come back by then never will."""
WORDS = 4
"""Letters of a piece of text as a language model writes it."""

Job = dict[str, Any]
Answer = dict[str, Any]


def stay_home() -> None:
    """From now on this process reaches nobody but 127.0.0.1: a client that calls home fails."""

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = str(arguments[1][0])
        elif event == "socket.getaddrinfo":
            host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        else:
            return
        if host in ("localhost", "None", ""):
            return
        try:
            near = ipaddress.ip_address(host).is_loopback
        except ValueError:
            near = False
        if not near:
            raise ConnectionRefusedError(f"the client wanted to reach {host}")

    sys.addaudithook(audit)


class Take:
    """The audio of one utterance, while it arrives.

    `rate_hz` is that of 16-bit samples; None says that the audio is a file of its own format.
    """

    def __init__(self, job: Job, rate_hz: int | None = None) -> None:
        self._url = job["url"]
        self._file = Path(job["folder"]) / f"{time.monotonic_ns()}.audio"
        self._audio = bytearray()
        self._begun_s = time.perf_counter()
        self.rate_hz = rate_hz
        self.first_s = 0.0
        self.early = False

    def add(self, piece: bytes) -> None:
        """With the first piece the server is asked whether it still speaks."""
        if not piece:
            return
        if not self._audio:
            self.first_s = time.perf_counter() - self._begun_s
            with urllib.request.urlopen(f"{self._url}/health") as answer:
                self.early = json.load(answer)["worker"]["running"] > 0
        self._audio += piece

    def told(self) -> Answer:
        """For the answer of a job."""
        self._file.write_bytes(self._audio)
        return {
            "file": str(self._file),
            "rate_hz": self.rate_hz,
            "early": self.early,
            "first_s": self.first_s,
            "whole_s": time.perf_counter() - self._begun_s,
        }


def takes(*heard: Take, **more: Any) -> Answer:
    return {"takes": [take.told() for take in heard], **more}


def words(text: str) -> list[str]:
    """Pieces as a language model writes them."""
    return [text[start : start + WORDS] for start in range(0, len(text), WORDS)]


Doer = Callable[[Job], Awaitable[Answer]]


async def _answer(do: Doer, job: Job) -> Answer:
    try:
        return await asyncio.wait_for(do(job), PATIENCE_S)
    except Exception as error:  # noqa: BLE001 - the client's own, whatever it is, is what is asked for
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def run(**does: Doer) -> None:
    """Do what is asked, until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    stay_home()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            job = json.loads(line)
            answer = await _answer(does[job["do"]], job)
            print(json.dumps(answer), file=answers, flush=True)

    asyncio.run(work())
