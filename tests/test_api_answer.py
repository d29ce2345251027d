"""How speech is answered: streams, formats, JSON with timestamps, deadlines, and who leaves."""

import asyncio
import base64
import io
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, get_args

import av
import httpx
import psutil
import pytest
import soundfile

from backend.core import AudioFormat
from backend.text.sentences import SENTENCE_PAUSE_S
from tests.scripted import children, client, server

RATE_HZ = 8000

TEXT = {"text": "Hello from the test."}
THREE = {"text": "This is the first of them. This is the second one. And here is the third."}
THREE_S = 3 * 0.1 + 2 * SENTENCE_PAUSE_S


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def decoded(audio: bytes) -> tuple[float, int]:
    """Seconds and rate of a file in any format."""
    with av.open(io.BytesIO(audio), "r") as container:
        frames = list(container.decode(audio=0))
    rate_hz = frames[0].sample_rate
    return sum(frame.samples for frame in frames) / rate_hz, rate_hz


async def idle(http: httpx.AsyncClient) -> dict[str, Any]:
    """What /health says once nothing is spoken any more."""
    while True:
        health: dict[str, Any] = (await http.get("/health")).json()
        queue, cache = health["queue"], health["cache_stats"]
        if not (queue["speaking"] or queue["waiting"] or cache["leased_mb"]):
            return health
        await asyncio.sleep(0.01)


async def queued(http: httpx.AsyncClient, **numbers: int) -> None:
    """Wait until /health counts so many requests."""
    while not numbers.items() <= (await http.get("/health")).json()["queue"].items():
        await asyncio.sleep(0.01)


def test_pauses_are_as_long_as_asked_for() -> None:
    async def work() -> None:
        async with client() as http:
            lengths = {}
            for pauses in (0, 1, 2):
                form = {**THREE, "response_format": "pcm", "pauses": pauses, "seed": 1}
                answer = await http.post("/tts", data=form)
                lengths[pauses] = len(answer.content) // 2
            assert lengths[1] > lengths[0]
            assert lengths[2] - lengths[1] == pytest.approx(lengths[1] - lengths[0], abs=2)
            scene = {"dialogue": [{"text": "Is it raining?"}, {"text": "Not any more."}]}
            spoken = [
                len((await http.post("/tts", json={**scene, "pauses": pauses})).content)
                for pauses in (0, 1)
            ]
            assert spoken[0] < spoken[1]
            for refused in (-0.1, 4.1, "nan"):
                answer = await http.post("/tts", data={**THREE, "pauses": refused})
                assert answer.status_code == 422
                assert "pauses" in answer.json()["detail"]

    run(work())


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", get_args(AudioFormat))
def test_every_format_can_be_decoded(name: str, is_streamed: bool) -> None:
    async def work() -> None:
        async with client() as http:
            form = {**THREE, "response_format": name, "stream": str(is_streamed).lower()}
            answer = await http.post("/tts", data=form)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("audio/")
            if name == "pcm":
                seconds = len(answer.content) / 2 / RATE_HZ
            else:
                seconds, _ = decoded(answer.content)
            # Encoders add some silence to fill their frames: aac up to two of 0.128 s.
            assert seconds == pytest.approx(THREE_S, abs=0.26)

    run(work())


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
def test_rate_and_speed(rate_hz: int) -> None:
    async def work() -> None:
        async with client() as http:
            form = {**THREE, "sample_rate": rate_hz, "speed": 2}
            answer = await http.post("/tts", data=form)
            seconds, found_hz = decoded(answer.content)
            assert found_hz == rate_hz
            assert seconds == pytest.approx(THREE_S / 2, abs=0.05)
            assert float(answer.headers["X-Audio-Duration-S"]) == pytest.approx(THREE_S / 2)

    run(work())


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ({"speed": "2.1"}, "speed"),
        ({"sample_rate": "7999"}, "sample_rate"),
        ({"response_format": "ogg"}, "response_format"),
        ({"stream": "true", "timestamps": "true"}, "stream"),
        ({"subtitles": "vtt"}, "timestamps"),
        ({"voice": "a" * 65}, "voice"),
    ],
)
def test_fields_have_limits(form: dict[str, str], named: str) -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            answer = await http.post("/tts", data={**TEXT, **form})
            assert answer.status_code == 422
            assert named in answer.json()["detail"]

    run(work())


def test_a_stream_begins_before_its_end_is_made() -> None:
    async def work() -> None:
        async with server() as http:
            loop = asyncio.get_running_loop()
            form = {"text": "slow", "stream": "true"}
            began_s = loop.time()
            async with http.stream("POST", "/tts", data=form) as answer:
                assert "X-RTF" not in answer.headers
                assert float(answer.headers["X-Time-To-First-Audio-Ms"]) < 1000
                pieces = answer.aiter_raw()
                first = await anext(pieces)
                first_s = loop.time() - began_s
                rest = [piece async for piece in pieces]
            # 40 pieces, 0.05 s apart.
            assert loop.time() - began_s > 1.9 > 2 * first_s
            samples, _ = soundfile.read(io.BytesIO(first + b"".join(rest)))
            assert len(samples) == 40 * 800
            assert len(rest) > 10

    run(work())


def test_what_is_refused_before_the_first_audio_keeps_its_status() -> None:
    async def work() -> None:
        async with client() as http:
            form = {"text": "bad reference", "stream": "true"}
            assert (await http.post("/tts", data=form)).status_code == 422
            form = {**TEXT, "voice": "nobody", "stream": "true"}
            assert (await http.post("/tts", data=form)).status_code == 404

    run(work())


