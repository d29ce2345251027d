"""Streams of the shipped voice: early, whole, flat in memory, fair to others, ended gracefully."""

import base64
import io
import itertools
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
import soundfile

from tests.e2e.serving import RATE_HZ, Served, serving
from training.demo_voice.evaluate import HELDOUT
from training.demo_voice.measure import Samples
from training.demo_voice.pitch import median_pitch_hz

pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024
SENTENCES = HELDOUT.read_text("utf-8").splitlines()
LONG = " ".join(SENTENCES[:14])
SHORT = "This one is short."


def samples_of(audio: bytes) -> Samples:
    samples: Samples
    samples, _ = soundfile.read(io.BytesIO(audio), dtype="float32")
    return samples


def speak(server: Served, text: str, **fields: str) -> httpx.Response:
    form = {"text": text, "long_text": "split", **fields}
    answer = httpx.post(f"{server.url}/tts", data=form, timeout=240)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_stream_comes_early_and_is_what_comes_whole(server: Served) -> None:
    text = " ".join(SENTENCES[:4])
    whole = samples_of(speak(server, text, seed="5").content)
    form = {"text": text, "long_text": "split", "seed": "5", "stream": "true"}
    began_s = time.monotonic()
    with httpx.stream("POST", f"{server.url}/tts", data=form, timeout=240) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        first_s = time.monotonic() - began_s
        streamed = samples_of(first + b"".join(pieces))
    assert first_s < (time.monotonic() - began_s) / 3
    assert len(streamed) == len(whole)
    # Alone or in company a row is computed a little differently, which 16 bits may show.
    assert np.abs(streamed - whole).mean() < 0.01


def test_events_tell_what_is_spoken_and_carry_what_comes_whole(server: Served) -> None:
    scene = " ".join(SENTENCES[:3])
    fields = {"text": scene, "long_text": "split", "response_format": "wav"}
    estimated = httpx.post(f"{server.url}/estimate-memory", json={"text": scene}).json()
    began_s = time.monotonic()
    arrived_s: dict[str, float] = {}
    events = []
    body = {**fields, "stream": "events"}
    with httpx.stream("POST", f"{server.url}/tts", json=body, timeout=240) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                arrived_s.setdefault(events[-1]["type"], time.monotonic() - began_s)
    plan, done = events[0], events[-1]
    assert (plan["type"], done["type"]) == ("plan", "done")
    assert arrived_s["plan"] < arrived_s["audio"] < arrived_s["done"] / 2
    assert [each["text"] for each in plan["script"]] == SENTENCES[:3]
    assert plan["expected_audio_s"] == pytest.approx(estimated["expected_audio_s"], rel=0.2)
    pieces = [each["audio"] for each in events if each["type"] == "audio"]
    told = samples_of(b"".join(map(base64.b64decode, pieces)))
    # The seed that was drawn speaks the same again.
    whole = samples_of(speak(server, scene, seed=str(done["seed"])).content)
    assert len(told) == len(whole) == pytest.approx(done["audio_s"] * RATE_HZ, abs=22)
    assert np.abs(told - whole).mean() < 0.01
    assert done["audio_s"] == pytest.approx(plan["expected_audio_s"], rel=0.5)
    ends = [each for each in events if each["type"] == "sentence.end"]
    assert ends[-1]["end_s"] == pytest.approx(done["audio_s"], abs=0.01)
    assert sum(each["generated_tokens"] for each in ends) == done["generated_tokens"]
    for end in ends[:-1]:
        pause = told[int(end["end_s"] * RATE_HZ) + 23 :][:1000]
        assert np.abs(pause).max() == 0, "where it ends no pause follows"
    again = httpx.post(f"{server.url}/estimate-memory", json={"text": scene}).json()
    assert again["speed"] == "measured"
    assert again["expected_audio_s"] == pytest.approx(done["audio_s"], rel=0.3)


def test_two_calls_without_a_reference_are_one_speaker(server: Served) -> None:
    pitches = [
        median_pitch_hz(samples_of(speak(server, text).content), RATE_HZ)
        for text in SENTENCES[10:14]
    ]
    assert max(pitches) / min(pitches) < 1.12, pitches


def test_sentences_of_a_long_text_are_one_speaker_with_pauses(server: Served) -> None:
    answer = speak(server, " ".join(SENTENCES[10:14]), timestamps="true", seed="2")
    told = answer.json()
    sentences = told["sentences"]
    assert len(sentences) == 4
    gaps = [b["start_s"] - a["end_s"] for a, b in itertools.pairwise(sentences)]
    assert all(0.05 <= gap <= 0.6 for gap in gaps)


def test_memory_is_flat_and_short_ones_are_not_kept_waiting(server: Served) -> None:
    processes = (server.process, server.worker())
    speak(server, LONG[:400])
    before = [process.memory_info().rss for process in processes]
    peaks = list(before)
    begins, is_over = threading.Event(), threading.Event()

    def listen() -> int:
        form = {"text": LONG, "long_text": "split", "stream": "true"}
        received = 0
        with httpx.stream("POST", f"{server.url}/tts", data=form, timeout=240) as answer:
            for piece in answer.iter_raw():
                begins.set()
                received += len(piece)
                rss = [process.memory_info().rss for process in processes]
                peaks[:] = map(max, peaks, rss)
        is_over.set()
        return received

    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(listen)
        assert begins.wait(60)
        for _ in range(3):
            speak(server, SHORT)
        assert not is_over.is_set(), "three short ones waited for the long one"
        received = long.result()
    assert received > 2 * RATE_HZ * len(LONG) / 30, "it was cut off"
    growth = [(peak - was) / MIB for peak, was in zip(peaks, before, strict=True)]
    assert growth[0] < 40, f"the server grew by {growth[0]:.0f} MiB"
    assert growth[1] < 80, f"the worker grew by {growth[1]:.0f} MiB"


def test_told_to_stop_it_finishes_what_it_speaks_and_refuses_the_rest() -> None:
    with (
        serving(SHOAL_SHUTDOWN_GRACE_S="60", SHOAL_MAX_BATCH="1") as server,
        ThreadPoolExecutor(2) as pool,
        httpx.Client(base_url=server.url, timeout=240) as http,
    ):
        form = {"text": " ".join(SENTENCES[:3]), "long_text": "split"}
        speaking = pool.submit(http.post, "/tts", data=form)
        _wait_for(server, speaking=1, waiting=0)
        other = httpx.Client(base_url=server.url, timeout=240)
        form = {"text": "One more, please. " * 20, "long_text": "split", "optimize_for_memory": "1"}
        # It takes turns with the first, so that a third has nothing yet when the end comes.
        waiting = pool.submit(other.post, "/tts", data=form)
        _wait_for(server, speaking=1, waiting=1)
        server.process.send_signal(signal.SIGTERM)
        spoken, refused = speaking.result(), waiting.result()
        other.close()
        server.process.wait(60)
        assert (spoken.status_code, refused.status_code) == (200, 503)
        assert "stopping" in refused.json()["detail"]
        assert len(samples_of(spoken.content)) > 3 * RATE_HZ
    assert not psutil.pid_exists(server.process.pid) or not server.process.is_running()


def _wait_for(server: Served, **queue: int) -> None:
    while True:
        now = httpx.get(f"{server.url}/health").json()["queue"]
        if all(now[name] == number for name, number in queue.items()):
            return
        time.sleep(0.01)
