"""A real server with the shipped voice on a machine that warms up while it speaks."""

import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.serving import Served, serving
from tests.sensors import hwmon

POINT_C = 100.0
MOST_LOOKS = 400
"""At the status, each a tenth of a second."""
TEXT = "The sun was out all day, and the roof of the old house became hotter with every hour. " * 2


def thermal(served: Served) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{served.url}/system-status", timeout=30).json()["thermal"]
    return told


def test_it_steps_back_before_it_throttles_and_lets_go(tmp_path: Path) -> None:
    sensor = hwmon(tmp_path, 0, "coretemp", "80000", critical=f"{POINT_C * 1000:.0f}")
    hwmon(tmp_path, 1, "nvme", "99000")

    def heat(temperature_c: float) -> None:
        new = sensor.with_name("new")
        new.write_text(f"{temperature_c * 1000:.0f}\n")
        new.replace(sensor)

    command = (sys.executable, "-m", "tests.hot_server", str(tmp_path))
    with serving(*command, NUM_THREADS="2") as served:
        told = thermal(served)
        assert (told["sensor"], told["throttles_at_c"]) == ("coretemp", POINT_C)
        assert (told["is_controlled"], told["lowered"]) == (True, {})
        is_over = threading.Event()
        answers: list[httpx.Response] = []

        def speak() -> None:
            while not is_over.is_set():
                fields = {"text": TEXT, "long_text": "split"}
                answers.append(httpx.post(f"{served.url}/tts", data=fields, timeout=300))

        speaking = threading.Thread(target=speak)
        speaking.start()
        try:
            temperature_c, foretold = 80.0, []
            for _ in range(MOST_LOOKS):
                told = thermal(served)
                if told["lowered"]:
                    break
                foretold.append(told["seconds_until_throttling"])
                temperature_c += 0.6
                heat(temperature_c)
            assert told["lowered"] == {"num_threads": 1}
            assert temperature_c < POINT_C, "it has throttled"
            assert any(seconds for seconds in foretold)
            running = httpx.get(f"{served.url}/hardware").json()["running_configuration"]
            assert running["num_threads"] == 1
            heat(65.0)
            for _ in range(MOST_LOOKS):
                told = thermal(served)
                if not told["lowered"]:
                    break
            assert (told["lowered"], told["steps_back"]) == ({}, 1)
            sensor.unlink()
            for _ in range(MOST_LOOKS):
                told = thermal(served)
                if told["sensor"] is None:
                    break
            assert (told["sensor"], told["seconds_until_throttling"]) == (None, None)
        finally:
            is_over.set()
            speaking.join()
        metrics = httpx.get(f"{served.url}/metrics").json()
        assert metrics["thermal"] == {"level": 0, "steps_back": 1}
    assert answers and all(answer.status_code == 200 for answer in answers)
    log = "".join(served.log)
    assert "1 of 2 threads compute" in log
    assert "It is cool enough for 2 threads again" in log
