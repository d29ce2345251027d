"""What the pages ask of a server, and what they make of refusals, silence and older versions."""

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.pages import URL, Body, Scripted, sse, stream, tone
from ui.client import Shoal
from ui.setup import Setup
from ui.wire import Event, Refused, ServerAway

VOICE = {"name": "anna", "id": "i1"}
Ask = Callable[[Shoal], Awaitable[Any]]


def run(work: Awaitable[Any]) -> Any:
    async def within() -> Any:
        return await work

    return asyncio.run(within())


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def all_of(client: Shoal, **fields: Any) -> list[Event]:
    return [event async for event in client.speak(fields)]


# -- what is asked --------------------------------------------------------------------------------

ASKED: list[tuple[str, str, Ask]] = [
    ("GET", "/health", lambda shoal: shoal.health()),
    ("GET", "/hardware", lambda shoal: shoal.hardware()),
    ("GET", "/system-status", lambda shoal: shoal.system_status()),
    ("GET", "/emotions", lambda shoal: shoal.emotions()),
    ("POST", "/optimize-for-hardware", lambda shoal: shoal.optimize()),
    ("PATCH", "/voices/anna", lambda shoal: shoal.change_voice("anna", name="Anna")),
]


@pytest.mark.parametrize(("method", "path", "ask"), ASKED, ids=lambda each: str(each)[:24])
def test_method_asks_its_route_and_gives_the_answer(method: str, path: str, ask: Ask) -> None:
    server = Scripted().on(method, path, httpx.Response(200, json={"it": "is"}))
    assert run(ask(server.client())) == {"it": "is"}
    (request,) = server.asked
    assert (request.method, request.url.path) == (method, path)


def test_change_of_a_voice_is_its_body() -> None:
    server = Scripted().on("PATCH", "/voices/a%20b%2Fc", httpx.Response(200, json=VOICE))
    run(server.client().change_voice("a b/c", name="anna", transcript=""))
    assert server.bodies() == [{"name": "anna", "transcript": ""}]


def test_estimate_sends_text_and_fields() -> None:
    server = Scripted().on("POST", "/estimate-memory", httpx.Response(200, json={"status": "ok"}))
    run(server.client().estimate("hello", language="en", normalize=False))
    assert server.bodies() == [{"text": "hello", "language": "en", "normalize": False}]


def test_voices_are_listed() -> None:
    server = Scripted().on("GET", "/voices", httpx.Response(200, json={"voices": [VOICE]}))
    assert run(server.client().voices()) == [VOICE]


def test_a_recording_is_uploaded_with_its_transcript() -> None:
    server = Scripted().on("POST", "/voices", httpx.Response(201, json=VOICE))
    recording = b"RIFF\0\xff"
    assert run(server.client().save_voice("ånna", recording, "what it says", "note")) == VOICE
    (request,) = server.asked
    assert request.headers["content-type"].startswith("multipart/form-data")
    for part in (b'name="name"', "ånna".encode(), b"what it says", b"note", recording):
        assert part in request.content


def test_a_voice_is_deleted_heard_exported_and_imported() -> None:
    server = (
        Scripted()
        .on("DELETE", "/voices/anna", httpx.Response(204))
        .on("GET", "/voices/anna/audio", httpx.Response(200, content=b"RIFF"))
        .on("GET", "/voices/anna/export", httpx.Response(200, content=b"file"))
        .on("GET", "/voices/anna", httpx.Response(200, json=VOICE))
        .on("POST", "/voices/import", httpx.Response(201, json=VOICE))
    )

    async def work() -> None:
        client = server.client()
        await client.delete_voice("anna")
        assert await client.hear_voice("anna") == b"RIFF"
        found = await client.export_voice("anna")
        assert (found.name, found.data) == ("anna.voice", b"file")
        assert await client.import_voice(b"file-of-a-voice", "bert") == VOICE
        await client.import_voice(b"file-of-a-voice")

    run(work())
    named, plain = server.asked[-2:]
    assert b"file-of-a-voice" in named.content and b"bert" in named.content
    assert b'name="name"' not in plain.content


