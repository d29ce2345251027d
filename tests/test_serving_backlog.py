"""Clients that do not fetch their audio, with a real worker that makes it without end."""

import asyncio
from pathlib import Path

import pytest

from backend.core import SamplingParams, SpeechRequest
from backend.errors import Aborted
from backend.hardware.deployment import Deployment
from backend.serving.backlog import Backlog
from backend.smart_backend import SmartBackend
from tests.scripted import command, hardware, settings
from tests.test_worker_client import until_logged


class Deaf:
    """A stream that nobody fetches."""

    error: Exception | None = None

    def give_up(self, error: Exception) -> None:
        self.error = error


def test_the_one_of_which_most_waits_is_given_up() -> None:
    backlog, small, large, late = Backlog(100), Deaf(), Deaf(), Deaf()
    backlog.add(small, 30)
    backlog.add(large, 60)
    backlog.add(late, 10)
    assert backlog.waiting_bytes == 100
    backlog.add(late, 1)
    assert isinstance(large.error, Aborted)
    assert small.error is late.error is None
    assert backlog.waiting_bytes == 41


def test_what_is_fetched_or_dropped_waits_no_more() -> None:
    backlog, one, other = Backlog(100), Deaf(), Deaf()
    backlog.add(one, 30)
    backlog.add(other, 20)
    backlog.fetched(one, 10)
    assert (backlog.waiting_bytes, backlog.waits_of(one)) == (40, True)
    backlog.fetched(one, 20)
    assert (backlog.waiting_bytes, backlog.waits_of(one)) == (20, False)
    backlog.drop(other)
    backlog.drop(other)
    backlog.fetched(other, 5)
    assert backlog.waiting_bytes == 0


def test_a_client_that_never_reads_is_given_up_and_another_is_spoken_to(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def request(name: str, text: str) -> SpeechRequest:
        sampling = SamplingParams(seed=1)
        return SpeechRequest(name, text, sampling=sampling, is_streamed=True, client=name)

    async def work() -> None:
        chosen = settings(max_unread_mb=8, max_batch=2)
        worker, deployment = command(log_file=str(log)), Deployment.look(chosen, hardware())
        async with SmartBackend(chosen, worker, deployment=deployment) as backend:
            await backend.ready()
            async with backend.speak(request("deaf", "flood")) as deaf:
                async with asyncio.timeout(30):
                    await until_logged(log, "Abort")
                async with backend.speak(request("other", "hello")) as other:
                    assert not [chunk async for chunk in other][-1].samples
                with pytest.raises(Aborted, match="not fetched as fast as it is made"):
                    async for chunk in deaf:
                        assert not chunk.samples

    asyncio.run(work())
