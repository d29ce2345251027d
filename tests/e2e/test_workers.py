"""Two workers of the shipped voice behind one server, one of which is killed while both speak."""

import asyncio
import io
import time

import httpx
import psutil
import soundfile

from tests.e2e.serving import serving

TEXT = "The lamp is lit. The ships come home. And the keeper goes to sleep."


def test_one_killed_under_twenty_requests_costs_nobody_an_answer() -> None:
    with serving(SHOAL_WORKERS="2", NUM_THREADS="1") as served:
        workers = _ready(served.url)
        assert len({each["pid"] for each in workers}) == 2

        async def speak() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=served.url, timeout=240.0) as http:
                posts = [
                    asyncio.create_task(http.post("/tts", data={"text": TEXT, "seed": "5"}))
                    for _ in range(20)
                ]
                while True:
                    told = (await http.get("/system-status")).json()["workers"]
                    if all(each["speaking"] for each in told):
                        break
                    await asyncio.sleep(0.05)
                psutil.Process(told[1]["pid"]).kill()
                return await asyncio.gather(*posts)

        answers = asyncio.run(speak())
        assert {answer.status_code for answer in answers} == {200}
        seconds = {_seconds(answer.content) for answer in answers}
        assert max(seconds) - min(seconds) < 0.5, "nothing of any is missing"
        restarts = [each["restarts"] for each in _ready(served.url)]
        assert restarts == [0, 1]
        metrics = httpx.get(f"{served.url}/metrics").json()
        assert metrics["since_start"]["outcomes"]["success"] == 20


def _ready(url: str) -> list[dict[str, int]]:
    deadline_s = time.monotonic() + 120.0
    while time.monotonic() < deadline_s:
        workers = httpx.get(f"{url}/system-status").json()["workers"]
        if all(each["state"] == "ready" for each in workers):
            return list(workers)
        time.sleep(0.1)
    raise AssertionError(f"not all became ready: {workers}")


def _seconds(wav: bytes) -> float:
    with soundfile.SoundFile(io.BytesIO(wav)) as sound:
        return len(sound) / float(sound.samplerate)