def test_log_files_are_listed_and_read_from_their_end() -> None:
    files = [{"name": "synthesis 1.csv", "kind": "synthesis"}]
    server = (
        Scripted()
        .on("GET", "/metrics/files", httpx.Response(200, json={"files": files}))
        .on("GET", "/metrics/files/synthesis%201.csv", httpx.Response(200, content=b"a,b\n"))
    )

    async def work() -> None:
        client = server.client()
        assert await client.log_files() == files
        assert await client.log_file("synthesis 1.csv", 512) == b"a,b\n"
        await client.log_file("synthesis 1.csv")

    run(work())
    assert [request.url.query for request in server.asked[1:]] == [b"last_bytes=512", b""]


# -- speech ---------------------------------------------------------------------------------------


def test_speech_is_asked_for_in_events_and_comes_in_them() -> None:
    pcm = tone(0.1)
    heard = sse("audio", index=2, audio=pcm)
    pieces = (sse("plan", seed=4), b": still here\n\n", heard[:40], heard[40:], sse("done"))
    server = Scripted().on("POST", "/tts", stream(*pieces))
    events = run(all_of(server.client(), text="hello", voice="anna"))
    asked = {"text": "hello", "voice": "anna", "response_format": "pcm", "stream": "events"}
    assert server.bodies() == [asked]
    assert [event.kind for event in events] == ["plan", "audio", "done"]
    assert events[0].fields == {"seed": 4}
    assert (events[1].fields, events[1].audio) == ({"index": 2}, pcm)


def test_a_recording_goes_along_in_base64() -> None:
    server = Scripted().on("POST", "/tts", stream(sse("done")))

    async def work() -> None:
        async for _ in server.client().speak({"text": "hello"}, b"\0recording\xff"):
            pass

    run(work())
    assert base64.b64decode(server.bodies()[0]["speaker_file"]) == b"\0recording\xff"


@pytest.mark.parametrize(
    "pieces",
    [
        [sse("plan")],
        [sse("plan"), sse("audio", index=0, audio=tone(0.1))[:30]],
        [sse("plan"), b"data: no json at all\n\n", sse("done")],
        [sse("plan"), b"data: [1, 2]\n\n", sse("done")],
        [sse("plan"), b'data: {"no": "type"}\n\n', sse("done")],
        [sse("plan"), b'data: {"type": "audio", "audio": "a"}\n\n', sse("done")],
    ],
    ids=["ended", "cut off", "no JSON", "no object", "no type", "no base64"],
)
def test_a_stream_that_breaks_off_or_is_nonsense_is_a_server_that_is_away(
    pieces: list[bytes],
) -> None:
    server = Scripted().on("POST", "/tts", stream(*pieces))
    with pytest.raises(ServerAway, match="in the middle"):
        run(all_of(server.client(), text="hello"))


def test_a_connection_that_breaks_is_a_server_that_is_away() -> None:
    body = Body([sse("plan")], error=httpx.ReadError("reset"))
    server = Scripted().on("POST", "/tts", httpx.Response(200, stream=body))
    with pytest.raises(ServerAway, match="broke off"):
        run(all_of(server.client(), text="hello"))