def test_a_stream_that_fails_is_cut_off() -> None:
    async def work() -> None:
        async with server(restart_delay_s=0.01) as http:
            form = {"text": f"{THREE['text']} Now crash, please.", "stream": "true"}
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post("/tts", data=form)
            await idle(http)

    run(work())


@pytest.mark.parametrize(("name", "begins"), [("vtt", "WEBVTT"), ("srt", "1\n")])
def test_timestamps_and_subtitles(name: str, begins: str) -> None:
    async def work() -> None:
        async with client() as http:
            form = {**THREE, "timestamps": "true", "subtitles": name, "speed": "2"}
            answer = await http.post("/tts", data=form)
            told = answer.json()
            seconds, _ = decoded(base64.b64decode(told["audio"]))
            assert told["duration_s"] == pytest.approx(seconds, abs=0.02)
            assert " ".join(each["text"] for each in told["sentences"]) == THREE["text"]
            assert told["text"] == THREE["text"]
            starts = [each["start_s"] for each in told["sentences"]]
            each_s = (0.1 + SENTENCE_PAUSE_S) / 2
            assert starts == pytest.approx([0.0, each_s, 2 * each_s], abs=0.001)
            assert told["subtitles"].startswith(begins)
            assert "This is the second one." in told["subtitles"]
            assert answer.headers["X-Segments"] == "3"

    run(work())


def test_a_dialogue_needs_voices_that_are_saved(tmp_path: Path) -> None:
    said = tmp_path / "said"

    async def work() -> None:
        async with client({"spoken_file": str(said)}, data_dir=tmp_path / "data") as http:
            recording = base64.b64encode(b"RIFF anna").decode()
            voice = {"name": "Anna", "audio": recording, "transcript": "I am Anna."}
            assert (await http.post("/voices", json=voice)).status_code == 201
            scene = [
                {"voice": "Anna", "text": "Is it raining?"},
                {"text": "Not any more, it is not. Come out and have a look."},
            ]
            answer = await http.post("/tts", json={"dialogue": scene, "timestamps": True})
            assert answer.status_code == 200, answer.text
            voices = [each.get("voice", "") for each in answer.json()["sentences"]]
            assert voices == ["Anna", "", ""]
            scene[1]["voice"] = "Ben"
            answer = await http.post("/tts", json={"dialogue": scene})
            assert answer.status_code == 404
            assert "Ben" in answer.json()["detail"]
            both = {"dialogue": scene, "text": "no"}
            assert (await http.post("/tts", json=both)).status_code == 422

    run(work())
    spoken = [json.loads(line) for line in said.read_text().splitlines()]
    assert [[transcript for transcript, _ in each["references"]] for each in spoken] == [
        ["I am Anna."],
        [],
        [],
    ]


def test_the_same_recording_is_encoded_once(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        for _ in range(2):  # the second server finds it on disk
            async with client({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
                files = {"speaker_file": ("voice.wav", b"RIFF" + bytes(range(200)))}
                posts = [http.post("/tts", data=TEXT, files=files) for _ in range(4)]
                assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
        assert log.read_text().split().count("EncodeVoice") == 1

    run(work())


def test_the_deadline_is_the_clients() -> None:
    async def work() -> None:
        async with client() as http:
            late = await http.post("/tts", data={"text": "wait"}, headers={"X-Timeout-S": "0.2"})
            assert late.status_code == 504
            for wrong in ("soon", "-1", "nan", "0"):
                answer = await http.post("/tts", data=TEXT, headers={"X-Timeout-S": wrong})
                assert answer.status_code == 422
                assert "X-Timeout-S" in answer.json()["detail"]
            await idle(http)

    run(work())


def test_who_waits_is_told_how_long_and_who_is_too_many_when_to_come_back() -> None:
    async def work() -> None:
        async with client(max_batch=1, queue_limit=1) as http:
            slow = asyncio.create_task(http.post("/tts", data={"text": "slow"}))
            await queued(http, speaking=1, waiting=0)
            waits = asyncio.create_task(http.post("/tts", data=TEXT))
            await queued(http, speaking=1, waiting=1)
            refused = await http.post("/tts", data=TEXT)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert float((await waits).headers["X-Queue-Ms"]) > 1000
            assert float((await slow).headers["X-Queue-Ms"]) < 100

    run(work())


def test_200_clients_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}) as http:
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            process = psutil.Process()
            impatient = httpx.Timeout(10.0, read=0.02)
            tasks, files = len(asyncio.all_tasks()), process.num_fds()
            for number in range(200):
                form = {"text": "slow", "stream": "true" if number % 2 else "false"}
                with pytest.raises((httpx.ReadTimeout, _Left)):
                    async with http.stream("POST", "/tts", data=form, timeout=impatient) as answer:
                        await anext(answer.aiter_raw())
                        raise _Left
            health = await idle(http)
            assert health["worker"]["running"] == health["worker"]["waiting"] == 0
            words = log.read_text().split()
            assert words.count("Abort") == words.count("Speak") - 1 > 100
            while len(asyncio.all_tasks()) > tasks + 2 or process.num_fds() > files + 4:
                await asyncio.sleep(0.01)  # the last sockets are being closed

    run(work())


class _Left(Exception):
    pass


def test_force_cpu_speaks_where_everything_is_spoken_on_the_cpu() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post("/tts", data={**TEXT, "force_cpu": "true"})
            assert answer.status_code == 200

    run(work())


def test_a_text_without_a_word_in_it_is_told() -> None:
    async def work() -> None:
        async with client() as http:
            for text in ("---", "***\n\n***"):
                answer = await http.post("/tts", data={"text": text})
                assert answer.status_code == 400
                assert "nothing that can be spoken" in answer.json()["detail"]

    run(work())
