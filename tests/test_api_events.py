"""`stream=events`: what is told of speech while it is made, in which order, and how it ends."""

import asyncio
import base64
import csv
import io
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import av
import httpx
import numpy as np
import pytest
import soundfile

from backend import smart_backend
from backend.api import answer as answer_module
from backend.api import events as events_module
from backend.api.answer import PIECE_BYTES, StreamAnswer
from backend.api.examples import EVENTS
from backend.api.sse import event
from backend.core import AudioFormat
from backend.errors import OverCapacity, TimedOut
from backend.monitoring.sample import Observed
from backend.text.sentences import SENTENCE_PAUSE_S
from tests.scripted import children, client, server
from tests.test_api_answer import RATE_HZ, TEXT, THREE, idle

Event = dict[str, Any]
STREAMS = ("/tts", "/tts events", "/v1/audio/speech", "/v1/audio/speech sse", "/v1/tts")
SHOWN = {each["type"]: each.keys() for each in EVENTS}
SENTENCE_SAMPLES = RATE_HZ // 10


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def parsed(text: str) -> list[Event]:
    """The events of an answer, each held to its form."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    events = []
    for block in blocks:
        name, data = block.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        events.append(told)
    return events


async def events_of(http: httpx.AsyncClient, headers: Any = None, **body: Any) -> list[Event]:
    """All events of a request with a JSON body."""
    answer = await http.post("/tts", json={**body, "stream": "events"}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parsed(answer.text)


@asynccontextmanager
async def listening(http: httpx.AsyncClient, **body: Any) -> AsyncIterator[AsyncIterator[Event]]:
    """The events as they come; leaving hangs up."""

    async def each(answer: httpx.Response) -> AsyncIterator[Event]:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    async with http.stream("POST", "/tts", json={**body, "stream": "events"}) as answer:
        assert answer.status_code == 200, await answer.aread()
        async with aclosing(each(answer)) as events:  # type: ignore[type-var] # is a generator
            yield events


def stream_of(name: str, text: str) -> tuple[str, dict[str, Any]]:
    """Path and body of one of STREAMS."""
    path, _, kind = name.partition(" ")
    if path == "/v1/audio/speech":
        kind = kind or "audio"
        return path, {"model": "fish", "input": text, "voice": "alloy", "stream_format": kind}
    return path, {"text": text, "streaming" if path == "/v1/tts" else "stream": kind or True}


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [each for each in events if each["type"] == kind]


def joined(events: list[Event], index: int | None = None) -> bytes:
    return b"".join(
        base64.b64decode(each["audio"], validate=True)
        for each in of_type(events, "audio")
        if index in (None, each["index"])
    )


def rows_of(folder: Path) -> list[dict[str, str]]:
    (log,) = folder.glob("synthesis_*.csv")
    with log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


async def outcome(http: httpx.AsyncClient, folder: Path) -> tuple[str, str, str]:
    """Outcome, code and status of the last request."""
    await http.get("/metrics/files")  # waits until the rows are written
    row = rows_of(folder)[-1]
    return row["outcome"], row["error_code"], row["status"]


# -- what is told ----------------------------------------------------------------------------------


def test_events_have_their_fields_and_their_order() -> None:
    async def work() -> None:
        async with client() as http:
            fields = {"response_format": "pcm", "seed": 7, "language": "de"}
            events = await events_of(http, {"X-Request-ID": "mine-1"}, **THREE, **fields)
            kinds = [each["type"] for each in events]
            assert kinds[:3] == ["plan", "warning", "sentence.start"]
            assert kinds[-1] == "done"
            assert {*kinds} == SHOWN.keys() - {"queue"}
            for each in events:
                assert each.keys() == SHOWN[each["type"]], each["type"]
            for index in range(3):
                mine = [each["type"] for each in events if each.get("index") == index]
                assert mine[0] == "sentence.start"
                assert mine[-1] == "sentence.end"
                assert {*mine[1:-1]} == {"audio"}
            ends = [each["index"] for each in of_type(events, "sentence.end")]
            assert ends == [0, 1, 2]

    run(work())


def test_the_plan_is_what_is_spoken() -> None:
    async def work() -> None:
        async with client(max_text_length=60) as http:
            fields = {"response_format": "mp3", "sample_rate": 30_000, "seed": 2**63 - 1}
            plan, *events = await events_of(http, {"X-Request-ID": "mine-1"}, **THREE, **fields)
            assert (plan["request_id"], plan["seed"]) == ("mine-1", 2**63 - 1)
            told = (plan["format"], plan["media_type"], plan["sample_rate"])
            assert told == ("mp3", "audio/mpeg", 32_000)
            assert plan["engine"] == "scripted/töne"
            limit = plan["text_limit"]
            assert limit["is_truncated"] is True
            assert (limit["limit"], limit["original_length"]) == (60, len(THREE["text"]))
            said = [each["text"] for each in of_type(events, "sentence.end")]
            assert [each["text"] for each in plan["script"]] == said
            assert plan["sentences"] == len(said) == 2
            characters = sum(map(len, said))
            assert plan["expected_audio_s"] == pytest.approx(characters / 15, abs=0.001)
            assert (plan["speed"], plan["wait_s"]) == ("expected", 0.0)
            done = events[-1]
            assert done["text_limit"] == limit
            assert plan["has_default_voice"] is True
            for name in ("request_id", "seed", "engine", "tier", "strategy"):
                assert done[name] == plan[name]
            again = (await events_of(http, **TEXT, speed=2))[0]
            assert again["speed"] == "measured"
            # 0.1 s of tone for each sentence: far less than the fifteenth of a second a character.
            assert again["expected_audio_s"] < 0.9 * len(TEXT["text"]) / 15 / 2

    run(work())


def test_figures_of_sentences_and_of_all() -> None:
    async def work() -> None:
        async with client() as http:
            *events, done = await events_of(http, **THREE, speed=2)
            ends = of_type(events, "sentence.end")
            each_s = (0.1 + SENTENCE_PAUSE_S) / 2
            starts = [each["start_s"] for each in ends]
            assert starts == pytest.approx([0, each_s, 2 * each_s], abs=0.001)
            audio_s = 2 * each_s + 0.05
            for end in ends:
                assert end["end_s"] - end["start_s"] == pytest.approx(0.05, abs=0.001)
                assert (end["audio_s"], end["total_s"]) == (0.05, 0.2)  # as the worker says
                assert (end["rtf"], end["first_audio_s"]) == (4.0, 0.02)
                assert (end["generated_tokens"], end["tokens_per_s"], end["retries"]) == (11, 55, 0)
            assert done["text"] == THREE["text"]
            assert done["audio_s"] == pytest.approx(audio_s)
            # Both are rounded to four places, and this may take three milliseconds.
            assert done["rtf"] == pytest.approx(done["latency_s"] / audio_s, abs=0.0003)
            assert done["compute_rtf"] == pytest.approx(3 * 0.11 / audio_s, rel=0.01)
            assert (done["generated_tokens"], done["segments"]) == (33, 3)
            assert done["finish_reasons"] == ["end"] * 3
            assert (done["device"], done["precision"]) == ("cpu", "fp32")
            assert (done["warnings"], done["retries"]) == ([], 0)

    run(work())


def test_what_the_machine_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    took = Observed(peak_gpu_util_pct=45.0, peak_vram_mb=123.0)
    monkeypatch.setattr(smart_backend, "Observed", lambda: took)

    async def work() -> None:
        async with client() as http:
            done = (await events_of(http, **TEXT))[-1]
            assert (done["peak_vram_mb"], done["gpu_util_pct"]) == (123.0, 45.0)

    run(work())


def test_warnings_are_told_once_and_when_they_are_known() -> None:
    async def work() -> None:
        text = "This is a slow one, so that the next can be tried again. And this is a mute one."
        async with client() as http:
            events = await events_of(http, text=text, language="de")
            kinds = [each["type"] for each in events]
            language, retried = of_type(events, "warning")
            assert events[1] == language
            assert "de may not sound right" in language["detail"]
            assert retried["detail"].startswith("sentence 2 came out silent")
            assert kinds.index("sentence.end") < events.index(retried)
            assert events[-1]["warnings"] == [language["detail"], retried["detail"]]
            assert [each["retries"] for each in of_type(events, "sentence.end")] == [0, 1]

    run(work())


def test_a_sentence_is_told_when_it_has_its_row_while_another_is_sent() -> None:
    async def work() -> None:
        async with client() as http:
            text = "This is a slow one, the first of them. And this is another one."
            events = await events_of(http, text=text)
            kinds = [(each["type"], each.get("index")) for each in events]
            begins = kinds.index(("sentence.start", 1))
            assert kinds[begins - 1] == ("audio", 0)
            assert kinds[begins + 1] == ("audio", 0)
            assert kinds[:begins].count(("audio", 0)) == 1, "it was told late"

    run(work())


def test_a_scene_tells_who_says_what(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            recording = base64.b64encode(b"RIFF anna").decode()
            voice = {"name": "Anna", "audio": recording}
            assert (await http.post("/voices", json=voice)).status_code == 201
            lines = ["Is it raining outside?", "Not any more, it is not."]
            scene = [{"voice": "Anna", "text": lines[0]}, {"text": lines[1]}]
            plan, *events = await events_of(http, dialogue=scene)
            says = [(each["text"], each["voice"]) for each in plan["script"]]
            assert says == [(lines[0], "Anna"), (lines[1], "")]
            starts = of_type(events, "sentence.start")
            assert [(each["text"], each["voice"]) for each in starts] == says

    run(work())


def test_a_seed_is_drawn_told_and_speaks_the_same_again(tmp_path: Path) -> None:
    said = tmp_path / "said"

    async def work() -> None:
        async with client({"spoken_file": str(said)}) as http:
            drawn = [await events_of(http, **TEXT) for _ in range(2)]
            seeds = [events[0]["seed"] for events in drawn]
            assert len({*seeds}) == 2
            assert all(0 <= seed < 2**53 for seed in seeds), "JavaScript would round it"
            assert [events[-1]["seed"] for events in drawn] == seeds
            await events_of(http, **TEXT, seed=seeds[0])

    run(work())
    first, second, again = (json.loads(line)["seed"] for line in said.read_text().splitlines())
    assert first == again != second


# -- the audio -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", get_args(AudioFormat))
def test_the_pieces_joined_are_the_file(name: str) -> None:
    async def work() -> None:
        async with client() as http:
            audio = joined(await events_of(http, **THREE, response_format=name, seed=1))
            if name == "pcm":
                seconds = len(audio) / 2 / RATE_HZ
            else:
                with av.open(io.BytesIO(audio), "r") as file:
                    seconds = sum(f.samples / f.sample_rate for f in file.decode(audio=0))
            assert seconds == pytest.approx(3 * 0.1 + 2 * SENTENCE_PAUSE_S, abs=0.26)
            if name == "wav":
                form = {**THREE, "response_format": name, "seed": "1"}
                whole = (await http.post("/tts", data=form)).content
                told, expected = (soundfile.read(io.BytesIO(each))[0] for each in (audio, whole))
                np.testing.assert_array_equal(told, expected)

    run(work())


def test_pcm_belongs_to_its_sentence_and_the_pause_to_the_one_before() -> None:
    async def work() -> None:
        async with client() as http:
            events = await events_of(http, **THREE, response_format="pcm")
            pause = round(SENTENCE_PAUSE_S * RATE_HZ)
            samples = [len(joined(events, index)) // 2 for index in range(3)]
            assert samples == [SENTENCE_SAMPLES + pause, SENTENCE_SAMPLES + pause, SENTENCE_SAMPLES]

    run(work())


def test_pieces_are_bounded() -> None:
    async def work() -> None:
        async with client() as http:
            fields = {"response_format": "wav", "sample_rate": 48_000, "speed": 0.5}
            events = await events_of(http, text="slow", **fields)
            pieces = [len(base64.b64decode(each["audio"])) for each in of_type(events, "audio")]
            assert max(pieces) <= PIECE_BYTES <= 64 * 1024
            assert sum(pieces) > 10 * PIECE_BYTES

    run(work())


# -- how it is asked for ---------------------------------------------------------------------------


def test_every_kind_of_body_asks_for_events() -> None:
    async def work() -> None:
        async with client() as http:
            form = {**TEXT, "stream": "events", "prompt_text": "hi"}
            upload = {"speaker_file": ("voice.wav", b"RIFF" + bytes(100))}
            for body in ({"json": form}, {"data": form}, {"data": form, "files": upload}):
                answer = await http.post("/tts", **body)
                assert answer.status_code == 200, answer.text
                assert parsed(answer.text)[-1]["type"] == "done"

    run(work())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stream": "event"}, "stream: input should be true, false or events, got 'event'"),
        ({"stream": 2}, "stream: input should be"),
        ({"stream": "events", "timestamps": True}, "leave out stream"),
    ],
)
def test_what_stream_may_be(fields: dict[str, Any], says: str) -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            answer = await http.post("/tts", json={**TEXT, **fields})
            assert answer.status_code == 422
            assert says in answer.json()["detail"]

    run(work())


@pytest.mark.parametrize("name", STREAMS)
def test_no_proxy_may_hold_a_stream_back(name: str) -> None:
    async def work() -> None:
        async with client() as http:
            path, body = stream_of(name, "Hello from the test.")
            answer = await http.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["Cache-Control"] == "no-cache, no-transform"
            assert answer.headers["X-Accel-Buffering"] == "no"

    run(work())


# -- the queue -------------------------------------------------------------------------------------


def test_the_plan_comes_while_others_are_spoken_and_then_how_long_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "_QUEUE_S", 0.05)

    async def work() -> None:
        async with server(max_batch=1, queue_limit=2) as http, AsyncExitStack() as others:
            speaking = await others.enter_async_context(listening(http, text="wait"))
            assert (await anext(speaking))["type"] == "plan"
            assert (await anext(speaking))["type"] == "sentence.start"
            # A recording is encoded in its turn, too: the plan does not wait for it.
            recording = base64.b64encode(b"RIFF").decode()
            queued = listening(http, **TEXT, speaker_file=recording)
            async with queued as events:
                plan = await anext(events)
                assert plan["type"] == "plan"
                assert plan["wait_s"] > 0
                waits = [await anext(events) for _ in range(3)]
                assert {each["type"] for each in waits} == {"queue"}
                assert all(each["wait_s"] > 0 for each in waits)
                assert (await http.get("/health")).json()["queue"]["waiting"] == 1
                await others.aclose()
                rest = [each async for each in events if each["type"] != "queue"]
                assert [each["type"] for each in rest[:1] + rest[-1:]] == ["sentence.start", "done"]
                assert rest[-1]["queue_s"] > 0.1

    run(work())


def test_what_is_refused_before_the_plan_keeps_its_status(tmp_path: Path) -> None:
    async def work() -> None:
        async with server(max_batch=1, queue_limit=0, max_text_length=50) as http:
            for fields, status in (
                ({"text": " "}, 400),
                ({"text": "\u200b***\u200b"}, 400),
                ({"text": "a" * 100_001}, 413),
                ({"text": "word " * 20, "long_text": "reject"}, 413),
                ({**TEXT, "voice": "nobody"}, 404),
            ):
                answer = await http.post("/tts", json={**fields, "stream": "events"})
                assert answer.status_code == status, answer.text
                assert answer.json().keys() == {"detail"}
            async with listening(http, text="wait") as events:
                await anext(events)
                answer = await http.post("/tts", json={**TEXT, "stream": "events"})
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) >= 1

    run(work())


def test_a_worker_that_is_down_is_503() -> None:
    async def work() -> None:
        async with client({"start_s": 30.0}, is_ready=False) as http:
            answer = await http.post("/tts", json={**TEXT, "stream": "events"})
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0

    run(work())


# -- how it ends -----------------------------------------------------------------------------------


def test_what_fails_after_the_plan_is_the_last_event(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            recording = base64.b64encode(b"bad").decode()
            plan, error = await events_of(http, **TEXT, speaker_file=recording)
            assert plan["type"] == "plan"
            assert error.keys() == {"type", "status", "code", "detail", "retry_after_s"}
            assert (error["status"], error["code"]) == (422, "bad_reference")
            assert error["retry_after_s"] is None
            assert await outcome(http, tmp_path) == (
                "refused",
                "bad_reference",
                "422",
            )  # before its first turn
            text = f"{THREE['text']} Now crash, please."
            *events, error = await events_of(http, text=text, response_format="pcm")
            assert of_type(events, "sentence.end"), "nothing was heard before"
            assert (error["type"], error["status"], error["code"]) == ("error", 503, "engine_down")
            assert error["retry_after_s"] > 0
            assert "exit code 3" in error["detail"]
            assert await outcome(http, tmp_path) == ("failed", "engine_down", "503")

    run(work())


def test_the_deadline_is_an_event(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            events = await events_of(http, {"X-Timeout-S": "0.3"}, text="wait")
            assert [each["type"] for each in events] == ["plan", "sentence.start", "error"]
            assert (events[-1]["status"], events[-1]["code"]) == (504, "timed_out")
            assert "was not spoken in time" in events[-1]["detail"]
            assert await outcome(http, tmp_path) == ("failed", "timed_out", "504")
            await idle(http)

    run(work())


def test_who_makes_room_in_the_queue_is_told_when_to_come_back() -> None:
    told = events_module._error(OverCapacity("The queue is full.", 11.2))
    assert json.loads(told.split(b"data: ")[1])["retry_after_s"] == 12


def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_module, "_GOODBYE_S", 0.05)
    ended: list[BaseException | None] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"never read"

    async def never(*message: Any) -> Any:
        await asyncio.Event().wait()

    async def work() -> None:
        stack = AsyncExitStack()

        async def note(kind: Any, error: BaseException | None, trace: Any) -> None:
            ended.append(error)

        stack.push_async_exit(note)
        deadline_s = asyncio.get_running_loop().time() + 0.05
        answer = StreamAnswer(
            stack, b"", pieces(), deadline_s, "text/plain", {}, lambda error: b"late"
        )
        async with asyncio.timeout(5):
            await answer({"type": "http"}, never, never)

    run(work())
    (error,) = ended
    assert isinstance(error, TimedOut)


@pytest.mark.parametrize("moment", ["queued", "encoding", "speaking"])
def test_who_hangs_up_gives_everything_up(moment: str, tmp_path: Path) -> None:
    async def work() -> None:
        rows = 1 if moment == "queued" else 4
        async with server(max_batch=rows, metrics=True, metrics_dir=tmp_path) as http:
            async with AsyncExitStack() as others:
                if moment == "queued":
                    other = await others.enter_async_context(listening(http, text="wait"))
                    await anext(other)
                    await anext(other)
                body: dict[str, Any] = dict(TEXT)
                if moment == "encoding":
                    body["speaker_file"] = base64.b64encode(b"wait").decode()
                if moment == "speaking":
                    body["text"] = "slow"
                async with listening(http, **body) as events:
                    await anext(events)
                    while moment == "speaking" and (await anext(events))["type"] != "audio":
                        pass
                while (await http.get("/health")).json()["queue"]["waiting"]:
                    await asyncio.sleep(0.01)
            await idle(http)
            expected = {"queued": "refused", "encoding": "refused", "speaking": "aborted"}
            await http.get("/metrics/files")  # waits until the rows are written
            assert (expected[moment], "aborted", "") in {
                (row["outcome"], row["error_code"], row["status"]) for row in rows_of(tmp_path)
            }

    run(work())


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_fails_is_logged_as_failed(name: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with server(metrics=True, metrics_dir=tmp_path) as http:
            path, body = stream_of(name, f"{THREE['text']} Now crash, please.")
            with suppress(httpx.RemoteProtocolError):  # it is cut off
                await http.post(path, json=body)
            await idle(http)
            assert await outcome(http, tmp_path) == ("failed", "engine_down", "503")

    run(work())


def test_a_stream_that_fails_at_once_is_logged_as_failed(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            form = {"text": "bad reference", "stream": "true"}
            assert (await http.post("/tts", data=form)).status_code == 422
            assert await outcome(http, tmp_path) == ("failed", "bad_reference", "422")

    run(work())


def test_a_line_of_an_event_holds_whatever_is_said() -> None:
    told = event("audio", text="one\ntwo\r\u2028\ud83d", is_named=True)
    assert told.startswith(b"event: audio\ndata: {")
    assert len(told.splitlines()) == 3
    assert json.loads(told.splitlines()[1].removeprefix(b"data: "))["text"] == (
        "one\ntwo\r\u2028\ud83d"
    )
    assert event("x", is_named=False) == b'data: {"type": "x"}\n\n'