def test_closing_the_speech_lets_go_of_the_connection() -> None:
    async def work() -> None:
        body = Body([sse("plan")], waits=asyncio.Event())
        server = Scripted().on("POST", "/tts", httpx.Response(200, stream=body))
        speech = server.client().speak({"text": "hello"})
        assert (await anext(speech)).kind == "plan"
        assert not body.was_closed.is_set()
        await speech.aclose()
        assert body.was_closed.is_set()

    run(work())


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "detail", "retry_after_s"),
    [
        (httpx.Response(413, json={"detail": "Too long."}), "Too long.", None),
        (
            httpx.Response(503, json={"detail": "Full."}, headers={"Retry-After": "7"}),
            "Full.",
            7.0,
        ),
        (
            httpx.Response(503, json={"detail": "F."}, headers={"Retry-After": "Wed, 21 Oct"}),
            "F.",
            None,
        ),
        (
            httpx.Response(502, text="<html>nginx</html>"),
            "The server answered 502 Bad Gateway.",
            None,
        ),
        (httpx.Response(500, json=["x"]), "The server answered 500 Internal Server Error.", None),
        (httpx.Response(401, json={"error": {}}), "The server answered 401 Unauthorized.", None),
    ],
)
def test_a_refusal_says_what_the_server_said(
    answer: httpx.Response, detail: str, retry_after_s: float | None
) -> None:
    for ask in (lambda shoal: shoal.health(), lambda shoal: all_of(shoal, text="hello")):
        server = Scripted().on("GET", "/health", answer).on("POST", "/tts", answer)
        with pytest.raises(Refused) as caught:
            run(ask(server.client()))
        refused = caught.value
        assert (refused.status, refused.detail) == (answer.status_code, detail)
        assert refused.retry_after_s == retry_after_s
        assert str(refused) == detail


def _fails(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ConnectError("refused"), "No server answers at http://127.0.0.1:8000"),
        (httpx.ConnectTimeout("slow"), "did not answer in time"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("closed"), "broke off"),
        (httpx.InvalidURL("bad"), "broke off"),
    ],
)
def test_a_server_that_is_away_is_told_in_words(error: Exception, says: str) -> None:
    server = Scripted().on("GET", "/health", _fails(error)).on("POST", "/tts", _fails(error))
    with pytest.raises(ServerAway, match=says):
        run(server.client().health())
    with pytest.raises(ServerAway, match=says):
        run(all_of(server.client(), text="hello"))


@pytest.mark.parametrize("answer", [httpx.Response(200, text="hi"), httpx.Response(200, json=[])])
def test_another_program_at_that_address_is_no_shoal_server(answer: httpx.Response) -> None:
    with pytest.raises(ServerAway, match="no Shoal server"):
        run(Scripted().on("GET", "/health", answer).client().health())


def test_nobody_listens_for_real(unused_port: int) -> None:
    async def work() -> None:
        async with Shoal(Setup(api_url=f"http://127.0.0.1:{unused_port}")) as client:
            with pytest.raises(ServerAway, match="Is `shoal serve` running there"):
                await client.health()

    run(work())


def test_patience_is_short_for_health_and_long_for_speech() -> None:
    server = Scripted().on("GET", "/health", httpx.Response(200, json={}))
    server.on("POST", "/tts", stream(sse("done")))

    async def work() -> None:
        await server.client().health()
        await all_of(server.client(), text="hello")

    run(work())
    health, speech = (request.extensions["timeout"] for request in server.asked)
    assert health["read"] == 10
    assert speech["read"] == 600 and speech["connect"] == 10


# -- older servers --------------------------------------------------------------------------------


def test_an_older_server_speaks_in_a_plain_stream() -> None:
    refusal = httpx.Response(422, json={"detail": "stream: write true or false."})
    pcm = tone(3.0)
    headers = {"x-request-id": "r7", "x-engine": "fish/demo", "x-warning": "It is cut off."}
    plain = httpx.Response(200, stream=Body([pcm]), headers=headers)
    server = Scripted().on("POST", "/tts", refusal, plain)
    server.on("GET", "/health", httpx.Response(200, json={"model": {"sample_rate_hz": 8_000}}))
    events = run(all_of(server.client(), text="hello"))
    kinds = [event.kind for event in events]
    assert kinds == ["plan", "warning", *["audio"] * (len(events) - 3), "done"]
    assert events[0].fields["sample_rate"] == 8_000
    assert events[0].fields["engine"] == "fish/demo"
    assert events[1].fields == {"detail": "It is cut off."}
    assert b"".join(event.audio for event in events) == pcm
    body = json.loads(server.asked[-1].content)
    assert (body["stream"], body["sample_rate"], body["response_format"]) == (True, 8_000, "pcm")


