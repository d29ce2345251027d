"""Bodies with anything in them, to every route that takes one: answered, and never by a fault."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, note
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.fuzz.effort import effort, in_proportion, no_fault_logged
from tests.fuzz.hostile import json_bodies, mutated, names
from tests.scripted import make_app

FORM, JSON, URLENCODED = (
    "multipart/form-data",
    "application/json",
    "application/x-www-form-urlencoded",
)
BOUNDARY = "XX"
# Starlette lets the file of a part that does not end go without closing it; memory is given back.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
MOST_ECHOED = 100
"""Characters of what was sent that may stand in a refusal."""
TEXT = {"text": "Hi.", "input": "Hi.", "voice": "", "name": "anna", "title": "anna", "id": "anna"}
"""Values that are right, of fields that routes need."""
CONTENT_TYPES = (
    "",
    *(f"; charset={name}" for name in ("utf-16", "punycode", "undefined")),
    '; charset="',
    "; boundary=other",
)
UNREAD = (401, 421, 429)
"""Refusals that would come before the body is looked at."""
Route = tuple[str, str, tuple[str, ...]]
"""Method, path, and the fields it knows."""


@functools.cache
def routes(kind: str) -> tuple[Route, ...]:
    """Those that take a body of that `kind`."""
    document = make_app(None).openapi()
    return tuple(
        (method, path.replace("{name}", "anna").replace("{model_id}", "anna"), _fields(body))
        for path, methods in document["paths"].items()
        for method, told in methods.items()
        if (body := told.get("requestBody", {}).get("content", {}).get(kind))
    )


def _fields(body: dict[str, Any]) -> tuple[str, ...]:
    return tuple(body["schema"]["properties"])


def send(http: TestClient, route: Route, content_type: str, body: bytes) -> None:
    """`body` is answered, whatever it is, and not by a fault."""
    note(repr(body))
    method, path, _ = route
    with no_fault_logged(), in_proportion(len(body)):
        answer = http.request(method, path, content=body, headers={"Content-Type": content_type})
    assert answer.status_code < 500, answer.text
    assert answer.status_code not in UNREAD, answer.text
    if answer.status_code >= 400:
        told = answer.json()
        detail = told["error"]["message"] if "error" in told else told["detail"]  # OpenAI's, ours
        assert isinstance(detail, str) and detail
        assert longest_echo(detail, body) <= MOST_ECHOED, detail


def longest_echo(detail: str, body: bytes) -> int:
    """Characters in a row of `detail` that stand in `body`, too."""
    sent = body.decode(errors="replace")
    longest = 0
    for begin in range(len(detail)):
        while detail[begin : begin + longest + 1] in sent and begin + longest < len(detail):
            longest += 1
    return longest


def valid(route: Route) -> dict[str, Any]:
    """What `route` might have meant."""
    return {name: value for name, value in TEXT.items() if name in route[2]}


@st.composite
def json_requests(draw: Any) -> tuple[Route, bytes]:
    route = draw(st.sampled_from(routes(JSON)))
    return route, draw(json_bodies(route[2], valid(route)))


@effort(120)
@given(request=json_requests())
@example(request=(("post", "/tts", ("text",)), b'{"text":"Hi.","' + b"x" * 3_000 + b'":1}'))
@example(request=(("post", "/tts", ("text",)), b'{"text":"\\ud83d"}'))
def test_json(http: TestClient, request: tuple[Route, bytes]) -> None:
    send(http, request[0], JSON, request[1])


_plain = st.one_of(
    st.sampled_from((b"Hi.", b"", b"1", b"true", b"\xff\xfe", b"\0", b"[1]", b"x" * 3_000)),
    st.text(max_size=10).map(str.encode),
    st.integers().map(lambda value: str(value).encode()),
)
_files = st.sampled_from((b"", b"RIFF", b"OggS" + bytes(100), b"shoal\1" + bytes(40)))
_file_names = st.sampled_from((None, None, "a.wav", "", "../../x", "\u202e.wav", "x" * 300))
_parts = st.tuples(st.one_of(_plain, _files), _file_names)


def multipart(parts: Sequence[tuple[str, tuple[bytes, str | None]]]) -> bytes:
    """Fields, and files where there is a name for one."""
    body = b""
    for name, (value, file) in parts:
        given = "" if file is None else f'; filename="{file}"'
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'
        body += head.encode(errors="surrogatepass") + value + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@st.composite
def forms(draw: Any) -> tuple[Route, str, bytes]:
    route = draw(st.sampled_from(routes(FORM)))
    some = names(route[2])
    parts = draw(st.lists(st.tuples(some, _parts), max_size=5))
    if draw(st.booleans()):
        parts += [(name, (value.encode(), None)) for name, value in valid(route).items()]
    body = multipart(parts)
    body = draw(mutated((body,))) if draw(st.booleans()) else body
    return route, f"{FORM}; boundary={BOUNDARY}{draw(st.sampled_from(CONTENT_TYPES))}", body


TTS: Route = ("post", "/tts", ("text",))
LONG = "x" * 3_000
FORM_TYPE = f"{FORM}; boundary={BOUNDARY}"


@effort(120)
@given(request=forms())
@example(request=(TTS, f"{FORM_TYPE}; charset=punycode", multipart([("text", (b"TEXT", None))])))
@example(request=(TTS, f"{FORM_TYPE}; charset=undefined", multipart([("text", (b"Hi.", None))])))
@example(request=(TTS, FORM_TYPE, multipart([("text", (b"Hi.", None)), (LONG, (b"", "a.wav"))])))
@example(request=(TTS, FORM_TYPE, multipart([(LONG, (b"", None)), (LONG, (b"", None))])))
def test_multipart(http: TestClient, request: tuple[Route, str, bytes]) -> None:
    send(http, *request)


@st.composite
def urlencoded(draw: Any) -> tuple[Route, bytes]:
    route = draw(st.sampled_from(routes(URLENCODED)))
    fields = list(valid(route).items()) if draw(st.booleans()) else []
    some = names(route[2])
    fields += draw(st.lists(st.tuples(some, _plain), max_size=4))
    body = b"&".join(
        name.encode(errors="surrogatepass") + b"=" + (value if isinstance(value, bytes) else b"Hi.")
        for name, value in fields
    )
    return route, draw(mutated((body,))) if draw(st.booleans()) else body


@effort(40)
@given(request=urlencoded())
@example(request=(TTS, f"{LONG}=&{LONG}=".encode()))
def test_urlencoded(http: TestClient, request: tuple[Route, bytes]) -> None:
    send(http, request[0], URLENCODED, request[1])


def test_an_echo_is_found() -> None:
    assert longest_echo("got 'abcdef...'", b"xxabcdefxx") == 6
    assert longest_echo("nothing", b"") == 0


@pytest.mark.parametrize("kind", [FORM, JSON, URLENCODED])
def test_routes_are_found(kind: str) -> None:
    assert "/tts" in [path for _, path, _ in routes(kind)]
    assert json.dumps(routes(kind))
