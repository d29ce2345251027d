"""Messages in any order with anything in them, to both live routes: an error, a close, no fault."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import example, given, note
from hypothesis import strategies as st
from starlette.testclient import TestClient, WebSocketTestSession

from tests.fuzz.effort import effort, in_proportion, no_fault_logged
from tests.fuzz.hostile import deep, mutated, values
from tests.fuzz.test_msgpack import packed

OURS, FISHS = "/v1/audio/stream", "/v1/tts/live"
SERVERS_FAULT = 1011
Message = str | bytes

_ours = (
    {"type": "session.start", "voice": "", "response_format": "mp3", "speed": 1.5},
    {"type": "text", "text": "Hi. "},
    {"type": "flush"},
    {"type": "end"},
)
_fishs = (
    {"event": "start", "request": {"text": "Hi. ", "format": "mp3"}},
    {"event": "text", "text": "Hi. "},
    {"event": "flush"},
    {"event": "stop"},
)


def _changed(events: Sequence[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """One of `events`, mostly with a field that is another's or nobody's."""
    fields = sorted({name for event in events for name in event} | {"request", "junk"})
    more = st.dictionaries(st.sampled_from(fields), values, max_size=1)
    return st.builds(lambda event, extra: event | extra, st.sampled_from(events), more)


def _texts(value: Any) -> str:
    return json.dumps(value)


_damaged_texts = mutated(tuple(map(str.encode, map(json.dumps, _ours)))).map(
    lambda data: data.decode(errors="replace")
)
ours = st.one_of(
    st.sampled_from(_ours).map(_texts),
    _changed(_ours).map(_texts),
    _damaged_texts,
    deep,
    st.binary(max_size=50),
)
fishs = st.one_of(
    st.sampled_from(_fishs).map(packed),
    _changed(_fishs).map(packed),
    mutated(tuple(map(packed, _fishs))),
    st.binary(max_size=50),
    st.text(max_size=20),
)


def talk(http: TestClient, path: str, messages: Sequence[Message]) -> tuple[list[Any], int]:
    """What the server says to `messages`, and the code it closes with."""
    note(repr(messages))
    last = _texts(_ours[-1]) if path == OURS else packed(_fishs[-1])
    heard: list[Any] = []
    size_bytes = sum(map(len, messages))
    with (
        no_fault_logged(),
        in_proportion(size_bytes),
        http.websocket_connect(f"ws://127.0.0.1:8000{path}") as socket,
    ):
        for message in (*messages, last):
            say(socket, message)
        while (event := socket.receive())["type"] != "websocket.close":
            heard.append(event.get("text") or event.get("bytes"))
    return heard, int(event.get("code", 1000))


def say(socket: WebSocketTestSession, message: Message) -> None:
    if isinstance(message, str):
        socket.send_text(message)
    else:
        socket.send_bytes(message)


@effort(60)
@given(messages=st.lists(ours, max_size=6))
@example(messages=[_texts({"type": "session.start", "type ": 1}), b""])
def test_our_live_route(http: TestClient, messages: list[Message]) -> None:
    heard, code = talk(http, OURS, messages)
    assert code != SERVERS_FAULT, heard[-1]
    end = json.loads(heard[-1])
    assert end["type"] == ("done" if code == 1000 else "error"), end
    assert len(heard[-1]) < 1_000


@effort(60)
@given(messages=st.lists(fishs, max_size=6))
def test_fishs_live_route(http: TestClient, messages: list[Message]) -> None:
    heard, code = talk(http, FISHS, messages)
    assert code == 1000
    end = msgspec.msgpack.decode(heard[-1])
    assert end["event"] == "finish", end
    assert len(heard[-1]) < 1_000
    assert "mistake" not in end.get("message", "")
