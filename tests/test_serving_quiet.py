"""Whether anybody is inside."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from backend.serving.quiet import Quiet
from backend.smart_backend import SmartBackend
from tests.scripted import client
from tests.test_hardware_plans_of_machines import HARDWARE


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_it_is_quiet_once_all_have_left() -> None:
    async def work() -> None:
        quiet = Quiet()
        quiet.enter()
        quiet.enter()
        reached = asyncio.create_task(quiet.reached(0.0))
        await quiet.disturbed()
        quiet.leave()
        await settled()
        assert not reached.done()
        quiet.leave()
        await reached

    run(work())


def test_a_request_in_between_begins_the_waiting_anew() -> None:
    async def work() -> None:
        quiet = Quiet()
        reached = asyncio.create_task(quiet.reached(60.0))
        disturbed = asyncio.create_task(quiet.disturbed())
        await settled()
        assert not reached.done() and not disturbed.done()
        quiet.enter()
        await disturbed
        await settled()
        assert not reached.done()
        quiet.leave()
        await settled()
        assert not reached.done()
        reached.cancel()
        await asyncio.gather(reached, return_exceptions=True)

    run(work())


def test_requests_of_every_lane_count() -> None:
    async def work() -> None:
        gpu = HARDWARE["rtx_3060_8gb"]
        async with client({"device": "cuda:0"}, found=gpu) as http:
            backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
            quiet = backend.lane.quiet
            for fields in ({"text": "wait"}, {"text": "wait", "force_cpu": "true"}):
                await quiet.reached(0.0)
                speaking = asyncio.create_task(http.post("/tts", data=fields))
                await quiet.disturbed()
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)
            await quiet.reached(0.0)

    run(work())