def test_an_older_server_that_loads_no_model_is_asked_for_a_usual_rate() -> None:
    refusal = httpx.Response(422, json={"detail": "stream: write true or false."})
    server = Scripted().on("POST", "/tts", refusal, stream(tone(0.1)))
    server.on("GET", "/health", httpx.Response(200, json={"model": None}))
    events = run(all_of(server.client(), text="hello"))
    assert events[0].fields["sample_rate"] == 44_100


def test_another_422_is_not_taken_for_an_older_server() -> None:
    server = Scripted().on("POST", "/tts", httpx.Response(422, json={"detail": "seed: a number"}))
    with pytest.raises(Refused, match="seed"):
        run(all_of(server.client(), text="hello"))
    assert len(server.asked) == 1


def test_an_older_server_estimates_by_the_text_alone() -> None:
    told = httpx.Response(200, json={"status": "ok"})
    refusal = httpx.Response(422, json={"detail": "language: unknown field"})
    server = Scripted().on("POST", "/estimate-memory", refusal, told)
    assert run(server.client().estimate("hello", language="en")) == {"status": "ok"}
    assert server.bodies() == [{"text": "hello", "language": "en"}, {"text": "hello"}]
    server = Scripted().on("POST", "/estimate-memory", refusal)
    with pytest.raises(Refused):
        run(server.client().estimate("hello"))


@pytest.mark.parametrize(("status", "is_older"), [(404, True), (405, True), (500, False)])
def test_an_older_server_has_no_log_to_read(status: int, is_older: bool) -> None:
    server = Scripted().on("GET", "/metrics/files", httpx.Response(status, json={"detail": "x"}))
    if is_older:
        assert run(server.client().log_files()) == []
    else:
        with pytest.raises(Refused):
            run(server.client().log_files())


# -- keys and proxies -----------------------------------------------------------------------------


def test_a_key_is_told_in_the_header_and_nowhere_else() -> None:
    key = "sk-very-secret"
    server = Scripted().on("GET", "/voices", httpx.Response(200, json={"voices": []}))
    server.on("POST", "/tts", httpx.Response(401, json={"detail": "Send a key."}))

    async def work() -> str:
        client = server.client(api_key=key)
        await client.voices()
        with pytest.raises(Refused) as caught:
            await all_of(client, text="hello")
        return repr(caught.value)

    assert key not in run(work())
    assert key not in repr(Setup(api_key=key))
    for request in server.asked:
        assert request.headers["authorization"] == f"Bearer {key}"
        others = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert key not in str(others) and key.encode() not in request.content
        assert key not in str(request.url)


def test_without_a_key_no_header_is_sent() -> None:
    server = Scripted().on("GET", "/health", httpx.Response(200, json={}))
    run(server.client().health())
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("url", "uses_proxy"),
    [
        ("http://127.0.0.1:9", False),
        ("http://localhost:9", False),
        ("http://[::1]:9", False),
        ("http://shoal.example", True),
    ],
)
def test_a_proxy_is_for_servers_elsewhere(
    url: str, uses_proxy: bool, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        asked = asyncio.Event()

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            asked.set()
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        listener = await asyncio.start_server(proxy, "127.0.0.1", unused_port)
        async with listener:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port}")
            monkeypatch.setenv("NO_PROXY", "")
            async with Shoal(Setup(api_url=url)) as client:
                with pytest.raises((ServerAway, Refused)):
                    await client.health()
        assert asked.is_set() == uses_proxy

    run(work())


def test_base_url_keeps_its_path() -> None:
    server = Scripted().on("GET", "/shoal/health", httpx.Response(200, json={"it": "is"}))
    assert run(server.client(api_url=f"{URL}/shoal").health()) == {"it": "is"}
